"""Calibration against hotcoco and by hand."""

import hotcoco
import numpy as np
import pytest

from detr_lite.evaluation.calibration import LOWEST, calibrate
from tests.helpers.arrays import found, truth
from tests.helpers.random_detections import as_coco, categories, random_case, without_detections

BOX, FAR = (10.0, 10.0, 40.0, 20.0), (200.0, 100.0, 30.0, 30.0)


@pytest.mark.parametrize("seed", range(3))
def test_hotcoco_gives_the_same(seed: int) -> None:
    objects, detections = random_case(seed, images=60)
    content, results = as_coco(objects, detections, categories(4))
    reference = hotcoco.COCO(content)
    evaluation = hotcoco.COCOeval(reference, reference.load_res(results), "bbox")
    evaluation.evaluate()
    expected = evaluation.calibration(n_bins=10, iou_threshold=0.5)
    calibration = calibrate(objects, detections, lowest=0.0)
    assert calibration.counts.tolist() == [bin["count"] for bin in expected["bins"]]
    np.testing.assert_allclose(calibration.precision, [bin["avg_accuracy"] for bin in expected["bins"]])
    np.testing.assert_allclose(calibration.confidence, [bin["avg_confidence"] for bin in expected["bins"]])
    assert calibration.expected_error == pytest.approx(expected["ece"])


def test_by_hand() -> None:
    objects = truth((0, 0, BOX), (0, 0, (0.0, 0.0, 300.0, 300.0)), crowd=(1,))
    detections = found((0, 0, BOX, 1.0), (1, 0, BOX, 0.9), (1, 0, FAR, 0.3), (0, 0, FAR, 0.5), (1, 0, FAR, LOWEST / 2))
    calibration = calibrate(objects, detections)
    assert calibration.edges == pytest.approx(np.arange(11) / 10)
    assert calibration.counts.tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 0, 2], "the one in the crowd region does not count"
    assert calibration.precision[[3, 9]].tolist() == [0.0, 0.5]
    assert calibration.confidence[[3, 9]] == pytest.approx([0.3, 0.95])
    assert calibration.expected_error == pytest.approx((0.3 + 2 * 0.45) / 3)
    assert np.isnan(calibration.precision).sum() == 8


def test_empty() -> None:
    objects, detections = random_case(0)
    calibration = calibrate(objects, without_detections())
    assert calibration.expected_error is None
    assert not calibration.counts.any()
    nothing = calibrate(objects.select(np.zeros(len(objects.labels), dtype=bool)), detections)
    assert np.nanmax(nothing.precision) == 0
