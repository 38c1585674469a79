"""Writes what tidecv 1.0.1 says of random detections to tests/evaluation/tidecv.json, which test_error_kinds.py reads.

tidecv imports OpenCV, seaborn and pandas at once, so the tests read its numbers instead of running it. To record them
again, in an environment of its own with numpy and what tests/helpers/random_detections.py imports:

    pip install tidecv==1.0.1 opencv-python-headless
    PYTHONPATH=. python -m tests.helpers.record_tidecv
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from detr_lite.structures import DetectionArrays, GroundTruth
from tests.helpers.random_detections import random_case

RECORDED = Path(__file__).parents[1] / "evaluation/tidecv.json"
NAMES = {
    "Cls": "classification",
    "Loc": "localization",
    "Both": "both",
    "Dupe": "duplicate",
    "Bkg": "background",
    "Miss": "missed",
}
CASES = [(seed, images, classes) for seed in (0, 1) for images, classes in ((25, 4), (25, 2), (150, 12))]
IOUS = (0.5, 0.75)


def tide_case(seed: int, images: int, classes: int) -> tuple[GroundTruth, DetectionArrays]:
    """Objects with crowd regions among them, and detections with errors of every kind, of classes that have objects."""
    truth, found = random_case(seed, images, classes)
    rng = np.random.default_rng(seed)
    count = len(found.scores)
    boxes_xywh = found.boxes_xywh.copy()
    # One in five is moved by up to its own size, so that it is off or on the background.
    is_moved = rng.random(count) < 0.2
    boxes_xywh[:, :2] += is_moved[:, None] * rng.uniform(-1, 1, (count, 2)) * boxes_xywh[:, 2:]
    # No two scores are equal.
    moved = DetectionArrays(found.image_index, found.labels, boxes_xywh.round(3), rng.permutation(count) / count)
    return truth, moved.select(np.isin(found.labels, truth.labels[~truth.is_crowd]))


def _recorded(truth: GroundTruth, found: DetectionArrays, iou: float) -> dict[str, Any]:
    from tidecv import TIDE, Data

    true, detected = Data("truth"), Data("detections", max_dets=1000)
    for image in range(truth.num_images):
        true.add_image(image, str(image))
        detected.add_image(image, str(image))
    rows = (truth.image_index, truth.labels, truth.boxes_xywh, truth.is_crowd)
    for image, label, box, is_crowd in zip(*(row.tolist() for row in rows), strict=True):
        (true.add_ignore_region if is_crowd else true.add_ground_truth)(image, label, box=box)
    rows = (found.image_index, found.labels, found.scores, found.boxes_xywh)
    for image, label, score, box in zip(*(row.tolist() for row in rows), strict=True):
        detected.add_detection(image, label, score, box=box)
    tide = TIDE(pos_threshold=iou)
    run = tide.evaluate(true, detected, name="run")
    counts = {NAMES[kind.short_name]: count for kind, count in run.count_errors().items()}
    ignored = dict.fromkeys(NAMES.values(), 0)
    for error in run.errors:
        if hasattr(error, "pred") and error.pred["used"] is None:
            ignored[NAMES[error.short_name]] += 1
    special = tide.get_special_errors()["run"]
    return {
        "iou": iou,
        "AP": run.ap,
        "costs": {NAMES[name]: cost for name, cost in tide.get_main_errors()["run"].items()},
        "counts": counts,
        "inside_crowd_regions": ignored,
        "false_positives": special["FalsePos"],
        "false_negatives": special["FalseNeg"],
    }


if __name__ == "__main__":
    numbers = [{"case": case, **_recorded(*tide_case(*case), iou)} for case in CASES for iou in IOUS]
    RECORDED.write_text(json.dumps(numbers, indent=1) + "\n")
