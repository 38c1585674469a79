"""Raw splits whose images are files of a test."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from detr_lite.data.records import RawSplit
from tests.helpers.raw_splits import Row, raw_split


def save_image(path: Path, size: tuple[int, int] = (64, 48), orientation: int = 1) -> Path:
    """A picture without symmetry, of this width and height as stored."""
    width, height = size
    pixels = np.full((height, width, 3), 40, dtype=np.uint8)
    pixels[: height // 3, :, 1] = 255
    pixels[:, : width // 2, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, exif=exif)
    return path


def split_of_files(
    paths: Sequence[Path], sizes_wh: Sequence[tuple[float, float]], rows: Sequence[Row] = ()
) -> RawSplit:
    """Images with these annotated sizes and, unless `rows` are given, one box in each."""
    rows = rows or [(image, 0, 2.0, 3.0, 10.0, 8.0) for image in range(len(paths))]
    raw = raw_split(rows, [(1, 1)] * len(paths))
    sizes = np.array(sizes_wh, dtype=np.float64).reshape(-1, 2)
    return replace(raw, names=[path.name for path in paths], paths=[str(path) for path in paths], sizes_wh=sizes)
