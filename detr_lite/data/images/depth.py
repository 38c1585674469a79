"""Pixels of any depth as 8-bit RGB.

One rule for training, evaluation and prediction, which depends on nothing but the image itself:

- Up to 16 bits without sign: medical and industrial cameras store 10, 12 or 14 bits in 16, which would be almost black.
  The full range is taken to be the smallest of 8, 10, 12, 14 and 16 bits that holds the image's largest value, so that
  one camera's images share a range unless they are very dark.
- Floats from 0 to 1 and from 0 to 255 are what they seem to be.
- Anything else is stretched from the image's smallest to its largest value. NaN is the smallest.
"""

from typing import Literal, cast

import numpy as np
from jaxtyping import UInt8
from PIL import Image

Depth = Literal["", "8 bits", "10 bits", "12 bits", "14 bits", "0 .. 255", "own range", "dark color"]
"""What the full range of an image was taken to be; "" where its type says so. "dark color" is said of color images of
16 bits, of which Pillow reads the upper 8: an image of 12 bits is almost black."""

PLAIN_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
"""Modes of 8 bits or less, which convert to RGB whatever the pixels are."""

FLOAT_TOLERANCE = 1e-3
"""Floats may exceed 0 .. 1 by so much, as resampling makes them."""

BLOCK = 2**20
"""Values that are scaled at once, so that an image of floats does not take many times its own memory."""


def to_rgb(image: Image.Image) -> tuple[Image.Image, Depth]:
    """A Pillow image of any mode without alpha and metadata, and the range that was taken to be its full one."""
    depth: Depth = ""
    if image.mode.startswith("I") or image.mode == "F":  # Pillow's own conversion clips at 255
        pixels, depth = to_8_bits(np.asarray(image))
        image = Image.fromarray(pixels)
    if image.mode == "P" and "transparency" in image.info:  # Pillow warns unless it is converted to RGBA first
        image = image.convert("RGBA")
    if image.mode == "La":  # Pillow converts La only to LA
        image = image.convert("LA")
    rgb = image.convert("RGB")
    rgb.info = {}  # the orientation is settled, and must not be applied again
    return rgb, depth


def depth_of(image: Image.Image, is_wide_color: bool) -> Depth:
    """What `to_rgb` would say; plain 8-bit images are not converted for it.

    Args:
        is_wide_color: the file has 16 bits for each color.
    """
    if image.mode not in PLAIN_MODES:
        return to_rgb(image)[1]
    is_dark = is_wide_color and np.asarray(image.convert("RGB")).max() < 2**6
    return "dark color" if is_dark else ""


def to_8_bits(pixels: np.ndarray) -> tuple[UInt8[np.ndarray, "..."], Depth]:
    """Numbers of any type and shape; the array must not be empty."""
    if pixels.dtype.kind == "f":
        pixels, low, high = _finite(pixels)
        if low >= -FLOAT_TOLERANCE and high <= 1 + FLOAT_TOLERANCE:
            return _rounded(pixels, 0.0, 1.0), ""
        if low >= -0.5 and high <= 255.5:
            return _rounded(pixels, 0.0, 255.0), "0 .. 255"
        return _rounded(pixels, low, high), "own range"
    low, high = float(pixels.min()), float(pixels.max())
    if low < 0 or high >= 2**16:
        return _rounded(pixels, low, high), "own range"
    bits = next(bits for bits in (8, 10, 12, 14, 16) if high < 2**bits)
    return _rounded(pixels, 0.0, 2.0**bits - 1), "" if bits == 16 else cast(Depth, f"{bits} bits")


def _finite(pixels: np.ndarray) -> tuple[np.ndarray, float, float]:
    """The pixels with NaN and infinite values at the ends of the range of the others, and that range."""
    is_finite = np.isfinite(pixels)
    if is_finite.all():
        return pixels, float(pixels.min()), float(pixels.max())
    finite = pixels[is_finite]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    return np.nan_to_num(pixels, nan=low, posinf=high, neginf=low), low, high


def _rounded(pixels: np.ndarray, low: float, high: float) -> UInt8[np.ndarray, "..."]:
    """255 at `high`; all 0 if there is no range."""
    # float64 for wide ranges, whose difference may not be a float32.
    exact = np.float64 if abs(low) + abs(high) > 2**24 else np.float32
    scale = high - low if high > low else 1.0
    values = pixels.reshape(-1)
    rounded = np.empty(values.shape, dtype=np.uint8)
    for start in range(0, len(values), BLOCK):
        block: np.ndarray = values[start : start + BLOCK].astype(exact)
        rounded[start : start + BLOCK] = ((block - low) / scale * 255).clip(0, 255).round()
    return rounded.reshape(pixels.shape)
