"""Checkpoints of a run: written atomically, every few minutes, and only where training can be resumed exactly."""

import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from detr_lite.io import atomic_write, backup_file
from detr_lite.training.distributed.control import ControlGroup
from detr_lite.training.distributed.signals import Stopped, StopSignals
from detr_lite.training.lightning_internals import disable_signal_handlers
from detr_lite.training.schedule import TrainingProgress, is_step
from detr_lite.training.state.run_files import LAST, PREVIOUS

MAX_TIME_SHARE = 0.05
"""Upper bound on the share of the time that is spent writing checkpoints, however large they are."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint files, written so that a kill or a full disk leaves the previous file intact."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        atomic_write(Path(path), lambda file: torch.save(checkpoint, file))


class PeriodicCheckpoint(Checkpoint):
    """Writes `last.ckpt` at the start, every few minutes, before each evaluation, on a signal and at the end.

    The one before it is kept as `previous.ckpt`. On a signal the run ends with `Stopped` once the checkpoint is
    written, or at once if there is one of this very step, as during an evaluation.

    All processes save and stop after the same step. Within an epoch that is always an optimizer step, as accumulated
    gradients are not part of a checkpoint.

    Args:
        minutes: time between two checkpoints; longer where writing them would take more than `MAX_TIME_SHARE`.
    """

    def __init__(
        self,
        folder: Path,
        minutes: float,
        progress: TrainingProgress,
        signals: StopSignals,
        control_group: ControlGroup,
    ) -> None:
        self.folder = folder
        self.starts_elsewhere = False
        """Whether the run was resumed from another checkpoint than the last one of its folder."""
        self.minutes = minutes
        self.progress = progress
        self.signals = signals
        self.control_group = control_group
        self._saved_at = 0.0
        self._save_seconds = 0.0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        disable_signal_handlers(trainer)
        # From here on other processes wait for this one: on a signal all stop together after the first step.
        self.signals.is_training = trainer.world_size > 1

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.signals.is_training = True
        self.signals.listen()
        self._saved_at = time.monotonic()
        self.control_group.votes = self._votes
        self.control_group.discard_votes()
        # So that a run can be resumed whenever it is killed, also one that was resumed in another folder.
        is_missing = trainer.is_global_zero and not (self.folder / LAST).exists()
        if any(self.control_group.all_reduce_max(trainer, is_missing or self.starts_elsewhere)):
            self._save(trainer)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # An evaluation and the end of an epoch have hooks of their own, where the state of the loops is consistent.
        is_last = batch_idx + 1 >= trainer.num_training_batches or trainer.should_stop
        if is_step(trainer, batch_idx) and not is_last and not self.progress.is_evaluation_due:
            self._save_or_stop(trainer)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._save(trainer)
        self._stop_if_signalled(trainer)

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        # The checkpoint of this step has been written; a resumed run repeats the evaluation.
        self._stop_if_signalled(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._save_or_stop(trainer, is_end=self.progress.is_over or trainer.should_stop)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop_if_signalled(trainer)
        self.signals.is_training = False

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self.signals.is_training = False

    def _save_or_stop(self, trainer: L.Trainer, is_end: bool = False) -> None:
        signum, due = self.control_group.take_votes(trainer)
        if signum or due or is_end:
            self._save(trainer)
        if signum:
            raise Stopped(int(signum))

    def _votes(self) -> tuple[float | int, ...]:
        """The signal that this process has received, and whether a checkpoint is due."""
        elapsed = time.monotonic() - self._saved_at
        least = max(60 * self.minutes, self._save_seconds / MAX_TIME_SHARE if self.minutes else 0)
        return self.signals.received, elapsed >= least

    def _stop_if_signalled(self, trainer: L.Trainer) -> None:
        (signum,) = self.control_group.all_reduce_max(trainer, self.signals.received)
        if signum:
            raise Stopped(int(signum))

    def _save(self, trainer: L.Trainer) -> None:
        start = time.monotonic()
        last = self.folder / LAST
        if trainer.is_global_zero:
            backup_file(last, self.folder / PREVIOUS)
        trainer.save_checkpoint(last)
        self.control_group.discard_votes()
        self._saved_at = time.monotonic()
        self._save_seconds = self._saved_at - start
