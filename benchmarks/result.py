"""The result of one finished run of a comparison: its AP curve, its best checkpoint, its cost; one JSON file each."""

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from detr_lite.io import atomic_write

METRICS = ("AP", "AP50", "AP75", "APs")
"""The metrics that are stored of each evaluation."""


@dataclass(frozen=True)
class EvaluationPoint:
    """One evaluation during a run."""

    minutes: float
    """Training time so far, without evaluations."""
    step: int
    metrics: dict[str, float]
    """Keyed by `METRICS`; -1 where the validation set has no such objects, as in pycocotools."""


@dataclass(frozen=True)
class Result:
    """The result of one run."""

    curve: tuple[EvaluationPoint, ...]
    parameters: int
    seconds: float
    """Wall time of the whole process."""
    best: dict[str, float] | None
    """Metrics of the best checkpoint, if the run ends with an evaluation of it."""
    versions: dict[str, str]
    """Of the libraries and of this code."""

    @property
    def last(self) -> EvaluationPoint:
        return self.curve[-1]

    def at_half_time(self) -> EvaluationPoint:
        """The evaluation nearest to half of the run's training time."""
        return min(self.curve, key=lambda point: abs(point.minutes - self.last.minutes / 2))

    def write(self, path: Path, description: dict[str, Any]) -> None:
        """`description` says which run it was; `read_result` ignores it."""
        content = {**description, **asdict(self)}
        atomic_write(path, lambda file: file.write(f"{json.dumps(content, indent=1)}\n".encode()))


def read_result(path: Path) -> Result | None:
    """None if the file is missing or is not a complete result, so that the run is made again."""
    try:
        content = json.loads(path.read_text())
        curve = tuple(EvaluationPoint(**point) for point in content["curve"])
        names = ("parameters", "seconds", "best", "versions")
        return Result(curve, *(content[name] for name in names)) if curve else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def collect_result(folder: Path, parameters: int, seconds: float, versions: dict[str, str]) -> Result:
    """Read the result from a run folder. Raises ValueError if the run has no evaluation."""
    with (folder / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("AP")]
    if not rows:
        raise ValueError(f"{folder / 'metrics.csv'} has no evaluation")
    curve = tuple(
        EvaluationPoint(float(row["minutes"]), int(row["step"]), {name: float(row[name]) for name in METRICS})
        for row in rows
    )
    metrics = folder / "evaluation" / "metrics.json"
    best = json.loads(metrics.read_text()) if metrics.exists() else None
    return Result(curve, parameters, seconds, best and {name: best[name] for name in METRICS}, versions)


def mean_and_range(results: Sequence[Result], value: Callable[[Result], float], form: Callable[[float], str]) -> str:
    """A table cell: the value of a single run, or "mean (min .. max)" of several; a dash where AP is undefined."""
    values = [value(result) for result in results]
    if min(values) < 0:  # pycocotools' -1: there are no such objects
        return "-"
    mean = form(sum(values) / len(values))
    return mean if len(values) == 1 else f"{mean} ({form(min(values))} .. {form(max(values))})"
