"""Width and height of many image files, from their headers."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from math import nan

import numpy as np
from jaxtyping import Float64
from PIL import Image
from tqdm import tqdm

from detr_lite.data.image_files import PROGRAM_FORMATS

_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)
_THREADS = 8
"""Mostly waiting for the disk."""


def read_sizes(paths: Sequence[str]) -> Float64[np.ndarray, "image 2"]:
    """Width and height of each image when upright, that is with its EXIF orientation applied; NaN if unreadable."""
    with ThreadPoolExecutor(_THREADS) as threads:
        sizes = tqdm(threads.map(_read_size, paths), "image sizes", len(paths), unit="image", leave=False, disable=None)
        return np.array(list(sizes), dtype=np.float64).reshape(-1, 2)


def _read_size(path: str) -> tuple[float, float]:
    try:
        with Image.open(path) as image:
            if image.format in PROGRAM_FORMATS:
                return nan, nan
            width, height = map(float, image.size)
            is_sideways = image.getexif().get(_ORIENTATION) in _SIDEWAYS
    except Exception:  # damaged files raise many types; the check of the images names the fault
        return nan, nan
    return (height, width) if is_sideways else (width, height)
