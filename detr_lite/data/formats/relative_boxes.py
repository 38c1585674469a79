"""Tells boxes in shares of the image from boxes in pixels, in formats that have both."""

from collections.abc import Iterable
from math import isfinite

from detr_lite.data.formats.split_builder import Xywh


def are_relative(boxes: Iterable[Xywh]) -> bool:
    """Whether all numbers of all boxes are within 0 and 1: no object is as small as a pixel in each image.

    A little more than 1 is the rounding of shares.
    """
    is_any = False
    for box in boxes:
        if all(map(isfinite, box)):
            if max(box) > 1.01 or min(box) < -0.01:
                return False
            is_any = is_any or max(box) > 0
    return is_any
