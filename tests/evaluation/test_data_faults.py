"""Faults planted into annotations are found, and the errors of weak models are none."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from detr_lite.evaluation.data_faults import find_data_faults
from detr_lite.evaluation.label_errors import find_label_errors
from detr_lite.structures import DetectionArrays, GroundTruth
from tests.helpers.random_detections import categories, perfect_detections, random_case, without_detections
from tests.helpers.simulated_model import simulated_detections, simulated_truth

CLASSES = 4
GOOD, WEAK = (0.03, 0.0, 0.05), (0.12, 0.25, 0.25)
"""The jitter of boxes, and the shares of wrong classes and of missed objects."""


def shifted(truth: GroundTruth, right: float, down: float) -> GroundTruth:
    boxes = truth.boxes_xywh.copy()
    boxes[:, :2] += np.array([right, down]) * boxes[:, 2:]
    return replace(truth, boxes_xywh=boxes)


def swapped(truth: GroundTruth) -> GroundTruth:
    return replace(truth, labels=np.array([1, 0, 2, 3])[truth.labels])


def thinned(truth: GroundTruth) -> GroundTruth:
    return truth.select(np.arange(len(truth.labels)) % 5 != 2)


FAULTS: dict[str, tuple[Callable[[GroundTruth], GroundTruth], str, str]] = {
    "to the right": (lambda truth: shifted(truth, 0.25, 0), "shifted", "of a box's width to the left of the annotated"),
    "up": (lambda truth: shifted(truth, 0, -0.25), "shifted", "of a box's height below the annotated"),
    "both": (lambda truth: shifted(truth, -0.25, 0.25), "shifted", "width to the right and "),
    "swapped": (swapped, "swapped", '"class 1" and "class 2" are confused with each other: '),
    "missing": (thinned, "missing", " are where no object is annotated: labels are probably missing"),
}


def simulated(seed: int, quality: tuple[float, float, float]) -> tuple[GroundTruth, DetectionArrays]:
    truth = simulated_truth(seed, images=80)
    jitter, confused, missed = quality
    return truth, simulated_detections(truth, seed, CLASSES, jitter, confused, missed)


@pytest.mark.parametrize("quality", [GOOD, WEAK], ids=["good", "weak"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_the_first(fault: str, quality: tuple[float, float, float]) -> None:
    plant, kind, text = FAULTS[fault]
    for seed in range(3):
        truth, found = simulated(seed, quality)
        first, *further = find_data_faults(plant(truth), found, categories(CLASSES))
        assert first.kind == kind
        assert text in first.text
        assert not further, "what the fault causes is no other fault"


@pytest.mark.parametrize("images", [10, 80])
@pytest.mark.parametrize("classes", [1, 2, 12])
def test_weak_models_have_no_faults(images: int, classes: int) -> None:
    for seed, jitter in enumerate((0.05, 0.3)):
        for confused in (0.0, 0.4):
            for highest_false in (0.3, 0.6):
                truth = simulated_truth(seed, images, classes)
                found = simulated_detections(truth, seed + 9, classes, jitter, confused, 0.3, 20, highest_false)
                assert find_data_faults(truth, found, categories(classes)) == []


def test_two_faults_are_both_found() -> None:
    truth, found = simulated(0, GOOD)
    faults = find_data_faults(swapped(shifted(truth, 0.25, 0)), found, categories(CLASSES))
    assert sorted(fault.kind for fault in faults) == ["shifted", "swapped"]
    assert faults[0].gain > faults[1].gain > 0.05


def test_numbers_in_the_texts() -> None:
    truth = simulated_truth(0)
    exact = perfect_detections(truth)
    assert find_data_faults(truth, exact, categories(CLASSES)) == []
    (shift,) = find_data_faults(shifted(truth, 0.2, -0.3), exact, categories(CLASSES))
    assert shift.text == (
        "detections lie 20 % of a box's width to the left and 30 % of a box's height below the annotated boxes, in a "
        "consistent direction: annotations or image sizes may be shifted"
    )
    assert shift.gain > 0.9
    (swap,) = find_data_faults(swapped(truth), exact, categories(CLASSES))
    both = int((truth.labels < 2).sum())
    # One object lies on another, and the scores are equal.
    assert swap.text == (
        f'"class 1" and "class 2" are confused with each other: {both - 1} of {both}; are their labels swapped in the '
        "annotations?"
    )
    (missing,) = find_data_faults(thinned(truth), exact, categories(CLASSES))
    assert len(truth.labels) - len(thinned(truth).labels) == 37
    assert missing.text.startswith("29 confident detections (scores from 0.90) "), "the others are beside an object"


def test_label_errors_at_hand_change_nothing() -> None:
    truth, found = simulated(0, GOOD)
    truth = thinned(truth)
    at_hand = find_data_faults(truth, found, categories(CLASSES), find_label_errors(truth, found))
    assert at_hand == find_data_faults(truth, found, categories(CLASSES))


def test_low_scores_are_judged_by_their_order() -> None:
    """A model trained for a short time has no score of 0.5."""
    truth, found = simulated(0, GOOD)
    low = replace(found, scores=found.scores / 5)
    assert [fault.kind for fault in find_data_faults(thinned(truth), low, categories(CLASSES))] == ["missing"]
    assert find_data_faults(truth, low, categories(CLASSES)) == []


def test_empty() -> None:
    truth, found = random_case(0)
    nothing = truth.select(np.zeros(len(truth.labels), dtype=bool))
    for objects in (nothing, truth.select(truth.is_crowd)):
        assert find_data_faults(objects, found, categories(CLASSES)) == []
    assert find_data_faults(truth, without_detections(), categories(CLASSES)) == []
