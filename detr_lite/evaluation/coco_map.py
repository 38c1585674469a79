"""COCO's mAP. pycocotools computes it; this file hands it the data, keeps it quiet and names the numbers."""

import contextlib
import csv
import io
import math
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detr_lite.box_ops import xyxy_to_xywh
from detr_lite.structures import Category, Detections, DetrLiteError

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
"""AP50 regardless of class from which boxes are no accident: boxes that are merely near objects have less than 0.2."""
ALL_SIZES, AT_MOST_100 = 0, 2  # places in pycocotools' axes of object area and of detections per image


@dataclass(frozen=True)
class ClassResult:
    """One category's numbers; -1 where it has no objects."""

    category: Category
    objects: int
    """True objects in the evaluated images, crowd regions left out."""
    AP: float
    AP50: float
    AR100: float


@dataclass(frozen=True, eq=False)
class CocoEvaluation:
    """What pycocotools found, -1 where there is nothing to find."""

    metrics: dict[str, float]
    """The numbers of `METRICS`, in that order."""
    per_class: tuple[ClassResult, ...]
    precision: Float[np.ndarray, "iou recall class"]
    """At IoU 0.50, 0.55 .. 0.95 and recall 0, 0.01 .. 1, for objects of all sizes and 100 detections per image."""
    recall_thresholds: Float[np.ndarray, " recall"]

    def summary(self) -> str:
        """COCO's 12 lines."""
        lines = zip(METRICS, MEANINGS, strict=True)
        return "\n".join(f"{name:<6}{_number(self.metrics[name])}  {meaning}" for name, meaning in lines)

    def class_table(self) -> str:
        """A line for each category, under a line of headings."""
        names = [result.category.name for result in self.per_class]
        width = max(map(len, ["category", *names]))
        lines = [f"{'category':<{width}}  objects     AP   AP50  AR100"]
        for name, result in zip(names, self.per_class, strict=True):
            numbers = "  ".join(map(_number, (result.AP, result.AP50, result.AR100)))
            lines.append(f"{name:<{width}}  {result.objects:>7}  {numbers}")
        return "\n".join(lines)


def coco_results(detections: Detections, image_id: int, category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """One image's detections in COCO's results format; `category_ids[label]` is the data set's own id.

    Rounded here (boxes to 1/1000 pixel), so that what is evaluated is what is written to a file.
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
    """Evaluate COCO results against a COCO annotation file's content.

    `categories` orders `per_class` and the classes of `precision`; the metrics are, as pycocotools has it, over all
    categories of the ground truth. `image_ids` restricts the evaluation to these images. Raises `DetrLiteError` for
    detections of unknown images, and for those that are not finite.
    """
    _check(ground_truth, results)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = _coco(ground_truth, [_complete(annotation) for annotation in ground_truth.get("annotations", ())])
        # loadRes([]) raises, where no detections simply means that nothing was found.
        found = truth.loadRes([dict(result) for result in results]) if results else _coco(ground_truth, [])
        evaluation = COCOeval(truth, found, "bbox")
        if image_ids is not None:
            evaluation.params.imgIds = list(image_ids)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()

    evaluated_images = set(evaluation.params.imgIds)
    objects = Counter(
        annotation["category_id"]
        for annotation in truth.dataset["annotations"]
        if annotation["image_id"] in evaluated_images and not annotation["iscrowd"]
    )
    precision = _of_classes(evaluation.eval["precision"][..., ALL_SIZES, AT_MOST_100], evaluation, categories)
    recall = _of_classes(evaluation.eval["recall"][..., ALL_SIZES, AT_MOST_100], evaluation, categories)
    return CocoEvaluation(
        metrics=dict(zip(METRICS, evaluation.stats.tolist(), strict=True)),
        per_class=tuple(
            ClassResult(
                category,
                objects[category.id],
                AP=_mean(precision[..., place]),
                AP50=_mean(precision[0, :, place]),
                AR100=_mean(recall[..., place]),
            )
            for place, category in enumerate(categories)
        ),
        precision=precision,
        recall_thresholds=evaluation.params.recThrs,
    )


def write_per_class_csv(path: Path, evaluation: CocoEvaluation) -> None:
    """One row for each category; -1 where a category has no objects.

    A name that a spreadsheet would compute, such as =1+1, has an apostrophe before it, which spreadsheets do not show.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("category_id", "category", "objects", "AP", "AP50", "AR100"))
        for result in evaluation.per_class:
            category = result.category
            is_formula = unicodedata.normalize("NFKC", category.name).startswith(("=", "+", "-", "@"))
            name = f"'{category.name}" if is_formula else category.name
            writer.writerow((category.id, name, result.objects, result.AP, result.AP50, result.AR100))


def explain_zero(
    evaluation: CocoEvaluation, results: Sequence[Mapping[str, Any]], ground_truth: Mapping[str, Any]
) -> str | None:
    """The likely cause, in one line, of an AP of 0; None where AP is not 0 or nothing is conspicuous."""
    if evaluation.metrics["AP"] != 0:
        return None
    if not results:
        return "AP is 0 because there is not a single detection"
    annotations = ground_truth["annotations"]
    for key in ("image_id", "category_id"):
        found, true = ({entry[key] for entry in entries} for entries in (results, annotations))
        if not found & true:
            return f"AP is 0 because the detections have {key} {_some(found)}, the true objects {_some(true)}"

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
            f"AP is 0, and {outside:.0%} of the boxes reach out of their image: "
            "`bbox` must be [x, y, width, height] in pixels of the original image"
        )
    fit = evaluate_detections(*regardless_of_class(ground_truth, results), ()).metrics["AP50"]
    if fit >= BOXES_FIT:
        return (
            f"AP is 0 although the boxes fit (AP50 {fit:.2f} regardless of class), so the classes are wrong: do the "
            "category ids mean the same in the detections' data and in these annotations?"
        )
    return None


def regardless_of_class(
    ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The same with all objects in one class, so that what is evaluated is how well the boxes fit.

    A box that a query gives for several classes is there once, with its best score.
    """
    annotations = [{**annotation, "category_id": 1} for annotation in ground_truth["annotations"]]
    truth = {**ground_truth, "annotations": annotations, "categories": [{"id": 1, "name": "object"}]}
    surest: dict[tuple[Any, ...], dict[str, Any]] = {}
    for result in results:
        key = (result["image_id"], *result["bbox"])
        if key not in surest or result["score"] > surest[key]["score"]:
            surest[key] = {**result, "category_id": 1}
    return truth, list(surest.values())


def _check(ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> None:
    known = {image["id"] for image in ground_truth["images"]}
    unknown = {result["image_id"] for result in results} - known
    if unknown:
        raise DetrLiteError(
            f"detections are for image_id {_some(unknown)}, which the annotations' "
            f'"images" ({_some(known)}) do not list: evaluate against the annotations of the same images'
        )
    for result in results:
        # pycocotools takes an overlap that is NaN for a match, so that a diverged model would be a perfect one.
        if not all(map(math.isfinite, (*result["bbox"], result["score"]))):
            raise DetrLiteError(
                f"image_id {result['image_id']} has a detection that is not finite (bbox {list(result['bbox'])}, "
                f"score {result['score']}): the model's numbers have overflowed; train it with a lower learning rate"
            )


def _coco(ground_truth: Mapping[str, Any], annotations: list[dict[str, Any]]) -> Any:
    coco = COCO()
    # pycocotools copies `info`, and an absent one is an error to its older versions.
    coco.dataset = {**ground_truth, "info": ground_truth.get("info", {}), "annotations": annotations}
    coco.createIndex()
    return coco


def _complete(annotation: Mapping[str, Any]) -> dict[str, Any]:
    """A copy (pycocotools writes into it), with the two fields that some tools leave out and pycocotools needs."""
    _, _, width, height = annotation["bbox"]
    return {"iscrowd": 0, "area": width * height, **annotation}


def _of_classes(values: np.ndarray, evaluation: Any, categories: Sequence[Category]) -> np.ndarray:
    """Put the last axis in the order of `categories`; -1 for those that the ground truth does not list."""
    place = {category_id: index for index, category_id in enumerate(evaluation.params.catIds)}
    ordered = np.full((*values.shape[:-1], len(categories)), -1.0)
    for index, category in enumerate(categories):
        if category.id in place:
            ordered[..., index] = values[..., place[category.id]]
    return ordered


def _mean(values: np.ndarray) -> float:
    present = values[values > -1]
    return float(present.mean()) if present.size else -1.0


def _number(value: float) -> str:
    return f"{value:5.3f}" if value > -1 else f"{'-':>5}"


def _some(ids: set[int], most: int = 5) -> str:
    listed = sorted(ids)
    return ", ".join(map(str, listed[:most])) + (", ..." if len(listed) > most else "") if listed else "none"
