"""Runs of several processes: who has started them, and that all of them end when one does."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import lightning as L
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Callback
from torch import distributed as dist

from detr_lite.structures import DetrLiteError
from detr_lite.training.lightning_internals import take_child_processes
from detr_lite.training.state.run_folder import is_rank_0

LOST = 3
"""Exit code of a process that has nothing to tell but that another one has gone."""

MAIN = "DETR_LITE_MAIN_PROCESS"
"""Tells the processes that Lightning starts who their parent is."""

STARTUP = 10.0
"""So many seconds rank 0 is given to tell a fault that all ranks have found before there was training."""

NOTICE = 20.0
"""So many seconds a process is given to end by itself when one that it cannot go on without has ended."""


@dataclass(frozen=True)
class Launch:
    """Who starts the processes of a run, and how many; None stands for Lightning, which does as the settings say."""

    by: str | None = None
    per_machine: int = 1
    machines: int = 1

    @staticmethod
    def detect() -> "Launch":
        if dist.is_available() and dist.is_torchelastic_launched():
            per_machine = int(os.environ["LOCAL_WORLD_SIZE"])
            return Launch("torchrun", per_machine, int(os.environ["WORLD_SIZE"]) // per_machine)
        if SLURMEnvironment.detect():
            per_machine, machines = (int(os.environ.get(f"SLURM_{name}", 1)) for name in ("NTASKS_PER_NODE", "NNODES"))
            return Launch("SLURM", per_machine, machines)
        return Launch()

    def devices(self, asked: int | str) -> int | str:
        return self.per_machine if self.by and asked == "auto" else asked

    def num_nodes(self, asked: int) -> int:
        return self.machines if self.by and asked == 1 else asked

    @property
    def plugins(self) -> list[SLURMEnvironment]:
        """Keeps Lightning from writing checkpoints of its own, and from resuming them, where SLURM is."""
        return [SLURMEnvironment(auto_requeue=False)] if self.by == "SLURM" else []

    def check(self, trainer: L.Trainer) -> None:
        """Errors: the settings name other numbers of processes; each would wait for some that do not exist."""
        asked, started = (trainer.num_devices, trainer.num_nodes), (self.per_machine, self.machines)
        if self.by and asked != started:
            raise DetrLiteError(
                f"{self.by} started {_counted(*started)}, but --trainer.devices and --trainer.num_nodes ask for "
                f"{_counted(*asked)}; leave both out"
            )


class ProcessSupervisor(Callback):
    """While it is entered, no process of a run waits for one that has ended, and each fault is told once.

    The process that has met a fault tells it and ends with its exit code. To the others it shows as a lost connection,
    and they end without a word; rank 0 speaks for one that was killed. When all stop together, only rank 0 has an exit
    code: who has started them would take another's for a fault, and kill rank 0 in the midst of its last words.

    Processes that Lightning has started are watched and ended by rank 0. Lightning's own watch would kill rank 0, too,
    before it could tell why.
    """

    def __init__(self) -> None:
        self._children: list[subprocess.Popen[bytes]] = []
        self._parent: int | None = None
        self._is_torchruns = dist.is_available() and dist.is_torchelastic_launched()
        self._has_joined = False
        self._is_over = threading.Event()

    def __enter__(self) -> "ProcessSupervisor":
        if MAIN in os.environ and int(os.environ.get("LOCAL_RANK", 0)) > 0:
            self._parent = int(os.environ[MAIN])
        elif self._is_torchruns:
            self._parent = os.getppid()
        else:
            os.environ[MAIN] = str(os.getpid())
        if self._parent is not None:
            self._start_watch()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        os.environ.pop(MAIN, None)
        if error is None:
            return
        if not self._has_joined:
            if not is_rank_0() and isinstance(error, DetrLiteError | OSError):
                # Mostly rank 0 has found the same; when it has told so, who started the processes ends this one.
                time.sleep(STARTUP)
            return
        try:
            if not is_rank_0():
                self._leave(error)
            elif isinstance(error, RuntimeError):
                self._explain(error)
        finally:
            # Who stops together with this process needs a moment. Others may be waiting for it, and would for ever.
            self._end_children(NOTICE if isinstance(error, SystemExit) else 0.0)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._has_joined = trainer.world_size > 1
        self._children = take_child_processes(trainer)
        if self._children:
            self._start_watch()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        # Training is complete; what rank 0 still does it does alone.
        self._is_over.set()

    def _leave(self, error: BaseException) -> None:
        """Of a rank other than 0: go on with the error if it is this process's own, or end without a word."""
        if isinstance(error, SystemExit | KeyboardInterrupt):
            raise SystemExit(0) from error
        if is_lost_connection(error):
            raise SystemExit(LOST) from error

    def _explain(self, error: RuntimeError) -> None:
        """Of rank 0: if the error only follows from another process's end, end with its exit code, or tell of it."""
        is_lost = is_lost_connection(error)
        # A process takes some seconds to end once it has let go of its connections.
        end = time.monotonic() + (NOTICE / 2 if is_lost else 1.0)
        while time.monotonic() < end:
            rank, code = self._fault()
            if code > 0:
                raise SystemExit(code) from error
            if code < 0:
                raise DetrLiteError(_killed(rank, code)) from error
            time.sleep(0.1)  # a signal from torchrun or SLURM, which have seen that process end, ends this one here
        if is_lost:
            raise DetrLiteError(
                "the connection to another process is lost: it has ended, and has said why, or the network failed; "
                "go on with --resume"
            ) from error

    def _fault(self) -> tuple[int, int]:
        """Rank and exit code of a child that ended by a fault or by a signal; (0, 0) if none did."""
        codes = {rank: child.poll() for rank, child in enumerate(self._children, start=1)}
        return next(((rank, code) for rank, code in codes.items() if code not in (None, 0, LOST)), (0, 0))

    def _end_children(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while _any_runs(self._children) and time.monotonic() < end:
            time.sleep(0.05)
        for child in self._children:
            child.kill()
        for child in self._children:
            child.wait()

    def _start_watch(self) -> None:
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        """End this process if it does not notice in time that a parent or a child of it has: on a GPU it may not."""
        rank, code, is_orphan = 0, 0, False
        while not (code or is_orphan):
            if self._is_over.wait(1.0):
                return
            rank, code = self._fault()
            is_orphan = self._parent is not None and os.getppid() != self._parent
        if is_orphan and self._is_torchruns:
            # All processes are still there, and can stop as they should.
            os.kill(os.getpid(), signal.SIGTERM)
        if self._is_over.wait(NOTICE):
            return
        if code < 0:
            os.write(2, f"error: {_killed(rank, code)}\n".encode())
        for child in self._children:
            child.kill()
        os._exit(code if code > 0 else 1)


@contextmanager
def only_rank_0_prints() -> Iterator[None]:
    """What all processes find out alike is said once."""
    if is_rank_0():
        yield
        return
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        yield


def is_lost_connection(error: BaseException) -> bool:
    """Whether it says no more than that another process cannot be reached."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())


def _any_runs(processes: Iterable[subprocess.Popen[bytes]]) -> bool:
    return any(process.poll() is None for process in processes)


def _killed(rank: int, code: int) -> str:
    name = signal.Signals(-code).name
    guess = ", as when memory runs out" if name == "SIGKILL" else ""
    return f"the process of rank {rank} was ended by {name}{guess}; go on with --resume"


def _counted(per_machine: int, machines: int) -> str:
    processes = f"{per_machine} process{'' if per_machine == 1 else 'es'}"
    return f"{processes} on one machine" if machines == 1 else f"{processes} on each of {machines} machines"
