"""Image files as 8-bit RGB."""

import warnings
from pathlib import Path

from PIL import Image

from detr_lite.data.images.depth import to_rgb
from detr_lite.data.images.files import (
    MAX_PIXELS_VARIABLE,
    Orientation,
    StoredImage,
    UnreadableImageError,
    read_stored,
)
from detr_lite.errors import DetrLiteError
from detr_lite.text import url_of


def load_image(path: Path, size: tuple[int, int] | None = None, orientation: Orientation = "upright") -> Image.Image:
    """Read an image file as 8-bit RGB.

    `size` is the (height, width) in the annotations, which may refer to the pixels as stored or to the upright image:
    if only one of them has this size, that one is returned. Otherwise (a square image, one that is mirrored or upside
    down, no `size`) `orientation` says which.

    Raises `DetrLiteError` if the file is not a complete image or has another size.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            stored = read_stored(path)
            image, _ = to_rgb(stored.turned(_settle(stored, size, orientation)))
    except UnreadableImageError as error:
        if error.kind == "too_many_pixels":
            raise DetrLiteError(
                f"{path}: more pixels than are safe to read ({error}); resize the image, or set the environment "
                f"variable {MAX_PIXELS_VARIABLE}"
            ) from error
        if error.kind == "missing_image":
            if url := url_of(path):
                raise DetrLiteError(f"{url}: is a URL; download the image first and give its path") from error
            raise DetrLiteError(f"{path}: no such file") from error
        if path.is_dir():
            raise DetrLiteError(f"{path}: is a folder; give the images in it") from error
        raise DetrLiteError(f"{path}: not readable as an image ({error}); replace the file") from error
    if size is not None and (image.height, image.width) != size:
        raise DetrLiteError(
            f"{path}: the file is {image.width} x {image.height} pixels, its annotations say {size[1]} x {size[0]} "
            "(width x height); correct the annotations or replace the file"
        )
    return image


def _settle(stored: StoredImage, size: tuple[int, int] | None, default: Orientation) -> Orientation:
    fits_stored = size is not None and stored.size_wh == size[::-1]
    fits_upright = size is not None and stored.upright_size_wh() == size[::-1]
    if fits_stored == fits_upright:
        return default
    return "stored" if fits_stored else "upright"
