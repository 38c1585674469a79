"""What a report is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from detr_lite.data.records import Split
from detr_lite.evaluation.analysis import Analysis
from detr_lite.evaluation.coco_map import CocoEvaluation
from detr_lite.structures import DetectionArrays
from detr_lite.viz.pages.split_views import class_names


@dataclass(frozen=True, eq=False)
class Evaluated:
    """A model's detections in a split and everything that was computed of them."""

    name: str
    split: Split
    detections: DetectionArrays
    evaluation: CocoEvaluation
    analysis: Analysis

    @cached_property
    def class_names(self) -> list[str]:
        """By label."""
        return class_names(self.split)

    @property
    def ranked_labels(self) -> list[int]:
        """All labels, those of classes with objects first: of 500 classes a small split may have a few."""
        return sorted(range(len(self.split.categories)), key=lambda label: not self.evaluation.per_class[label].objects)

    @property
    def threshold(self) -> float:
        """The score from which a detection counts where one score has to be chosen."""
        return self.analysis.thresholds.working


def number(value: float) -> str:
    """Three digits; a hyphen where a metric has no value."""
    return f"{value:.3f}" if value >= 0 else "-"


@dataclass(frozen=True, eq=False)
class RunFacts:
    """What a report says beside the results."""

    history: Mapping[str, np.ndarray] | None = None
    """Columns of metrics.csv."""
    settings: Sequence[tuple[str, str]] = ()
    facts: Sequence[tuple[str, str]] = ()
    """Data, checkpoint, versions: name and value."""
    commands: Sequence[tuple[str, str]] = ()
    """How to go on: what a command does, and the command."""
    notes: Sequence[str] = field(default=())
    """Such as that a run was still rising when it ended."""
    explore: str = ""
    """The command that explores images, to which their paths are added; empty without a checkpoint."""
