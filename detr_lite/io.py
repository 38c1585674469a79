"""A folder of results: what it may already hold, what its files are called, and that none is ever half written."""

import errno
import os
from collections.abc import Callable, Collection, Iterable
from pathlib import Path, PurePath
from typing import IO

from detr_lite.errors import DetrLiteError

PART = ".part"
"""Ends the names of files that are being written."""


def check_output(output: Path, overwrite: bool) -> None:
    """Nothing is written yet; hidden files do not count.

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
    """What the pictures drawn from images of these names are called, all different as the names are.

    An image's own name if its suffix is one to `keep`, else the same with .png: `a.tif` becomes `a.png`, or
    `a.tif.png` where that is taken.
    """
    names = list(names)
    taken = {_key(name) for name in names if name.suffix.lower() in keep}
    chosen = []
    for name in names:
        drawn, number = name, 1
        if name.suffix.lower() not in keep:
            drawn = name.with_suffix(".png")
            while _key(drawn) in taken:
                drawn = name.with_name(f"{name.name}{'' if number == 1 else f'-{number}'}.png")
                number += 1
            taken.add(_key(drawn))
        chosen.append(drawn)
    return chosen


def is_below(path: Path, folder: Path) -> bool:
    """Whether it lies in the folder (or is the folder), also when all links are followed; it need not be there.

    Raises ValueError for a name that no file can have.
    """
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def refuse_links_out(folder: Path, paths: Iterable[Path]) -> None:
    """To be called before results are written into a folder that may be anybody's.

    Errors: a path in it that is a link, or lies behind one, to a place outside.
    """
    for path in paths:
        if not is_below(path, folder):
            raise DetrLiteError(f"{path} is behind a link that leads out of {folder}; remove the link")


def atomic_write(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file, and its folder, so that nobody ever finds a part of it, after a kill or a power cut either.

    What stood there under that name is replaced, not written into: it may be a link to something that is to stay.
    Errors: a full disk and the like, with what stood there as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{os.getpid()}{PART}")
    part.unlink(missing_ok=True)  # of a killed program that had this number, or anybody's link
    try:
        with part.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except (OSError, RuntimeError) as error:
        # torch's writer closes its archive even after a fault, and reports that this fails, too.
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        remedy = "; make room on the disk" if cause.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        # A full disk's error names no file.
        raise DetrLiteError(f"{path}: cannot be written ({cause.strerror or cause}){remedy}") from cause
    finally:
        part.unlink(missing_ok=True)
    _sync_folder(path.parent)


def backup_file(path: Path, under: Path) -> None:
    """Give a file, if it is there, a second name, in place of what had that name. Nothing is copied."""
    if not path.exists():
        return
    part = path.with_name(f".{os.getpid()}{PART}")
    part.unlink(missing_ok=True)
    try:
        part.hardlink_to(path)
        part.replace(under)
    except OSError:  # a file system without second names
        path.replace(under)
    finally:
        part.unlink(missing_ok=True)  # two names of one file: then nothing was replaced


def remove_parts(folder: Path) -> None:
    """Remove what killed programs have left half written."""
    for part in folder.glob(f".*{PART}"):
        part.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Let the new name, too, outlast a power cut."""
    if os.name == "posix":
        place = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(place)
        finally:
            os.close(place)


def _key(name: PurePath) -> str:
    """On some file systems letters' case does not tell names apart."""
    return str(name).casefold()
