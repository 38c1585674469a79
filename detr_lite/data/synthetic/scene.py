"""What a drawn image shows and where: its size, its objects, which parts of them are seen, its distractors.

Sizes are drawn before places, and large shapes are placed first, so that a crowded image does not lose its large ones.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int

from detr_lite.data.synthetic.shapes import (
    CATEGORY_IDS,
    Alpha,
    blob,
    fragment,
    line,
    silhouette,
    sliver,
    tight_box_xywh,
)

SIDES = (128, 256)
MOST_OBJECTS = 12
SMALLEST_EXTENT = 10
LARGEST_EXTENT = 0.6
"""As a share of the image's short side."""
SMALLEST_VISIBLE_SHARE = 0.5
CROWD_CHANCE = 0.032
CROWD_OVERLAP = 0.1
"""Largest share of an object's box that may lie in a crowd region."""


@dataclass(frozen=True)
class Stamp:
    """A cut-out and the pixel of its upper left corner."""

    alpha: Alpha
    left: int
    top: int

    @cached_property
    def mask(self) -> Bool[np.ndarray, "height width"]:
        """True: the pixel belongs to the shape, seen or not."""
        return self.alpha >= 128

    @property
    def region(self) -> tuple[slice, slice]:
        """(rows, columns) of the image that the stamp covers."""
        height, width = self.alpha.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


@dataclass(frozen=True)
class SceneObject:
    """A shape, or a crowd: many tiny shapes of one category that are annotated as one region."""

    category: str
    stamp: Stamp
    is_crowd: bool
    box_xywh: tuple[float, float, float, float]
    """Tight around the visible pixels: first column, first row, number of columns, number of rows."""
    visible_share: float
    """Visible pixels among the shape's own."""


@dataclass(frozen=True)
class Scene:
    """Painted in this order: distractors beneath, objects (as listed), distractors above."""

    width: int
    height: int
    objects: tuple[SceneObject, ...]
    beneath: tuple[Stamp, ...]
    above: tuple[Stamp, ...]


def lay_out(rng: np.random.Generator, is_empty: bool = False) -> Scene:
    """Draw a scene, with no object if `is_empty`, else with 1 to 12.

    An object's extent is the longer side, in pixels, of the box around the whole shape. Extents are log-uniform from 10
    to 60 % of the image's short side. Every object lies inside the image and shows at least half of its pixels,
    and its visible box is at least 10 pixels long.
    """
    width, height = _image_size(rng)
    short = min(width, height)
    # Small images get fewer objects: they have less room, and cannot hold any that COCO calls large.
    most = min(MOST_OBJECTS, 3 + round(9 * (short - SIDES[0]) / 100))
    count = 0 if is_empty else int(rng.integers(1, most + 1))
    has_crowd = count > 0 and rng.random() < CROWD_CHANCE
    extents = _extents(count, short, rng)
    categories = [str(name) for name in rng.choice(list(CATEGORY_IDS), count)]
    board = None
    while board is None:
        cut_outs = [
            silhouette(category, extent, rng.uniform(0, 2 * np.pi), (rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5)))
            for category, extent in zip(categories, extents, strict=True)
        ]
        board = _arrange(width, height, categories, cut_outs, has_crowd, rng)
    distractors = count + int(rng.integers(0, 3)) if count else int(rng.integers(3, 13))
    beneath, above = _scatter(board, distractors, short, rng)
    return Scene(width, height, board.seen_objects(), tuple(beneath), tuple(above))


def _image_size(rng: np.random.Generator) -> tuple[int, int]:
    """(width, height). Two images in three are nearly square and big, the others of any aspect from 1:2 to 2:1.

    A large object by COCO's rule is over 96 pixels long, which is 60 % of 160: only the bigger images have room for it.
    """
    low, high = SIDES
    short = int(rng.integers(232, high) if rng.random() < 0.65 else rng.integers(low, 210))
    long = int(rng.integers(short + 1, high + 1, 2).max())
    return (long, short) if rng.random() < 0.5 else (short, long)


def _extents(count: int, short: int, rng: np.random.Generator) -> list[int]:
    """Longest first. One from each of `count` equal parts of the log-uniform distribution.

    Every extent is log-uniform all the same, but an image does not get five large ones, which would not fit into it.
    """
    quantiles = (np.arange(count)[::-1] + rng.random(count)) / max(count, 1)
    longest = math.floor(LARGEST_EXTENT * short)
    return [round(SMALLEST_EXTENT * (longest / SMALLEST_EXTENT) ** quantile) for quantile in quantiles]


@dataclass
class _Board:
    """Keeps track of who is seen at each pixel while shapes are put down."""

    owner: Int[np.ndarray, "height width"]
    """Index of the shape on top, -1 where there is none."""
    stamps: list[Stamp] = field(default_factory=list)
    categories: list[str] = field(default_factory=list)
    levels: list[float] = field(default_factory=list)
    """Higher hides lower."""
    crowd: Stamp | None = None

    def put(self, stamp: Stamp, level: float, category: str) -> bool:
        """Put a shape down unless it, or one already there, would be hidden too much or shortened too much."""
        seen_before = self.owner[stamp.region].copy()
        levels = np.array([*self.levels, -math.inf])
        is_seen = stamp.mask & (levels[seen_before] < level)
        self.stamps.append(stamp)
        self.categories.append(category)
        self.levels.append(level)
        self.owner[stamp.region][is_seen] = len(self.stamps) - 1
        touched = {*np.unique(seen_before[is_seen]).tolist(), len(self.stamps) - 1} - {-1}
        if all(self._is_seen_enough(index) for index in touched):
            return True
        self.owner[stamp.region] = seen_before
        del self.stamps[-1], self.categories[-1], self.levels[-1]
        return False

    def cover(self, stamp: Stamp) -> bool:
        """Lay a distractor over everything, unless it hides too much of a shape."""
        seen_before = self.owner[stamp.region].copy()
        self.owner[stamp.region][stamp.mask] = -1
        if all(self._is_seen_enough(index) for index in set(np.unique(seen_before).tolist()) - {-1}):
            return True
        self.owner[stamp.region] = seen_before
        return False

    def _is_seen_enough(self, index: int) -> bool:
        stamp = self.stamps[index]
        visible = self.owner[stamp.region] == index
        is_half_seen = bool(visible.sum() >= SMALLEST_VISIBLE_SHARE * stamp.mask.sum())
        _, _, width, height = tight_box_xywh(visible)
        return is_half_seen and max(width, height) >= SMALLEST_EXTENT

    def is_taken(self, stamp: Stamp) -> bool:
        """Whether the stamp would touch another shape."""
        return bool((self.owner[stamp.region][stamp.mask] >= 0).any())

    def is_clear_of_crowd(self, stamp: Stamp) -> bool:
        if self.crowd is None:
            return True
        (rows, columns), (crowd_rows, crowd_columns) = stamp.region, self.crowd.region
        height = min(rows.stop, crowd_rows.stop) - max(rows.start, crowd_rows.start)
        width = min(columns.stop, crowd_columns.stop) - max(columns.start, crowd_columns.start)
        shared = max(height, 0) * max(width, 0)
        return bool(shared <= CROWD_OVERLAP * min(stamp.alpha.size, self.crowd.alpha.size))

    def seen_objects(self) -> tuple[SceneObject, ...]:
        """From the lowest to the highest."""
        objects = []
        for index in np.argsort(self.levels):
            stamp = self.stamps[index]
            visible = self.owner[stamp.region] == index
            x, y, width, height = tight_box_xywh(visible)
            box_xywh = (float(x + stamp.left), float(y + stamp.top), float(width), float(height))
            share = float(visible.sum() / stamp.mask.sum())
            objects.append(SceneObject(self.categories[index], stamp, stamp is self.crowd, box_xywh, share))
        return tuple(objects)


def _arrange(
    width: int, height: int, categories: list[str], cut_outs: list[Alpha], has_crowd: bool, rng: np.random.Generator
) -> _Board | None:
    """Find a place for each cut-out in turn, or give up."""
    board = _Board(np.full((height, width), -1))
    if has_crowd:
        crowd_category = str(rng.choice(list(CATEGORY_IDS)))
        board.crowd = _anywhere(_crowd(crowd_category, rng), width, height, rng)
        board.put(board.crowd, 0.0, crowd_category)
    for category, alpha in zip(categories, cut_outs, strict=True):
        looks_for_room = rng.random() < 0.75
        for attempt in range(40):
            # Now and then beside an earlier shape, where they may overlap; mostly above what is there.
            if board.stamps and rng.random() < 0.2:
                stamp = _beside(board.stamps[rng.integers(len(board.stamps))], alpha, width, height, rng)
            else:
                stamp = _anywhere(alpha, width, height, rng)
            if looks_for_room and attempt < 20 and board.is_taken(stamp):
                continue
            level = rng.random() + (len(board.stamps) if rng.random() < 0.7 else 0)
            if board.is_clear_of_crowd(stamp) and board.put(stamp, level, category):
                break
        else:
            return None
    return board


def _anywhere(alpha: Alpha, width: int, height: int, rng: np.random.Generator) -> Stamp:
    rows, columns = alpha.shape
    return Stamp(alpha, int(rng.integers(0, width - columns + 1)), int(rng.integers(0, height - rows + 1)))


def _beside(other: Stamp, alpha: Alpha, width: int, height: int, rng: np.random.Generator) -> Stamp:
    rows, columns = alpha.shape
    angle, distance = rng.uniform(0, 2 * np.pi), 0.42 * (max(alpha.shape) + max(other.alpha.shape))
    left = other.left + (other.alpha.shape[1] - columns) / 2 + distance * math.cos(angle)
    top = other.top + (other.alpha.shape[0] - rows) / 2 + distance * math.sin(angle)
    return Stamp(alpha, int(np.clip(left, 0, width - columns)), int(np.clip(top, 0, height - rows)))


def _crowd(category: str, rng: np.random.Generator) -> Alpha:
    """Nine to twenty tiny shapes, too small and too close to be worth a box each."""
    rows, columns = rng.integers(3, 5), rng.integers(3, 6)
    cell = 12
    alpha = np.zeros((rows * cell, columns * cell), np.uint8)
    for row in range(rows):
        for column in range(columns):
            member = silhouette(category, int(rng.integers(6, 10)), rng.uniform(0, 2 * np.pi))
            room = np.array([cell, cell]) - member.shape
            top, left = np.array([row, column]) * cell + rng.integers(0, room + 1)
            alpha[top : top + member.shape[0], left : left + member.shape[1]] = member
    return alpha


def _scatter(board: _Board, count: int, short: int, rng: np.random.Generator) -> tuple[list[Stamp], list[Stamp]]:
    """Distractors beneath the objects, at least half of each visible, and a few strokes above them."""
    kinds: list[Callable[[int, np.random.Generator], Alpha]] = [line, fragment, blob, sliver]
    height, width = board.owner.shape
    beneath: list[Stamp] = []
    above: list[Stamp] = []
    while len(beneath) + len(above) < count:
        extent = round(12 * (0.6 * short / 12) ** rng.random())
        kind = int(rng.choice(4, p=[0.25, 0.35, 0.25, 0.15]))
        stamp = _anywhere(kinds[kind](extent, rng), width, height, rng)
        # Only thin strokes may lie above: a filled one would look like the object.
        if kind < 2 and rng.random() < 0.1:
            if board.cover(stamp):
                above.append(stamp)
        elif stamp.alpha[board.owner[stamp.region] < 0].sum() >= 0.5 * stamp.alpha.sum(dtype=int):
            beneath.append(stamp)
    return beneath, above
