"""Runs started as a user starts them, a quicker way to start them, and a SLURM of a few lines."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detr_lite.config import read_config
from tests.helpers import fault_injection, ranks
from tests.helpers.waiting import PATIENCE, wait_for

PROJECT = Path(__file__).resolve().parents[2]
TRAIN = PROJECT / "tools/train.py"

SRUN = f"""#!{sys.executable}
# Starts the tasks of a node and ends with the highest exit code; a bad one ends all others at once.
import os, subprocess, sys, time
words = sys.argv[1:]
while words[0].startswith("--"):
    print("srun", words.pop(0), flush=True)
tasks = []
for rank in map(str, range(int(os.environ["SLURM_NTASKS"]))):
    ids = {{"SLURM_PROCID": rank, "SLURM_LOCALID": rank, "SLURM_NODEID": "0", "SLURM_STEP_ID": "0"}}
    tasks.append(subprocess.Popen(words, env={{**os.environ, **ids}}))
print("tasks", *(task.pid for task in tasks), flush=True)
while any(task.poll() is None for task in tasks) and not any(task.poll() for task in tasks):
    time.sleep(0.02)
for task in tasks:
    task.kill()
codes = [task.wait() for task in tasks]
sys.exit(max(code if code >= 0 else 128 - code for code in codes))
"""

SCONTROL = """#!/bin/sh
echo scontrol "$@"
"""

SQUEUE = """#!/bin/sh
echo "$STATE"
"""


class Launched:
    """A program in a session of its own; what it prints goes to files."""

    def __init__(self, place: Path, *words: object, **settings: object) -> None:
        self._files = _files_in(place)
        with self._files[0].open("w") as out, self._files[1].open("w") as err:
            self._process: Any = subprocess.Popen(
                list(map(str, words)),
                stdout=out,
                stderr=err,
                start_new_session=True,
                # A shell's background jobs ignore the signal, and children inherit that.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
                **settings,  # type: ignore[call-overload]
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def out(self) -> str:
        return self._files[0].read_text()

    @property
    def err(self) -> str:
        return self._files[1].read_text()

    def until(self, is_so: Callable[[], object]) -> None:
        wait_for(lambda: not is_running(self.pid) or is_so())
        assert is_running(self.pid), (self.out, self.err)

    def code(self) -> int:
        return self._process.wait(PATIENCE)

    def family(self) -> list[int]:
        """Processes that it has started, and that those have started."""
        found, parents = [], _parents()
        for pid in parents:
            above = pid
            while above in parents and above != self.pid:
                above = parents[above]
            if above == self.pid != pid:
                found.append(pid)
        return found

    def ranks(self) -> list[int]:
        """Processes that Lightning has started from it; its loading processes are forks of it, with its own words."""
        return [pid for pid, parent in _parents().items() if parent == self.pid and str(TRAIN) in _words_of(pid)]

    def kill(self) -> None:
        for pid in [*self.family(), self.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.code()


class Forked(Launched):
    """tools/train.py without the evaluation at its end, forked from a process that has imported everything.

    The processes that Lightning starts from it are programs like all others.
    """

    def __init__(self, place: Path, *words: object) -> None:
        self._files = _files_in(place)
        self._process = fault_injection.FORKS.Process(target=_train, args=(self._files, list(map(str, words))))
        self._process.start()

    def code(self) -> int:
        self._process.join(PATIENCE)
        assert self._process.exitcode is not None, (self.out, self.err)
        return self._process.exitcode


def _files_in(place: Path) -> tuple[Path, Path]:
    place.mkdir()
    return place / "out", place / "err"


def _train(files: tuple[Path, Path], words: list[str]) -> None:
    os.setsid()
    for number, path in enumerate(files, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    # By these Lightning knows what to start.
    sys.argv = [str(TRAIN), *words]
    sys.modules["__main__"].__spec__ = None
    ranks.train(read_config(words))


def is_running(pid: int) -> bool:
    return pid in _parents()


def _words_of(pid: int) -> list[str]:
    """The command line of a process; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def _parents() -> dict[int, int]:
    """Parent of each process; those that have ended and wait for their parent to notice do not count."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(stat.parent.name)] = int(parent)
    return parents
