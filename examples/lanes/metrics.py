"""How good found lanes are: TuSimple's accuracy, FP and FN, and CULane's F1."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image, ImageDraw
from scipy.optimize import linear_sum_assignment

PIXELS, POINTS = 20.0, 0.85
"""TuSimple: how far a point may be off, in an image of 1,280 pixels, and which share of points must not be farther."""
TUSIMPLE_WIDTH = 1280
LANE_WIDTH, CULANE_WIDTH = 30, 1640
"""CULane: lanes are as wide as 30 pixels are in an image of 1,640."""
MIN_IOU = 0.5
CANVAS = 820
"""Pixels of the width of the picture that lanes are drawn in to measure their IoU."""

Lane = Float[np.ndarray, " row"]
"""x at each row; NaN where there is no lane."""


@dataclass(frozen=True)
class TuSimpleScore:
    """Of one image, or the mean over images."""

    accuracy: float
    fp: float
    """Share of the found lanes that are none."""
    fn: float
    """Share of the lanes that were not found."""


def tusimple_score(
    found: Sequence[Lane], true: Sequence[Lane], rows: Float[np.ndarray, " row"], width: int
) -> TuSimpleScore:
    """TuSimple's benchmark of one image, after its official evaluation (`lane.py`).

    Points of slanted lanes may be farther off, by 1 / cos of the lane's angle. Of an image with more than four lanes
    the worst one is forgiven. More than two lanes too many are as bad as none. An image without lanes, of which the
    benchmark has none, has accuracy 1 if none is found and 0 otherwise.
    """
    if not true:
        return TuSimpleScore(float(not found), float(bool(found)), 0.0)
    if len(found) > len(true) + 2:
        return TuSimpleScore(0.0, 0.0, 1.0)
    scale = width / TUSIMPLE_WIDTH
    best = []
    for lane in true:
        limit = PIXELS / np.cos(_angle(lane, rows))
        best.append(max((_accuracy(each / scale, lane / scale, limit) for each in found), default=0.0))
    missed = sum(accuracy < POINTS for accuracy in best)
    matched = len(best) - missed
    forgiven = int(len(true) > 4)
    total = sum(best) - forgiven * min(best)
    count = min(4.0, len(true))
    return TuSimpleScore(
        accuracy=total / count,
        fp=(len(found) - matched) / len(found) if found else 0.0,
        fn=(missed - forgiven * (missed > 0)) / count,
    )


def _angle(lane: Lane, rows: Float[np.ndarray, " row"]) -> float:
    """From the vertical, by the slope of a line fitted to the lane's points; 0 for a single point."""
    seen = np.isfinite(lane)
    if seen.sum() < 2:
        return 0.0
    return float(np.arctan(np.polyfit(rows[seen], lane[seen], 1)[0]))


def _accuracy(found: Lane, true: Lane, limit: float) -> float:
    """Share of rows at which both agree; rows where neither is count as agreement, as in the official program."""
    apart = np.abs(np.nan_to_num(found, nan=-100.0) - np.nan_to_num(true, nan=-100.0))
    return float((apart < limit).mean())


@dataclass(frozen=True)
class Counts:
    """Lanes of any number of images."""

    hits: int
    found: int
    true: int

    @property
    def f1(self) -> float:
        """1 where there is nothing to find and nothing was found."""
        return 2 * self.hits / (self.found + self.true) if self.found + self.true else 1.0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.hits + other.hits, self.found + other.found, self.true + other.true)


def count_hits(
    found: Sequence[Lane], true: Sequence[Lane], rows: Float[np.ndarray, " row"], size: tuple[int, int]
) -> Counts:
    """CULane's count for one image: of lanes matched one-to-one, those with an IoU above 0.5 are hits.

    Args:
        size: (width, height) of the image.
    """
    masks = [[lane_mask(lane, rows, size) for lane in lanes] for lanes in (found, true)]
    iou = np.array([[mask_iou(one, other) for other in masks[1]] for one in masks[0]]).reshape(len(found), len(true))
    matched = linear_sum_assignment(-iou)
    return Counts(int((iou[matched] > MIN_IOU).sum()), len(found), len(true))


def lane_mask(lane: Lane, rows: Float[np.ndarray, " row"], size: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
    """The pixels of a lane that is drawn as a line of CULane's width with round ends."""
    scale = CANVAS / size[0]
    canvas = Image.new("1", (CANVAS, round(size[1] * scale)))
    seen = np.isfinite(lane)
    points = [(float(x), float(y)) for x, y in np.stack([lane[seen], rows[seen]], axis=1) * scale]
    if points:
        draw, radius = ImageDraw.Draw(canvas), LANE_WIDTH * CANVAS / CULANE_WIDTH / 2
        draw.line(points, fill=1, width=round(2 * radius), joint="curve")
        for x, y in (points[0], points[-1]):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1)
    return np.asarray(canvas)


def mask_iou(one: Bool[np.ndarray, "height width"], other: Bool[np.ndarray, "height width"]) -> float:
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 0.0
