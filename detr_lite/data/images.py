"""Images from files, Pillow images, arrays and tensors, all converted to 8-bit RGB."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from detr_lite.structures import DetrLiteError
from detr_lite.text import reason_of

ImageLike = str | Path | Image.Image | np.ndarray | Tensor
"""A path, a Pillow image of any mode, an array (height width) or (height width 1|3|4), a tensor (3 height width)."""

EXPECTED = (
    "give a path, a Pillow image, a numpy array (height, width[, 1 | 3 | 4]) of uint8, uint16 or float 0 .. 1, "
    "or a tensor (3, height, width) of uint8 or float 0 .. 1"
)

PROGRAM_FORMATS = ("EPS", "WMF")
"""Formats whose files are programs, which Pillow lets Ghostscript or Windows execute."""


def load_image(path: Path, size: tuple[int, int] | None = None) -> Image.Image:
    """Read an image file as 8-bit RGB.

    `size` is the (height, width) in the annotations. COCO annotations refer to the pixels as stored, so the EXIF
    orientation is applied only if the stored size differs from `size`. Without a `size` it is always applied, as image
    viewers do.

    Raises `DetrLiteError` if the file is not a complete image or its size is not `size`.
    """
    try:
        # Pillow's warnings are about large images and unusual tags; unusable images raise.
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            _refuse_program(image)
            image.load()
            if (image.height, image.width) != size:
                ImageOps.exif_transpose(image, in_place=True)
            rgb = _to_rgb(image)
    except Image.DecompressionBombError as error:
        raise DetrLiteError(
            f"{path}: more pixels than are safe to read ({reason_of(error)}); resize the image"
        ) from error
    except Exception as error:  # damaged files raise many types, depending on the format
        raise DetrLiteError(f"{path}: not readable as an image ({reason_of(error)}); replace the file") from error
    if size is not None and (rgb.height, rgb.width) != size:
        raise DetrLiteError(
            f"{path}: the file is {rgb.width} x {rgb.height} pixels, its annotations say {size[1]} x {size[0]} "
            "(width x height); correct the annotations or replace the file"
        )
    return rgb


def as_image(given: Any) -> Image.Image:
    """Any `ImageLike` as 8-bit RGB, upright, without alpha.

    More than 8 bits are rounded to 8, so that an image gives the same detections in every form. Raises `DetrLiteError`
    for anything that is not an `ImageLike`.
    """
    if isinstance(given, str | Path):
        return load_image(Path(given))
    if isinstance(given, Image.Image):
        try:
            _refuse_program(given)
            return _to_rgb(ImageOps.exif_transpose(given))
        except Exception as error:  # Pillow reads a file only when its pixels are accessed
            raise DetrLiteError(f"a Pillow image that is not readable ({reason_of(error)})") from error
    if isinstance(given, np.ndarray):
        return _from_array(given, f"a numpy array {given.shape} of {given.dtype}")
    if isinstance(given, Tensor):
        what = f"a tensor {tuple(given.shape)} of {str(given.dtype).removeprefix('torch.')}"
        if given.ndim != 3 or len(given) != 3 or 0 in given.shape:
            hint = "; for a batch give list(batch)" if given.ndim == 4 else ""
            raise DetrLiteError(f"{what} is not an image: {EXPECTED}{hint}")
        pixels = given.detach().cpu()
        pixels = pixels.float() if pixels.is_floating_point() else pixels  # numpy has no bfloat16
        if pixels.dtype not in (torch.float32, torch.uint8):
            raise DetrLiteError(f"{what} is not an image: {EXPECTED}")
        return _from_array(pixels.permute(1, 2, 0).numpy(), what)
    raise DetrLiteError(f"{type(given).__name__} is not an image: {EXPECTED}")


def _refuse_program(image: Image.Image) -> None:
    """Called before the pixels are accessed. The format is that of the content, not of the file name."""
    if image.format in PROGRAM_FORMATS:
        raise ValueError(f"{image.format} is a program, which is not executed")


def _from_array(pixels: np.ndarray, what: str) -> Image.Image:
    """`what` describes the array in errors."""
    kind = (pixels.dtype.kind, pixels.dtype.itemsize)
    is_float = pixels.dtype.kind == "f"
    fits = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (1, 3, 4))
    if not fits or 0 in pixels.shape or not (is_float or kind in (("u", 1), ("u", 2))):
        hint = "; (3, height, width) is a tensor's order" if pixels.ndim == 3 and len(pixels) == 3 and not fits else ""
        raise DetrLiteError(f"{what} is not an image: {EXPECTED}{hint}")
    if is_float:
        low, high = float(pixels.min()), float(pixels.max())
        if not (low >= -1e-3 and high <= 1 + 1e-3):  # negated, so that NaN is refused as well
            raise DetrLiteError(
                f"{what} has values from {low:.4g} to {high:.4g}: a float image has 0 .. 1; "
                "give uint8, or undo the normalization (the detector normalizes by itself)"
            )
        pixels = (pixels.clip(0, 1) * 255).round()
    elif kind == ("u", 2):
        pixels = _from_16_bits(pixels)
    pixels = np.ascontiguousarray(pixels, dtype=np.uint8)
    return _to_rgb(Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits; Pillow's own conversion clips at 255
        image = Image.fromarray(_from_16_bits(np.asarray(image)))
    if image.mode == "F":
        return _from_array(np.asarray(image), "a Pillow image of mode F")
    if image.mode == "P":  # Pillow warns about transparent palettes unless they are converted to RGBA first
        image = image.convert("RGBA")
    if image.mode == "La":  # Pillow converts La only to LA
        image = image.convert("LA")
    return image.convert("RGB")


def _from_16_bits(pixels: np.ndarray) -> np.ndarray:
    return (pixels.clip(0, 65535) / 257).round().astype(np.uint8)
