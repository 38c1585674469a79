"""Whether a run that has ended was too short: AP still rising, or too few optimizer steps."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

LEAST_EVALUATIONS = 4
"""Of fewer, a rise cannot be told from chance."""
FEW_EVALUATIONS = 6
"""Of fewer, the rise must be larger, as three points are near a line by chance."""
LEAST_RISE, LEAST_RISE_OF_FEW = 0.015, 0.05
"""AP over the last third of the run. The smaller number is what a run with another seed differs by."""


@dataclass(frozen=True)
class RunLog:
    """What metrics.csv says of a run."""

    steps: int
    """Optimizer steps."""
    evaluated: tuple[int, ...]
    """The step of each evaluation that gave an AP."""
    AP: tuple[float, ...]


@dataclass(frozen=True)
class Rise:
    """AP at the first and the last evaluation of the last third of a run."""

    start: float
    end: float


def read_log(metrics_csv: Path) -> RunLog:
    """A file that is not there, or is damaged, is a run without steps."""
    steps, points = 0, {}
    try:
        with metrics_csv.open(newline="", encoding="utf-8", errors="replace") as file:
            for row in csv.DictReader(file):
                steps = max(steps, int(row["step"]))
                if row.get("AP") and float(row["AP"]) >= 0:
                    points[int(row["step"])] = float(row["AP"])
    except (OSError, KeyError, TypeError, ValueError):
        pass
    return RunLog(steps, tuple(points), tuple(points.values()))


def find_rise(steps: Sequence[int], AP: Sequence[float]) -> Rise | None:  # noqa: N803 (COCO's name)
    """The rise of AP at the end of a run; None if it is not plainly rising, or too few evaluations tell.

    It is rising if, over the evaluations in the last third of the steps (at least three), the line of least squares
    rises by `LEAST_RISE` (of few evaluations `LEAST_RISE_OF_FEW`) and by more than twice the scatter around it; if
    their mean is above every AP before; and if the last AP is the best one, to within the scatter.

    Args:
        steps: of the evaluations, ascending.
    """
    if len(AP) < LEAST_EVALUATIONS or not all(map(math.isfinite, AP)):
        return None
    x, y = np.array(steps, dtype=np.float64), np.array(AP, dtype=np.float64)
    late = max(3, int((x > x[-1] * 2 / 3).sum()))
    if late >= len(y):
        return None
    slope, offset = np.polyfit(x[-late:], y[-late:], 1)
    line = slope * x[-late:] + offset
    scatter = float(np.sqrt(((y[-late:] - line) ** 2).sum() / (late - 2)))
    least = LEAST_RISE if len(y) >= FEW_EVALUATIONS else LEAST_RISE_OF_FEW
    is_rising = line[-1] - line[0] >= max(least, 2 * scatter)
    is_higher = y[-late:].mean() > y[:-late].max()
    is_best = y[-1] >= y.max() - scatter
    return Rise(float(y[-late]), float(y[-1])) if is_rising and is_higher and is_best else None
