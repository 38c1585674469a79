"""The folder of a written dataset: complete or not there at all, with images as hard links or copies."""

import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from detr_lite.data.images.orientation_tag import copy_without_orientation, ignored_orientations
from detr_lite.data.records import RawSplit
from detr_lite.errors import DetrLiteError
from detr_lite.io import PART, atomic_write, is_below

Placing = Literal["link", "copy"]

MARK = "prepared.txt"
"""Names the command that wrote a dataset; without it no folder is replaced."""


@dataclass
class Written:
    """What a writer did."""

    images: int = 0
    objects: int = 0
    """Without crowd regions."""
    linked: int = 0
    copied: int = 0
    notes: list[str] = field(default_factory=list)
    """One line for each kind of what the format cannot hold."""


@contextmanager
def new_dataset(output: Path, sources: Sequence[Path], what: str, overwrite: bool = False) -> Iterator[Path]:
    """A folder to write into, which takes the place of `output` at the end, or is removed after an error.

    Args:
        sources: datasets that are read, which the output may not touch.
        what: the command and its options, for the file `MARK`.
        overwrite: replace a dataset that was written in this way before.

    Errors: an output that is in the way or in a source.
    """
    check_new(output, sources, overwrite)
    output.parent.mkdir(parents=True, exist_ok=True)
    part = output.with_name(f".{secrets.token_hex(8)}{PART}")
    part.mkdir()
    try:
        yield part
        atomic_write(part / MARK, lambda file: file.write(f"Written by {what}\n".encode(errors="replace")))
        if output.is_dir():
            old = output.with_name(f".{secrets.token_hex(8)}{PART}")
            output.rename(old)
            part.rename(output)
            shutil.rmtree(old)
        else:
            part.rename(output)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def check_new(output: Path, sources: Sequence[Path], overwrite: bool) -> None:
    """Called before the sources are read, which may take minutes. Errors: as of `new_dataset`."""
    for source in sources:
        if is_below(output, source) or is_below(source, output):
            raise DetrLiteError(f"the output {output} and the dataset {source} overlap; name a folder beside it")
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise DetrLiteError(f"the output {output} is a file or a link; name a folder")
    if output.is_mount():  # cannot be renamed
        raise DetrLiteError(f"the output {output} is a disk of its own; name a folder in it")
    if not output.is_dir() or not any(output.iterdir()):
        return
    if not (output / MARK).is_file():
        raise DetrLiteError(f"the output {output} is not empty, and was not written by this command; name a new folder")
    if not overwrite:
        raise DetrLiteError(f"the output {output} is there already; name a new folder, or replace it with --overwrite")


def place_images(split: RawSplit, names: Sequence[str], folder: Path, how: Placing, written: Written) -> None:
    """Put the image files of a checked split into the folder under these names, and count in `written` how.

    A link shares its data with the source file. Where the file system allows none, such as on another disk, the files
    are copied. Where boxes refer to the pixels as stored, in spite of an EXIF orientation, the copy is without it, so
    that a reader of the output, which may know no sizes, cannot be wrong.
    """
    folder.mkdir(parents=True, exist_ok=True)
    is_turned = ignored_orientations(split)
    if is_turned.any():
        count = int(is_turned.sum())
        written.notes.append(
            f"{folder.name}: images whose boxes do not follow their EXIF orientation are copied without it: {count:,}"
        )
    pairs = zip(split.paths, names, is_turned.tolist(), strict=True)
    for source, name, turned in tqdm(pairs, total=len(names), desc="images", unit="image", leave=False, disable=None):
        target = folder / name
        if not target.parent.is_dir():
            target.parent.mkdir(parents=True)
        if turned:
            copy_without_orientation(source, target)
            written.copied += 1
        elif how == "link" and _link(source, target):
            written.linked += 1
        else:
            how = "copy"
            shutil.copyfile(source, target)
            written.copied += 1
        written.images += 1


def _link(source: str, target: Path) -> bool:
    try:
        os.link(os.path.realpath(source), target)  # of a symbolic link, the file behind it
    except FileNotFoundError:
        raise
    except OSError:
        return False
    return True
