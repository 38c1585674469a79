"""Where the labels of boxes are placed: on no other label and, as far as there is space, on no other object."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Rectangle = tuple[int, int, int, int]
"""(left, top, right, bottom) in pixels, without the right column and the bottom row."""

_HIDDEN, _TOUCHED, _OWN, _DISTANCE = 4.0, 0.05, 0.5, 0.25
"""Costs of a place: for the share that it hides of another box, for lying on one at all, for the share that it hides of
its own box, and for each line of text between the label and its box."""

_RINGS = (1.0, 2.0, 3.5, 5.0)
"""Distances, in lines of text, at which a label is tried whose box has no free place beside it."""


@dataclass(frozen=True)
class Label:
    """A placed label."""

    rectangle: Rectangle
    leader: tuple[int, int, int, int] | None
    """The line (x, y, x, y) from the label to its box, where it is not beside it."""
    is_free: bool
    """Whether it covers no other label and at most a half of any other box."""


def place_labels(
    sizes: Sequence[tuple[int, int]], boxes: Sequence[Rectangle], image_size: tuple[int, int], may_leave: bool = True
) -> list[Label]:
    """A place for each label, the first ones first.

    Beside its box (above, below, in a corner, left or right), else near it with a line to it. The place of least cost
    is taken: no other label is covered as long as there is any place without, then as little of other boxes as
    possible.

    Args:
        sizes: (width, height) of each label.
        boxes: of each label, in the same order.
        image_size: (width, height), in which all labels lie if they fit.
        may_leave: a label may lie away from its box.
    """
    all_boxes = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    taken = np.zeros((0, 4))
    labels = []
    for number, (size, box) in enumerate(zip(sizes, boxes, strict=True)):
        others = np.delete(all_boxes, number, axis=0)
        places, costs = _beside(size, box)
        best = _cheapest(places, costs, box, others, taken, image_size)
        if may_leave and not best.is_cheap:  # somewhere near, which is tried second as it takes longer
            far_places, far_costs = _around(size, box)
            places, costs = np.concatenate([places, far_places]), np.concatenate([costs, far_costs])
            best = _cheapest(places, costs, box, others, taken, image_size)
        left, top, right, bottom = (round(edge) for edge in best.place)
        leader = _leader((left, top, right, bottom), box)
        labels.append(Label((left, top, right, bottom), leader, best.is_free))
        taken = np.concatenate([taken, best.place[None]])
    return labels


@dataclass(frozen=True)
class _Place:
    place: np.ndarray
    is_cheap: bool
    is_free: bool


def _cheapest(
    places: np.ndarray, costs: np.ndarray, box: Rectangle, others: np.ndarray, taken: np.ndarray,
    image_size: tuple[int, int],
) -> _Place:  # fmt: skip
    places = _moved_inside(places, image_size)
    near = (*places[:, :2].min(0), *places[:, 2:].max(0))
    others, taken = _touching(others, near), _touching(taken, near)
    area = (places[:, 2] - places[:, 0]) * (places[:, 3] - places[:, 1])
    covered = _overlaps(places, taken).sum(1) / area
    on_others = _overlaps(places, others)
    hidden = on_others / np.maximum(_areas(others), 1.0)
    own = np.array([box], dtype=np.float64)
    costs = costs + _OWN * _overlaps(places, own)[:, 0] / max(_areas(own)[0], 1.0)
    costs = costs + (_HIDDEN * hidden + _TOUCHED * (on_others > 0)).sum(1) + 100 * covered
    best = int(costs.argmin())
    is_free = bool(covered[best] == 0 and (hidden[best] <= 0.5).all())
    return _Place(places[best], bool(costs[best] < 0.5), is_free)


def _beside(size: tuple[int, int], box: Rectangle) -> tuple[np.ndarray, np.ndarray]:
    """Places that touch the box, and a cost of each that only ranks them."""
    (width, height), (left, top, right, bottom) = size, box
    middle = (left + right - width) / 2
    corners = [
        *((left, top - height), (right - width, top - height), (left, bottom), (right - width, bottom)),
        *((middle, top - height), (middle, bottom), (left, top), (right - width, top)),
        *((left, bottom - height), (right - width, bottom - height)),
        *((right, top), (left - width, top), (right, bottom - height), (left - width, bottom - height)),
    ]
    places = np.array([(x, y, x + width, y + height) for x, y in corners], dtype=np.float64)
    return places, 0.01 * np.arange(len(places))


def _around(size: tuple[int, int], box: Rectangle) -> tuple[np.ndarray, np.ndarray]:
    """Places on rings around the box."""
    (width, height), (left, top, right, bottom) = size, box
    places, costs = [], []
    for ring in _RINGS:
        gap = ring * height
        across = np.linspace(left - width - gap, right + gap, 9)
        down = np.linspace(top - height - gap, bottom + gap, 9)
        corners = [(x, y) for x in across for y in (down[0], down[-1])]
        corners += [(x, y) for y in down[1:-1] for x in (across[0], across[-1])]
        places += [(x, y, x + width, y + height) for x, y in corners]
        costs += [0.2 + _DISTANCE * ring] * len(corners)
    return np.array(places), np.array(costs)


def _moved_inside(places: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """All places moved into the image, as far as they fit."""
    sizes = places[:, 2:] - places[:, :2]
    room = np.maximum(np.array(image_size, dtype=np.float64) - sizes, 0.0)
    corners = np.minimum(np.maximum(places[:, :2], 0.0), room).round()
    return np.concatenate([corners, corners + sizes], axis=1)


def _touching(boxes: np.ndarray, area: tuple[float, ...]) -> np.ndarray:
    left, top, right, bottom = area
    return boxes[(boxes[:, 0] < right) & (boxes[:, 2] > left) & (boxes[:, 1] < bottom) & (boxes[:, 3] > top)]


def _leader(label: Rectangle, box: Rectangle) -> tuple[int, int, int, int] | None:
    """From the nearest point of the label to the nearest point of the box; None if they touch."""
    ends = []
    for axis in (0, 1):
        low, high = max(label[axis], box[axis]), min(label[axis + 2], box[axis + 2])
        if low <= high:
            ends.append(((low + high) // 2, (low + high) // 2))
        else:
            ends.append((label[axis + 2], box[axis]) if label[axis] < box[axis] else (label[axis], box[axis + 2]))
    (x0, x1), (y0, y1) = ends
    return None if max(abs(x0 - x1), abs(y0 - y1)) <= 2 else (x0, y0, x1, y1)


def _overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Area that each of the first and each of the second have in common."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    areas: np.ndarray = np.maximum(high - low, 0.0).prod(-1)
    return areas


def _areas(boxes: np.ndarray) -> np.ndarray:
    areas: np.ndarray = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    return areas
