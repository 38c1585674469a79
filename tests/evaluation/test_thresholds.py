"""Thresholds of the score against a count by brute force, and by cases worked by hand."""

import json

import numpy as np
import pytest

from detr_lite.evaluation.matching import match_classes
from detr_lite.evaluation.thresholds import (
    FEW_OBJECTS,
    LOWEST,
    UNKNOWN,
    BestScore,
    class_scores,
    find_thresholds,
)
from detr_lite.structures import DetectionArrays, GroundTruth
from tests.helpers.arrays import found, truth
from tests.helpers.random_detections import categories, random_case, without_detections

BOX, FAR = (10.0, 10.0, 40.0, 20.0), (200.0, 100.0, 30.0, 30.0)


def counted(objects: GroundTruth, detections: DetectionArrays, score: float) -> tuple[float, float, float]:
    """Precision, recall and F1, with a matching of its own for the detections from this score on."""
    kept = detections.select(detections.scores >= score)
    matches = match_classes(objects, kept, 0.5)
    right, wrong = int(matches.is_correct.sum()), int((matches.objects < 0).sum())
    precision, recall = right / max(right + wrong, 1), right / int((~objects.is_crowd).sum())
    return precision, recall, 2 * precision * recall / max(precision + recall, 1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_a_count_at_every_score_gives_the_same(seed: int) -> None:
    objects, detections = random_case(seed)
    thresholds = find_thresholds(objects, detections, categories(4))
    best = thresholds.overall
    assert best is not None
    assert (best.precision, best.recall, best.f1) == pytest.approx(counted(objects, detections, best.score))
    highest = max(counted(objects, detections, score)[2] for score in detections.scores.tolist())
    assert best.f1 == pytest.approx(highest, abs=0.01), "rounding to 3 digits may take one detection more"
    for place in range(0, 101, 10):
        point = tuple(getattr(thresholds.curve, name)[place] for name in ("precision", "recall", "f1"))
        assert point == pytest.approx(counted(objects, detections, place / 100))
    assert thresholds.at_half is not None
    assert thresholds.at_half.f1 == thresholds.curve.f1[50]


def test_classes_are_judged_one_by_one() -> None:
    objects, detections = random_case(0)
    thresholds = find_thresholds(objects, detections, categories(4))
    for label in range(4):
        own = objects.select(objects.labels == label), detections.select(detections.labels == label)
        assert thresholds.per_class[label] == find_thresholds(*own, categories(4)).overall
    assert thresholds.objects == tuple(np.bincount(objects.labels[~objects.is_crowd], minlength=4).tolist())
    assert thresholds.per_class[3] is None, "it has no objects"


def test_midway_and_rounded_down() -> None:
    objects = truth((0, 0, BOX), (1, 0, FAR))
    detections = found((0, 0, BOX, 0.9), (1, 0, FAR, 0.6543), (1, 0, BOX, 0.2))
    assert find_thresholds(objects, detections, categories(1)).overall == BestScore(0.427, 1.0, 1.0, 1.0)
    assert find_thresholds(objects, detections.select(slice(0, 2)), categories(1)).working == 0.327, "above no score"


def test_detections_of_one_score_are_kept_together() -> None:
    objects = truth((0, 0, BOX))
    detections = found((0, 0, BOX, 0.5), (0, 0, FAR, 0.5))
    assert find_thresholds(objects, detections, categories(1)).overall == BestScore(0.25, 0.5, 1.0, 2 / 3)


def test_scores_too_close_to_cut_between() -> None:
    """The numbers are those at the threshold that is given, not at the better one that has more digits."""
    objects = truth((0, 0, BOX))
    detections = found((0, 0, BOX, 0.5004), (0, 0, FAR, 0.5002))
    assert find_thresholds(objects, detections, categories(1)).overall == BestScore(0.5, 0.5, 1.0, 2 / 3)


def test_never_below_the_lowest() -> None:
    objects = truth((0, 0, BOX), (1, 0, BOX))
    low = find_thresholds(objects, found((0, 0, BOX, 0.011), (1, 0, BOX, 0.009)), categories(1)).overall
    assert low == BestScore(LOWEST, 1.0, 0.5, 2 / 3)
    assert find_thresholds(objects, found((1, 0, BOX, 0.009)), categories(1)).overall is None


def test_crowd_regions_do_not_count() -> None:
    objects = truth((0, 0, BOX), (0, 0, (0.0, 0.0, 300.0, 300.0)), crowd=(1,))
    detections = found((0, 0, FAR, 0.9), (0, 0, BOX, 0.8))
    assert find_thresholds(objects, detections, categories(1)).overall == BestScore(0.4, 1.0, 1.0, 1.0)


def test_classes_with_few_objects_take_the_threshold_of_all() -> None:
    many = [(image, 0, BOX) for image in range(FEW_OBJECTS)]
    objects = truth(*many, (0, 1, FAR), images=FEW_OBJECTS)
    detections = found(*((*each, 0.8) for each in many), (0, 1, FAR, 0.6), (1, 1, FAR, 0.5))
    thresholds = find_thresholds(objects, detections, categories(3))
    assert class_scores(thresholds) == (0.4, 0.55, 0.55)
    assert thresholds.per_class[1] == BestScore(0.55, 1.0, 1.0, 1.0)


def test_the_file() -> None:
    objects, detections = truth((0, 0, BOX)), found((0, 0, BOX, 0.8))
    content = find_thresholds(objects, detections, categories(2)).as_dict(categories(2))
    numbers = {"score": 0.4, "precision": 1.0, "recall": 1.0, "f1": 1.0}
    nothing = dict.fromkeys(numbers)
    assert json.loads(json.dumps(content)) == {
        "iou": 0.5,
        **numbers,
        "at_0.5": {**numbers, "score": 0.5},
        "per_class": [
            {"category_id": 1, "category": "class 1", "objects": 1, **numbers},
            {"category_id": 2, "category": "class 2", "objects": 0, **nothing},
        ],
    }


def test_without_objects_or_detections() -> None:
    objects, detections = random_case(0)
    without = find_thresholds(objects, without_detections(), categories(4))
    assert without.overall is None
    assert without.at_half == BestScore(0.5, 0.0, 0.0, 0.0)
    assert class_scores(without) == 4 * (UNKNOWN,)
    nothing = find_thresholds(objects.select(objects.is_crowd), detections, categories(4))
    assert (nothing.overall, nothing.at_half, nothing.per_class) == (None, None, 4 * (None,))
    assert not nothing.curve.f1.any()
    json.dumps(nothing.as_dict(categories(4)))
