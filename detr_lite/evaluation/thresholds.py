"""The score from which detections are worth showing: where F1 is highest, of all classes and of each."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from detr_lite.evaluation.matching import match_classes
from detr_lite.grouping import places_of_each
from detr_lite.structures import Category, DetectionArrays, GroundTruth

IOU = 0.5
"""From which a detection finds an object, as in AP50."""

LOWEST = 0.01
"""No threshold is lower: the scores of a model that has learned nothing say nothing."""

FEW_OBJECTS = 10
"""A class with fewer objects takes the threshold of all classes: its own would be that of a few chance scores."""

UNKNOWN = 0.5
"""The threshold where there is no best one: the default of `predict`."""


@dataclass(frozen=True)
class BestScore:
    """A threshold of the score, and how the detections do whose score is at least that."""

    score: float
    precision: float
    """Share of the detections that are right; 0 without detections."""
    recall: float
    """Share of the objects that are found."""
    f1: float
    """Harmonic mean of the two."""

    def as_dict(self) -> dict[str, float]:
        numbers = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        return {"score": self.score, **{name: round(value, 6) for name, value in numbers.items()}}


@dataclass(frozen=True, eq=False)
class ScoreCurve:
    """Precision, recall and F1 of all classes together, over thresholds of the score."""

    scores: Float64[np.ndarray, " score"]
    """0, 0.01 .. 1."""
    precision: Float64[np.ndarray, " score"]
    """0 where no detection is left."""
    recall: Float64[np.ndarray, " score"]
    """0 without objects."""
    f1: Float64[np.ndarray, " score"]


@dataclass(frozen=True, eq=False)
class Thresholds:
    """The thresholds of the score at which F1 is highest."""

    iou: float
    overall: BestScore | None
    """One threshold for all classes, with precision and recall over all detections and objects (micro average). None
    where no detection with a score of at least `LOWEST` is right."""
    at_half: BestScore | None
    """The results at a threshold of 0.5, for comparison; None without objects."""
    per_class: tuple[BestScore | None, ...]
    """By label; None as for `overall`."""
    objects: tuple[int, ...]
    """Of each class, crowd regions aside."""
    curve: ScoreCurve

    @property
    def working(self) -> float:
        """The threshold for all classes, or `UNKNOWN` where there is no best one."""
        return UNKNOWN if self.overall is None else self.overall.score

    def as_dict(self, categories: Sequence[Category]) -> dict[str, Any]:
        """The content of thresholds.json; null where a number does not exist."""
        nothing = dict.fromkeys(("score", "precision", "recall", "f1"))
        return {
            "iou": self.iou,
            **(nothing if self.overall is None else self.overall.as_dict()),
            "at_0.5": nothing if self.at_half is None else self.at_half.as_dict(),
            "per_class": [
                {
                    "category_id": category.id,
                    "category": category.name,
                    "objects": objects,
                    **(nothing if best is None else best.as_dict()),
                }
                for category, objects, best in zip(categories, self.objects, self.per_class, strict=True)
            ],
        }


@dataclass(frozen=True, eq=False)
class _Ranking:
    """Detections by descending score, those that crowd regions make neither right nor wrong left out."""

    scores: Float64[np.ndarray, " detection"]
    is_correct: Bool[np.ndarray, " detection"]
    objects: int

    def at(self, score: float) -> BestScore:
        kept = int(np.searchsorted(-self.scores, -score, side="right"))
        correct = int(self.is_correct[:kept].sum())
        precision, recall = correct / max(kept, 1), correct / max(self.objects, 1)
        return BestScore(score, precision, recall, 2 * correct / max(kept + self.objects, 1))

    def best(self) -> BestScore | None:
        is_kept = self.scores >= LOWEST
        if not self.objects or not self.is_correct[is_kept].any():
            return None
        scores = self.scores[is_kept]
        f1 = 2 * np.cumsum(self.is_correct[is_kept]) / (np.arange(1, len(scores) + 1) + self.objects)
        # Detections of one score are kept or left out together.
        ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
        last = int(ends[f1[ends].argmax()])
        lower = float(self.scores[last + 1]) if last + 1 < len(self.scores) else 0.0
        middle = (float(scores[last]) + lower) / 2
        return self.at(max(LOWEST, math.floor(1000 * middle) / 1000))


def find_thresholds(
    ground_truth: GroundTruth, detections: DetectionArrays, categories: Sequence[Category]
) -> Thresholds:
    """The best thresholds for these detections: those of the highest F1 (of equal ones the highest threshold).

    A threshold lies midway between the lowest score that is kept and the next lower one, as there is nothing between
    them that says where to cut, and is rounded down to 3 digits; it is at least `LOWEST`. Precision, recall and F1 are
    those at the rounded threshold.
    """
    matches = match_classes(ground_truth, detections, IOU)
    counted = np.flatnonzero(~matches.is_ignored)
    counted = counted[np.argsort(-detections.scores[counted], kind="stable")]
    scores, is_correct = detections.scores[counted], matches.is_correct[counted]
    labels, true_labels = detections.labels[counted], ground_truth.labels[~ground_truth.is_crowd]
    objects = np.bincount(true_labels, minlength=len(categories)).tolist()
    ranking = _Ranking(scores, is_correct, len(true_labels))
    grid = np.arange(101) / 100
    points = [ranking.at(score) for score in grid.tolist()]
    return Thresholds(
        iou=IOU,
        overall=ranking.best(),
        at_half=ranking.at(0.5) if len(true_labels) else None,
        per_class=tuple(
            _Ranking(scores[of_class], is_correct[of_class], count).best()
            for of_class, count in zip(places_of_each(labels, len(categories)), objects, strict=True)
        ),
        objects=tuple(objects),
        curve=ScoreCurve(
            grid,
            precision=np.array([point.precision for point in points]),
            recall=np.array([point.recall for point in points]),
            f1=np.array([point.f1 for point in points]),
        ),
    )


def class_scores(thresholds: Thresholds) -> tuple[float, ...]:
    """The threshold to use for each class, by label: its own, or where it has less than `FEW_OBJECTS` objects or no
    right detection, that for all classes."""
    return tuple(
        best.score if best is not None and objects >= FEW_OBJECTS else thresholds.working
        for best, objects in zip(thresholds.per_class, thresholds.objects, strict=True)
    )
