"""What a finished run of a comparison has shown: its curve, its numbers, what it took; as one JSON file."""

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from detr_lite.io import atomic_write

SHOWN = ("AP", "AP50", "AP75", "APs")
"""The numbers that are kept of each evaluation."""


@dataclass(frozen=True)
class Evaluated:
    """One evaluation during a run."""

    minutes: float
    """Of training, evaluations aside."""
    step: int
    numbers: dict[str, float]
    """Of `SHOWN`; -1 where there is nothing to find."""


@dataclass(frozen=True)
class Result:
    """Of one run."""

    curve: tuple[Evaluated, ...]
    parameters: int
    seconds: float
    """From the start of the process to its end."""
    best: dict[str, float] | None
    """Numbers of the best checkpoint, where a run ends with an evaluation of it."""
    made_with: dict[str, str]
    """Versions of the code."""

    @property
    def last(self) -> Evaluated:
        return self.curve[-1]

    def at_half(self) -> Evaluated:
        """The evaluation nearest to half of the run's minutes."""
        return min(self.curve, key=lambda evaluated: abs(evaluated.minutes - self.last.minutes / 2))

    def write(self, path: Path, about: dict[str, Any]) -> None:
        """`about` is for the reader: what the run was."""
        content = {**about, **asdict(self)}
        atomic_write(path, lambda file: file.write(f"{json.dumps(content, indent=1)}\n".encode()))


def read_result(path: Path) -> Result | None:
    """None if there is no such file, or it is no outcome: the run is to be made."""
    try:
        content = json.loads(path.read_text())
        curve = tuple(Evaluated(**evaluated) for evaluated in content["curve"])
        names = ("parameters", "seconds", "best", "made_with")
        return Result(curve, *(content[name] for name in names)) if curve else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def result_of(folder: Path, parameters: int, seconds: float, made_with: dict[str, str]) -> Result:
    """Read what a run has left. Raises ValueError if it has evaluated nothing."""
    with (folder / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("AP")]
    if not rows:
        raise ValueError(f"{folder / 'metrics.csv'}: no evaluation in it")
    curve = tuple(
        Evaluated(float(row["minutes"]), int(row["step"]), {name: float(row[name]) for name in SHOWN}) for row in rows
    )
    metrics = folder / "evaluation" / "metrics.json"
    best = json.loads(metrics.read_text()) if metrics.exists() else None
    return Result(curve, parameters, seconds, best and {name: best[name] for name in SHOWN}, made_with)


def mean_and_range(outcomes: Sequence[Result], value: Callable[[Result], float], form: Callable[[float], str]) -> str:
    """As a cell of a table: of one run the number, of several the mean (least .. most); a dash where there is none."""
    values = [value(outcome) for outcome in outcomes]
    if min(values) < 0:  # pycocotools' -1: there was nothing to find
        return "-"
    mean = form(sum(values) / len(values))
    return mean if len(values) == 1 else f"{mean} ({form(min(values))} .. {form(max(values))})"
