"""Results of slices against COCO's metrics by size, and by hand."""

import numpy as np
import pytest

from detr_lite.evaluation.engines import match_and_accumulate
from detr_lite.evaluation.slices import Slice, slice_results
from tests.helpers.arrays import found, truth
from tests.helpers.random_detections import categories, random_case, without_detections

TALL, WIDE, SQUARE = (10.0, 10.0, 20.0, 60.0), (100.0, 10.0, 60.0, 20.0), (10.0, 100.0, 40.0, 40.0)


def named(slices: tuple[Slice, ...], group: str) -> dict[str, Slice]:
    return {each.name: each for each in slices if each.group == group}


@pytest.mark.parametrize("seed", range(3))
def test_sizes_are_those_of_pycocotools(seed: int) -> None:
    objects, detections = random_case(seed, images=80)
    precision, recall = match_and_accumulate("pycocotools", objects, detections, 4, (1, 10, 100))
    slices = named(slice_results(objects, detections, categories(4), 0.5), "size")
    assert len(slices) == 3
    for number, each in enumerate(slices.values(), start=1):
        values = precision[0, :, :, number, 2]
        assert pytest.approx(values[values > -1].mean(), abs=1e-12) == each.AP50
        assert each.recall < each.recall_at_any_score
    everything = slice_results(objects, detections, categories(4), 0.0)
    assert all(each.recall == each.recall_at_any_score for each in everything)
    found_by_class = recall[0, :, 0, 2] * np.bincount(objects.labels[~objects.is_crowd], minlength=4)
    for group in {each.group for each in everything} - {"size"}:
        of_group = named(everything, group).values()
        assert sum(each.objects for each in of_group) == (~objects.is_crowd).sum(), "each object is in one slice"
        assert sum(each.objects * each.recall for each in of_group) == pytest.approx(found_by_class[:3].sum())


def test_shapes_by_hand() -> None:
    objects = truth((0, 0, TALL), (0, 0, WIDE), (0, 0, SQUARE), (1, 0, TALL))
    detections = found((0, 0, TALL, 0.9), (1, 0, TALL, 0.2), (1, 0, WIDE, 0.95), (0, 0, WIDE, 0.8))
    shapes = named(slice_results(objects, detections, categories(1), 0.5), "shape")
    assert shapes["tall"] == Slice("shape", "tall", 2, 0.5, 1.0, 1.0), "the false wide one does not count"
    assert shapes["wide"] == Slice("shape", "wide", 1, 1.0, 0.5, 1.0)
    assert shapes["square"] == Slice("shape", "square", 1, 0.0, 0.0, 0.0)


def test_other_objects_by_hand() -> None:
    near, far = (45.0, 100.0, 40.0, 40.0), (200.0, 100.0, 40.0, 40.0)
    on_it, crowd = (15.0, 100.0, 40.0, 40.0), (190.0, 90.0, 60.0, 60.0)
    objects = truth((0, 0, SQUARE), (0, 1, on_it), (1, 0, SQUARE), (1, 1, near), (1, 0, far), (1, 0, crowd), crowd=(5,))
    detections = found((0, 0, SQUARE, 0.9), (1, 0, far, 0.9))
    slices = slice_results(objects, detections, categories(2), 0.5)
    by_neighbors = list(named(slices, "other objects").values())
    assert [(each.objects, each.recall, each.AP50) for each in by_neighbors] == [
        (1, 1.0, None),
        (2, 0.0, None),
        (2, 0.5, None),
    ], "a crowd region is no other object"
    counts = named(slices, "objects in the image")
    assert {name: (each.objects, each.recall) for name, each in counts.items()} == {
        "up to 3": (5, pytest.approx(0.4)),
    }, "no slice without objects"


def test_quarters_of_the_sizes() -> None:
    boxes = [(0.0, 0.0, side, side) for side in (10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0)]
    objects = truth(*((image, 0, box) for image, box in enumerate(boxes)), images=7)
    detections = found(*((image, 0, box, 0.5) for image, box in enumerate(boxes[:4])))
    quarters = named(slice_results(objects, detections, categories(1), 0.5), "quarter of the sizes")
    assert {name: (each.objects, each.recall) for name, each in quarters.items()} == {
        "up to 25 px": (2, 1.0),
        "25 px to 40 px": (2, 1.0),
        "40 px to 55 px": (1, 0.0),
        "more than 55 px": (2, 0.0),
    }


def test_empty() -> None:
    objects, detections = random_case(0)
    assert slice_results(objects.select(objects.is_crowd), detections, categories(4), 0.5) == ()
    slices = slice_results(objects, without_detections(), categories(4), 0.5)
    assert {each.recall for each in slices} == {0.0}
    assert {each.AP50 for each in slices} == {0.0, None}
    assert all(each.objects for each in slice_results(truth((0, 0, TALL), images=25), detections, categories(4), 0.5))
