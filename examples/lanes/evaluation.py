"""The lanes that a network has found, in the pixels of the picture, and what they are worth."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from PIL import Image

from examples.lanes.data import CROP, INPUT, POINTS, point_rows
from examples.lanes.metrics import Counts, Lane, count_hits, tusimple_score
from examples.lanes.model import LaneOutput
from examples.lanes.tusimple import Labeled

THRESHOLD = 0.3
"""Score from which a query's lane counts as found: that of the highest F1 on training roads."""


@dataclass(frozen=True)
class FoundLanes:
    """The answers of all queries for a picture, relative to what the network sees of it."""

    scores: Float[np.ndarray, " query"]
    xs: Float[np.ndarray, "query point"]
    shape: Float[np.ndarray, "query 4"]
    """x and y of the start, angle, length."""

    @staticmethod
    def of(output: LaneOutput) -> "list[FoundLanes]":
        """Those of the last layer, for each picture."""
        scores, lines = output.logits[-1].sigmoid(), output.lines[-1]
        parts = [part.detach().float().cpu().numpy() for part in (scores, lines.xs, lines.shape)]
        return [FoundLanes(*each) for each in zip(*parts, strict=True)]

    def queries(self, threshold: float = THRESHOLD) -> list[int]:
        """Those that have found a lane, the surest first."""
        order = np.argsort(-self.scores, kind="stable")
        return [int(query) for query in order if self.scores[query] >= threshold]

    def lane(self, query: int, rows: Float[np.ndarray, " row"], size: tuple[int, int]) -> Lane:
        """x of a lane at rows of a picture of this (width, height), all in pixels; NaN where the lane is not."""
        return self._lane(query, (rows / size[1] - CROP) / (1 - CROP), size[0])

    def seen_lane(self, query: int) -> Lane:
        """x at the rows of the network's points, in pixels of the picture that the network sees."""
        return self._lane(query, point_rows(), INPUT[0])

    def _lane(self, query: int, y: Float[np.ndarray, " row"], width: int) -> Lane:
        _, start, _, length = self.shape[query]
        x = np.interp(y, point_rows(), self.xs[query]) * width
        half = 0.5 / POINTS
        is_seen = (y <= start + half) & (y >= start - length - half) & (x >= 0) & (x <= width - 1)
        return np.where(is_seen, x, np.nan)

    def lanes(self, rows: Float[np.ndarray, " row"], size: tuple[int, int], threshold: float = THRESHOLD) -> list[Lane]:
        """All that have at least two points."""
        lanes = [self.lane(query, rows, size) for query in self.queries(threshold)]
        return [lane for lane in lanes if np.isfinite(lane).sum() >= 2]


def score_lanes(found: Sequence[FoundLanes], labeled: Sequence[Labeled]) -> dict[str, float]:
    """CULane's F1 with precision and recall, and TuSimple's accuracy, FP and FN."""
    counts, scores = Counts(0, 0, 0), []
    for each, label in zip(found, labeled, strict=True):
        with Image.open(label.path) as image:
            size = image.size
        lanes, true = each.lanes(label.rows, size), list(label.lanes)
        counts += count_hits(lanes, true, label.rows, size)
        scores.append(tusimple_score(lanes, true, label.rows, size[0]))
    return {
        "F1": counts.f1,
        "precision": counts.hits / max(1, counts.found),
        "recall": counts.hits / max(1, counts.true),
        "accuracy": float(np.mean([score.accuracy for score in scores])),
        "FP": float(np.mean([score.fp for score in scores])),
        "FN": float(np.mean([score.fn for score in scores])),
    }
