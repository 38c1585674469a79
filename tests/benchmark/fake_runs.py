"""Runs that take no time: they leave the numbers that they are told to."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.result import SHOWN, Evaluated, Result
from benchmarks.runs import Run


def write_log(folder: Path, precisions: Sequence[float], minutes: float = 1.0, best: float | None = None) -> None:
    """`metrics.csv` with as many evaluations, between rows of losses, and the best checkpoint's numbers."""
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["step", "epoch", "minutes", "lr", "loss", *SHOWN])
        writer.writeheader()
        for number, precision in enumerate(precisions, start=1):
            place = {"step": 100 * number, "epoch": number, "minutes": minutes * number / len(precisions), "lr": 1e-3}
            writer.writerow({**place, "loss": 3.0})
            writer.writerow({**place, "AP": precision, "AP50": 2 * precision, "AP75": precision / 2, "APs": -1})
    if best is not None:
        (folder / "evaluation").mkdir()
        numbers = {"AP": best, "AP50": 2 * best, "AP75": best / 2, "APs": -1, "APm": best}
        (folder / "evaluation" / "metrics.json").write_text(json.dumps(numbers))


class FakeStart:
    """In place of processes; `made` has the runs in order."""

    def __init__(self, precision: Callable[[Run], float] = lambda run: 0.4) -> None:
        self.precision = precision
        self.made: list[Run] = []

    def __call__(self, run: Run, folder: Path, classes: int) -> int:
        value = self.precision(run)
        self.made.append(run)
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "best.ckpt").write_text("large")
        write_log(folder, [value / 4, value / 2, 0.75 * value, value], best=None if run.peer else value + 0.05)
        return 1_500_000 + 1_000_000 * bool(run.peer)


def outcome(*precisions: float) -> Result:
    """With so many evaluations, a minute each."""
    curve = tuple(
        Evaluated(float(number), 100 * number, dict.fromkeys(SHOWN, float(value)))
        for number, value in enumerate(precisions, start=1)
    )
    return Result(curve, 2_000_000, 90.0, None, {})
