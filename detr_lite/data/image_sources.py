"""Which image files a user means by the paths, folders and patterns of a command line, and reading them in batches."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from PIL import Image
from tqdm import tqdm

from detr_lite.data.annotations import listed
from detr_lite.data.images import load_image
from detr_lite.structures import DetrLiteError
from detr_lite.text import printable

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".avif", ".heic", ".heif"),
    *(".jp2", ".ppm", ".pgm", ".pbm", ".pnm"),
)
"""What is taken for an image in a folder, in small or capital letters. A file named by itself may have any."""

_WILDCARD = r"[*?\[]"

_MOST_PIXELS = 50_000_000
"""A batch of images that have more than this together is ended, so that eight panoramas do not fill the memory."""


@dataclass(frozen=True)
class ImageFile:
    """A file, and the relative name that its results go by; no two files of one command share a name."""

    path: Path
    name: PurePath


def find_images(sources: Sequence[str], output: Path) -> tuple[ImageFile, ...]:
    """The image files of all sources, each once, in order.

    A source is a file, a folder (searched with its subfolders) or a pattern with `*`, `?` and `**`. Hidden files, and
    results in the `output` folder that lies among the sources, are left out. A file is named by its path below the
    folder that was given; where two would share a name, all are named by their path below the folder they share.
    Errors: a source that is not there, holds no image, or lies in `output`.
    """
    found: dict[Path, ImageFile] = {}
    for source in sources:
        files = _files_of(source, output.resolve())
        if not files:
            raise DetrLiteError(f"--source {source}: no images in it; images are files such as a.jpg, a.png or a.tif")
        for file in files:
            found.setdefault(Path(os.path.normpath(file.path.absolute())), file)
    images = tuple(found.values())
    # On some file systems letters' case does not tell names apart.
    if len({str(image.name).casefold() for image in images}) < len(images):
        shared = os.path.commonpath([path.parent for path in found])
        images = tuple(replace(image, name=path.relative_to(shared)) for path, image in found.items())
    return images


def read_batches(
    images: Sequence[ImageFile], size: int, unreadable: list[ImageFile], doing: str
) -> Iterator[list[tuple[ImageFile, Image.Image]]]:
    """Read the images, at most `size` at a time; those that cannot be read are named, skipped and put in `unreadable`.

    A progress bar says what the command is `doing`.
    """
    batch: list[tuple[ImageFile, Image.Image]] = []
    pixels = 0
    with tqdm(total=len(images), desc=doing, unit="image", leave=False, disable=None) as bar:
        for file in images:
            try:
                image = load_image(file.path)
            except DetrLiteError as error:
                unreadable.append(file)
                tqdm.write(f"skipped    {printable(error)}")
                bar.update()
                continue
            batch.append((file, image))
            pixels += image.width * image.height
            if len(batch) == size or pixels > _MOST_PIXELS:
                yield batch
                bar.update(len(batch))
                batch, pixels = [], 0
        if batch:
            yield batch
            bar.update(len(batch))


def refuse_unreadable(unreadable: Sequence[ImageFile], total: int, output: Path) -> None:
    """Raises DetrLiteError if there are any; to be called when all others are done."""
    if unreadable:
        named = listed([file.path for file in unreadable], most=3)
        done = total - len(unreadable)
        rest = f"the results of the other {done:,} are in {output}" if done else "nothing is written"
        raise DetrLiteError(f"{len(unreadable):,} of {total:,} files could not be read as images ({named}); {rest}")


def _files_of(source: str, output: Path) -> list[ImageFile]:
    path = Path(source)
    if source and path.exists():
        if path.resolve().is_relative_to(output):
            raise DetrLiteError(f"--source {source} lies in the output folder {output}; give another --output")
        return _files_below(path, output) if path.is_dir() else [ImageFile(path, PurePath(path.name))]
    if not re.search(_WILDCARD, source):
        raise DetrLiteError(f"--source {source or repr(source)}: no such file or folder")
    # Named by what lies below the part without wildcards.
    fixed = Path(re.split(_WILDCARD, source)[0] + "x").parent
    pattern = path.relative_to(fixed)
    try:
        if ".." in pattern.parts:
            raise ValueError('".." after a wildcard')
        matches = list(fixed.glob(str(pattern)))
    except ValueError as error:
        raise DetrLiteError(f"--source {source}: no valid pattern ({error})") from error
    if not matches:
        raise DetrLiteError(f"--source {source}: no file matches this pattern")
    files = {file.path for match in matches if match.is_dir() for file in _files_below(match, output)}
    files |= {match for match in matches if _is_image(match, output)}
    named = [ImageFile(file, file.relative_to(fixed)) for file in sorted(files)]
    return [file for file in named if not any(map(_is_hidden, file.name.parts))]


def _files_below(folder: Path, output: Path) -> list[ImageFile]:
    files: list[Path] = []
    visited = {output}
    for place, folders, names in os.walk(folder, onerror=_cannot_list, followlinks=True):
        here = Path(place)
        if here.resolve() in visited:  # linked folders may lead in a circle
            folders.clear()
            continue
        visited.add(here.resolve())
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        files += [here / name for name in sorted(names) if _is_image(here / name, output)]
    return [ImageFile(file, file.relative_to(folder)) for file in files]


def _cannot_list(error: OSError) -> None:
    raise DetrLiteError(f"{error.filename}: cannot be searched ({error.strerror}); check its permissions") from error


def _is_image(path: Path, output: Path) -> bool:
    return (
        path.suffix.lower() in SUFFIXES
        and not _is_hidden(path.name)
        and path.is_file()
        and not path.resolve().is_relative_to(output)
    )


def _is_hidden(name: str) -> bool:
    """Of which macOS and thumbnail programs leave many."""
    return name.startswith(".")
