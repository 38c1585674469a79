"""A folder of results: what it may already hold, what its files are called, and that none is ever half written."""

import os
from collections.abc import Callable, Collection, Iterable
from pathlib import Path, PurePath
from typing import IO

from detr_lite.structures import DetrLiteError


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


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file, and its folder, so that nobody ever finds a part of it.

    What stood there under that name is replaced, not written into: it may be a link to something that is to stay.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            write(file)
        part.replace(path)
    except OSError as error:  # a full disk's error names no file
        raise DetrLiteError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        part.unlink(missing_ok=True)


def _key(name: PurePath) -> str:
    """On some file systems letters' case does not tell names apart."""
    return str(name).casefold()
