"""The analysis as a whole: its parts agree, and it has a result for any data."""

import numpy as np
import pytest

from detr_lite.evaluation.analysis import IOUS, analyze
from detr_lite.evaluation.coco_map import evaluate_detections
from detr_lite.structures import DetectionArrays, DetrLiteError, GroundTruth
from tests.helpers.random_detections import categories, perfect_detections, random_case, without_detections
from tests.helpers.simulated_model import simulated_detections, simulated_truth


def test_parts_are_of_the_same_detections() -> None:
    objects, detections = random_case(0)
    analysis = analyze(objects, detections, categories(4))
    metrics = evaluate_detections(objects, detections, categories(4)).metrics
    assert [costs.iou for costs in analysis.errors] == list(IOUS)
    assert [costs.AP for costs in analysis.errors] == pytest.approx([metrics["AP50"], metrics["AP75"]])
    false = [finding for finding in analysis.findings if finding.detection is not None]
    assert min(finding.score for finding in false) >= analysis.thresholds.working
    assert analysis.confusion.threshold == analysis.thresholds.working
    assert analysis.duplicates is not None
    assert metrics["AP"] == analysis.duplicates.AP
    assert sum(each.objects for each in analysis.slices if each.group == "shape") == sum(analysis.thresholds.objects)


def test_a_planted_fault_is_named_first() -> None:
    objects = simulated_truth(0)
    detections = simulated_detections(objects, 0)
    assert analyze(objects, detections, categories(4)).diagnosis.first.startswith("Boxes are off: ")
    exchanged = GroundTruth(**{**vars(objects), "labels": np.array([0, 3, 2, 1])[objects.labels]})
    analysis = analyze(exchanged, detections, categories(4))
    assert analysis.diagnosis.first.startswith('"class 2" and "class 4" are confused with each other: ')
    assert [fault.kind for fault in analysis.data_faults] == ["swapped"]


def empty_cases() -> dict[str, tuple[GroundTruth, DetectionArrays, int]]:
    objects, detections = random_case(1)
    nothing = objects.select(np.zeros(len(objects.labels), dtype=bool))
    one = GroundTruth(**{**vars(objects), "labels": np.zeros_like(objects.labels)})
    return {
        "no detections": (objects, without_detections(), 4),
        "no objects": (nothing, detections, 4),
        "nothing": (nothing, without_detections(), 4),
        "crowd regions alone": (objects.select(objects.is_crowd), detections, 4),
        "no images": (GroundTruth(**{**vars(nothing), "num_images": 0}), without_detections(), 4),
        "one class": (one, DetectionArrays(**{**vars(detections), "labels": np.zeros_like(detections.labels)}), 1),
        "no errors": (one, perfect_detections(one), 1),
        "one object": (objects.select(np.arange(1)), detections.select(np.arange(1)), 4),
    }


@pytest.mark.parametrize("name", empty_cases())
def test_any_data(name: str) -> None:
    objects, detections, classes = empty_cases()[name]
    analysis = analyze(objects, detections, categories(classes))
    assert len(analysis.errors) == (2 if (~objects.is_crowd).any() else 0)
    assert analysis.diagnosis.first
    if name == "no errors":
        assert (analysis.findings, analysis.label_errors) == ((), ())


def test_detections_that_are_not_finite() -> None:
    objects, detections = random_case(1)
    detections.scores[3] = np.nan
    with pytest.raises(DetrLiteError, match="training has diverged"):
        analyze(objects, detections, categories(4))
