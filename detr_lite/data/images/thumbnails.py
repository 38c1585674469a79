"""Every image of a split as a picture of 16 x 16 pixels, for comparing images with each other."""

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps
from tqdm import tqdm

from detr_lite.cores import usable_cores
from detr_lite.data.cache import cache_file, file_stamps, load_cached, save_cached
from detr_lite.data.images.load import load_image
from detr_lite.errors import DetrLiteError

SIDE = 16

_DECODED_SIDE = 64
"""JPEG files are decoded at an eighth, a quarter or half of their size, as long as both sides keep this many pixels."""


def read_thumbnails(paths: Sequence[str]) -> UInt8[np.ndarray, "image 16 16 3"]:
    """Upright and in RGB; black where a file cannot be read. The result is cached by the size and time of the files."""
    stamps = file_stamps(paths)
    file = cache_file("thumbnails", *paths)
    cached = load_cached(file)
    if cached is not None and np.array_equal(cached[0]["stamps"], stamps):
        return cached[0]["thumbnails"]
    thumbnails = np.zeros((len(paths), SIDE, SIDE, 3), dtype=np.uint8)
    with ThreadPoolExecutor(usable_cores()) as pool:  # decoding releases Python's lock
        read = pool.map(_thumbnail, paths)
        bar = tqdm(read, "comparing images", total=len(paths), unit="image", leave=False, disable=None)
        for place, thumbnail in enumerate(bar):
            if thumbnail is not None:
                thumbnails[place] = thumbnail
    save_cached(file, {"stamps": stamps, "thumbnails": thumbnails}, {})
    return thumbnails


def color_range(thumbnails: UInt8[np.ndarray, "image 16 16 3"]) -> UInt8[np.ndarray, " image"]:
    """How far the lightest and the darkest pixel lie apart, in the channel where that is most."""
    ranges: np.ndarray = np.ptp(thumbnails, axis=(1, 2)).max(axis=1)
    return ranges


def _thumbnail(path: str) -> UInt8[np.ndarray, "16 16 3"] | None:
    try:
        image = _small_jpeg(path) or load_image(Path(path))
    except DetrLiteError:
        return None
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX))


def _small_jpeg(path: str) -> Image.Image | None:
    """A JPEG file decoded at a fraction of its size, many times faster; None for other files."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=("JPEG",)) as image:
            image.draft("RGB", (_DECODED_SIDE, _DECODED_SIDE))
            return ImageOps.exif_transpose(image).convert("RGB")
    except Exception:  # damaged files raise many types; `load_image` decides about them
        return None
