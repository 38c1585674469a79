"""Samples the content of an image: its size, its objects with their visible parts, and its distractors.

Sizes are sampled before positions, and large shapes are placed first, so that crowded images keep their large shapes.
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

RGB = tuple[float, float, float]
"""A color, 0 to 255."""

SIDES = (128, 256)
MAX_OBJECTS = 12
MIN_EXTENT = 10
"""In pixels."""
MAX_EXTENT = 0.6
"""As a share of the image's shorter side."""
MIN_VISIBLE_SHARE = 0.5
CROWD_PROBABILITY = 0.032
MAX_CROWD_OVERLAP = 0.1
"""Largest overlap of an object and a crowd region, as a share of the smaller one of their boxes."""


@dataclass(frozen=True)
class Stamp:
    """An alpha mask and the position of its top left pixel."""

    alpha: Alpha
    left: int
    top: int
    color: RGB | None = None
    """By default a random one that contrasts with what is around it."""

    @cached_property
    def mask(self) -> Bool[np.ndarray, "height width"]:
        """True: the pixel belongs to the shape, visible or not."""
        return self.alpha >= 128

    @property
    def region(self) -> tuple[slice, slice]:
        """(rows, columns) of the image that the stamp covers."""
        height, width = self.alpha.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


@dataclass(frozen=True)
class SceneObject:
    """A shape, or a crowd: many tiny shapes of one category, annotated as one region."""

    category: str
    stamp: Stamp
    is_crowd: bool
    box_xywh: tuple[float, float, float, float]
    """Tight around the visible pixels: first column, first row, number of columns, number of rows."""
    visible_share: float
    """Share of the shape's pixels that are visible."""


@dataclass(frozen=True)
class Scene:
    """Painted in this order: distractors beneath, objects as listed, distractors above."""

    width: int
    height: int
    objects: tuple[SceneObject, ...]
    beneath: tuple[Stamp, ...]
    above: tuple[Stamp, ...]
    background: RGB | None = None
    """By default a random color. Textures are added to it."""


def sample_scene(rng: np.random.Generator, is_empty: bool = False) -> Scene:
    """A random scene, without objects if `is_empty`, else with 1 to 12.

    An object's extent is the longer side, in pixels, of the box around the entire shape. Extents are log-uniform from
    10 pixels to 60 % of the image's shorter side. Every object is inside the image, at least half of its pixels are
    visible, and the box around these is at least 10 pixels on its longer side.
    """
    width, height = _image_size(rng)
    short = min(width, height)
    # Small images get fewer objects, as they have less space and none for objects that COCO calls large.
    most = min(MAX_OBJECTS, 3 + round(9 * (short - SIDES[0]) / 100))
    count = 0 if is_empty else int(rng.integers(1, most + 1))
    has_crowd = count > 0 and rng.random() < CROWD_PROBABILITY
    extents = _extents(count, short, rng)
    categories = [str(name) for name in rng.choice(list(CATEGORY_IDS), count)]
    layout = None
    while layout is None:
        alphas = [
            silhouette(category, extent, rng.uniform(0, 2 * np.pi), (rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5)))
            for category, extent in zip(categories, extents, strict=True)
        ]
        layout = _place_objects(width, height, categories, alphas, has_crowd, rng)
    distractors = count + int(rng.integers(0, 3)) if count else int(rng.integers(3, 13))
    beneath, above = _place_distractors(layout, distractors, short, rng)
    return Scene(width, height, layout.objects(), tuple(beneath), tuple(above))


def _image_size(rng: np.random.Generator) -> tuple[int, int]:
    """(width, height). Two images in three are large and nearly square, the others of any aspect from 1:2 to 2:1.

    An object that COCO calls large has more than 96 pixels per side, 60 % of 160: only large images have space for it.
    """
    low, high = SIDES
    short = int(rng.integers(232, high) if rng.random() < 0.65 else rng.integers(low, 210))
    long = int(rng.integers(short + 1, high + 1, 2).max())
    return (long, short) if rng.random() < 0.5 else (short, long)


def _extents(count: int, short: int, rng: np.random.Generator) -> list[int]:
    """Extents in descending order, one from each of `count` quantiles of the log-uniform distribution (stratified).

    Each extent by itself is log-uniform, but no image gets several very large ones, which would not fit into it.
    """
    quantiles = (np.arange(count)[::-1] + rng.random(count)) / max(count, 1)
    longest = math.floor(MAX_EXTENT * short)
    return [round(MIN_EXTENT * (longest / MIN_EXTENT) ** quantile) for quantile in quantiles]


@dataclass
class _Layout:
    """The shapes placed so far, and which of them is visible at each pixel."""

    topmost: Int[np.ndarray, "height width"]
    """Index of the visible shape, -1 for none."""
    stamps: list[Stamp] = field(default_factory=list)
    categories: list[str] = field(default_factory=list)
    levels: list[float] = field(default_factory=list)
    """A shape hides those of lower levels."""
    crowd: Stamp | None = None

    def add_object(self, stamp: Stamp, level: float, category: str) -> bool:
        """Add a shape, unless too little of it or of another one would remain visible; returns whether it was added."""
        topmost_before = self.topmost[stamp.region].copy()
        levels = np.array([*self.levels, -math.inf])
        is_visible = stamp.mask & (levels[topmost_before] < level)
        self.stamps.append(stamp)
        self.categories.append(category)
        self.levels.append(level)
        self.topmost[stamp.region][is_visible] = len(self.stamps) - 1
        touched = {*np.unique(topmost_before[is_visible]).tolist(), len(self.stamps) - 1} - {-1}
        if all(self._is_visible_enough(index) for index in touched):
            return True
        self.topmost[stamp.region] = topmost_before
        del self.stamps[-1], self.categories[-1], self.levels[-1]
        return False

    def add_distractor_above(self, stamp: Stamp) -> bool:
        """Add a distractor above all shapes, unless it hides too much of one; returns whether it was added."""
        topmost_before = self.topmost[stamp.region].copy()
        self.topmost[stamp.region][stamp.mask] = -1
        if all(self._is_visible_enough(index) for index in set(np.unique(topmost_before).tolist()) - {-1}):
            return True
        self.topmost[stamp.region] = topmost_before
        return False

    def _is_visible_enough(self, index: int) -> bool:
        stamp = self.stamps[index]
        visible = self.topmost[stamp.region] == index
        is_half_visible = bool(visible.sum() >= MIN_VISIBLE_SHARE * stamp.mask.sum())
        _, _, width, height = tight_box_xywh(visible)
        return is_half_visible and max(width, height) >= MIN_EXTENT

    def overlaps(self, stamp: Stamp) -> bool:
        """Whether the stamp would overlap another shape."""
        return bool((self.topmost[stamp.region][stamp.mask] >= 0).any())

    def is_clear_of_crowd(self, stamp: Stamp) -> bool:
        if self.crowd is None:
            return True
        (rows, columns), (crowd_rows, crowd_columns) = stamp.region, self.crowd.region
        height = min(rows.stop, crowd_rows.stop) - max(rows.start, crowd_rows.start)
        width = min(columns.stop, crowd_columns.stop) - max(columns.start, crowd_columns.start)
        shared = max(height, 0) * max(width, 0)
        return bool(shared <= MAX_CROWD_OVERLAP * min(stamp.alpha.size, self.crowd.alpha.size))

    def objects(self) -> tuple[SceneObject, ...]:
        """From the lowest level to the highest."""
        objects = []
        for index in np.argsort(self.levels):
            stamp = self.stamps[index]
            visible = self.topmost[stamp.region] == index
            x, y, width, height = tight_box_xywh(visible)
            box_xywh = (float(x + stamp.left), float(y + stamp.top), float(width), float(height))
            share = float(visible.sum() / stamp.mask.sum())
            objects.append(SceneObject(self.categories[index], stamp, stamp is self.crowd, box_xywh, share))
        return tuple(objects)


def _place_objects(
    width: int, height: int, categories: list[str], alphas: list[Alpha], has_crowd: bool, rng: np.random.Generator
) -> _Layout | None:
    """Find a position for each shape in turn; None if one does not fit."""
    layout = _Layout(np.full((height, width), -1))
    if has_crowd:
        crowd_category = str(rng.choice(list(CATEGORY_IDS)))
        layout.crowd = _anywhere(_crowd(crowd_category, rng), width, height, rng)
        layout.add_object(layout.crowd, 0.0, crowd_category)
    for category, alpha in zip(categories, alphas, strict=True):
        avoids_overlap = rng.random() < 0.75
        for attempt in range(40):
            # Sometimes next to an earlier shape, where they may overlap.
            if layout.stamps and rng.random() < 0.2:
                stamp = _beside(layout.stamps[rng.integers(len(layout.stamps))], alpha, width, height, rng)
            else:
                stamp = _anywhere(alpha, width, height, rng)
            if avoids_overlap and attempt < 20 and layout.overlaps(stamp):
                continue
            level = rng.random() + (len(layout.stamps) if rng.random() < 0.7 else 0)
            if layout.is_clear_of_crowd(stamp) and layout.add_object(stamp, level, category):
                break
        else:
            return None
    return layout


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
    """9 to 20 tiny shapes, too small and too close to be annotated one by one."""
    rows, columns = rng.integers(3, 5), rng.integers(3, 6)
    cell = 12
    alpha = np.zeros((rows * cell, columns * cell), np.uint8)
    for row in range(rows):
        for column in range(columns):
            member = silhouette(category, int(rng.integers(6, 10)), rng.uniform(0, 2 * np.pi))
            space = np.array([cell, cell]) - member.shape
            top, left = np.array([row, column]) * cell + rng.integers(0, space + 1)
            alpha[top : top + member.shape[0], left : left + member.shape[1]] = member
    return alpha


def _place_distractors(
    layout: _Layout, count: int, short: int, rng: np.random.Generator
) -> tuple[list[Stamp], list[Stamp]]:
    """Distractors beneath the objects, at least half of each visible, and a few strokes above them."""
    kinds: list[Callable[[int, np.random.Generator], Alpha]] = [line, fragment, blob, sliver]
    height, width = layout.topmost.shape
    beneath: list[Stamp] = []
    above: list[Stamp] = []
    while len(beneath) + len(above) < count:
        extent = round(12 * (0.6 * short / 12) ** rng.random())
        kind = int(rng.choice(4, p=[0.25, 0.35, 0.25, 0.15]))
        stamp = _anywhere(kinds[kind](extent, rng), width, height, rng)
        # Only thin strokes may be above objects; a filled shape would look like an object.
        if kind < 2 and rng.random() < 0.1:
            if layout.add_distractor_above(stamp):
                above.append(stamp)
        elif stamp.alpha[layout.topmost[stamp.region] < 0].sum() >= 0.5 * stamp.alpha.sum(dtype=int):
            beneath.append(stamp)
    return beneath, above
