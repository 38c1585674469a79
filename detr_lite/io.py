"""Output folders and files: what a folder may already hold, names of drawings, and atomic writing."""

import contextlib
import errno
import os
import secrets
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path, PurePath
from typing import IO

from filelock import lock_descriptor

from detr_lite.errors import DetrLiteError

PART = ".part"
"""Suffix of temporary files, which are being written."""

ABANDONED_SECONDS = 3600.0
"""Where files cannot be locked, a temporary file that has not changed for so long belongs to no running program."""


def check_output(output: Path, overwrite: bool) -> None:
    """Check a folder before anything is written into it; hidden files do not count.

    Errors: a file where the folder should be; a folder that holds something, unless `overwrite`.
    """
    if not output.is_dir():
        if output.exists():
            raise DetrLiteError(f"--output {output} is a file; name a folder")
        return
    if not overwrite and any(not entry.name.startswith(".") for entry in output.iterdir()):
        raise DetrLiteError(
            f"--output {output} is not empty; name another folder, or give --overwrite to replace the files of the "
            "same names (the others stay)"
        )


def drawing_names(names: Iterable[PurePath], keep: Collection[str]) -> list[PurePath]:
    """Names for the drawings of these images, no two of them alike.

    An image keeps its name if its suffix is in `keep`, else the suffix becomes .png: `a.tif` gives `a.png`, or
    `a.tif.png` where that is taken.
    """
    names = list(names)
    kept = [name for name in names if name.suffix.lower() in keep]
    others = iter(result_names([name for name in names if name.suffix.lower() not in keep], ".png", map(str, kept)))
    return [name if name.suffix.lower() in keep else next(others) for name in names]


def result_names(names: Iterable[PurePath], suffix: str, taken: Iterable[str] = ()) -> list[PurePath]:
    """Names for files about these images, no two of them alike: `a.tif` gives `a.txt`, or `a.tif.txt` where that is
    taken."""
    used = {name.casefold() for name in taken}
    results = []
    for name in names:
        result, number = name.with_suffix(suffix), 1
        while _key(result) in used:
            result = name.with_name(f"{name.name}{'' if number == 1 else f'-{number}'}{suffix}")
            number += 1
        used.add(_key(result))
        results.append(result)
    return results


def is_below(path: Path, folder: Path) -> bool:
    """Whether a path, with all links resolved, lies in the folder or is the folder; it need not exist.

    Raises ValueError for a name that no file can have.
    """
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def refuse_links_out(folder: Path, paths: Iterable[Path]) -> None:
    """Call this before results are written into a folder that somebody else may have prepared.

    Errors: a path in it that is a symbolic link, or lies behind one, to a place outside.
    """
    for path in paths:
        if not is_below(path, folder):
            raise DetrLiteError(f"{path} is behind a link that leads out of {folder}; remove the link")


def atomic_write(path: Path, write: Callable[[IO[bytes]], object], durable: bool = True) -> None:
    """Write a file, and its folder, under a temporary name and rename it, so that it is never there in part.

    What stood under that name is replaced, not written into: it may be a link to a file that is to stay.

    Args:
        durable: flush the file and its folder to the disk, so that it outlasts a power cut. Not worth the wait for
            pictures and other files that can be computed again.

    Errors: a full disk and the like, with what stood there unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _part_beside(path)
    try:
        with part.open("xb") as file:
            with contextlib.suppress(OSError):  # a file system without locks
                lock_descriptor(file.fileno(), blocking=False)  # tells `remove_parts` that the file is in use
            write(file)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)
    except (OSError, RuntimeError) as error:
        # torch's writer closes its archive even after an error, and raises another one from it.
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        remedy = "; make room on the disk" if cause.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        # The error of a full disk names no file.
        raise DetrLiteError(f"{path}: cannot be written ({cause.strerror or cause}){remedy}") from cause
    finally:
        part.unlink(missing_ok=True)
    if durable:
        _sync_folder(path.parent)


def backup_file(path: Path, backup: Path) -> None:
    """Keep an existing file under a second name, replacing what had that name; a hard link, so nothing is copied."""
    if not path.exists():
        return
    part = _part_beside(path)
    try:
        part.hardlink_to(path)
        part.replace(backup)
    except OSError:  # a file system without hard links
        path.replace(backup)
    finally:
        part.unlink(missing_ok=True)  # rename does nothing if both names are links to one file already


def remove_parts(folder: Path) -> None:
    """Remove temporary files that killed programs left behind, but none that a program is still writing."""
    for part in folder.glob(f".{'[0-9a-f]' * 16}{PART}"):
        if not _is_being_written(part):
            part.unlink(missing_ok=True)


def _part_beside(path: Path) -> Path:
    """A temporary name in the same folder; random, as process ids are unique on one host only."""
    return path.with_name(f".{secrets.token_hex(8)}{PART}")


def _is_being_written(part: Path) -> bool:
    try:
        with part.open("rb+") as file:
            return not lock_descriptor(file.fileno(), blocking=False)
    except FileNotFoundError:  # finished in the meantime, or a link to nothing
        return False
    except OSError:  # a file system without locks, or a file that is not ours to open
        with contextlib.suppress(FileNotFoundError):
            return time.time() - part.stat().st_mtime < ABANDONED_SECONDS
        return False


def _sync_folder(folder: Path) -> None:
    """Flush the new name to the disk as well."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError):  # some network file systems cannot flush a folder
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _key(name: PurePath) -> str:
    """Some file systems ignore case."""
    return str(name).casefold()
