"""Writes and logs what an evaluation with annotations has found."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detr_lite.data.records import Split
from detr_lite.evaluation.coco_map import CocoEvaluation
from detr_lite.evaluation.result_files import write_per_class_csv
from detr_lite.evaluation.thresholds import Thresholds, class_scores
from detr_lite.evaluation.zero import explain_zero
from detr_lite.io import atomic_write
from detr_lite.structures import DetectionArrays
from detr_lite.viz.curves import plot_pr_curves

logger = logging.getLogger(__name__)


def write_results(
    output: Path,
    evaluation: CocoEvaluation,
    thresholds: Thresholds,
    data: Split,
    detections: DetectionArrays,
    inference: Mapping[str, int | float],
) -> None:
    """Write metrics.json, per_class.csv, thresholds.json and pr_curves.png, and log the numbers.

    Args:
        data: with objects.
        detections: under the labels of the data.
        inference: the options that changed the detections of the model, such as the IoU of "nms".
    """
    metrics: dict[str, object] = dict(evaluation.as_dict())
    if evaluation.ious:
        metrics["AP_at_iou"] = dict(zip(map(str, evaluation.ious), evaluation.AP_at_iou, strict=True))
    metrics.update(inference)
    _write_json(output / "metrics.json", metrics)
    write_per_class_csv(output / "per_class.csv", evaluation)
    _write_json(output / "thresholds.json", _thresholds_content(thresholds, data))
    plot_pr_curves(evaluation, output / "pr_curves.png")
    logger.info("%s\n\n%s\n", evaluation.summary(), evaluation.class_table())
    line = threshold_line(thresholds)
    if line is not None:
        logger.info("%s", line)
    reason = explain_zero(evaluation, data.ground_truth, detections, data.images.sizes_wh, data.image_ids)
    if reason:
        logger.warning("%s", reason)


def threshold_line(thresholds: Thresholds) -> str | None:
    """The best score in words, beside the score 0.5; None if no detection is right at any score."""
    best, half = thresholds.overall, thresholds.at_half
    if best is None:
        return None
    other = "" if half is None else f" (0.5 would give {half.precision:.2f} and {half.recall:.2f})"
    return f"best score threshold {best.score:g}: precision {best.precision:.2f}, recall {best.recall:.2f}{other}"


def _thresholds_content(thresholds: Thresholds, data: Split) -> dict[str, Any]:
    """With the data that they were found on, and the score of each class that `--threshold best` applies, which for
    rare classes is that of all together."""
    images = {"root": str(data.root.absolute()), "split": data.name}
    content = {"data": images, **thresholds.as_dict(data.categories)}
    if thresholds.overall is not None:
        for row, score in zip(content["per_class"], class_scores(thresholds), strict=True):
            row["threshold"] = score
    return content


def _write_json(path: Path, content: dict[str, Any]) -> None:
    text = f"{json.dumps(content, indent=2)}\n".encode()
    atomic_write(path, lambda file: file.write(text))
