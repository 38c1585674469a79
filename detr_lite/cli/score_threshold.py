"""`--threshold` of all commands: one score for all classes, or the best score of each."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from detr_lite.detector import Detector
from detr_lite.errors import DetrLiteError
from detr_lite.text import command_line, shorten_list
from detr_lite.training.state.evaluation_folder import results_home
from detr_lite.weights.checkpoint_path import find_checkpoint, is_source
from detr_lite.weights.score_thresholds import ScoreThresholds, read_thresholds

THRESHOLDS_FILE = "evaluation/thresholds.json"
"""Where the evaluation of a run's checkpoint writes its thresholds, in the run folder."""


@dataclass(frozen=True)
class ScoreThreshold:
    """The scores from which on detections are kept."""

    scores: float | tuple[float, ...]
    """For all classes, or by label: an argument of `Detections.above`."""
    overall: float
    """One score where there can be no other for each class."""
    text: str
    """After "score of at least"."""
    summary: str
    """What was used, for the terminal."""
    info: dict[str, Any]
    """What was used, for JSON."""


def find_threshold(given: float | Literal["best"], detector: Detector, checkpoint: Path) -> ScoreThreshold:
    """What `--threshold` stands for; the best scores are those of the checkpoint, else of its latest evaluation.

    Errors: "best", where there are neither.
    """
    if given != "best":
        return ScoreThreshold(given, given, f"{given:g}", f"score at least {given:g}", {"threshold": given})
    best, source = detector.description.thresholds, "the checkpoint"
    if best is None:
        checkpoint = find_checkpoint(checkpoint)
        file = results_home(checkpoint) / THRESHOLDS_FILE
        if not file.is_file():
            raise DetrLiteError(
                f"--threshold best: {checkpoint} has no score thresholds, and {file} does not exist; write it with: "
                f"{command_line('evaluate')} --checkpoint {shlex.quote(str(checkpoint))}"
                f"{' --data.root DATASET' if is_source(checkpoint) else ''}"
            )
        best, source = read_thresholds(file, detector.categories), str(file)
    return _best_of(best, source, detector)


def _best_of(best: ScoreThresholds, source: str, detector: Detector) -> ScoreThreshold:
    scores = best.per_class
    listed = shorten_list([f"{name} {score:g}" for name, score in zip(detector.class_names, scores, strict=True)], 6)
    is_one = len({*scores}) == 1
    rows = [
        {"category_id": category.id, "category_name": category.name, "score": score}
        for category, score in zip(detector.categories, scores, strict=True)
    ]
    return ScoreThreshold(
        scores,
        best.overall,
        f"{scores[0]:g}" if is_one else "the best of its class",
        f"score at least {scores[0]:g}, the best one of {source}"
        if is_one
        else f"best score of each class, from {source}: {listed}",
        {"threshold": "best", "scores": rows},
    )
