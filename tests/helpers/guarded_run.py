"""Runs of a few small steps, each with the guard against numbers that are not finite, and ways to make them bad."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch import Callback
from torch import nn

from detr_lite.build import build_criterion, build_model, build_postprocess
from detr_lite.config import Config
from detr_lite.data.dataset import DetectionDataset
from detr_lite.data.reading import read_split
from detr_lite.data.transforms import ResizeRule, evaluation_transform
from detr_lite.structures import DetrLiteError, DetrOutput
from detr_lite.training.checks.nan_guard import NaNGuard
from detr_lite.training.datamodule import DetectionData
from detr_lite.training.ema import MovingAverage
from detr_lite.training.module import DetectionModule
from detr_lite.training.optim import OptimizerName, make_optimizer, parameter_groups
from detr_lite.training.schedule import StepSeed
from detr_lite.weights.checkpoint import Description

RESIZE = ResizeRule("longest", 64)
MEAN = STD = (0.5, 0.5, 0.5)


class Snapshots(Callback):
    """What each batch found: weights, the optimizer's state and the average; and how many batches there were."""

    def __init__(self, average: MovingAverage) -> None:
        self.average = average
        self.taken: list[dict[str, Any]] = []

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        self.taken.append(self.take(trainer))

    def take(self, trainer: L.Trainer) -> dict[str, Any]:
        average = self.average._average_model
        state = {
            "weights": {name: value.detach() for name, value in trainer.lightning_module.named_parameters()},
            "optimizer": trainer.optimizers[0].state_dict()["state"],
            "average": {} if average is None else average.state_dict(),
        }
        return copy.deepcopy(state)


@dataclass
class Run:
    """All that trains a model for two epochs of four batches of two images."""

    trainer: L.Trainer
    module: DetectionModule
    data: DetectionData
    guard: NaNGuard
    snapshots: Snapshots

    def stops(self) -> str:
        with pytest.raises(DetrLiteError) as caught:
            self.trainer.fit(self.module, self.data)
        message = str(caught.value)
        assert "\n" not in message
        return message


def guarded_run(
    config: Config,
    folder: Path,
    *,
    is_late: bool | None = None,
    accumulate: int = 1,
    fused: bool = True,
    optimizer: OptimizerName = "muon",
    max_grad_norm: float = 1.0,
    limit_val_batches: float = 0,
    **settings: Any,
) -> Run:
    """On the data of `config`; `settings` are the trainer's."""
    config = replace(
        config,
        data=replace(config.data, batch_size=2),
        model=replace(config.model, dropout=0.1),  # so that there is more to draw than noisy queries
        optim=replace(config.optim, max_grad_norm=max_grad_norm),
    )
    train, val = (read_split(Path(config.data.root), split) for split in ("train", "val"))
    transform = evaluation_transform(RESIZE, MEAN, STD)
    data = DetectionData(train, val, transform, transform, RESIZE, batch_size=2, num_workers=0, seed=config.seed)
    description = Description(config, train.categories, RESIZE, MEAN, STD)
    guard = NaNGuard(folder, description, data.training_batch, is_late=is_late)
    torch.manual_seed(0)
    module = DetectionModule(
        model=build_model(config.model, len(train.categories)),
        criterion=build_criterion(config, len(train.categories)),
        postprocess=build_postprocess(config.model, [category.name for category in train.categories]),
        val=val,
        make_optimizer=lambda model: make_optimizer(
            parameter_groups(model, 1e-3, 1.0, 1e-4, decay_all=False, optimizer=optimizer), fused, optimizer
        ),
        max_grad_norm=config.optim.max_grad_norm,
        guard=guard,
    )
    average = MovingAverage(0.9, 3)
    snapshots = Snapshots(average)
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=limit_val_batches,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        accumulate_grad_batches=accumulate,
        callbacks=[StepSeed(config.seed), average, snapshots, guard],
        **{"precision": "32-true", **settings},
    )
    return Run(trainer, module, data, guard, snapshots)


def spoil(monkeypatch: pytest.MonkeyPatch, image_id: int) -> None:
    """Put a NaN into one pixel of an image, whenever it is loaded."""
    original = DetectionDataset.__getitem__

    def load(self: DetectionDataset, draw: Any) -> Any:
        image, target = original(self, draw)
        if target.image_id == image_id:
            image[1, 5, 7] = math.nan
        return image, target

    monkeypatch.setattr(DetectionDataset, "__getitem__", load)


def ids_of(run: Run, epoch: int, index: int) -> list[int]:
    return [target.image_id for target in run.data.training_batch(epoch, index, 0, 1).targets]


def answers_at(module: DetectionModule, batch: int, change: Callable[[DetrOutput], DetrOutput]) -> None:
    """Let the model answer otherwise in its nth batch."""
    seen = 0

    def hook(_module: nn.Module, _inputs: Any, output: DetrOutput) -> DetrOutput:
        nonlocal seen
        seen += 1
        return change(output) if seen == batch else output

    module.model.register_forward_hook(hook)


def with_nan(output: DetrOutput) -> DetrOutput:
    return replace(output, logits=output.logits * math.nan)
