"""COCO's mAP, computed by pycocotools under ids that it counts correctly, with its output silenced."""

import contextlib
import csv
import io
import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detr_lite.box_ops import xyxy_to_xywh
from detr_lite.evaluation.coco_ids import renumber
from detr_lite.io import atomic_write
from detr_lite.structures import Category, Detections, DetrLiteError
from detr_lite.text import shorten_list

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""In the order of `COCOeval.stats`."""

MEANINGS = (
    "average precision, mean over IoU 0.50 to 0.95",
    "average precision at IoU 0.50",
    "average precision at IoU 0.75",
    "AP of small objects (area below 32 x 32 pixels)",
    "AP of medium objects",
    "AP of large objects (area above 96 x 96 pixels)",
    "average recall with 1 detection per image and class",
    "average recall with 10 detections",
    "average recall with 100 detections",
    "AR100 of small objects",
    "AR100 of medium objects",
    "AR100 of large objects",
)
BOXES_FIT = 0.5
"""Class-agnostic AP50 from which the boxes fit the objects; boxes that are merely near objects stay below 0.2."""
ALL_SIZES, AT_MOST_100 = 0, 2  # indices into pycocotools' axes of object area and of detections per image


@dataclass(frozen=True)
class ClassResult:
    """The metrics of one category; -1 where it has no objects."""

    category: Category
    objects: int
    """Ground-truth objects in the evaluated images, without crowd regions."""
    AP: float
    AP50: float
    AR100: float


@dataclass(frozen=True, eq=False)
class CocoEvaluation:
    """COCO's metrics; -1 where a metric does not exist because there are no objects to find."""

    metrics: dict[str, float]
    """By the names in `METRICS`, in that order."""
    per_class: tuple[ClassResult, ...]
    precision: Float[np.ndarray, "iou recall class"]
    """At IoU 0.50, 0.55 .. 0.95 and recall 0, 0.01 .. 1, for objects of all sizes and 100 detections per image."""
    recall_thresholds: Float[np.ndarray, " recall"]

    def summary(self) -> str:
        """COCO's 12 lines; where some have no value, a last line says why."""
        lines = [
            f"{name:<6}{_number(self.metrics[name])}  {meaning}"
            for name, meaning in zip(METRICS, MEANINGS, strict=True)
        ]
        reason = self.missing_reason()
        return "\n".join(lines if reason is None else [*lines, f"{'-':>11}  {reason}"])

    def missing_reason(self) -> str | None:
        """Why a metric has no value (-1), in one line; None if all have one."""
        if self.metrics["AP"] < 0:
            return "no value: the ground truth of these images has no objects (crowd regions do not count)"
        sizes = [size for size in ("small", "medium", "large") if self.metrics[f"AP{size[0]}"] < 0]
        return f"no value: the ground truth has no {' and no '.join(sizes)} objects" if sizes else None

    def class_table(self) -> str:
        """A header and one line per category."""
        names = [result.category.name for result in self.per_class]
        width = max(map(len, ["category", *names]))
        lines = [f"{'category':<{width}}  objects     AP   AP50  AR100"]
        for name, result in zip(names, self.per_class, strict=True):
            numbers = "  ".join(map(_number, (result.AP, result.AP50, result.AR100)))
            lines.append(f"{name:<{width}}  {result.objects:>7}  {numbers}")
        return "\n".join(lines)


def coco_results(detections: Detections, image_id: int, category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """One image's detections in COCO's results format; `category_ids[label]` is the dataset's own category id.

    Boxes are rounded to 1/1000 pixel and scores to 6 digits here, so that the file holds exactly what is evaluated.
    """
    columns = (xyxy_to_xywh(detections.boxes_xyxy), detections.scores, detections.labels)
    return [
        {
            "image_id": image_id,
            "category_id": category_ids[label],
            "bbox": [round(value, 3) for value in box_xywh],
            "score": round(score, 6),
        }
        for box_xywh, score, label in zip(*(column.tolist() for column in columns), strict=True)
    ]


def evaluate_detections(
    ground_truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    categories: Sequence[Category],
    image_ids: Sequence[int] | None = None,
) -> CocoEvaluation:
    """Evaluate COCO results against a COCO annotation file's content. The metrics do not depend on any ids.

    `categories` orders `per_class` and the classes of `precision`; the metrics are over all categories of the ground
    truth, as in pycocotools. `image_ids` restricts the evaluation to these images.

    Raises `DetrLiteError` for detections of unlisted images and for boxes or scores that are not finite.
    """
    _check(ground_truth, results)
    renumbered = renumber(ground_truth, results)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = _coco(renumbered.ground_truth)
        detections = _coco({**renumbered.ground_truth, "annotations": renumbered.detections})
        evaluation = COCOeval(truth, detections, "bbox")
        if image_ids is not None:
            evaluation.params.imgIds = [renumbered.image_ids[id] for id in image_ids if id in renumbered.image_ids]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()

    evaluated_images = set(evaluation.params.imgIds)
    objects = Counter(
        annotation["category_id"]
        for annotation in renumbered.ground_truth["annotations"]
        if annotation["image_id"] in evaluated_images and not annotation["iscrowd"]
    )
    # pycocotools' axis of classes is in the order of the new ids, which count from 1.
    ids = [renumbered.category_ids.get(category.id) for category in categories]
    precision = _select_classes(evaluation.eval["precision"][..., ALL_SIZES, AT_MOST_100], ids)
    recall = _select_classes(evaluation.eval["recall"][..., ALL_SIZES, AT_MOST_100], ids)
    return CocoEvaluation(
        metrics=dict(zip(METRICS, evaluation.stats.tolist(), strict=True)),
        per_class=tuple(
            ClassResult(
                category,
                objects[id] if id is not None else 0,
                AP=_mean(precision[..., index]),
                AP50=_mean(precision[0, :, index]),
                AR100=_mean(recall[..., index]),
            )
            for index, (category, id) in enumerate(zip(categories, ids, strict=True))
        ),
        precision=precision,
        recall_thresholds=evaluation.params.recThrs,
    )


def write_per_class_csv(path: Path, evaluation: CocoEvaluation) -> None:
    """One row per category; -1 where a category has no objects.

    A name that a spreadsheet would evaluate as a formula, such as =1+1, gets an apostrophe in front, which spreadsheets
    do not show.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(("category_id", "category", "objects", "AP", "AP50", "AR100"))
    for result in evaluation.per_class:
        category = result.category
        is_formula = unicodedata.normalize("NFKC", category.name).startswith(("=", "+", "-", "@"))
        name = f"'{category.name}" if is_formula else category.name
        writer.writerow((category.id, name, result.objects, result.AP, result.AP50, result.AR100))
    atomic_write(path, lambda file: file.write(text.getvalue().encode()))


def explain_zero(
    evaluation: CocoEvaluation, results: Sequence[Mapping[str, Any]], ground_truth: Mapping[str, Any]
) -> str | None:
    """The likely cause of an AP of 0, in one line; None if AP is not 0 or no cause is found."""
    if evaluation.metrics["AP"] != 0:
        return None
    if not results:
        return "AP is 0 because there is not a single detection"
    annotations = ground_truth["annotations"]
    for key in ("image_id", "category_id"):
        found, true = ({entry[key] for entry in entries} for entries in (results, annotations))
        if not found & true:
            return f"AP is 0 because the detections have {key} {_ids(found)}, the ground truth has {_ids(true)}"

    boxes_xywh = np.array([result["bbox"] for result in results], dtype=float)
    low, size = boxes_xywh[:, :2], boxes_xywh[:, 2:]
    sizes = {image["id"]: (image.get("width", np.inf), image.get("height", np.inf)) for image in ground_truth["images"]}
    limits = np.array([sizes[result["image_id"]] for result in results])
    if (size <= 0).any(axis=1).all():
        return "AP is 0 because no detected box has an area: is `bbox` [x, y, width, height]?"
    if (low + size).max() <= 2 < limits.min():
        return "AP is 0 because the boxes lie between 0 and 1: `bbox` must be in pixels of the original image"
    outside = ((low + size > 1.01 * limits + 1) | (low < -1)).any(axis=1).mean()
    if outside >= 0.5:
        return (
            f"AP is 0, and {outside:.0%} of the boxes extend beyond their image: "
            "`bbox` must be [x, y, width, height] in pixels of the original image"
        )
    fit = evaluate_detections(*regardless_of_class(ground_truth, results), ()).metrics["AP50"]
    if fit >= BOXES_FIT:
        return (
            f"AP is 0 although the boxes fit (AP50 {fit:.2f} regardless of class), so the classes are wrong: do the "
            "category ids mean the same in the detections and in these annotations?"
        )
    return None


def regardless_of_class(
    ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Ground truth and results with all objects in one class, for class-agnostic AP.

    A box that is predicted with several classes is kept once, with its highest score.
    """
    annotations = [{**annotation, "category_id": 1} for annotation in ground_truth["annotations"]]
    truth = {**ground_truth, "annotations": annotations, "categories": [{"id": 1, "name": "object"}]}
    by_box: dict[tuple[Any, ...], dict[str, Any]] = {}
    for result in results:
        key = (result["image_id"], *result["bbox"])
        if key not in by_box or result["score"] > by_box[key]["score"]:
            by_box[key] = {**result, "category_id": 1}
    return truth, list(by_box.values())


def _check(ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> None:
    known = {image["id"] for image in ground_truth["images"]}
    unknown = {result["image_id"] for result in results} - known
    if unknown:
        raise DetrLiteError(
            f"the detections have image_id {_ids(unknown)}, which the annotations do not list under "
            f'"images" ({_ids(known)}); evaluate against the annotations of the same images'
        )
    for result in results:
        # pycocotools counts an IoU of NaN as a match, so a diverged model would get a perfect score.
        if not all(map(math.isfinite, (*result["bbox"], result["score"]))):
            raise DetrLiteError(
                f"image_id {result['image_id']} has a detection that is not finite (bbox {list(result['bbox'])}, "
                f"score {result['score']}): training has diverged; train with a lower learning rate"
            )


def _coco(dataset: dict[str, Any]) -> Any:
    coco = COCO()
    coco.dataset = dataset
    coco.createIndex()
    return coco


def _select_classes(values: np.ndarray, ids: Sequence[int | None]) -> np.ndarray:
    """Reorder the last axis; -1 for classes that the ground truth does not list (None)."""
    selected = np.full((*values.shape[:-1], len(ids)), -1.0)
    for index, id in enumerate(ids):
        if id is not None:
            selected[..., index] = values[..., id - 1]
    return selected


def _mean(values: np.ndarray) -> float:
    present = values[values > -1]
    return float(present.mean()) if present.size else -1.0


def _number(value: float) -> str:
    return f"{value:5.3f}" if value > -1 else f"{'-':>5}"


def _ids(ids: Iterable[int]) -> str:
    return shorten_list(sorted(ids)) or "none"
