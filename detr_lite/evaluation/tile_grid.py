"""Where a large picture is cut into overlapping tiles, by the rule of SAHI (arXiv 2202.06934)."""

import numpy as np
from jaxtyping import Int64

from detr_lite.structures import DetrLiteError

LEAST_TILE = 32
WHOLE = -1
"""The number of the whole picture among its tiles."""


def check_tiles(tile: int | None, overlap: float) -> None:
    """Errors: a tile of less than `LEAST_TILE` pixels, an overlap outside 0 .. 1."""
    if tile is not None and tile < LEAST_TILE:
        raise DetrLiteError(f"--tile is {tile}; it must be at least {LEAST_TILE} pixels")
    if not 0 <= overlap < 1:
        raise DetrLiteError(f"--overlap is {overlap}; it must be from 0 to less than 1, such as 0.2")


def needs_tiles(height: int, width: int, tile: int | None) -> bool:
    """Whether a picture is larger than one tile."""
    return tile is not None and max(height, width) > tile


def tile_grid(height: int, width: int, tile: int, overlap: float = 0.2) -> Int64[np.ndarray, "tile 4"]:
    """Left, top, right and bottom of each tile in pixels, row by row.

    Neighbors share `int(overlap * tile)` pixels; the last ones are shifted back, so that all have the full size, unless
    the picture is smaller.
    """
    lefts, tops = (_starts(size, tile, overlap) for size in (width, height))
    top, left = (each.ravel() for each in np.meshgrid(tops, lefts, indexing="ij"))
    return np.stack([left, top, np.minimum(left + tile, width), np.minimum(top + tile, height)], axis=1)


def _starts(size: int, tile: int, overlap: float) -> Int64[np.ndarray, " _"]:
    step = tile - int(overlap * tile)
    last = max(size - tile, 0)
    return np.minimum(np.arange(1 - (-last // step), dtype=np.int64) * step, last)
