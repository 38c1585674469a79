"""The log of a run: metrics.csv, curves.png, and its progress on the terminal."""

import csv
import io
import logging
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning as L
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.utilities import rank_zero_only
from tqdm import tqdm

from detr_lite.evaluation.coco_map import METRICS
from detr_lite.io import atomic_write
from detr_lite.text import format_duration
from detr_lite.training.schedule import TrainingProgress
from detr_lite.viz.curves import plot_training_curves

logger = logging.getLogger(__name__)


OTHER_COLUMNS = ("step", "epoch", "minutes", "lr", "loss")
"""Of metrics.csv, beside the metrics and the parts of the loss."""


@dataclass(frozen=True)
class LoggedMetrics:
    """What a task's evaluations and losses are called. Metrics are at least 0; -1 where the data allow none."""

    columns: tuple[str, ...]
    """The metrics in `metrics.csv`, all of which each evaluation has."""
    shown: tuple[str, ...]
    """Of them, those in lines and curves. The first one decides which checkpoint is the best."""
    mode: Literal["max", "min"] = "max"
    """Whether a higher or a lower value of that one is better."""
    extra: tuple[str, ...] = ()
    """Shown too by the evaluations that have them."""
    losses: tuple[str, ...] | None = None
    """The parts of the loss in lines; by default all."""
    none: str = "no metric"
    """Said where there is none."""

    def __post_init__(self) -> None:
        taken = [name for name in self.columns if name in OTHER_COLUMNS or name.startswith("loss_")]
        if taken:
            raise ValueError(f"{taken[0]!r} is another column of metrics.csv; give the metric another name")
        if not self.shown or set(self.shown) - set(self.columns):
            raise ValueError(f"shown is {self.shown}; it must be one or more of {self.columns}")

    def better(self, value: float, best: float) -> float:
        """The better one of two, of which `best` may be negative for none."""
        return max(value, best) if self.mode == "max" or best < 0 else min(value, best)


COCO_METRICS = LoggedMetrics(
    METRICS, ("AP", "AP50"), extra=("APmax",), losses=("class", "ce", "l1", "giou"), none="no AP without objects"
)


class MetricsFile(Callback):
    """Writes `metrics.csv`: losses every few steps and the metrics at each evaluation, each in a row of its own.

    A resumed run appends to the same file. Rows later than its checkpoint are dropped, since their steps are repeated;
    a killed run may also have left an incomplete row.
    Draws `curves.png` beside it at each evaluation. The run's loggers, if any, get the same rows.
    """

    def __init__(
        self, path: Path, progress: TrainingProgress, every_steps: int = 10, metrics: LoggedMetrics = COCO_METRICS
    ) -> None:
        self.path = path
        self.metrics = metrics
        self.progress = progress
        self.every_steps = every_steps
        self.columns: list[str] = []
        self._rows: int | None = None
        """Without the header; None where no checkpoint says how many there are."""
        self._last_step = 0

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self._rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._rows = state_dict["rows"]

    @rank_zero_only
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last_step = trainer.global_step
        lines = self.path.read_bytes().splitlines(keepends=True) if self.path.exists() else []
        complete = [line for line in lines if line.endswith(b"\n")]
        rows = self._rows if self._rows is not None else len(complete) if trainer.global_step else 0
        kept = complete[: rows + 1] if rows else []
        self._rows = max(0, len(kept) - 1)
        self.columns = next(csv.reader([kept[0].decode()])) if kept else []
        if kept != lines:
            atomic_write(self.path, lambda file: file.writelines(kept))

    @rank_zero_only
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        is_new = trainer.global_step != self._last_step  # not while gradients are accumulated
        self._last_step = trainer.global_step
        if is_new and (trainer.global_step % self.every_steps == 0 or trainer.global_step == 1):
            losses = {name: value for name, value in trainer.callback_metrics.items() if name.startswith("loss")}
            self._add(trainer, losses)

    @rank_zero_only
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._add(trainer, {name: trainer.callback_metrics[name] for name in self.metrics.columns})
        curves = self.path.with_name("curves.png")
        plot_training_curves(self.path, curves, self.metrics.shown, self.metrics.mode)

    def _add(self, trainer: L.Trainer, values: dict[str, Any]) -> None:
        row = {
            "step": trainer.global_step,
            "epoch": trainer.current_epoch,
            "minutes": round(self.progress.seconds / 60, 3),
            "lr": max(group["lr"] for group in trainer.optimizers[0].param_groups),
            **{name: float(value) for name, value in values.items()},
        }
        if not self.columns:
            losses = [name for name in trainer.callback_metrics if name.startswith("loss")]
            self.columns = ["step", "epoch", "minutes", "lr", *losses, *self.metrics.columns]
            self._write(dict(zip(self.columns, self.columns, strict=True)))
        self._write(row)
        self._rows = (self._rows or 0) + 1
        for each in trainer.loggers:
            each.log_metrics({name: value for name, value in row.items() if name != "step"}, row["step"])

    def _write(self, row: dict[str, Any]) -> None:
        """Append a row in one write, so that a kill does not leave half of it."""
        text = io.StringIO(newline="")
        csv.DictWriter(text, self.columns).writerow(row)
        with self.path.open("ab") as file:
            file.write(text.getvalue().encode())


class ProgressReporter(ProgressBar):
    """One progress bar for the whole run with losses, last and best metric, and time left; lines without a terminal.

    Args:
        line_seconds: shortest time between two lines.
    """

    def __init__(
        self, progress: TrainingProgress, line_seconds: float = 15.0, metrics: LoggedMetrics = COCO_METRICS
    ) -> None:
        super().__init__()
        self.metrics = metrics
        self.progress = progress
        self.line_seconds = line_seconds
        self.is_terminal = sys.stderr.isatty()
        self.bar: Any = None
        self.best = -1.0
        self.latest = -1.0
        self._last_line = -math.inf
        self._evaluating_since = -math.inf

    def disable(self) -> None:
        self._last_line = math.inf

    def enable(self) -> None:
        self._last_line = -math.inf

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.is_terminal and trainer.is_global_zero:
            layout = "{percentage:3.0f}% |{bar:20}| {desc}"
            self.bar = tqdm(total=1.0, bar_format=layout, dynamic_ncols=True, leave=True)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.is_global_zero and self._is_due(self._last_line):
            self._last_line = time.monotonic()
            self._show(self._describe(trainer))

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._evaluating_since = time.monotonic()
        if self.bar is not None:
            self._show("evaluating")

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        # Without a terminal an evaluation has lines only if it lasts longer than the time between two.
        if trainer.is_global_zero and self._is_due(max(self._last_line, self._evaluating_since)):
            self._last_line = time.monotonic()
            self._show(f"evaluating: batch {batch_idx + 1:,} of {sum(trainer.num_val_batches):,}")

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Callbacks are called before the module, which computes the metrics now.
        if self.bar is not None:
            self._show("evaluating: comparing the predictions with the ground truth")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        values, shown, extra = trainer.callback_metrics, self.metrics.shown, self.metrics.extra
        self.latest = float(values[shown[0]])
        self.best = self.metrics.better(self.latest, self.best)
        if trainer.is_global_zero:
            duration = format_duration(self.progress.seconds)
            names = [*(shown if self.latest >= 0 else ()), *(name for name in extra if name in values)]
            scores = [] if self.latest >= 0 else [self.metrics.none]
            scores += [f"{name} {float(values[name]):.3f}" for name in names]
            logger.info(f"{duration}  step {trainer.global_step}: {', '.join(scores)}")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.bar is not None:
            self._show(self._describe(trainer))
            self.bar.close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        if self.bar is not None:
            self.bar.close()

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "latest": self.latest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.latest = state_dict["best"], state_dict["latest"]

    def _describe(self, trainer: L.Trainer) -> str:
        losses = {name.removeprefix("loss_"): float(value) for name, value in trainer.callback_metrics.items()
                  if name.startswith("loss")}  # fmt: skip
        names = self.metrics.losses or [name for name in losses if name != "loss"]
        parts = " ".join(f"{name} {losses[name]:.2f}" for name in names if name in losses)
        metric = self.metrics.shown[0]
        scores = "" if self.best < 0 else f"  {metric} {self.latest:.3f} (best {self.best:.3f})"
        return (
            f"epoch {trainer.current_epoch} step {trainer.global_step}  loss {losses.get('loss', math.nan):.2f} "
            f"({parts}){scores}  {format_duration(self.progress.seconds_left)} left"
        )

    def _is_due(self, last: float) -> bool:
        """Whether it is time for a line, or to change the bar, if it last was at the time `last`."""
        return time.monotonic() - last >= (0.5 if self.bar is not None else self.line_seconds)

    def _show(self, text: str) -> None:
        if self.bar is None:
            logger.info(f"{self.progress.fraction:4.0%}  {text}")
        else:
            self.bar.n = self.progress.fraction
            self.bar.set_description_str(text)
