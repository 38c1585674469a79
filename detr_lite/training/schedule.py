"""Progress of a run, in epochs or in minutes, and what depends on it: learning rate, evaluations, the end."""

import time
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from lightning.pytorch import Callback

from detr_lite.data.sampler import derive_seed
from detr_lite.training.distributed.control import ControlGroup
from detr_lite.training.lightning_internals import epoch_and_batch, mark_evaluation_pending, set_evaluation_due


def is_step(trainer: L.Trainer, batch_idx: int) -> bool:
    """Whether the optimizer makes a step with this batch, so that no gradients are left accumulated."""
    done = batch_idx + 1
    return done % trainer.accumulate_grad_batches == 0 or done >= trainer.num_training_batches


class TrainingProgress(Callback):
    """Measures the completed fraction of the run, triggers evaluations at equal intervals of it, and ends the run.

    Time counts training only: the clock is paused during evaluations. All ranks use the clock of rank 0, or one would
    stop while another waits for it.

    Args:
        max_epochs: length of the run, or
        max_minutes: length of the run, which ends before the step that would exceed it.
        num_evaluations: evenly spaced, the last one at the end.
    """

    def __init__(
        self,
        max_epochs: int | None,
        max_minutes: float | None,
        num_evaluations: int,
        control_group: ControlGroup | None = None,
    ) -> None:
        self.max_epochs = max_epochs
        self.max_seconds = None if max_minutes is None else max_minutes * 60
        self.num_evaluations = num_evaluations
        self.control_group = control_group or ControlGroup()
        self.fraction = 0.0
        self.seconds = 0.0
        self._evaluated = 0
        self._is_pending = False
        self._mark: float | None = None
        self._step_seconds = 0.0

    @property
    def is_over(self) -> bool:
        return self.fraction >= 1

    @property
    def is_evaluation_due(self) -> bool:
        return self._due > self._evaluated

    @property
    def seconds_left(self) -> float:
        """Estimated from the pace so far where the length of the run is given in epochs."""
        if self.max_seconds is not None:
            return max(0.0, self.max_seconds - self.seconds)
        return self.seconds * (1 - self.fraction) / self.fraction if self.fraction > 0 else float("inf")

    def fraction_before(self, epoch: int, batch: int, batches: int) -> float:
        """The completed fraction before a batch of an epoch of `batches`; in a run of minutes that of now."""
        if self.max_epochs is None or self.max_seconds is not None:
            return self.fraction
        return (epoch * batches + batch) / (self.max_epochs * batches)

    def state_dict(self) -> dict[str, Any]:
        # Without the number of evaluations: a resumed run may be longer or evaluate at other intervals.
        return {"seconds": self.seconds, "step_seconds": self._step_seconds, "is_pending": self.is_evaluation_due}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds, self._step_seconds = state_dict["seconds"], state_dict["step_seconds"]
        self._is_pending = state_dict.get("is_pending", False)
        if self.max_seconds is not None:  # the first batches are drawn before training starts
            self.fraction = min(1.0, self.seconds / max(self.max_seconds, 1e-9))

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.control_group.init_control_group(trainer)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._update(trainer, epoch_and_batch(trainer)[1])
        self._evaluated = self._due - self._is_pending
        self._mark = time.monotonic()
        # A run that was stopped while it was being evaluated makes up for that first.
        set_evaluation_due(trainer, self.is_evaluation_due)
        # A finished run that is resumed.
        trainer.should_stop = self.is_over and not self.is_evaluation_due and trainer.global_step > 0

    def pause(self) -> None:
        """Stop the clock until the next step."""
        self._mark = None

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._mark is None:
            self._mark = time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert self._mark is not None
        now = time.monotonic()
        step_seconds = now - self._mark
        self._mark = now
        self.seconds += step_seconds
        # A running mean, as the time of single steps varies.
        self._step_seconds += (step_seconds - self._step_seconds) / (10 if self._step_seconds else 1)
        if not is_step(trainer, batch_idx):
            return
        self._update(trainer, batches=batch_idx + 1)
        trainer.should_stop = trainer.should_stop or self.is_over
        set_evaluation_due(trainer, self.is_evaluation_due)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._evaluated = self._due
        set_evaluation_due(trainer, False)
        trainer.should_stop = trainer.should_stop or self.is_over
        self.pause()  # what other callbacks write and draw now does not count either

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if self.is_evaluation_due:
            mark_evaluation_pending(checkpoint)

    @property
    def _due(self) -> int:
        """Number of evaluations that are due by now."""
        return int(self.fraction * self.num_evaluations + 1e-9)

    def _update(self, trainer: L.Trainer, batches: int) -> None:
        """Update the fraction when `batches` of the current epoch are done."""
        if trainer.world_size > 1 and self.max_seconds is not None:
            times = (self.seconds, self._step_seconds) if trainer.is_global_zero else (0.0, 0.0)
            self.seconds, self._step_seconds = self.control_group.exchange(trainer, *times)
        if self.max_seconds is not None:
            done = self.seconds + self._step_seconds
            self.fraction = 1.0 if done > self.max_seconds else self.seconds / max(self.max_seconds, 1e-9)
        else:
            assert self.max_epochs is not None
            # Not by all batches so far: a resumed run may have skipped the rest of an epoch.
            batches += trainer.current_epoch * int(trainer.num_training_batches)
            self.fraction = min(1.0, batches / (self.max_epochs * trainer.num_training_batches))


class LRSchedule(Callback):
    """Sets the learning rates before each step.

    Args:
        factor: (completed fraction of the run, completed steps) -> factor of the full learning rate.
    """

    def __init__(self, progress: TrainingProgress, factor: Callable[[float, int], float]) -> None:
        self.progress = progress
        self.factor = factor

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        factor = self.factor(self.progress.fraction, trainer.global_step)
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor


def step_seed(seed: int, epoch: int, batch: int, rank: int) -> int:
    """Seed of torch's generator in a step (dropout, denoising queries), so that the step can be repeated."""
    return derive_seed(seed, epoch, batch, rank)


class StepSeed(Callback):
    """Seeds each step by its position in the run alone, so that a resumed run draws the same random numbers."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        torch.manual_seed(step_seed(self.seed, trainer.current_epoch, batch_idx, trainer.global_rank))
