"""Runs that need no training: they write given metrics."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.result import METRICS, EvaluationPoint, Result
from benchmarks.runs import Run


def write_log(folder: Path, precisions: Sequence[float], minutes: float = 1.0, best: float | None = None) -> None:
    """Write `metrics.csv` with an evaluation for each AP, between rows of losses, and the best checkpoint's metrics."""
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["step", "epoch", "minutes", "lr", "loss", *METRICS])
        writer.writeheader()
        for number, precision in enumerate(precisions, start=1):
            progress = {
                "step": 100 * number,
                "epoch": number,
                "minutes": minutes * number / len(precisions),
                "lr": 1e-3,
            }
            writer.writerow({**progress, "loss": 3.0})
            writer.writerow({**progress, "AP": precision, "AP50": 2 * precision, "AP75": precision / 2, "APs": -1})
    if best is not None:
        (folder / "evaluation").mkdir()
        metrics = {"AP": best, "AP50": 2 * best, "AP75": best / 2, "APs": -1, "APm": best}
        (folder / "evaluation" / "metrics.json").write_text(json.dumps(metrics))


class FakeLauncher:
    """Replaces `launch_process`; `launched` lists the runs in order."""

    def __init__(self, precision: Callable[[Run], float] = lambda run: 0.4) -> None:
        self.precision = precision
        self.launched: list[Run] = []

    def __call__(self, run: Run, folder: Path, classes: int) -> int:
        value = self.precision(run)
        self.launched.append(run)
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "best.ckpt").write_text("large")
        write_log(folder, [value / 4, value / 2, 0.75 * value, value], best=None if run.baseline else value + 0.05)
        return 1_500_000 + 1_000_000 * bool(run.baseline)


def make_result(*precisions: float) -> Result:
    """A result with an evaluation each minute."""
    curve = tuple(
        EvaluationPoint(float(number), 100 * number, dict.fromkeys(METRICS, float(value)))
        for number, value in enumerate(precisions, start=1)
    )
    return Result(curve, 2_000_000, 90.0, None, {})
