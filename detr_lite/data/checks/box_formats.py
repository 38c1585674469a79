"""Other meanings of four numbers than COCO's [x, y, width, height], for boxes that do not fit their images as such."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float64

Array = Float64[np.ndarray, "object 4"]

MIN_OBJECTS = 5
"""Boxes, and boxes that leave their image, from which a dataset is called wrong as a whole."""

TOLERANCE = 2.0
"""Pixels by which any box may reach beyond its image."""


def find_reading(
    boxes_xywh: Array, limits_wh: Float64[np.ndarray, "object 2"]
) -> tuple[Bool[np.ndarray, " object"], str] | None:
    """Which boxes leave their image when they are read as COCO's, and how they are to be read instead.

    Returns None where they fit, or where nothing can be said. Four things must come together, so that no honest
    dataset is taken for a faulty one:

    * At least 5 boxes, and 0.5 % of all, leave their image to the right or below: by more than 2 pixels and by a tenth
      of their size, since boxes of objects that stand on the lower border are often drawn a bit too far.
    * At most 0.5 % leave it to the left or above. Amodal boxes, which go on behind the border, and sloppy ones do that
      on all sides alike; wrong readings of coordinates within the image never do.
    * Another reading puts 99.5 % of the boxes inside their images, with positive sizes. For corners that asks of all
      boxes that width > x and height > y, for centers that none comes closer to the left or upper border than half its
      size while boxes leave both to the right and below, for exchanged x and y that the images are not square.
    * If no reading does, but 20 % of the boxes end more than a tenth of the image's side beyond it, they are for images
      of another size.

    Sizes that were all negated leave their image the other way, once they are turned round, and fit with their signs
    dropped.
    """
    if len(boxes_xywh) < MIN_OBJECTS:
        return None
    is_negative = (boxes_xywh[:, 2:] < 0).all(axis=1)
    if is_negative.mean() > 0.995:
        return _find_negated(boxes_xywh, limits_wh)
    low, high = boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]
    leaves_each = high > limits_wh + np.maximum(TOLERANCE, 0.1 * boxes_xywh[:, 2:])
    leaves_high, leaves_low = leaves_each.any(axis=1), (low < -TOLERANCE).any(axis=1)
    if leaves_high.sum() < max(MIN_OBJECTS, 0.005 * len(boxes_xywh)) or leaves_low.mean() > 0.005:
        return None
    for read, text in _READINGS:
        if _fits(read(boxes_xywh), limits_wh) and (read is not _from_centers or leaves_each.any(axis=0).all()):
            return leaves_high, text
    reach = high.max(axis=0)
    if (high > 1.1 * limits_wh).any(axis=1).mean() < 0.2:
        return None
    if (boxes_xywh >= 0).all() and (reach <= 1010).all() and (reach > 950).all():
        return leaves_high, (
            "they look like thousandths of the image; multiply x and width by the image's width / 1000, y and height "
            "by its height / 1000"
        )
    farthest = int((high / limits_wh).max(axis=1).argmax())
    return leaves_high, (
        "they are not [x, y, width, height] in pixels of these images, but perhaps of larger ones (a box reaches to "
        f"({high[farthest, 0]:,.0f}, {high[farthest, 1]:,.0f}) in an image of {limits_wh[farthest, 0]:,.0f} x "
        f"{limits_wh[farthest, 1]:,.0f} pixels); scale the boxes or use the images they were made for"
    )


def _find_negated(
    boxes_xywh: Array, limits_wh: Float64[np.ndarray, "object 2"]
) -> tuple[Bool[np.ndarray, " object"], str] | None:
    is_leaving = (boxes_xywh[:, :2] + boxes_xywh[:, 2:] < -TOLERANCE).any(axis=1)
    positive_xywh = np.abs(boxes_xywh)
    positive_xyxy = np.concatenate([positive_xywh[:, :2], positive_xywh[:, :2] + positive_xywh[:, 2:]], axis=1)
    if is_leaving.sum() < MIN_OBJECTS or not _fits(positive_xyxy, limits_wh):
        return None
    return is_leaving, "all widths and heights are negative, and x, y is the upper left corner; drop their signs"


def _fits(boxes_xyxy: Array, limits_wh: Float64[np.ndarray, "object 2"]) -> bool:
    """Whether 99.5 % of the boxes have an area and lie inside their images."""
    low, high = boxes_xyxy[:, :2], boxes_xyxy[:, 2:]
    is_inside = (low >= -TOLERANCE) & (high > low) & (high <= limits_wh + TOLERANCE)
    return bool(is_inside.all(axis=1).mean() >= 0.995)


def _from_transposed_corners(boxes: Array) -> Array:
    return boxes[:, [1, 0, 3, 2]]


def _from_centers(boxes: Array) -> Array:
    return np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)


def _from_transposed(boxes: Array) -> Array:
    return np.concatenate([boxes[:, [1, 0]], boxes[:, [1, 0]] + boxes[:, [3, 2]]], axis=1)


_READINGS: tuple[tuple[Callable[[Array], Array], str], ...] = (
    (
        lambda boxes: boxes,
        "they look like two corners [x1, y1, x2, y2]; write [x1, y1, x2 - x1, y2 - y1]",
    ),
    (
        _from_transposed_corners,
        "they look like two corners [y1, x1, y2, x2]; write [x1, y1, x2 - x1, y2 - y1]",
    ),
    (
        _from_centers,
        "they look like center and size; write [cx - width / 2, cy - height / 2, width, height]",
    ),
    (
        _from_transposed,
        "they look like [y, x, height, width]; exchange x with y and width with height",
    ),
)
"""From a box as the file has it to its corners, and what to tell people. The most demanding come first."""
