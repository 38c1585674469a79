"""A moving average of the weights, which is evaluated and kept in place of the weights themselves."""

import math

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import nn
from torch.optim.swa_utils import AveragedModel

from detr_lite.training.lightning_internals import set_average_model


def decay_at(step: int, decay: float, ramp_steps: int) -> float:
    """Share of the old average at optimiser step 1, 2, ...: low at first, as random weights are not worth keeping.

    As in YOLOv5 and RT-DETR (`ModelEMA`).
    """
    return decay * (1 - math.exp(-step / ramp_steps))


class Average(AveragedModel):
    """A copy of a model whose weights move towards the model's at each update.

    Running statistics of batch norms are averaged like weights: those of the latest weights fit the averaged layers
    less well. What merely counts (a norm's number of batches) is copied.
    """

    def __init__(self, model: nn.Module, decay: float, ramp_steps: int) -> None:
        super().__init__(model)
        self.decay = decay
        self.ramp_steps = ramp_steps
        # The first weights count as averaged: torch would let the first update be a copy, whatever the decay.
        self.n_averaged.fill_(1)

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        # Not torch's own, which moves the number of updates between processor and device at every step, and so waits.
        step = int(self.n_averaged)
        averages = [*self.module.parameters(), *self.module.buffers()]
        pairs = list(zip(averages, [*model.parameters(), *model.buffers()], strict=True))
        moving = [(average, value) for average, value in pairs if average.is_floating_point()]
        weight = 1 - decay_at(step, self.decay, self.ramp_steps)
        torch._foreach_lerp_([average for average, _ in moving], [value for _, value in moving], weight)
        for average, value in pairs:
            if not average.is_floating_point():
                average.copy_(value)
        self.n_averaged += 1


class MovingAverage(WeightAveraging):
    """Lightning's callback: one update for each optimiser step, the average is evaluated, each checkpoint has both.

    A checkpoint's `state_dict` is the average, which is what the trained model is; `current_model_state` are the
    weights that training goes on from, and `averaging_state` says how many updates there were.
    """

    def __init__(self, decay: float, ramp_steps: int) -> None:
        super().__init__()
        self.decay = decay
        self.ramp_steps = ramp_steps

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        # Lightning would copy the whole module, and with it all annotations of the validation split.
        assert isinstance(pl_module.model, nn.Module)
        weights = nn.ModuleDict({"model": pl_module.model})
        assert list(weights.state_dict()) == list(pl_module.state_dict()), "only the model has weights"
        average = Average(weights, self.decay, self.ramp_steps)
        # Lightning would leave the average on the processor, as the module goes to its device only later. The number
        # of updates does stay there: it is asked for at every step.
        average.module.to(trainer.strategy.root_device)
        set_average_model(self, average)
