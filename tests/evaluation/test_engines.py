"""hotcoco against pycocotools, which is the reference: every value to the last bit."""

import numpy as np
import pytest

from detr_lite.evaluation.coco_map import evaluate_detections
from detr_lite.evaluation.engines import match_and_accumulate
from detr_lite.structures import DetectionArrays, GroundTruth
from tests.helpers.random_detections import categories, random_case, without_detections

SIDES = np.array([0.0, 1.0, 10.0, 32.0, 48.0, 64.0, 96.0, 500.0, 1e5])


def dirty_case(seed: int) -> tuple[GroundTruth, DetectionArrays, int]:
    """Boxes without area, on one another and outside; areas at and beyond COCO's limits; crowds; ties; negative scores;
    entries in any order; none of this or that; many in one image, or all images empty."""
    rng = np.random.default_rng(seed)
    images, classes = int(rng.choice([1, 3, 20])), int(rng.choice([1, 3, 30]))
    true, found = int(rng.choice([0, 1, 40, 400])), int(rng.choice([0, 1, 60, 900]))

    def boxes(count: int) -> np.ndarray:
        return np.column_stack([rng.integers(-5, 60, (count, 2)).astype(float), rng.choice(SIDES, (count, 2))])

    def places(count: int) -> tuple[np.ndarray, np.ndarray]:
        return rng.integers(0, images, count), rng.integers(0, classes, count)

    (true_image, true_labels), true_xywh = places(true), boxes(true)
    (found_image, found_labels), found_xywh = places(found), boxes(found)
    hits = min(true, found) // 2
    of = rng.permutation(true)[:hits]
    found_image[:hits], found_labels[:hits] = true_image[of], true_labels[of]
    found_xywh[:hits] = np.abs(true_xywh[of] + rng.choice([0, 1]) * rng.normal(0, 3, (hits, 4))).round(3)
    areas = true_xywh[:, 2] * true_xywh[:, 3] * rng.choice([1, 0.5])
    for area, share in ((32.0**2, 0.2), (96.0**2, 0.2), (1e10, 0.05), (2e10, 0.05), (1e-9, 0.05)):
        areas[rng.random(true) < share] = area
    scores = rng.random(found).round(int(rng.choice([0, 1, 6]))) * rng.choice([1, 1, 1, -1])
    is_crowd = rng.random(true) < rng.choice([0.2, 0.2, 1.0])
    return (
        GroundTruth(images, true_image, true_labels, true_xywh, areas, is_crowd),
        DetectionArrays(found_image, found_labels, found_xywh, scores),
        classes,
    )


def assert_equal(
    truth: GroundTruth, found: DetectionArrays, classes: int, limits: tuple[int, ...] = (1, 10, 100)
) -> tuple[np.ndarray, np.ndarray]:
    ours = match_and_accumulate("hotcoco", truth, found, classes, limits)
    reference = match_and_accumulate("pycocotools", truth, found, classes, limits)
    for values, expected in zip(ours, reference, strict=True):
        np.testing.assert_array_equal(values, expected, strict=True)
    return ours


@pytest.mark.parametrize("seed", range(40))
def test_dirty_cases(seed: int) -> None:
    assert_equal(*dirty_case(seed), limits=(1, 10, 100, 400) if seed % 2 else (1, 10, 100))


def test_dirty_cases_have_values_of_every_kind() -> None:
    """Or the test above would compare nothing."""
    precision = [match_and_accumulate("hotcoco", *dirty_case(seed), (1, 10, 100))[0] for seed in range(40)]
    values = np.concatenate([each[..., size, 2].ravel() for each in precision for size in range(4)])
    assert (values == -1).any()
    assert (values == 0).any()
    assert ((values > 0) & (values < 1)).sum() > 10_000


@pytest.mark.parametrize("classes", [1, 1000])
@pytest.mark.slow
def test_numbers_of_classes(classes: int) -> None:
    precision, recall = assert_equal(*random_case(7, images=60, classes=classes), classes)
    assert precision.shape == (10, 101, classes, 4, 3)
    assert recall.shape == (10, classes, 4, 3)
    assert (precision > 0).any()


@pytest.mark.parametrize("what", ["detections", "objects", "images with anything"])
def test_none_at_all(what: str) -> None:
    truth, found = random_case(3)
    nothing = np.zeros(0, dtype=np.int64)
    none_true = GroundTruth(25, nothing, nothing, np.zeros((0, 4)), np.zeros(0), np.zeros(0, dtype=bool))
    if what == "detections":
        assert assert_equal(truth, without_detections(), 4)[0].max() == 0
    elif what == "objects":
        assert assert_equal(none_true, found, 4)[0].max() == -1
    else:
        assert assert_equal(none_true, without_detections(), 4)[0].max() == -1


@pytest.mark.slow
def test_more_than_100_detections_of_a_class_in_an_image() -> None:
    rng = np.random.default_rng(5)
    place = np.zeros(300, dtype=np.int64)
    true_xywh = np.column_stack([rng.uniform(0, 900, (300, 2)), np.full((300, 2), 30.0)])
    truth = GroundTruth(1, place, place, true_xywh, np.full(300, 900.0), np.zeros(300, dtype=bool))
    found = DetectionArrays(place, place, true_xywh + rng.normal(0, 2, (300, 4)), rng.random(300).round(2))
    _, recall = assert_equal(truth, found, 1, limits=(1, 10, 100, 300))
    assert recall[0, 0, 0, 2] == pytest.approx(100 / 300)
    assert recall[0, 0, 0, 3] > 0.9


@pytest.mark.parametrize(("area", "sizes"), [(32.0**2, [1, 2]), (96.0**2, [2, 3]), (1023.9, [1]), (2e10, [])])
def test_areas_at_the_limits_of_the_sizes(area: float, sizes: list[int]) -> None:
    """COCO counts an object exactly at a limit in both."""
    place = np.zeros(1, dtype=np.int64)
    box = np.array([[5.0, 5.0, 40.0, 40.0]])
    truth = GroundTruth(1, place, place, box, np.array([area]), np.zeros(1, dtype=bool))
    _, recall = assert_equal(truth, DetectionArrays(place, place, box, np.ones(1)), 1)
    assert [size for size in (1, 2, 3) if recall[0, 0, size, 2] == 1] == sizes


@pytest.mark.parametrize("seed", range(3))
def test_whole_evaluations_are_equal(seed: int) -> None:
    truth, found = random_case(seed)
    ours, reference = (
        evaluate_detections(truth, found, categories(4), engine) for engine in ("hotcoco", "pycocotools")
    )
    assert ours.metrics == reference.metrics
    assert ours.per_class == reference.per_class
    np.testing.assert_array_equal(ours.precision, reference.precision)
    assert 0 < ours.metrics["AP"] < 1
