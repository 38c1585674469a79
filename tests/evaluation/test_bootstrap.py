"""The bootstrap against evaluations of data in which images really stand several times."""

from dataclasses import replace

import numpy as np
import pytest

from detr_lite.evaluation.bootstrap import Difference, compare_detections, draw_images, resampled_metrics
from detr_lite.evaluation.coco_map import evaluate_detections
from detr_lite.structures import DetectionArrays, DetrLiteError, GroundTruth
from tests.helpers.random_detections import categories, random_case, without_detections

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def repeated(
    objects: GroundTruth, detections: DetectionArrays, counts: np.ndarray
) -> tuple[GroundTruth, DetectionArrays]:
    """Each image as often as `counts` says, as an image of its own."""
    drawn = np.repeat(np.arange(len(counts)), counts)

    def copies(image_index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        entries = [np.flatnonzero(image_index == image) for image in drawn]
        images = np.repeat(np.arange(len(drawn)), [len(each) for each in entries])
        return np.concatenate([np.zeros(0, dtype=np.int64), *entries]), images

    (true, true_images), (found, found_images) = copies(objects.image_index), copies(detections.image_index)
    return (
        replace(objects.select(true), num_images=len(drawn), image_index=true_images),
        replace(detections.select(found), image_index=found_images),
    )


def worse(detections: DetectionArrays, seed: int, shift: float) -> DetectionArrays:
    """The same with boxes that are moved at random, and with the scores in another order."""
    rng = np.random.default_rng(seed)
    boxes = detections.boxes_xywh.copy()
    boxes[:, :2] += rng.normal(0, shift, (len(boxes), 2)) * boxes[:, 2:]
    return replace(detections, boxes_xywh=boxes, scores=rng.permutation(len(boxes)) / len(boxes))


@pytest.mark.parametrize("seed", range(2))
def test_images_that_are_drawn_twice_count_twice(seed: int) -> None:
    objects, detections = random_case(seed)
    counts = np.concatenate([np.ones((25, 1), dtype=np.int64), draw_images(25, 15, seed)], axis=1)
    assert counts.max() > 2
    assert (counts.sum(axis=0) == 25).all()
    values = resampled_metrics(objects, detections, 4, counts)
    assert tuple(sorted(values)) == tuple(sorted(METRICS))
    for sample in range(16):
        expected = evaluate_detections(*repeated(objects, detections, counts[:, sample]), categories(4)).metrics
        for metric in METRICS:
            assert np.nan_to_num(values[metric][sample], nan=-1) == pytest.approx(expected[metric], abs=1e-12)


def test_metrics_without_objects_have_no_value() -> None:
    objects, detections = random_case(0)
    counts = np.zeros((25, 1), dtype=np.int64)
    assert all(np.isnan(values).all() for values in resampled_metrics(objects, detections, 4, counts).values())
    large = objects.select(objects.areas > 96**2)
    differences = compare_detections(large, detections, worse(detections, 0, 0.1), categories(4), samples=20)
    assert [each.metric for each in differences] == ["AP", "AP50", "AP75", "APl"]


def test_a_worse_model_is_told_apart_and_the_same_is_not() -> None:
    objects, detections = random_case(3, images=100)
    same, *_ = compare_detections(objects, detections, detections, categories(4), samples=100)
    assert same == Difference("AP", same.a, same.a, 0.0, 0.0, 0.0)
    assert not same.is_told_apart
    compared = compare_detections(objects, detections, worse(detections, 0, 0.3), categories(4), samples=200)
    assert tuple(each.metric for each in compared) == METRICS
    metrics = evaluate_detections(objects, detections, categories(4)).metrics
    assert [each.a for each in compared] == pytest.approx([metrics[metric] for metric in METRICS])
    assert compared[0].is_told_apart
    assert compared[0].low < compared[0].difference < compared[0].high < 0


def test_scores_in_another_order_are_not_told_apart() -> None:
    objects, detections = random_case(3, images=100)
    compared = compare_detections(objects, worse(detections, 0, 0.0), worse(detections, 1, 0.0), categories(4), 200)
    assert not compared[0].is_told_apart
    assert compared[0].low < 0 < compared[0].high


def test_small_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    objects, detections = random_case(0)
    counts = draw_images(25, 7, 0)
    whole = resampled_metrics(objects, detections, 4, counts)
    monkeypatch.setattr("detr_lite.evaluation.bootstrap._BLOCK", 30)
    for metric, values in resampled_metrics(objects, detections, 4, counts).items():
        np.testing.assert_allclose(values, whole[metric], rtol=1e-12)


def test_one_line() -> None:
    assert Difference("AP", 0.3, 0.312, 0.012, -0.004, 0.027).text() == (
        "AP +0.012, 95 % from -0.004 to +0.027: not told apart"
    )
    assert Difference("APs", 0.3, 0.2, -0.1, -0.2, -0.05).text() == "APs -0.100, 95 % from -0.200 to -0.050: told apart"


def test_empty() -> None:
    objects, detections = random_case(0)
    nothing = objects.select(np.zeros(len(objects.labels), dtype=bool))
    assert compare_detections(nothing, detections, detections, categories(4), samples=5) == ()
    assert compare_detections(replace(nothing, num_images=0), *2 * [without_detections()], categories(4), 5) == ()
    without, *_ = compare_detections(objects, without_detections(), detections, categories(4), samples=50)
    assert without.a == 0
    assert without.is_told_apart


def test_detections_that_are_not_finite() -> None:
    objects, detections = random_case(0)
    broken = replace(detections, scores=np.full(len(detections.scores), np.nan))
    with pytest.raises(DetrLiteError, match="not finite"):
        compare_detections(objects, detections, broken, categories(4), samples=5)
