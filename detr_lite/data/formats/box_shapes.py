"""Boxes around outlines, rotated boxes and corners in any order."""

from collections.abc import Sequence
from math import cos, hypot, isfinite, nan, sin

from detr_lite.data.formats.split_builder import Xywh

NO_BOX: Xywh = (nan, nan, nan, nan)
Points = Sequence[tuple[float, float]]


def from_corners(left: float, top: float, right: float, bottom: float) -> Xywh:
    """The sizes are negative where the corners are swapped, which the checks of the annotations put right."""
    return left, top, right - left, bottom - top


def around(points: Points) -> Xywh:
    """The box around an outline of (x, y); NaN if a point is, or if there is none."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    if not points or not all(map(isfinite, (*xs, *ys))):
        return NO_BOX
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def around_rotated(x: float, y: float, width: float, height: float, angle: float) -> Xywh:
    """The upright box around a box of this center and size, rotated by this angle in radians."""
    if not isfinite(angle):
        return NO_BOX
    w = abs(width * cos(angle)) + abs(height * sin(angle))
    h = abs(width * sin(angle)) + abs(height * cos(angle))
    return x - w / 2, y - h / 2, w, h


def around_ellipse(x: float, y: float, radius_x: float, radius_y: float, angle: float = 0.0) -> Xywh:
    """The box around an ellipse, rotated by this angle in radians."""
    if not isfinite(angle):
        return NO_BOX
    w = 2 * hypot(radius_x * cos(angle), radius_y * sin(angle))
    h = 2 * hypot(radius_x * sin(angle), radius_y * cos(angle))
    return x - w / 2, y - h / 2, w, h
