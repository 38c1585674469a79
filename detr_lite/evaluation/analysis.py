"""Everything that says why AP is what it is, from the same arrays as the metrics."""

from collections.abc import Sequence
from dataclasses import dataclass

from detr_lite.evaluation.calibration import Calibration, calibrate
from detr_lite.evaluation.coco_map import check_finite
from detr_lite.evaluation.confusion import Confusion, confusion_matrix
from detr_lite.evaluation.data_faults import DataFault, find_data_faults
from detr_lite.evaluation.diagnosis import Diagnosis, diagnose
from detr_lite.evaluation.duplicates import DuplicateCost, duplicate_cost
from detr_lite.evaluation.error_kinds import ErrorCosts, Finding, error_costs, find_errors
from detr_lite.evaluation.label_errors import LabelError, find_label_errors
from detr_lite.evaluation.slices import Slice, slice_results
from detr_lite.evaluation.thresholds import Thresholds, find_thresholds
from detr_lite.structures import Category, DetectionArrays, GroundTruth

IOUS = (0.5, 0.75)
"""Thresholds of IoU at which the costs of errors are computed: AP50 and AP75."""


@dataclass(frozen=True, eq=False)
class Analysis:
    """What the detections get wrong."""

    thresholds: Thresholds
    errors: tuple[ErrorCosts, ...]
    """At each of `IOUS`; none without objects."""
    confusion: Confusion
    """At the working threshold."""
    calibration: Calibration
    slices: tuple[Slice, ...]
    """None without objects."""
    findings: tuple[Finding, ...]
    """At the working threshold, in the order of `ErrorAssignment.findings`."""
    duplicates: DuplicateCost | None
    """None without objects."""
    label_errors: tuple[LabelError, ...]
    data_faults: tuple[DataFault, ...]
    diagnosis: Diagnosis


def analyze(ground_truth: GroundTruth, detections: DetectionArrays, categories: Sequence[Category]) -> Analysis:
    """All parts of the analysis. The working threshold is the best one for all classes together.

    Raises `DetrLiteError` for boxes or scores that are not finite. Without objects or detections the parts are empty.
    """
    check_finite(detections)
    thresholds = find_thresholds(ground_truth, detections, categories)
    working = thresholds.working
    costs = [error_costs(ground_truth, detections, categories, iou) for iou in IOUS]
    errors = tuple(cost for cost in costs if cost is not None)
    confusion = confusion_matrix(ground_truth, detections, len(categories), working)
    duplicates = duplicate_cost(ground_truth, detections, categories, working)
    label_errors = find_label_errors(ground_truth, detections)
    faults = find_data_faults(ground_truth, detections, categories, label_errors)
    return Analysis(
        thresholds=thresholds,
        errors=errors,
        confusion=confusion,
        calibration=calibrate(ground_truth, detections),
        slices=slice_results(ground_truth, detections, categories, working),
        findings=tuple(find_errors(ground_truth, detections, working).findings()),
        duplicates=duplicates,
        label_errors=tuple(label_errors),
        data_faults=tuple(faults),
        diagnosis=diagnose(categories, errors, faults, confusion, duplicates, len(detections.scores)),
    )
