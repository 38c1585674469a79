"""Images in which nothing can be seen, as those of a covered lens or of a video's first frame."""

import numpy as np
from jaxtyping import Int64, UInt8

from detr_lite.data.images.thumbnails import color_range

SAME_COLOR = 2
"""Levels by which the pixels of a thumbnail may differ: compression and rounding, but no object."""


def one_color_images(thumbnails: UInt8[np.ndarray, "image 16 16 3"]) -> Int64[np.ndarray, " found"]:
    """Indices of the images that have the same color everywhere."""
    return np.flatnonzero(color_range(thumbnails) <= SAME_COLOR)
