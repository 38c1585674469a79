"""Captures the batch of a detector's step that was not finite, for `--replay`."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import lightning as L

from detr_lite.structures import Batch
from detr_lite.text import command_line, reason_of
from detr_lite.training.checks.nan_capture import FOLDER, CapturedBatch, NaNCapture
from detr_lite.training.checks.step_guard import StepGuard, StepRecord
from detr_lite.training.schedule import step_seed
from detr_lite.weights.checkpoint import Description

Rebuild = Callable[[int, int, int, int], Batch]
"""(epoch, index, rank, world size) -> that training batch."""


class NaNGuard(StepGuard):
    """Stops detection's runs, and writes the file that `--replay` reads.

    Args:
        rebuild: loads the batch again that is captured; batches are not kept in memory for it.
        name_image: how messages call the image of a `Target.image_id`.
    """

    noun: ClassVar[str] = "image"

    def __init__(
        self,
        folder: Path,
        description: Description,
        rebuild: Rebuild,
        name_image: Callable[[int], str] = str,
        is_late: bool | None = None,
    ) -> None:
        super().__init__(folder, description.config.optim, name_image, is_late)
        self.description = description
        self.rebuild = rebuild

    def examine(self, trainer: L.Trainer, step: int, records: Sequence[StepRecord], name: str) -> str:
        captured = self._capture(trainer, step, records, self.folder / FOLDER / f"{name}.pt")
        if isinstance(captured, str):
            return f"the batch could not be captured: {captured}"
        replay = f"{command_line('train')} --replay {shlex.quote(str(captured))}"
        return f"the batch is in {captured}, examine it with: {replay}"

    def _capture(self, trainer: L.Trainer, step: int, records: Sequence[StepRecord], path: Path) -> Path | str:
        """Write what `--replay` needs, or return why it could not be written."""
        rank, world_size = trainer.global_rank, trainer.world_size
        try:
            batches = []
            for record in records:
                batch = self.rebuild(record.epoch, record.index, rank, world_size)
                if tuple(target.image_id for target in batch.targets or ()) != record.samples:
                    return "loading it again gave other images"
                seed = step_seed(self.description.config.seed, record.epoch, record.index, rank)
                names = tuple(map(self.name_sample, record.samples))
                batches.append(CapturedBatch(record.epoch, record.index, seed, record.parts(), names, batch))
            device = trainer.strategy.root_device.type
            capture = NaNCapture(step, rank, world_size, str(trainer.precision), device, tuple(batches))
            # Batch norm's running statistics include the batch already; training mode does not use them.
            capture.write(path, self.description, trainer.lightning_module.state_dict())
        except Exception as error:  # of whatever kind: the other ranks wait for this one's report
            return reason_of(error)
        return path
