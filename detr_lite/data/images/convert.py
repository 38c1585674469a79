"""Pillow images, arrays and tensors as 8-bit RGB."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from detr_lite.data.images.depth import FLOAT_TOLERANCE, to_8_bits, to_rgb
from detr_lite.data.images.files import Orientation, StoredImage, load_stored, refuse_program
from detr_lite.data.images.load import load_image
from detr_lite.errors import DetrLiteError
from detr_lite.text import reason_of

ImageLike = str | Path | Image.Image | np.ndarray | Tensor
"""A path, a Pillow image of any mode, an array (height width) or (height width 1|3|4), a tensor (3 height width)."""

EXPECTED = (
    "give a path, a Pillow image, a numpy array (height, width[, 1 | 3 | 4]) of uint8, uint16 or float 0 .. 1, "
    "or a tensor (3, height, width) of uint8 or float 0 .. 1"
)


def as_image(given: Any, orientation: Orientation = "upright") -> Image.Image:
    """Any `ImageLike` as 8-bit RGB without alpha.

    More than 8 bits are rounded to 8 as in a file, so that an image gives the same detections in every form.
    `orientation` says whether the EXIF orientation of a file or Pillow image is applied. Raises `DetrLiteError` for
    anything that is not an `ImageLike`.
    """
    if isinstance(given, str | Path):
        return load_image(Path(given), orientation=orientation)
    if isinstance(given, Image.Image):
        try:
            refuse_program(given)
            pixels, tag = load_stored(given)
            return to_rgb(StoredImage(pixels, pixels.size, tag, is_incomplete=False).turned(orientation))[0]
        except Exception as error:  # Pillow reads a file only when its pixels are accessed
            raise DetrLiteError(f"a Pillow image that is not readable ({reason_of(error)})") from error
    if isinstance(given, np.ndarray):
        return _from_array(given, f"a numpy array {given.shape} of {given.dtype}")
    if isinstance(given, Tensor):
        return _from_tensor(given)
    raise DetrLiteError(f"{type(given).__name__} is not an image: {EXPECTED}")


def _from_tensor(given: Tensor) -> Image.Image:
    what = f"a tensor {tuple(given.shape)} of {str(given.dtype).removeprefix('torch.')}"
    if given.ndim != 3 or len(given) != 3 or 0 in given.shape:
        hint = "; for a batch give list(batch)" if given.ndim == 4 else ""
        raise DetrLiteError(f"{what} is not an image: {EXPECTED}{hint}")
    pixels = given.detach().cpu()
    pixels = pixels.float() if pixels.is_floating_point() else pixels  # numpy has no bfloat16
    array: np.ndarray = pixels.permute(1, 2, 0).numpy()
    if array.dtype not in (np.float32, np.uint8):
        raise DetrLiteError(f"{what} is not an image: {EXPECTED}")
    return _from_array(array, what)


def _from_array(pixels: np.ndarray, what: str) -> Image.Image:
    """`what` describes the array in errors."""
    kind = (pixels.dtype.kind, pixels.dtype.itemsize)
    is_float = pixels.dtype.kind == "f"
    fits = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (1, 3, 4))
    if not fits or 0 in pixels.shape or not (is_float or kind in (("u", 1), ("u", 2))):
        hint = "; (3, height, width) is a tensor's order" if pixels.ndim == 3 and len(pixels) == 3 and not fits else ""
        raise DetrLiteError(f"{what} is not an image: {EXPECTED}{hint}")
    pixels = pixels[..., :3] if pixels.ndim == 3 else pixels  # alpha has no part in the range of the others
    if is_float:
        low, high = float(pixels.min()), float(pixels.max())
        if not (low >= -FLOAT_TOLERANCE and high <= 1 + FLOAT_TOLERANCE):  # negated, so that NaN is refused as well
            raise DetrLiteError(
                f"{what} has values from {low:.4g} to {high:.4g}: a float image has 0 .. 1; "
                "give uint8, or undo the normalization (the detector normalizes by itself)"
            )
    if kind != ("u", 1):
        pixels, _ = to_8_bits(pixels)
    pixels = np.ascontiguousarray(pixels)
    return to_rgb(Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels))[0]
