"""COCO's matching for all images at once, against pycocotools: the object of every detection."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detr_lite.evaluation.matching import match, match_classes, of_one_class, overlaps, within_limit
from detr_lite.structures import DetectionArrays, GroundTruth
from tests.helpers.random_detections import accumulated, as_coco, categories, random_case, without_detections

CLASSES = 4
RANGES = ((0.0, 1e10), (0.0, 32.0**2), (32.0**2, 96.0**2))


def tied_case(seed: int) -> tuple[GroundTruth, DetectionArrays]:
    """Objects that lie on one another, detections of equal score and equal IoU, in any order of the images."""
    truth, found = random_case(seed)
    boxes = (truth.boxes_xywh / 20).round().clip(1) * 20
    order = np.random.default_rng(seed).permutation(len(found.scores))
    found = replace(found, boxes_xywh=(found.boxes_xywh / 20).round().clip(1) * 20, scores=found.scores.round(1))
    return replace(truth, boxes_xywh=boxes, areas=boxes[:, 2] * boxes[:, 3]), found.select(order)


@pytest.mark.parametrize("case", [random_case, tied_case])
@pytest.mark.parametrize("seed", range(3))
def test_pycocotools_matches_the_same(case, seed: int, tmp_path: Path) -> None:
    truth, found = case(seed)
    reference, _ = accumulated(
        tmp_path, *as_coco(truth, found, categories(CLASSES)), areaRng=RANGES, areaRngLbl="asm", maxDets=[1, 10, 1000]
    )
    pairs = overlaps(truth, found, 0.5)
    pairs = pairs.select(of_one_class(truth, found, pairs))
    compared = 0
    for area_range in RANGES:
        is_ignored = truth.is_crowd | (truth.areas < area_range[0]) | (truth.areas > area_range[1])
        for place, iou in enumerate(reference.params.iouThrs):
            objects, ignored = np.full(len(found.scores), -1), np.zeros(len(found.scores), dtype=bool)
            for entry in reference.evalImgs:
                if entry is not None and tuple(entry["aRng"]) == area_range:
                    ids = np.array(entry["dtIds"], dtype=np.int64) - 1
                    objects[ids] = entry["dtMatches"][place].astype(np.int64) - 1
                    ignored[ids] = entry["dtIgnore"][place].astype(bool) & (objects[ids] >= 0)
            matches = match(truth, found, pairs, iou, is_ignored)
            np.testing.assert_array_equal(matches.objects, objects)
            np.testing.assert_array_equal(matches.is_ignored, ignored)
            compared += int((objects >= 0).sum())
    assert compared > 200


def test_pairs_are_those_of_pycocotools() -> None:
    from pycocotools import mask

    truth, found = random_case(5)
    pairs = overlaps(truth, found, 0.1)
    expected = mask.iou(found.boxes_xywh, truth.boxes_xywh, truth.is_crowd.astype(np.uint8))
    expected[found.image_index[:, None] != truth.image_index] = 0
    detections, objects = np.nonzero(expected >= 0.1)
    np.testing.assert_array_equal(pairs.detections, detections)
    np.testing.assert_array_equal(pairs.objects, objects)
    np.testing.assert_array_equal(pairs.ious, expected[detections, objects])
    best, ious = pairs.best(len(found.scores))
    np.testing.assert_array_equal(ious, np.where(expected >= 0.1, expected, 0).max(axis=1))
    np.testing.assert_array_equal(best[best >= 0], expected.argmax(axis=1)[best >= 0])


def test_many_chunks_give_the_same_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = overlaps(*random_case(6), least=0.1)
    monkeypatch.setattr("detr_lite.evaluation.matching._CHUNK", 5)
    parts = overlaps(*random_case(6), least=0.1)
    for name in ("detections", "objects", "ious"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))


def test_matches_at_a_threshold_are_those_above_it() -> None:
    truth, found = random_case(1)
    whole, kept = match_classes(truth, found, 0.5), np.flatnonzero(found.scores >= 0.4)
    np.testing.assert_array_equal(match_classes(truth, found.select(kept), 0.5).objects, whole.objects[kept])


def test_the_limit_of_an_image_and_class() -> None:
    image, label = np.array([0, 0, 0, 1, 0]), np.array([0, 0, 0, 0, 1])
    found = DetectionArrays(image, label, np.ones((5, 4)), np.array([0.2, 0.9, 0.5, 0.1, 0.1]))
    assert within_limit(found, 2).tolist() == [False, True, True, True, True]


def test_without_objects_or_detections() -> None:
    truth, found = random_case(2)
    assert not len(match_classes(truth, without_detections(), 0.5).objects)
    nothing = truth.select(np.zeros(len(truth.labels), dtype=bool))
    assert (match_classes(nothing, found, 0.5).objects == -1).all()
