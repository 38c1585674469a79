"""COCO's metrics of detections in arrays, which depend on nothing but images, boxes, classes and scores."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from detr_lite.evaluation.engines import Engine, match_and_accumulate
from detr_lite.structures import Category, DetectionArrays, DetrLiteError, GroundTruth

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""In the order of pycocotools' `COCOeval.stats`."""

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
LIMITS = (1, 10, 100)
"""The detections per image and class that COCO's metrics count: those with the highest scores."""
ALL_SIZES, AT_MOST_100 = 0, 2  # indices into the engines' axes of object area and of detections per image and class
IOU_75 = 5


@dataclass(frozen=True)
class ClassResult:
    """The metrics of one category; -1 where it has no objects."""

    category: Category
    objects: int
    """Ground-truth objects in the evaluated images, without crowd regions."""
    AP: float
    AP50: float
    AR100: float
    AP_at_iou: tuple[float, ...] = ()
    """AP at each of the evaluation's `ious`."""


@dataclass(frozen=True, eq=False)
class CocoEvaluation:
    """COCO's metrics; -1 where a metric does not exist because there are no objects to find."""

    metrics: dict[str, float]
    """By the names in `METRICS`, in that order."""
    per_class: tuple[ClassResult, ...]
    precision: Float64[np.ndarray, "iou recall class"]
    """At IoU 0.50, 0.55 .. 0.95 and recall 0, 0.01 .. 1, for objects of all sizes and 100 detections per image."""
    recall_thresholds: Float64[np.ndarray, " recall"]
    max_detections: int = LIMITS[-1]
    """The most objects of one class in an image, if they are more than the 100 that COCO's metrics can count."""
    APmax: float | None = None
    """AP with `max_detections` detections per image and class, where that is more than 100."""
    ious: tuple[float, ...] = ()
    """Other thresholds of IoU at which AP was asked for."""
    AP_at_iou: tuple[float, ...] = ()
    """AP at each of `ious`, for objects of all sizes and 100 detections per image."""

    def as_dict(self) -> dict[str, float]:
        """The 12 metrics, and `APmax` with its `max_detections` where COCO's limit cuts objects off."""
        if self.APmax is None:
            return dict(self.metrics)
        return {**self.metrics, "APmax": self.APmax, "max_detections": self.max_detections}

    def summary(self) -> str:
        """COCO's 12 lines; then, where they apply, one on COCO's limit and one on metrics that have no value."""
        lines = [
            f"{name:<6}{_number(self.metrics[name])}  {meaning}"
            for name, meaning in zip(METRICS, MEANINGS, strict=True)
        ]
        if self.APmax is not None:
            lines.append(f"APmax {_number(self.APmax)}  AP where {_limit_text(self.max_detections)}")
        for iou, value in zip(self.ious, self.AP_at_iou, strict=True):
            lines.append(f"{iou_name(iou):<5} {_number(value)}  average precision at IoU {iou:g}")
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
        further = "".join(f"  {iou_name(iou):>5}" for iou in self.ious)
        lines = [f"{'category':<{width}}  objects     AP   AP50  AR100{further}"]
        for name, result in zip(names, self.per_class, strict=True):
            numbers = "  ".join(map(_number, (result.AP, result.AP50, result.AR100)))
            for iou, value in zip(self.ious, result.AP_at_iou, strict=True):
                numbers += f"  {_number(value):>{max(5, len(iou_name(iou)))}}"
            lines.append(f"{name:<{width}}  {result.objects:>7}  {numbers}")
        return "\n".join(lines)


def evaluate_detections(
    ground_truth: GroundTruth,
    detections: DetectionArrays,
    categories: Sequence[Category],
    engine: Engine = "hotcoco",
    image_indices: Int64[np.ndarray, " evaluated"] | None = None,
    ious: Sequence[float] = (),
) -> CocoEvaluation:
    """COCO's metrics, to the last bit those of pycocotools.

    Equal scores rank in the order of the images, and within an image in the order of the detections.

    Args:
        categories: by label.
        image_indices: evaluate these images only.
        ious: thresholds of IoU at which AP is computed beside COCO's metrics.

    Raises `DetrLiteError` for boxes or scores that are not finite and for thresholds that are not above 0 and at most
    1, and `ValueError` for labels and images that do not
    exist.
    """
    ious = check_ious(ious)
    _check(ground_truth, detections, len(categories))
    if image_indices is not None:
        is_evaluated = np.zeros(ground_truth.num_images, dtype=bool)
        is_evaluated[image_indices] = True
        ground_truth = ground_truth.select(is_evaluated[ground_truth.image_index])
        detections = detections.select(is_evaluated[detections.image_index])
    is_object = ~ground_truth.is_crowd
    objects = np.bincount(ground_truth.labels[is_object], minlength=len(categories))
    most = most_objects_of_a_class(ground_truth)
    limits = (*LIMITS, most) if most > LIMITS[-1] else LIMITS
    precision, recall = match_and_accumulate(engine, ground_truth, detections, len(categories), limits)
    by_class, found = precision[..., ALL_SIZES, AT_MOST_100].copy(), recall[..., ALL_SIZES, AT_MOST_100]
    at_ious = np.zeros((0, 0, len(categories)))
    if ious:
        at_ious, _ = match_and_accumulate(engine, ground_truth, detections, len(categories), LIMITS, ious)
        at_ious = at_ious[..., ALL_SIZES, AT_MOST_100]
    return CocoEvaluation(
        metrics=_metrics(precision, recall),
        per_class=tuple(
            ClassResult(
                category,
                int(objects[label]),
                AP=_mean(by_class[..., label]),
                AP50=_mean(by_class[0, :, label]),
                AR100=_mean(found[..., label]),
                AP_at_iou=tuple(_mean(each[:, label]) for each in at_ious),
            )
            for label, category in enumerate(categories)
        ),
        precision=by_class,
        recall_thresholds=np.linspace(0.0, 1.0, 101),
        max_detections=limits[-1],
        APmax=_mean(precision[..., ALL_SIZES, -1]) if most > LIMITS[-1] else None,
        ious=ious,
        AP_at_iou=tuple(map(_mean, at_ious)),
    )


def check_ious(ious: Sequence[float]) -> tuple[float, ...]:
    """The thresholds, each once. Errors: one that is not above 0 and at most 1."""
    for iou in ious:
        if not 0 < iou <= 1:
            raise DetrLiteError(f"--iou is {iou}; it must be above 0 and at most 1, such as 0.33")
    return tuple(dict.fromkeys(ious))


def iou_name(iou: float) -> str:
    """What AP at this threshold is called in tables, such as AP33."""
    return f"AP{100 * iou:g}"


def limit_note(ground_truth: GroundTruth) -> str | None:
    """One line on COCO's limit of detections where the data exceed it, for before a training."""
    most = most_objects_of_a_class(ground_truth)
    return f"APmax is AP where {_limit_text(most)}" if most > LIMITS[-1] else None


def most_objects_of_a_class(ground_truth: GroundTruth) -> int:
    """The most objects of one class in an image, without crowd regions."""
    labels, image = ground_truth.labels[~ground_truth.is_crowd], ground_truth.image_index[~ground_truth.is_crowd]
    if not len(labels):
        return 0
    _, counts = np.unique(image * (int(labels.max()) + 1) + labels, return_counts=True)
    return int(counts.max())


def most_objects(ground_truth: GroundTruth) -> int:
    """The most objects of all classes together in an image, without crowd regions."""
    image = ground_truth.image_index[~ground_truth.is_crowd]
    return int(np.bincount(image).max()) if len(image) else 0


def _metrics(
    precision: Float64[np.ndarray, "iou recall class area limit"], recall: Float64[np.ndarray, "iou class area limit"]
) -> dict[str, float]:
    """As pycocotools' `COCOeval.summarize`, whose output goes to the terminal."""
    at_100 = precision[..., AT_MOST_100]
    values = [
        at_100[..., ALL_SIZES],
        at_100[0, ..., ALL_SIZES],
        at_100[IOU_75, ..., ALL_SIZES],
        *(at_100[..., size] for size in (1, 2, 3)),
        *(recall[..., ALL_SIZES, limit] for limit in range(len(LIMITS))),
        *(recall[..., size, AT_MOST_100] for size in (1, 2, 3)),
    ]
    return dict(zip(METRICS, map(_mean, values), strict=True))


def _check(ground_truth: GroundTruth, detections: DetectionArrays, classes: int) -> None:
    for name, boxes in (("ground truth", ground_truth), ("detections", detections)):
        for what, values, count in (
            ("labels", boxes.labels, classes),
            ("images", boxes.image_index, ground_truth.num_images),
        ):
            if len(values) and not 0 <= int(values.min()) <= int(values.max()) < count:
                raise ValueError(f"{name}: {what} from {values.min()} to {values.max()}, but there are {count}")
    check_finite(detections)


def check_finite(detections: DetectionArrays) -> None:
    """Raises `DetrLiteError` for boxes or scores that are not finite."""
    # pycocotools counts an IoU of NaN as a match, so a diverged model would get a perfect score.
    is_finite = np.isfinite(detections.boxes_xywh).all(axis=1) & np.isfinite(detections.scores)
    if not is_finite.all():
        first = int(np.argmin(is_finite))
        raise DetrLiteError(
            f"{int((~is_finite).sum()):,} of {len(is_finite):,} detections are not finite, such as bbox "
            f"{detections.boxes_xywh[first].tolist()} with score {float(detections.scores[first])}: training has "
            "diverged; train with a lower learning rate"
        )


def _mean(values: np.ndarray) -> float:
    present = values[values > -1]
    return float(present.mean()) if present.size else -1.0


def _limit_text(most: int) -> str:
    return (
        f"{most:,} detections of a class count in an image, as many as an image has objects of one class; COCO's "
        f"metrics count {LIMITS[-1]}"
    )


def _number(value: float) -> str:
    return f"{value:5.3f}" if value > -1 else f"{'-':>5}"
