"""A model of one number, and Lightning's trainer around it: what is tested is the callbacks."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from detr_lite.training.lightning_internals import NEVER
from detr_lite.training.schedule import TrainingProgress

BATCHES = 5
"""In an epoch."""


class Toy(L.LightningModule):
    """Counts what happens; each step takes a second of the fake time, each evaluation 100."""

    def __init__(self, tick: Any = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.tick = tick or (lambda seconds: None)
        self.evaluated_at: list[int] = []
        self.rates: list[list[float]] = []
        self.draws: list[float] = []

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        self.rates.append([group["lr"] for group in self.trainer.optimizers[0].param_groups])
        self.draws.append(torch.rand(()).item())
        self.tick(1)
        return (self.weight - batch[0]).square().mean()

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        self.tick(100)

    def on_validation_epoch_end(self) -> None:
        self.evaluated_at.append(self.trainer.global_step)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([{"params": [self.weight], "lr": 0.5, "initial_lr": 0.5}])


def run(
    module: L.LightningModule,
    progress: TrainingProgress,
    *callbacks: L.Callback,
    resume: Path | None = None,
    **options: Any,
):
    values = DataLoader(TensorDataset(torch.ones(BATCHES, 1)), generator=torch.Generator())
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=progress.max_epochs or -1,
        val_check_interval=NEVER,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[progress, *callbacks],
        **options,
    )
    trainer.fit(module, values, DataLoader(TensorDataset(torch.ones(1, 1))), ckpt_path=resume, weights_only=True)
    return trainer
