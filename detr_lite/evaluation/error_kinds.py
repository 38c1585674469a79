"""What kind of error each false detection and each missed object is, and how much AP each kind costs.

The kinds are those of TIDE (Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors", arXiv
2008.08115, section 2). Costs equal those of the authors' tidecv; those of hotcoco's `tide_errors` are up to 2 points of
AP off.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float64, Int64

from detr_lite.evaluation.average_precision import EXACT_RECALLS, mean_average_precision
from detr_lite.evaluation.matching import Matches, Pairs, match, of_one_class, overlaps, within_limit
from detr_lite.structures import Category, DetectionArrays, GroundTruth

ErrorKind = Literal["classification", "localization", "both", "duplicate", "background", "missed"]

KINDS: tuple[ErrorKind, ...] = get_args(ErrorKind)

MEANINGS: dict[ErrorKind, str] = {
    "classification": "the box fits an object of another class",
    "localization": "the class is right, but the box fits the object badly",
    "both": "neither the class nor the box fits",
    "duplicate": "the object was already found by a detection with a higher score",
    "background": "there is no annotated object",
    "missed": "no detection is near the object, not even one with a wrong class or box",
}

NO_ERROR = -1


@dataclass(frozen=True)
class Finding:
    """One error. Places are those in the arrays of `GroundTruth` and `DetectionArrays`."""

    kind: ErrorKind
    image: int
    detection: int | None
    """None for a missed object."""
    object: int | None
    """The object that the detection was compared with; None for a detection on the background."""
    score: float
    """Of the detection; 0 for a missed object."""
    iou: float
    """Of the detection and the object; 0 without either."""


@dataclass(frozen=True, eq=False)
class ErrorAssignment:
    """What each detection is, and the objects that are missed."""

    kinds: Int64[np.ndarray, " detection"]
    """Index into `KINDS`; `NO_ERROR` where a detection is right or below the threshold. A detection inside a crowd
    region has the kind that it would have without that region."""
    objects: Int64[np.ndarray, " detection"]
    """The object that the detection finds or was compared with; -1 without one."""
    ious: Float64[np.ndarray, " detection"]
    """With that object; 0 without one."""
    is_correct: Bool[np.ndarray, " detection"]
    is_ignored: Bool[np.ndarray, " detection"]
    """Inside a crowd region, which makes it neither right nor wrong."""
    regions: Int64[np.ndarray, " detection"]
    """That region, by its place in the ground truth; -1 without one."""
    is_best: Bool[np.ndarray, " detection"]
    """Of the classification and localization errors at an object that nothing finds, the one with the highest score,
    which would find it with the right class and box."""
    is_found: Bool[np.ndarray, " object"]
    is_missed: Bool[np.ndarray, " object"]
    ground_truth: GroundTruth
    detections: DetectionArrays

    def is_kind(self, kind: ErrorKind) -> Bool[np.ndarray, " detection"]:
        """Which detections are errors of this kind."""
        is_kind: Bool[np.ndarray, " detection"] = (self.kinds == KINDS.index(kind)) & ~self.is_ignored
        return is_kind

    def counts(self) -> dict[ErrorKind, int]:
        """The number of errors of each kind. Unlike tidecv's, those inside crowd regions do not count."""
        false: dict[ErrorKind, int] = {kind: int(self.is_kind(kind).sum()) for kind in KINDS}
        return false | {"missed": int(self.is_missed.sum())}

    def findings(self, kind: ErrorKind | None = None, limit: int | None = None) -> list[Finding]:
        """The errors, of one kind or all, at most `limit`: false detections by descending score, then missed objects,
        the largest first."""
        is_false = (self.kinds != NO_ERROR) & ~self.is_ignored if kind is None else self.is_kind(kind)
        false = np.flatnonzero(is_false)
        false = false[np.argsort(-self.detections.scores[false], kind="stable")][:limit]
        missed = np.flatnonzero(self.is_missed if kind in (None, "missed") else np.zeros_like(self.is_missed))
        areas = self.ground_truth.boxes_xywh[missed, 2] * self.ground_truth.boxes_xywh[missed, 3]
        missed = missed[np.argsort(-areas, kind="stable")]
        return [*map(self._false, false.tolist()), *map(self._missed, missed.tolist())][:limit]

    def _false(self, detection: int) -> Finding:
        object, image = int(self.objects[detection]), int(self.detections.image_index[detection])
        return Finding(
            KINDS[int(self.kinds[detection])],
            image,
            detection,
            object if object >= 0 else None,
            float(self.detections.scores[detection]),
            float(self.ious[detection]),
        )

    def _missed(self, object: int) -> Finding:
        return Finding("missed", int(self.ground_truth.image_index[object]), None, object, 0.0, 0.0)


@dataclass(frozen=True)
class ErrorCosts:
    """How much AP rises where all errors of a kind, and nothing else, are corrected (TIDE, section 2.3). AP is a share
    from 0 to 1. Costs do not add up to 1 - AP: one error can hide another."""

    iou: float
    AP: float
    """At this IoU; at 0.5 the AP50 of COCO's metrics."""
    costs: dict[ErrorKind, float]
    counts: dict[ErrorKind, int]
    false_positives: float
    """The rise if all false detections had the lowest scores."""
    false_negatives: float
    """The rise if all objects that are not found were not there."""


def find_errors(
    ground_truth: GroundTruth,
    detections: DetectionArrays,
    threshold: float = 0.0,
    iou: float = 0.5,
    background_iou: float = 0.1,
) -> ErrorAssignment:
    """The kind of each error among the detections whose score is at least `threshold`; others do not exist.

    Args:
        iou: from which a detection finds an object of its class.
        background_iou: from which a detection is near an object.

    As in TIDE, a false detection is, by the first of these that holds: a localization error if its best IoU with an
    object of its class, found or not, is between the two thresholds; a classification error if its IoU with an object
    of another class is at least `iou`; a duplicate if its IoU with an object of its class that another detection finds
    is at least `iou`; a background error if it is near no object; else both.
    """
    kept = np.flatnonzero(detections.scores >= threshold)
    found = detections.select(kept)
    count = len(kept)
    pairs = overlaps(ground_truth, found, min(iou, background_iou))
    is_same = of_one_class(ground_truth, found, pairs)
    matches = match(ground_truth, found, pairs.select(is_same), iou)
    is_found = np.zeros(len(ground_truth.labels), dtype=bool)
    is_found[matches.objects[matches.is_correct]] = True

    is_object = ~ground_truth.is_crowd[pairs.objects]
    pairs, is_same = pairs.select(is_object), is_same[is_object]
    kinds, objects, ious = _first_that_holds(pairs, is_same, is_found[pairs.objects], count, iou, background_iou)
    is_correct = matches.is_correct
    kinds[is_correct] = NO_ERROR
    objects[is_correct], ious[is_correct] = _matched(matches, pairs, count)
    is_candidate = np.isin(kinds, [KINDS.index("classification"), KINDS.index("localization")])
    is_candidate[is_candidate] = ~is_found[objects[is_candidate]]
    is_near = np.zeros(len(ground_truth.labels), dtype=bool)
    is_near[objects[is_candidate]] = True

    def of_all(values: np.ndarray, otherwise: int | float | bool) -> np.ndarray:
        spread = np.full(len(detections.scores), otherwise, dtype=values.dtype)
        spread[kept] = values
        return spread

    return ErrorAssignment(
        kinds=of_all(kinds, NO_ERROR),
        objects=of_all(objects, -1),
        ious=of_all(ious, 0.0),
        is_correct=of_all(is_correct, False),
        is_ignored=of_all(matches.is_ignored, False),
        regions=of_all(np.where(matches.is_ignored, matches.objects, -1), -1),
        is_best=of_all(_best_of_each_object(is_candidate, objects, found.scores), False),
        is_found=is_found,
        is_missed=~is_found & ~is_near & ~ground_truth.is_crowd,
        ground_truth=ground_truth,
        detections=detections,
    )


def error_costs(
    ground_truth: GroundTruth, detections: DetectionArrays, categories: Sequence[Category], iou: float = 0.5
) -> ErrorCosts | None:
    """How much AP each kind of error costs at this IoU, as tidecv computes it; None without objects.

    There are three differences to tidecv 1.0.1, none of which shows in most data. AP is COCO's: it is the mean over the
    classes with objects, where tidecv counts an AP of 0 for classes that are only detected, and 100 detections of an
    image and class count, where tidecv counts 100 of an image. Equal scores keep their order, where tidecv moves
    false detections to the front.
    """
    is_object = ~ground_truth.is_crowd
    if not is_object.any():
        return None
    detections = detections.select(within_limit(detections, 100))
    errors = find_errors(ground_truth, detections, iou=iou)
    classes = len(categories)
    objects = np.bincount(ground_truth.labels[is_object], minlength=classes)
    not_found = np.bincount(ground_truth.labels[is_object & ~errors.is_found], minlength=classes)
    missed = np.bincount(ground_truth.labels[errors.is_missed], minlength=classes)
    is_counted = ~errors.is_ignored
    by_score = np.lexsort((detections.image_index, -detections.scores))

    def ap(is_kept: np.ndarray, fixed: ErrorKind | None = None, removed: np.ndarray | int = 0) -> float:
        labels, is_correct = detections.labels.copy(), errors.is_correct
        if fixed is not None:
            is_fixed = errors.is_best & (errors.kinds == KINDS.index(fixed))
            labels[is_fixed] = ground_truth.labels[errors.objects[is_fixed]]
            is_correct, is_kept = is_correct | is_fixed, is_kept | is_fixed
        order = by_score[is_kept[by_score]]
        left = objects - removed
        # A class all of whose objects are taken away still counts if it has detections, as in tidecv.
        is_averaged = (objects > 0) & ((left > 0) | (np.bincount(labels[order], minlength=classes) > 0))
        return mean_average_precision(labels[order], is_correct[order], left, EXACT_RECALLS, is_averaged)

    base = ap(is_counted)
    costs: dict[ErrorKind, float] = {
        kind: max(0.0, ap(is_counted & (errors.kinds != KINDS.index(kind)), fixed=kind) - base)
        for kind in KINDS
        if kind != "missed"
    }
    # NaN, where no class is left, is no rise.
    costs["missed"] = float(np.nan_to_num(max(0.0, ap(is_counted, removed=missed) - base)))
    order = by_score[is_counted[by_score]]
    return ErrorCosts(
        iou=iou,
        AP=mean_average_precision(detections.labels[order], errors.is_correct[order], objects),
        costs=costs,
        counts=errors.counts(),
        false_positives=ap(errors.is_correct) - base,
        false_negatives=float(np.nan_to_num(ap(is_counted, removed=not_found) - base)),
    )


def _first_that_holds(
    pairs: Pairs,
    is_same: Bool[np.ndarray, " pair"],
    is_found: Bool[np.ndarray, " pair"],
    count: int,
    iou: float,
    background_iou: float,
) -> tuple[Int64[np.ndarray, " detection"], Int64[np.ndarray, " detection"], Float64[np.ndarray, " detection"]]:
    """Kind, object and IoU of each detection, as if none were right."""
    own, own_iou = pairs.select(is_same).best(count)
    other, other_iou = pairs.select(~is_same).best(count)
    taken, taken_iou = pairs.select(is_same & is_found).best(count)
    any_object, any_iou = pairs.best(count)
    tests: tuple[tuple[ErrorKind, np.ndarray, np.ndarray, np.ndarray], ...] = (
        ("localization", (own_iou >= background_iou) & (own_iou <= iou), own, own_iou),
        ("classification", other_iou >= iou, other, other_iou),
        ("duplicate", taken_iou >= iou, taken, taken_iou),
        ("background", any_iou <= background_iou, np.full(count, -1), np.zeros(count)),
        ("both", np.ones(count, dtype=bool), any_object, any_iou),
    )
    holds = [test for _, test, _, _ in tests]
    return (
        np.select(holds, [np.full(count, KINDS.index(kind)) for kind, *_ in tests]),
        np.select(holds, [objects for _, _, objects, _ in tests]),
        np.select(holds, [ious for *_, ious in tests]),
    )


def _matched(matches: Matches, pairs: Pairs, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The object that each right detection finds, and its IoU."""
    is_match = matches.objects[pairs.detections] == pairs.objects
    objects, ious = pairs.select(is_match).best(count)
    return objects[matches.is_correct], ious[matches.is_correct]


def _best_of_each_object(
    is_candidate: Bool[np.ndarray, " detection"],
    objects: Int64[np.ndarray, " detection"],
    scores: Float64[np.ndarray, " detection"],
) -> Bool[np.ndarray, " detection"]:
    candidates = np.flatnonzero(is_candidate)
    candidates = candidates[np.argsort(-scores[candidates], kind="stable")]
    _, first = np.unique(objects[candidates], return_index=True)
    is_best = np.zeros(len(scores), dtype=bool)
    is_best[candidates[first]] = True
    return is_best
