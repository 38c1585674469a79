"""Decodes image files as they are stored, and tells apart the ways in which a file is unreadable."""

import logging
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.Image import Transpose
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from detr_lite.data.images.cut_off import lacks_rows, lacks_strips
from detr_lite.data.images.jpeg_end import complete_jpeg
from detr_lite.data.images.libtiff import silence_libtiff
from detr_lite.errors import DetrLiteError
from detr_lite.text import reason_of, shown

logging.getLogger("PIL").addHandler(logging.NullHandler())  # it raises exceptions too; these lines would be on stderr

Orientation = Literal["upright", "stored"]
"""Whether the EXIF orientation is applied to an image, as viewers do, or its pixels are left as they are stored."""

Problem = Literal[
    "missing_image", "empty_image", "truncated_image", "not_an_image", "lfs_pointer", "too_many_pixels", "program",
    "unreadable_image",
]  # fmt: skip
"""Why a file cannot be used as an image."""
PROBLEMS: tuple[Problem, ...] = get_args(Problem)

PROGRAM_FORMATS = ("EPS", "WMF")
"""Formats whose files are programs, which Pillow lets Ghostscript or Windows execute."""

MAX_PIXELS_VARIABLE = "DETR_LITE_MAX_PIXELS"
"""Environment variable: the most pixels of an image that are decoded; by default twice Pillow's MAX_IMAGE_PIXELS."""

LFS_MARK = b"version https://git-lfs.github.com/spec/"
"""How a file begins that stands for another one in a Git repository until that is fetched."""

TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
"""What makes an image of this EXIF orientation upright."""
_TURNS_BACK = {**TURNS, 6: Transpose.ROTATE_90, 8: Transpose.ROTATE_270}


class UnreadableImageError(Exception):
    """The message is the reason, without the path."""

    def __init__(self, kind: Problem, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


@dataclass(frozen=True)
class StoredImage:
    """The first frame of an image file."""

    image: Image.Image
    """In the file's own mode; with `as_thumbnail` it may be smaller and grey."""
    size_wh: tuple[int, int]
    """As stored, whatever the orientation says."""
    orientation: int
    """The EXIF tag: 1 for upright, or a key of `TURNS`."""
    is_incomplete: bool
    """A JPEG without its last bytes, which has all its pixels, or all but its last blocks."""
    is_wide_color: bool = False
    """Color of 16 bits in the file, of which Pillow reads the upper 8."""

    def upright_size_wh(self) -> tuple[int, int]:
        return self.size_wh if self.orientation < 5 else self.size_wh[::-1]

    def turned(self, orientation: Orientation) -> Image.Image:
        if orientation == "stored" or self.orientation == 1:
            return self.image
        return self.image.transpose(TURNS[self.orientation])


def read_stored(path: str | Path, as_thumbnail: bool = False) -> StoredImage:
    """Decode an image file.

    Pillow's warnings are about large images and unusual tags; the caller ignores them, as that is not safe in threads.

    Args:
        as_thumbnail: decode a JPEG at an eighth of its size, in grey, which takes half the time and finds the same
            faults.

    Raises `UnreadableImageError`.
    """
    apply_pixel_limit()
    try:
        _refuse_empty(path)
        return _decode(path, as_thumbnail)
    except UnreadableImageError:
        raise
    except Exception as error:  # damaged files raise many types, depending on the format
        if isinstance(error, UnidentifiedImageError) and _is_lfs_pointer(path):
            raise UnreadableImageError("lfs_pointer", "a Git LFS pointer; fetch it with git lfs pull") from error
        raise UnreadableImageError(_kind_of(error), _reason(error)) from error


def decoding_bytes(path: str | Path) -> int:
    """About how much memory `read_stored` takes for a thumbnail, by the header; 0 if that is unreadable."""
    try:
        _refuse_empty(path)
        with Image.open(path) as image:
            is_small = isinstance(image, JpegImageFile) and "progressive" not in image.info
            return image.width * image.height * 4 // (64 if is_small else 1)
    except Exception:  # `read_stored` says which
        return 0


def refuse_program(image: Image.Image) -> None:
    """Called before the pixels are accessed. The format is that of the content, not of the file name."""
    if image.format in PROGRAM_FORMATS:
        raise UnreadableImageError("program", f"{image.format} is a program, which is not executed")


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation; 1, upright, if there is none, or none that has a meaning."""
    try:
        tag = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # damaged EXIF data raise many types
        return 1
    return tag if isinstance(tag, int) and tag in TURNS else 1


def load_stored(image: Image.Image) -> tuple[Image.Image, int]:
    """The pixels as they are stored, and the EXIF orientation. Raises what Pillow does and `UnreadableImageError`."""
    if not isinstance(image, TiffImageFile):
        image.load()  # before the orientation, which may stand behind the pixels
        return image, orientation_of(image)
    if lacks_strips(image):
        raise UnreadableImageError("truncated_image", "it has fewer rows than its header says")
    silence_libtiff()
    orientation = orientation_of(image)
    image.load()
    if orientation_of(image) != orientation:  # Pillow has made it upright
        return image.transpose(_TURNS_BACK[orientation]), orientation
    return image, orientation


def apply_pixel_limit() -> None:
    """Let Pillow's limit be that of the environment variable, if it is set."""
    text = os.environ.get(MAX_PIXELS_VARIABLE)
    if text is None:
        return
    if not text.isdecimal() or not int(text):
        raise DetrLiteError(f"{MAX_PIXELS_VARIABLE} is {shown(text)}; it must be a number of pixels, such as 400000000")
    Image.MAX_IMAGE_PIXELS = -(-int(text) // 2)  # Pillow raises above twice its limit


def pixel_limit() -> int:
    """The most pixels of an image that is decoded."""
    apply_pixel_limit()
    return 2**63 - 1 if Image.MAX_IMAGE_PIXELS is None else 2 * Image.MAX_IMAGE_PIXELS


def _refuse_empty(path: str | Path) -> None:
    found = os.stat(path)  # noqa: PTH116 (a str is not made a Path for it)
    if not stat.S_ISREG(found.st_mode):
        raise UnreadableImageError("unreadable_image", "not a file")  # opening a pipe would wait forever
    if not found.st_size:
        raise UnreadableImageError("empty_image", "the file has 0 bytes")


def _decode(path: str | Path, as_thumbnail: bool) -> StoredImage:
    try:
        with Image.open(path) as image:
            stored = _load(image, as_thumbnail, is_incomplete=False)
            if image.format == "PNG" and lacks_rows(stored.image, path):
                raise UnreadableImageError("truncated_image", "its data end before its last row")
            return stored
    except OSError as error:
        if "truncated" not in str(error):
            raise
        completed = complete_jpeg(Path(path))
        if completed is None:
            raise
    with Image.open(completed) as image:
        return _load(image, as_thumbnail, is_incomplete=True)


def _load(image: Image.Image, as_thumbnail: bool, is_incomplete: bool) -> StoredImage:
    refuse_program(image)
    if as_thumbnail and isinstance(image, JpegImageFile):
        size_wh = image.size
        image.draft("L", (1, 1))
        image.load()
        return StoredImage(image, size_wh, orientation_of(image), is_incomplete)
    is_wide_color = isinstance(image, ImageFile) and any(";16" in str(tile.args) for tile in image.tile)
    pixels, orientation = load_stored(image)
    return StoredImage(pixels, pixels.size, orientation, is_incomplete, is_wide_color)


def _is_lfs_pointer(path: str | Path) -> bool:
    with open(path, "rb") as file:  # noqa: PTH123 (as for the image, `path` may be a string)
        return file.read(len(LFS_MARK)) == LFS_MARK


def _kind_of(error: Exception) -> Problem:
    kinds: tuple[tuple[Problem, Callable[[], bool]], ...] = (
        ("missing_image", lambda: isinstance(error, FileNotFoundError)),
        ("too_many_pixels", lambda: isinstance(error, Image.DecompressionBombError)),
        ("not_an_image", lambda: isinstance(error, UnidentifiedImageError)),
        ("truncated_image", lambda: isinstance(error, EOFError) or "truncated" in str(error).lower()),
    )
    return next((kind for kind, applies in kinds if applies()), "unreadable_image")


def _reason(error: Exception) -> str:
    """Without the path, which Pillow and the operating system name too."""
    if isinstance(error, UnidentifiedImageError):
        return "no known image format"
    return str(error.strerror) if isinstance(error, OSError) and error.strerror else reason_of(error)
