"""The programs that compute COCO's metrics, given images, objects and classes that are numbered from 1 in their order.

Both engines rank equal scores in the order of image ids, mark a match with the id of the true object, where 0 means
unmatched, and average over classes in the order of category ids. With numbers of our own a metric depends on nothing
but images, boxes, classes and scores.
"""

import contextlib
import io
from collections.abc import Sequence
from typing import Any, Literal

import hotcoco
import numpy as np
from jaxtyping import Float64
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detr_lite.structures import DetectionArrays, GroundTruth

Engine = Literal["hotcoco", "pycocotools"]
"""hotcoco, and the reference that it equals to the last bit, about a hundred times slower."""


def match_and_accumulate(
    engine: Engine,
    ground_truth: GroundTruth,
    detections: DetectionArrays,
    classes: int,
    max_detections: Sequence[int],
    ious: Sequence[float] | None = None,
) -> tuple[
    Float64[np.ndarray, "iou recall class area limit"],
    Float64[np.ndarray, "iou class area limit"],
]:
    """Precision at recall 0, 0.01 .. 1, and recall, both at `ious`; -1 where there are no objects.

    Args:
        max_detections: limits of detections per image and class, ascending.
        ious: thresholds of IoU; by default COCO's, 0.50, 0.55 .. 0.95.

    Areas are all, small, medium and large.
    """
    compute = _hotcoco if engine == "hotcoco" else _pycocotools
    precision, recall = compute(ground_truth, detections, classes, list(max_detections), ious)
    return np.asarray(precision, dtype=np.float64), np.asarray(recall, dtype=np.float64)


def _hotcoco(
    ground_truth: GroundTruth,
    detections: DetectionArrays,
    classes: int,
    max_detections: list[int],
    ious: Sequence[float] | None,
) -> tuple[Any, Any]:
    truth = hotcoco.COCO.from_arrays(
        # It keeps the boxes of detections as they are, so the sizes of images do not matter.
        [{"id": number, "width": 0, "height": 0} for number in range(1, ground_truth.num_images + 1)],
        [{"id": number, "name": str(number)} for number in range(1, classes + 1)],
        ground_truth.image_index + 1,
        ground_truth.labels + 1,
        ground_truth.boxes_xywh,
        area=ground_truth.areas,
        iscrowd=ground_truth.is_crowd,
    )
    columns = (detections.image_index + 1, detections.boxes_xywh, detections.scores, detections.labels + 1)
    evaluation = hotcoco.COCOeval(truth, truth.load_res(np.column_stack(columns).astype(np.float64)), "bbox")
    evaluation.params.max_dets = max_detections
    if ious is not None:
        evaluation.params.iou_thrs = list(ious)
    evaluation.evaluate()
    evaluation.accumulate()
    result = evaluation.eval
    assert result is not None
    return result["precision"], result["recall"]


def _pycocotools(
    ground_truth: GroundTruth,
    detections: DetectionArrays,
    classes: int,
    max_detections: list[int],
    ious: Sequence[float] | None,
) -> tuple[Any, Any]:
    content = {
        "images": [{"id": number} for number in range(1, ground_truth.num_images + 1)],
        "categories": [{"id": number} for number in range(1, classes + 1)],
    }
    area = ground_truth.areas
    true = coco_entries(ground_truth, area=area, iscrowd=ground_truth.is_crowd.astype(np.int64))
    area = detections.boxes_xywh[:, 2] * detections.boxes_xywh[:, 3]
    found = coco_entries(detections, area=area, iscrowd=np.zeros(len(area), np.int64), score=detections.scores)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(*(_indexed({**content, "annotations": entries}) for entries in (true, found)), "bbox")
        evaluation.params.maxDets = max_detections
        if ious is not None:
            evaluation.params.iouThrs = np.array(ious)
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"], evaluation.eval["recall"]


def coco_entries(boxes: GroundTruth | DetectionArrays, **columns: np.ndarray) -> list[dict[str, Any]]:
    """Entries of COCO's "annotations", with the number of each image and class, and with these columns as fields."""
    columns = {
        "id": np.arange(1, len(boxes.labels) + 1),
        "image_id": boxes.image_index + 1,
        "category_id": boxes.labels + 1,
        "bbox": boxes.boxes_xywh,
        **columns,
    }
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _indexed(dataset: dict[str, Any]) -> Any:
    coco = COCO()
    coco.dataset = dataset
    coco.createIndex()
    return coco
