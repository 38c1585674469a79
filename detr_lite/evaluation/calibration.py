"""Whether scores are probabilities: of detections with a score of 0.7, are 70 % right?"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from detr_lite.evaluation.matching import match_classes
from detr_lite.structures import DetectionArrays, GroundTruth

IOU = 0.5
"""From which a detection finds an object."""

LOWEST = 0.05
"""Lower scores do not count: most queries of a DETR find nothing and say so, which would hide all other scores."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Detections in bins of their score."""

    edges: Float64[np.ndarray, " bins_and_one"]
    """Of the bins, from 0 to 1; a score on an edge is in the bin above it, and 1 in the last."""
    confidence: Float64[np.ndarray, " bins"]
    """Mean score of a bin's detections; NaN where it has none."""
    precision: Float64[np.ndarray, " bins"]
    """Share of them that is right; NaN where it has none."""
    counts: Int64[np.ndarray, " bins"]
    expected_error: float | None
    """Expected calibration error: the mean over the detections of |confidence - precision| of their bin (Guo et al.,
    "On Calibration of Modern Neural Networks", arXiv 1706.04599, eq. 3). None without detections."""


def calibrate(
    ground_truth: GroundTruth, detections: DetectionArrays, bins: int = 10, lowest: float = LOWEST
) -> Calibration:
    """The calibration of the detections whose score is at least `lowest`. A detection is right if it is matched at an
    IoU of 0.5 as for AP50; those inside crowd regions do not count."""
    matches = match_classes(ground_truth, detections, IOU)
    is_counted = ~matches.is_ignored & (detections.scores >= lowest)
    scores, is_correct = detections.scores[is_counted], matches.is_correct[is_counted]
    edges = np.arange(bins + 1) / bins
    place = np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    confidence, precision = np.full(bins, np.nan), np.full(bins, np.nan)
    is_filled = counts > 0
    for means, values in (confidence, scores), (precision, is_correct):
        sums = np.bincount(place, weights=values, minlength=bins)
        means[is_filled] = sums[is_filled] / counts[is_filled]
    gaps = np.abs(confidence - precision)[is_filled]
    error = float((gaps * counts[is_filled]).sum() / counts.sum()) if len(scores) else None
    return Calibration(edges, confidence, precision, counts, error)
