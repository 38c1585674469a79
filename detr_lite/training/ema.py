"""Exponential moving average (EMA) of the weights, which is evaluated and saved in place of the weights themselves."""

import math

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import nn
from torch.optim.swa_utils import AveragedModel

from detr_lite.training.lightning_internals import set_average_model


def decay_at(step: int, decay: float, tau: int) -> float:
    """Weight of the old average at optimizer step 1, 2, ...: small at first, to forget the random initial weights.

    As in `ModelEMA` of YOLOv5 and RT-DETR.
    """
    return decay * (1 - math.exp(-step / tau))


class ModelEMA(AveragedModel):
    """A copy of a model whose weights are the moving average of the model's.

    Running statistics of batch norms are averaged like weights: those of the latest weights fit the averaged layers
    less well. Integer buffers, such as a batch norm's number of batches, are copied.
    """

    def __init__(self, model: nn.Module, decay: float, tau: int) -> None:
        super().__init__(model)
        self.decay = decay
        self.tau = tau
        # The initial weights are the first average, or the first update would be a copy, whatever the decay.
        self.n_averaged.fill_(1)

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        # Not torch's own, which moves `n_averaged` between CPU and GPU and so synchronizes at every step.
        step = int(self.n_averaged)
        averages = [*self.module.parameters(), *self.module.buffers()]
        pairs = list(zip(averages, [*model.parameters(), *model.buffers()], strict=True))
        floats = [(average, value) for average, value in pairs if average.is_floating_point()]
        weight = 1 - decay_at(step, self.decay, self.tau)
        torch._foreach_lerp_([average for average, _ in floats], [value for _, value in floats], weight)
        for average, value in pairs:
            if not average.is_floating_point():
                average.copy_(value)
        self.n_averaged += 1


class MovingAverage(WeightAveraging):
    """Lightning's callback: updates the EMA after each optimizer step, evaluates it and saves it.

    A checkpoint's `state_dict` holds the averaged weights, which are those of the trained model. `current_model_state`
    holds the weights that training continues from, and `averaging_state` the number of updates.
    """

    def __init__(self, decay: float, tau: int) -> None:
        super().__init__()
        self.decay = decay
        self.tau = tau

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        # The model alone: Lightning would copy the whole module with all annotations of the validation split.
        assert isinstance(pl_module.model, nn.Module)
        weights = nn.ModuleDict({"model": pl_module.model})
        assert list(weights.state_dict()) == list(pl_module.state_dict()), "only the model has weights"
        average = ModelEMA(weights, self.decay, self.tau)
        # The module moves to its device only later; `n_averaged`, which is read at every step, stays on the CPU.
        average.module.to(trainer.strategy.root_device)
        set_average_model(self, average)
