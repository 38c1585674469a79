"""One run at a time in a folder."""

import errno
import os
from pathlib import Path
from typing import IO

from detr_lite.structures import DetrLiteError

try:
    import fcntl
except ImportError:  # Windows; there two runs in one folder are not noticed
    fcntl = None  # type: ignore[assignment]

NAME = ".lock"


class RunLock:
    """Held by the process that writes into a run folder.

    The system lets go of it when the process ends, however it ends; a file that is left over blocks nobody. It is not
    inherited by loading processes, which may outlive a killed run for some seconds.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """Errors: another process holds it."""
        while fcntl is not None and self._file is None:
            file = self.path.open("a+")
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EAGAIN):
                    file.close()
                    print(f"note       {self.path.parent}: two runs there would not be noticed ({error.strerror})")
                    return
                file.seek(0)
                holder = file.read(40).strip()
                file.close()
                who = f"process {holder}" if holder.isdigit() else "another process"
                raise DetrLiteError(
                    f"{self.path.parent}: {who} is training there; wait for its end, or give another --run_dir"
                ) from error
            if not self._is_current(file):  # its last holder removed it in this moment
                file.close()
                continue
            file.truncate(0)
            print(os.getpid(), file=file, flush=True)
            self._file = file

    def release(self) -> None:
        if self._file is not None:
            self.path.unlink(missing_ok=True)
            self._file.close()
            self._file = None

    def _is_current(self, file: IO[str]) -> bool:
        try:
            return os.path.samestat(os.fstat(file.fileno()), self.path.stat())
        except FileNotFoundError:
            return False
