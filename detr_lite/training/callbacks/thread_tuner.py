"""The number of CPU threads of a run: the one that was given, or the fastest, which may change between steps."""

import logging
import time
from typing import Any

import lightning as L
import torch
from lightning.pytorch import Callback

from detr_lite.cores import usable_cores
from detr_lite.training.schedule import is_step
from detr_lite.training.threads import ThreadChooser

logger = logging.getLogger(__name__)


class ThreadTuner(Callback):
    """Times the steps of a run on the CPU and sets torch's number of threads before each.

    Several processes on one machine share its cores evenly, without timing: each step would wait for the others'. Where
    steps are computed elsewhere, nothing is set.

    Args:
        fixed: number of threads to set instead.
    """

    def __init__(self, fixed: int | None) -> None:
        self.fixed = fixed
        self._chooser: ThreadChooser | None = None
        self._start = 0.0
        self._seconds = 0.0
        self._size = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._chooser = None
        if self.fixed is not None:
            torch.set_num_threads(self.fixed)
        elif pl_module.device.type == "cpu":
            cores = max(1, usable_cores() // trainer.num_devices)
            if trainer.world_size > 1 or cores == 1:
                torch.set_num_threads(cores)
            else:
                self._chooser = ThreadChooser(cores)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._chooser is not None:
            _set_threads(self._chooser.threads)
            self._start = time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._chooser is None:
            return
        self._seconds += time.monotonic() - self._start
        images = getattr(batch, "images", None)  # batches of other tasks count as equally large
        self._size += 1.0 if images is None else float(images.numel())
        if not is_step(trainer, batch_idx):  # gradients are accumulated; only whole steps take comparable times
            return
        line = self._chooser.record(self._seconds, self._size)
        self._seconds, self._size = 0.0, 0.0
        if line is not None and trainer.is_global_zero:
            logger.info(line)
        _set_threads(self._chooser.best)  # of whatever follows, such as an evaluation


def _set_threads(number: int) -> None:
    if torch.get_num_threads() != number:
        torch.set_num_threads(number)
