"""Ground truth and detections written down by hand."""

import numpy as np

from detr_lite.structures import DetectionArrays, GroundTruth


def truth(*objects: tuple[int, int, tuple[float, ...]], crowd: tuple[int, ...] = (), images: int = 2) -> GroundTruth:
    """Objects as (image, label, xywh); `crowd` has the places of crowd regions."""
    boxes = np.array([box for *_, box in objects], dtype=np.float64).reshape(-1, 4)
    return GroundTruth(
        num_images=images,
        image_index=np.array([image for image, *_ in objects], dtype=np.int64),
        labels=np.array([label for _, label, _ in objects], dtype=np.int64),
        boxes_xywh=boxes,
        areas=boxes[:, 2:].prod(axis=1),
        is_crowd=np.isin(np.arange(len(objects)), crowd),
    )


def found(*detections: tuple[int, int, tuple[float, ...], float]) -> DetectionArrays:
    """Detections as (image, label, xywh, score)."""
    return DetectionArrays(
        image_index=np.array([image for image, *_ in detections], dtype=np.int64),
        labels=np.array([label for _, label, *_ in detections], dtype=np.int64),
        boxes_xywh=np.array([box for *_, box, _ in detections], dtype=np.float64).reshape(-1, 4),
        scores=np.array([score for *_, score in detections], dtype=np.float64),
    )
