"""Finds the image files that `--source` arguments (files, folders, patterns) refer to, and reads them in batches."""

import logging
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from PIL import Image
from tqdm import tqdm

from detr_lite.data.images.files import Orientation
from detr_lite.data.images.load import load_image
from detr_lite.errors import DetrLiteError
from detr_lite.text import printable, shorten_list, url_of

logger = logging.getLogger(__name__)

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".avif", ".heic", ".heif"),
    *(".jp2", ".ppm", ".pgm", ".pbm", ".pnm"),
)
"""Suffixes of image files in a folder, in lower or upper case. A file that is given by its path may have any."""

_WILDCARD = r"[*?\[]"

_MAX_BATCH_PIXELS = 50_000_000
"""A batch ends once its images have more pixels than this, so that several panoramas do not exhaust the memory."""


@dataclass(frozen=True)
class ImageFile:
    """An image file, and the relative path under which its results are saved; unique within one command."""

    path: Path
    name: PurePath


def find_images(sources: Sequence[str], output: Path) -> tuple[ImageFile, ...]:
    """The image files of all sources in order, without duplicates.

    A source is a file, a folder (searched recursively) or a pattern with `*`, `?` and `**`. Hidden files and files in
    the `output` folder are left out. A file's name is its path relative to the source; if two names are equal, all are
    relative to the deepest folder that contains all files.

    Raises `DetrLiteError` for a source that does not exist, contains no image, or is inside `output`.
    """
    found: dict[Path, ImageFile] = {}
    for source in sources:
        files = _files_of(source, output.resolve())
        if not files:
            raise DetrLiteError(f"--source {source}: no images in it; images are files such as a.jpg, a.png or a.tif")
        for file in files:
            found.setdefault(Path(os.path.normpath(file.path.absolute())), file)
    images = tuple(found.values())
    # Some file systems ignore case.
    if len({str(image.name).casefold() for image in images}) < len(images):
        shared = os.path.commonpath([path.parent for path in found])
        images = tuple(replace(image, name=path.relative_to(shared)) for path, image in found.items())
    return images


def read_batches(
    images: Sequence[ImageFile], size: int, unreadable: list[ImageFile], doing: str, orientation: Orientation
) -> Iterator[list[tuple[ImageFile, Image.Image]]]:
    """Read the images in batches of at most `size`. Files that cannot be read are logged and added to `unreadable`.

    Args:
        doing: label of the progress bar.
        orientation: whether to apply the EXIF orientation.
    """
    batch: list[tuple[ImageFile, Image.Image]] = []
    pixels = 0
    with tqdm(total=len(images), desc=doing, unit="image", leave=False, disable=None) as bar:
        for file in images:
            try:
                image = load_image(file.path, orientation=orientation)
            except DetrLiteError as error:
                unreadable.append(file)
                logger.warning("skipped %s", printable(error))
                bar.update()
                continue
            batch.append((file, image))
            pixels += image.width * image.height
            if len(batch) == size or pixels > _MAX_BATCH_PIXELS:
                yield batch
                bar.update(len(batch))
                batch, pixels = [], 0
        if batch:
            yield batch
            bar.update(len(batch))


def refuse_unreadable(unreadable: Sequence[ImageFile], total: int, output: Path) -> None:
    """Raise `DetrLiteError` if any file was unreadable; called after all others have been processed."""
    if unreadable:
        files = shorten_list([file.path for file in unreadable], 3)
        done = total - len(unreadable)
        rest = f"the results of the other {done:,} are in {output}" if done else "nothing is written"
        raise DetrLiteError(f"{len(unreadable):,} of {total:,} files could not be read as images ({files}); {rest}")


def _files_of(source: str, output: Path) -> list[ImageFile]:
    path = Path(source)
    if source and path.exists():
        if path.resolve().is_relative_to(output):
            raise DetrLiteError(f"--source {source} lies in the output folder {output}; give another --output")
        return _files_below(path, output) if path.is_dir() else [ImageFile(path, PurePath(path.name))]
    if url := url_of(source):
        raise DetrLiteError(f"--source {url}: is a URL; download the images first and give their folder")
    if not re.search(_WILDCARD, source):
        raise DetrLiteError(f"--source {source or repr(source)}: no such file or folder")
    # Names are relative to the part without wildcards.
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
    for path, folders, names in os.walk(folder, onerror=_cannot_list, followlinks=True):
        here = Path(path)
        if here.resolve() in visited:  # symbolic links can form a cycle
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
    """Hidden files are often metadata of macOS or thumbnails."""
    return name.startswith(".")
