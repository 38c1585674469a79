"""A run with too few steps to learn anything says so: early on, where its minutes hold too few, and at its end."""

from typing import Any

import lightning as L
from lightning.pytorch import Callback
from lightning.pytorch.utilities import rank_zero_only
from tqdm import tqdm

from detr_lite.training.checks.diagnostics import LATE_STEPS, NOTHING
from detr_lite.training.schedule import TrainingProgress

MEASURED_STEPS = 20
"""Of this process, before it is said how many its minutes will hold; the first ones are slower."""
FEW_STEPS = 150
"""From random weights the first objects are found after 100 to 200 steps (curves in docs/studies/grid)."""


class PaceNotes(Callback):
    """Prints a line when the minutes of a run will hold few steps, and when it ends with AP 0 after few.

    To be called after the clock.
    """

    def __init__(self, progress: TrainingProgress) -> None:
        self.progress = progress
        self.has_said = False
        self._first_step = 0

    def state_dict(self) -> dict[str, Any]:
        return {"has_said": self.has_said}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.has_said = state_dict["has_said"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._first_step = trainer.global_step

    @rank_zero_only
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self._first_step + MEASURED_STEPS:
            self.foresee(trainer.global_step)

    @rank_zero_only
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.progress.is_over and "AP50" in trainer.callback_metrics:
            self.look_back(trainer.global_step, float(trainer.callback_metrics["AP50"]))

    def foresee(self, step: int) -> None:
        """What this pace comes to, where the run's length is given in minutes."""
        if self.progress.max_seconds is None or self.has_said or not 0 < self.progress.fraction < 1:
            return
        steps, minutes = step / self.progress.fraction, self.progress.max_seconds / 60
        if steps < FEW_STEPS:
            self.has_said = True
            tqdm.write(
                f"note       at this pace the run has about {steps:.0f} steps in its {minutes:g} min, few to learn "
                "from: give more --trainer.max_minutes, or make steps cheaper with a smaller --data.batch_size or "
                "--data.image_size"
            )

    def look_back(self, step: int, AP50: float) -> None:  # noqa: N803
        """The run is over with this AP50, which is negative where there is no object to find."""
        if 0 <= AP50 < NOTHING and step < LATE_STEPS:
            length = "max_minutes" if self.progress.max_seconds is not None else "max_epochs"
            tqdm.write(
                f"note       AP is next to 0 after {step:,} steps: from random weights it takes some hundreds; give "
                f"more --trainer.{length}"
            )
