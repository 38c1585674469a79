"""Runs many inputs in a process of its own, which notices hangs, memory, output on stderr, and its own death."""

import os
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jaxtyping

MAX_SECONDS = 5.0
MAX_BYTES = 500 * 2**20
MAX_FAULTS = 12
TYPES_CHECKED = 10
"""Types and shapes are checked at each of so many numbers, as that takes most of the time."""

BACKSTOP_BYTES = 4 * 2**30
"""Address space beyond that at the start, so that a runaway allocation fails instead of filling the machine."""


class Hung(BaseException):
    """Not an `Exception`, so that no handler of damaged files takes it for one."""


def run_isolated(
    work: Callable[[int], None], numbers: Sequence[int], folder: Path, seconds: float = 1500.0
) -> list[str]:
    """Call `work` with each number in a forked process; returns a line for each fault, with its number.

    A fault is an exception, more than 5 seconds of the processor, 500 MB more than ever before, or anything written on
    stderr. It ends after so many faults (`MAX_FAULTS`); after a crash of the process another one goes on with the next
    number.
    """
    faults: list[str] = []
    waiting = list(numbers)
    ends = time.monotonic() + seconds
    while waiting and len(faults) < MAX_FAULTS:
        log = folder / "faults.txt"
        log.write_text("")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                _work_through(work, waiting, folder)
                code = 0
            except BaseException:
                (folder / "crash.txt").write_text(traceback.format_exc())
            finally:
                os._exit(code)
        status = _wait(child, ends, folder)
        faults += log.read_text().splitlines()
        if status == 0:
            break
        current = int((folder / "current").read_text() or waiting[0])
        faults.append(f"{current}: the process ended with status {status}")
        waiting = waiting[waiting.index(current) + 1 :]
    return faults


def _wait(child: int, ends: float, folder: Path) -> int:
    """The exit status of the child, which is killed if no input ends within two minutes, or at the end of the time."""
    progress = folder / "current"
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        is_stuck = progress.exists() and time.time() - progress.stat().st_mtime > 120
        if is_stuck or time.monotonic() > ends:
            os.kill(child, signal.SIGKILL)
            return os.waitpid(child, 0)[1]
        time.sleep(0.05)


def _work_through(work: Callable[[int], None], numbers: Sequence[int], folder: Path) -> None:
    current = os.open(folder / "current", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    stderr = os.open(folder / "stderr.txt", os.O_CREAT | os.O_RDWR | os.O_TRUNC)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(stderr, 2)
    os.dup2(silence, 1)
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    sys.stdout = os.fdopen(os.dup(1), "w")
    warnings.simplefilter("always")
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)  # not pytest's
    space = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (space + BACKSTOP_BYTES, space + BACKSTOP_BYTES))
    signal.signal(signal.SIGPROF, _hang)
    written, count = 0, 0
    for number in numbers:
        os.pwrite(current, f"{number:<12}".encode(), 0)
        jaxtyping.config.update("jaxtyping_disable", number % TYPES_CHECKED != 0)
        peak = _peak()
        fault = _fault_of(work, number)
        grown = _peak() - peak
        if grown > MAX_BYTES:
            fault = fault or f"{grown / 2**20:.0f} MB of memory"
        if os.fstat(stderr).st_size > written:
            text = os.pread(stderr, 300, written).decode(errors="replace")
            written = os.fstat(stderr).st_size
            fault = fault or f"on stderr: {text!r}"
        if fault:
            with (folder / "faults.txt").open("a") as log:
                log.write(f"{number}: {fault}\n")
            count += 1
            if count == MAX_FAULTS:
                return


def _fault_of(work: Callable[[int], None], number: int) -> str | None:
    signal.setitimer(signal.ITIMER_PROF, MAX_SECONDS)
    try:
        work(number)
    except Hung:
        return f"more than {MAX_SECONDS:g} seconds"
    except BaseException as error:
        places = [
            f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)[-3:]
        ]
        return f"{type(error).__name__}: {str(error)[:200]!r} at {' > '.join(places)}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return None


def _hang(*_: Any) -> None:
    raise Hung


def _peak() -> int:
    """Bytes of memory at the highest so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
