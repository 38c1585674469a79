"""Pictures with large and small structures, unlike noise."""

import numpy as np
from PIL import Image


def photo(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """Of this (width, height), RGB."""
    random = np.random.default_rng(seed)
    total = np.zeros((size[1], size[0], 3), dtype=np.float32)
    for cells in (3, 9, 27):
        coarse = Image.fromarray(random.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        total += np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), dtype=np.float32) / 3
    return Image.fromarray(total.round().astype(np.uint8))
