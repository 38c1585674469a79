"""The file of a step that was put aside: all that is needed to compute it again, as tensors and plain types."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detr_lite.io import atomic_write
from detr_lite.structures import Batch, DetrLiteError, Target
from detr_lite.text import printable, reason_of
from detr_lite.weights.checkpoint import KEY, Description, read_checkpoint

FOLDER = "nonfinite"
"""Where such files lie in a run's folder, and what is more in them than in a checkpoint."""


@dataclass(frozen=True)
class CapturedBatch:
    """A batch of training, and what came of it."""

    epoch: int
    index: int
    seed: int
    """What torch's random numbers started from."""
    parts: dict[str, list[float]]
    """Of the loss, layer by layer."""
    batch: Batch

    def to_dict(self) -> dict[str, Any]:
        assert self.batch.targets is not None
        tensors = {"images": self.batch.images, "is_padding": self.batch.is_padding}
        return {**vars(self), "batch": {**tensors, "targets": [dict(vars(target)) for target in self.batch.targets]}}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> "CapturedBatch":
        batch = values["batch"]
        targets = tuple(Target(**{**target, "image_id": int(target["image_id"])}) for target in batch["targets"])
        images, is_padding = batch["images"], batch["is_padding"]
        if images.ndim != 4 or is_padding.shape != (len(targets), *images.shape[2:]):
            raise ValueError("images, padding and targets do not fit together")
        if not all(target.boxes_cxcywh.shape == (len(target.labels), 4) for target in targets):
            raise ValueError("boxes and labels do not fit together")
        if not all(name.isidentifier() for name in values["parts"]):  # they are printed
            raise ValueError("parts with odd names")
        values = {**values, **{name: int(values[name]) for name in ("epoch", "index", "seed")}}
        values["parts"] = {name: [float(value) for value in layers] for name, layers in values["parts"].items()}
        return CapturedBatch(**{**values, "batch": Batch(batch["images"], batch["is_padding"], targets)})


@dataclass(frozen=True)
class NaNCapture:
    """A step of one rank, which was not applied."""

    step: int
    rank: int
    world_size: int
    precision: str
    """Lightning's name of it."""
    device: str
    batches: tuple[CapturedBatch, ...]

    def write(self, path: Path, description: Description, weights: dict[str, Tensor]) -> None:
        """As a checkpoint with these weights, and the step beside them."""
        content = {
            KEY: description.to_dict(),
            "state_dict": {name: value.detach().cpu() for name, value in weights.items()},
            FOLDER: {**vars(self), "batches": [batch.to_dict() for batch in self.batches]},
        }
        atomic_write(path, lambda file: torch.save(content, file))

    @staticmethod
    def read(path: Path) -> "NaNCapture":
        """Errors: those of `read_checkpoint`, and a checkpoint without a step beside it."""
        values = read_checkpoint(path).get(FOLDER)
        if values is None:
            raise DetrLiteError(
                f"--replay: {path} is a checkpoint, not a batch that a run has put aside; those are in RUN/{FOLDER}"
            )
        try:
            batches = tuple(CapturedBatch.from_dict(batch) for batch in values["batches"])
            if not batches:
                raise ValueError("no batch")
            whole = {name: int(values[name]) for name in ("step", "rank", "world_size")}
            names = {name: printable(values[name]) for name in ("precision", "device")}
            return NaNCapture(**{**values, **whole, **names, "batches": batches})
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DetrLiteError(f"{path}: the step in it is not complete ({reason_of(error)})") from error
