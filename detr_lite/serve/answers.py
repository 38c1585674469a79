"""Answers as JSON, in the words of COCO's annotation files."""

from typing import Any

from detr_lite.detector import Detector
from detr_lite.drawing.boxes import class_color
from detr_lite.serve.limits import RefusalError
from detr_lite.serve.worker import Detected

DEFAULT_THRESHOLD = 0.5
"""Where a checkpoint has no best scores."""


def model_facts(name: str, detector: Detector) -> dict[str, Any]:
    """What a client must know of a model."""
    return {
        "name": name,
        "categories": [
            {"id": category.id, "name": category.name, "color": list(class_color(label))}
            for label, category in enumerate(detector.categories)
        ],
        "threshold": overall_threshold(detector),
        "thresholds": detector.thresholds,
    }


def overall_threshold(detector: Detector) -> float:
    """The best score for all classes together."""
    thresholds = detector.description.thresholds
    return DEFAULT_THRESHOLD if thresholds is None else thresholds.overall


def parse_threshold(text: str | None, detector: Detector) -> float | tuple[float, ...]:
    """The scores that a request asks for: a number, or the best of each class, which is the default.

    Raises `RefusalError`: 422 for anything else.
    """
    if text in (None, "best"):
        return DEFAULT_THRESHOLD if detector.description.thresholds is None else detector.best_scores
    assert text is not None
    try:
        threshold = float(text)
    except ValueError:
        threshold = -1.0
    if not 0 <= threshold <= 1:
        raise RefusalError(422, 'threshold must be a number from 0 to 1, or "best"')
    return threshold


def detections_json(
    name: str, detector: Detector, found: Detected, threshold: float | tuple[float, ...]
) -> dict[str, Any]:
    """Annotations with scores; boxes are [x, y, width, height] in pixels of the picture as a viewer shows it."""
    kept = found.detections.above(threshold)
    annotations: list[dict[str, Any]] = []
    rows = zip(kept.boxes_xyxy.tolist(), kept.scores.tolist(), kept.labels.tolist(), strict=True)
    for (left, top, right, bottom), score, label in rows:
        category = detector.categories[label]
        annotations.append(
            {
                "id": len(annotations) + 1,
                "category_id": category.id,
                "category_name": category.name,
                "bbox": [round(value, 2) for value in (left, top, right - left, bottom - top)],
                "score": round(score, 5),
                "area": round((right - left) * (bottom - top), 2),
                "iscrowd": 0,
            }
        )
    return {
        "model": name,
        "image": {"width": found.width, "height": found.height},
        "annotations": annotations,
        "threshold": threshold if isinstance(threshold, float) else "best",
    }
