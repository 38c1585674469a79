"""The run folder: which one a run writes into, what it may already hold, and the lock that keeps other runs out."""

import contextlib
import logging
import os
from pathlib import Path

from filelock import FileLock, Timeout

from detr_lite.config import Invocation
from detr_lite.io import refuse_links_out, remove_parts
from detr_lite.structures import DetrLiteError
from detr_lite.training.callbacks.attention_logger import ANIMATION, FRAMES, TABLE
from detr_lite.training.checks.nan_capture import FOLDER as NONFINITE
from detr_lite.training.distributed.launch import is_rank_0
from detr_lite.training.loggers import remove_logs
from detr_lite.training.matched_attention import ATTENTION_FILES
from detr_lite.training.measured_attribution import ATTRIBUTION_FILES
from detr_lite.training.state.run_files import CHECKPOINTS, RUN_FILES, holds_run, refuse_taken, run_of

OPTIONAL_FILES = (TABLE, ANIMATION, *(f"evaluation/{name}" for name in (*ATTENTION_FILES, *ATTRIBUTION_FILES)))
"""What a run or an evaluation writes only where settings say so."""

logger = logging.getLogger(__name__)


class RunLock:
    """Keeps a second run out of a run folder.

    The operating system releases the lock when the process ends, however it ends, so a leftover file blocks nobody.
    Forked processes do not inherit it: loading processes may outlive a killed run for some seconds.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / ".lock"
        # Without `fallback_to_soft`: a lock that is only a file would outlive a killed run.
        self._lock = FileLock(self.path, timeout=0, fallback_to_soft=False, on_acquired=_write_pid)

    def acquire(self) -> None:
        """Errors: another process holds it."""
        try:
            self._lock.acquire()
        except Timeout as error:
            raise DetrLiteError(
                f"{self.path.parent}: {self._holder()} is training there; wait until it ends, or give another --run_dir"
            ) from error
        except OSError as error:
            if error.filename is not None:
                raise  # the file cannot be opened; an error of the lock itself names no file
            logger.warning("%s: a second run there would not be noticed (%s)", self.path.parent, error.strerror)

    def release(self) -> None:
        if self._lock.is_locked:
            with contextlib.suppress(OSError):  # Windows removes no open file
                self.path.unlink(missing_ok=True)
            self._lock.release()

    def _holder(self) -> str:
        try:
            pid = self.path.read_text().strip()
        except (OSError, ValueError):  # on Windows only the holder can read it
            pid = ""
        return f"process {pid}" if pid.isdecimal() else "another process"


def _write_pid(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())


def choose_folder(invocation: Invocation, resumed: Path | None) -> Path:
    """The run folder: the one given, that of the resumed checkpoint, or the next free one. Writes nothing yet."""
    folder = invocation.run_dir or Path("runs") / invocation.config_name
    if resumed is not None:
        own = run_of(resumed)
        folder = invocation.run_dir or own
        if folder.resolve() != own.resolve() and not invocation.overwrite and is_rank_0() and holds_run(folder):
            raise DetrLiteError(f"--run_dir {folder} holds another run than {resumed}; give an empty folder, or none")
        return folder
    # The other ranks write nothing, and would mistake rank 0's folder for that of another run.
    if not is_rank_0():
        return folder
    if invocation.resume is not None or invocation.overwrite or not holds_run(folder):
        return folder
    refuse_taken(invocation)
    base, number = folder, 1
    while holds_run(folder):
        number += 1
        folder = base.with_name(f"{base.name}-{number}")
    logger.info("%s holds a run already; this one goes to %s", base, folder)
    return folder


def take_folder(folder: Path, overwrite: bool, is_new: bool = False) -> RunLock:
    """Create the folder and lock it against other runs until the lock is released.

    Temporary files of killed runs are removed. With `overwrite` the files of an earlier run are removed as well, and
    nothing else that may be there.

    Errors: another run is writing there, or has done so since the folder was chosen for an `is_new` run; a link that
    leads elsewhere; a file instead of a folder.
    """
    if folder.exists() and not folder.is_dir():
        raise DetrLiteError(f"--run_dir {folder} is a file; name a folder")
    folder.mkdir(parents=True, exist_ok=True)
    lock = RunLock(folder)
    names = (*RUN_FILES, *OPTIONAL_FILES, FRAMES, NONFINITE, "tensorboard", "wandb")
    refuse_links_out(folder, [lock.path, *(folder / name for name in names)])
    lock.acquire()
    if is_new and not overwrite and holds_run(folder):
        lock.release()
        raise DetrLiteError(f"{folder}: another run has started there in the meantime; give another --run_dir")
    for place in (folder, folder / CHECKPOINTS, folder / "evaluation", folder / FRAMES, folder / NONFINITE):
        remove_parts(place)
    if overwrite:
        for name in (*RUN_FILES, *OPTIONAL_FILES):
            (folder / name).unlink(missing_ok=True)
        for file in (*(folder / NONFINITE).glob("step-*"), *(folder / FRAMES).glob("step-*.png")):
            file.unlink()
        remove_logs(folder)
    return lock
