"""The analysis as a whole: its parts agree, and it has a result for any data."""

import numpy as np
import pytest

from detr_lite.evaluation.analysis import IOUS, analyze
from detr_lite.evaluation.coco_map import evaluate_detections
from detr_lite.structures import DetectionArrays, DetrLiteError, GroundTruth
from tests.helpers.random_detections import categories, perfect_detections, random_case, without_detections


def test_parts_are_of_the_same_detections() -> None:
    objects, detections = random_case(0)
    analysis = analyze(objects, detections, categories(4))
    metrics = evaluate_detections(objects, detections, categories(4)).metrics
    assert [costs.iou for costs in analysis.errors] == list(IOUS)
    assert [costs.AP for costs in analysis.errors] == pytest.approx([metrics["AP50"], metrics["AP75"]])
    false = [finding for finding in analysis.findings if finding.detection is not None]
    assert min(finding.score for finding in false) >= analysis.thresholds.working


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
    if name == "no errors":
        assert (analysis.findings, analysis.label_errors) == ((), ())


def test_detections_that_are_not_finite() -> None:
    objects, detections = random_case(1)
    detections.scores[3] = np.nan
    with pytest.raises(DetrLiteError, match="training has diverged"):
        analyze(objects, detections, categories(4))
