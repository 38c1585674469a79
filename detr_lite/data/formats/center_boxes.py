"""Recognizes files in YOLO's format whose four numbers are not center and size, by the boxes that leave their image."""

import numpy as np
from jaxtyping import Float64

MIN_LEAVING = 5
"""Boxes that leave their image from which a dataset is called wrong as a whole."""

TOLERANCE = 0.02
"""Share of the image by which any box may reach beyond it."""


def find_other_reading(boxes_xywh: Float64[np.ndarray, "object 4"]) -> tuple[int, str] | None:
    """How many boxes leave their image, and how their numbers are to be read instead of as center and size.

    Returns None where nothing can be said. No honest dataset is to be taken for a faulty one:

    * Corners: a quarter of all boxes leave their image, by more than a tenth of their size, and 99.5 % are corners
      within their image. As centers and sizes these would all be larger than their distance from the left and the upper
      border.
    * Upper left corner and size: 0.5 % leave their image to the left, and as many upward, and 99.5 % fit so. As centers
      and sizes none of these comes closer to the right or the lower border than half its size.

    Args:
        boxes_xywh: as shares of the image, with the upper left corner that follows from center and size.
    """
    if not len(boxes_xywh):
        return None
    sizes = boxes_xywh[:, 2:]
    centers = boxes_xywh[:, :2] + sizes / 2
    margins = np.maximum(TOLERANCE, 0.1 * sizes)
    leaves_low = boxes_xywh[:, :2] < -margins
    leaves_high = boxes_xywh[:, :2] + sizes > 1 + margins
    leaving = int((leaves_low | leaves_high).any(axis=1).sum())
    are_corners = (centers >= 0) & (sizes > centers) & (sizes <= 1 + TOLERANCE)
    if leaving >= max(MIN_LEAVING, 0.25 * len(boxes_xywh)) and are_corners.all(axis=1).mean() >= 0.995:
        return leaving, "they look like two corners x1 y1 x2 y2; write (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1"
    fits = (centers >= 0) & (sizes > 0) & (centers + sizes <= 1 + TOLERANCE / 2)
    is_both = (leaves_low.sum(axis=0) >= max(MIN_LEAVING, 0.005 * len(boxes_xywh))).all()
    if is_both and fits.all(axis=1).mean() >= 0.995:
        return (
            leaving,
            "they look like the upper left corner and the size; write x + width / 2, y + height / 2, width, height",
        )
    return None
