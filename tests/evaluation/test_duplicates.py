"""The cost of duplicates by hand, and the same NMS as that of `--nms`."""

import numpy as np
import pytest
import torch

from detr_lite.evaluation.duplicates import DuplicateCost, duplicate_cost, is_kept_by_nms
from detr_lite.evaluation.packing import pack_detections
from detr_lite.evaluation.postprocess import Postprocess
from detr_lite.structures import DetrOutput
from tests.helpers.arrays import found, truth
from tests.helpers.random_detections import categories, random_case, without_detections

BOX, AGAIN, FAR = (10.0, 10.0, 40.0, 20.0), (11.0, 10.0, 40.0, 20.0), (200.0, 100.0, 30.0, 30.0)


def test_by_hand() -> None:
    objects = truth((0, 0, BOX), (1, 0, BOX))
    detections = found((0, 0, AGAIN, 0.8), (0, 0, BOX, 0.9), (0, 1, BOX, 0.7), (1, 0, BOX, 0.6), (1, 0, BOX, 0.1))
    cost = duplicate_cost(objects, detections, categories(2), 0.5)
    assert cost is not None
    assert cost.count == 1, "that of another class is none, and one is below the threshold"
    assert (cost.precision, cost.precision_with_nms) == (0.5, pytest.approx(2 / 3))
    assert (cost.recall, cost.recall_with_nms) == (1.0, 1.0)
    assert pytest.approx((51 + 50 * 2 / 3) / 101) == cost.AP
    assert (cost.AP_with_nms, cost.threshold, cost.nms) == (pytest.approx(1.0), 0.5, 0.7)


def test_nms_can_remove_right_detections() -> None:
    objects = truth((0, 0, BOX), (0, 0, AGAIN))
    cost = duplicate_cost(objects, found((0, 0, BOX, 0.9), (0, 0, AGAIN, 0.8)), categories(1), 0.5)
    assert cost is not None
    assert (cost.count, cost.recall, cost.recall_with_nms) == (0, 1.0, 0.5)
    assert cost.AP_with_nms < cost.AP


@pytest.mark.parametrize("nms", [0.3, 0.7])
def test_the_same_detections_as_with_the_option(nms: float) -> None:
    generator = torch.Generator().manual_seed(0)
    boxes = 0.25 + 0.5 * torch.rand(1, 3, 40, 4, generator=generator)
    output = DetrOutput(logits=torch.randn(1, 3, 40, 3, generator=generator), boxes_cxcywh=boxes)
    plain, with_nms = (
        pack_detections(dict(enumerate(Postprocess("sigmoid", "abc", 1000, option)(output, 3 * [(480, 640)]))))
        for option in (None, nms)
    )
    kept = plain.select(is_kept_by_nms(plain, nms))
    assert 0 < len(kept.scores) < len(plain.scores)
    for name in ("image_index", "labels", "boxes_xywh", "scores"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(with_nms, name))


def test_images_in_any_order() -> None:
    _, detections = random_case(0)
    order = np.random.default_rng(0).permutation(len(detections.scores))
    np.testing.assert_array_equal(is_kept_by_nms(detections.select(order), 0.5), is_kept_by_nms(detections, 0.5)[order])


def test_empty() -> None:
    objects, detections = random_case(0)
    assert duplicate_cost(objects.select(objects.is_crowd), detections, categories(4), 0.5) is None
    assert duplicate_cost(objects, without_detections(), categories(4), 0.5) == DuplicateCost(0.5, 0, *6 * [0.0])
