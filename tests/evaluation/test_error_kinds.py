"""Kinds of errors against tidecv's numbers, and each kind by a case worked by hand."""

import json

import numpy as np
import pytest

from detr_lite.evaluation.coco_map import evaluate_detections
from detr_lite.evaluation.error_kinds import KINDS, MEANINGS, Finding, error_costs, find_errors
from detr_lite.structures import DetectionArrays, GroundTruth
from tests.helpers.arrays import found, truth
from tests.helpers.random_detections import categories, random_case, without_detections
from tests.helpers.record_tidecv import CASES, IOUS, RECORDED, tide_case

RECORDS = json.loads(RECORDED.read_text())
BOX, FAR = (10.0, 10.0, 40.0, 20.0), (200.0, 100.0, 30.0, 30.0)
HALF = (10.0, 10.0, 16.0, 20.0)
"""An IoU of 0.4 with `BOX`."""


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: f"{record['case']} at {record['iou']}")
def test_tidecv_gives_the_same_numbers(record: dict) -> None:
    objects, detections = tide_case(*record["case"])
    listed = categories(record["case"][2])
    costs = error_costs(objects, detections, listed, record["iou"])
    assert costs is not None
    assert {kind: 100 * cost for kind, cost in costs.costs.items()} == pytest.approx(record["costs"], abs=1e-9)
    assert 100 * costs.false_positives == pytest.approx(record["false_positives"], abs=1e-9)
    assert 100 * costs.false_negatives == pytest.approx(record["false_negatives"], abs=1e-9)
    inside = record["inside_crowd_regions"]
    assert costs.counts == {kind: count - inside[kind] for kind, count in record["counts"].items()}
    # tidecv reads the precision at the recall i / 100, pycocotools at a float beside it.
    assert pytest.approx(record["AP"], abs=0.1) == 100 * costs.AP
    assert (
        pytest.approx(evaluate_detections(objects, detections, listed, ious=(record["iou"],)).AP_at_iou[0], abs=1e-12)
        == costs.AP
    )


def test_recorded_cases_have_errors_of_every_kind() -> None:
    assert [(tuple(record["case"]), record["iou"]) for record in RECORDS] == [
        (case, iou) for case in CASES for iou in IOUS
    ]
    for kind in KINDS:
        assert max(record["costs"][kind] for record in RECORDS) > 1
        assert max(record["counts"][kind] for record in RECORDS) > 10
    assert max(record["inside_crowd_regions"]["background"] for record in RECORDS) > 3


def test_each_kind_by_hand() -> None:
    objects = truth((0, 1, BOX), (1, 0, BOX), (1, 0, FAR))
    detections = found(
        (0, 1, BOX, 0.9),  # right
        (0, 1, BOX, 0.8),  # again
        (0, 0, BOX, 0.7),  # of another class
        (0, 0, HALF, 0.6),  # neither
        (0, 1, FAR, 0.5),  # nothing there
        (1, 0, HALF, 0.4),  # too small
    )
    errors = find_errors(objects, detections)
    assert errors.findings() == [
        Finding("duplicate", 0, 1, 0, 0.8, 1.0),
        Finding("classification", 0, 2, 0, 0.7, 1.0),
        Finding("both", 0, 3, 0, 0.6, 0.4),
        Finding("background", 0, 4, None, 0.5, 0.0),
        Finding("localization", 1, 5, 1, 0.4, 0.4),
        Finding("missed", 1, None, 2, 0.0, 0.0),
    ], "an object with a detection of a wrong class or box is not missed"
    assert errors.counts() == dict.fromkeys(KINDS, 1)
    assert (errors.objects[0], errors.ious[0], errors.is_correct.tolist()) == (0, 1.0, [True] + 5 * [False])
    assert errors.findings("missed") == errors.findings()[-1:]
    assert errors.findings("background", limit=5) == errors.findings()[3:4]
    assert errors.findings(limit=2) == errors.findings()[:2]


def test_detections_below_the_threshold_do_not_exist() -> None:
    objects = truth((0, 1, BOX), (0, 1, FAR))
    detections = found((0, 1, BOX, 0.3), (0, 1, BOX, 0.2), (0, 1, (10.0, 10.0, 39.0, 20.0), 0.9))
    errors = find_errors(objects, detections, threshold=0.25)
    assert errors.findings() == [
        Finding("duplicate", 0, 0, 0, 0.3, 1.0),
        Finding("missed", 0, None, 1, 0.0, 0.0),
    ], "places are those in all detections"
    assert errors.is_correct.tolist() == [False, False, True]
    assert [finding.object for finding in find_errors(objects, detections, threshold=1.0).findings()] == [1, 0]


def test_crowd_regions_make_no_errors() -> None:
    objects = truth((0, 0, BOX), (0, 0, (0.0, 0.0, 300.0, 300.0)), crowd=(1,))
    errors = find_errors(objects, found((0, 0, BOX, 0.9), (0, 0, FAR, 0.8), (0, 1, FAR, 0.7)))
    assert errors.findings() == [Finding("background", 0, 2, None, 0.7, 0.0)], "the region is of one class"
    assert errors.is_ignored.tolist() == [False, True, False]


def test_costs_by_hand() -> None:
    """Two objects of one class; one is found by the second detection, the other by none."""
    objects = truth((0, 0, BOX), (1, 0, BOX))
    costs = error_costs(objects, found((0, 0, FAR, 0.9), (0, 0, BOX, 0.8)), categories(1), 0.5)
    assert costs is not None
    half = 51 / 101  # recall 0, 0.01 .. 0.5
    assert pytest.approx(half / 2) == costs.AP
    assert costs.costs == pytest.approx(dict.fromkeys(KINDS, 0.0) | {"background": half / 2, "missed": 0.5 - half / 2})
    assert (costs.false_positives, costs.false_negatives) == pytest.approx((half / 2, 0.5 - half / 2))


def test_one_error_of_each_object_is_corrected() -> None:
    objects = truth((0, 0, BOX))
    costs = error_costs(objects, found((0, 0, HALF, 0.9), (0, 0, HALF, 0.8), (0, 1, BOX, 0.7)), categories(2), 0.5)
    assert costs is not None
    assert costs.counts["localization"] == 2
    assert costs.costs["localization"] == pytest.approx(1.0)
    assert costs.costs["classification"] == 0, "the object belongs to the detection with the higher score"


@pytest.mark.parametrize("classes", [1, 4])
def test_empty(classes: int) -> None:
    objects, detections = random_case(3)
    if classes == 1:
        objects = GroundTruth(**{**vars(objects), "labels": np.zeros_like(objects.labels)})
        detections = DetectionArrays(**{**vars(detections), "labels": np.zeros_like(detections.labels)})
    listed, all_objects = categories(classes), int((~objects.is_crowd).sum())
    nothing = objects.select(np.zeros(len(objects.labels), dtype=bool))
    without = error_costs(objects, without_detections(), listed, 0.5)
    assert without is not None
    assert without.counts == dict.fromkeys(KINDS, 0) | {"missed": all_objects}
    assert (without.AP, without.costs["missed"], without.false_negatives) == (0, 0, 0), "as tidecv: no class is left"
    for empty in (nothing, objects.select(objects.is_crowd)):
        assert error_costs(empty, detections, listed, 0.5) is None
        assert find_errors(empty, without_detections()).findings() == []
    assert {finding.kind for finding in find_errors(nothing, detections).findings()} == {"background"}


def test_every_kind_is_explained() -> None:
    assert tuple(MEANINGS) == KINDS
