"""The optimiser, and the learning rate over the run."""

import math
from typing import Any, Literal

import torch
from torch import nn

from detr_lite.structures import DetrLiteError


def parameter_groups(
    model: nn.Module, lr: float, backbone_factor: float, weight_decay: float, decay_all: bool
) -> list[dict[str, Any]]:
    """Groups by rate (backbone, rest) and by decay; norms, biases and embeddings' rows decay only with `decay_all`."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = decay_all or parameter.ndim > 1
            # Of the network alone: a pyramid beside it is as new as the transformer.
            groups.setdefault((name.startswith("backbone.network."), decays), []).append(parameter)
    return [
        {
            "name": ("backbone" if in_backbone else "transformer") + ("" if decays else " (no decay)"),
            "params": parameters,
            "lr": lr * (backbone_factor if in_backbone else 1.0),
            "initial_lr": lr * (backbone_factor if in_backbone else 1.0),
            "weight_decay": weight_decay if decays else 0.0,
        }
        for (in_backbone, decays), parameters in groups.items()
    ]


def make_optimizer(groups: list[dict[str, Any]], fused: bool) -> torch.optim.AdamW:
    """AdamW (arXiv 1711.05101) over the groups."""
    if not groups:
        raise DetrLiteError("the model has nothing to train")
    return torch.optim.AdamW(groups, fused=fused)


def rate_factor(
    progress: float, step: int, schedule: Literal["cosine", "step", "constant"], flat: float, warmup_steps: int
) -> float:
    """The learning rate as a share of its full value.

    Args:
        progress: share of the run that is done, 0 .. 1, of epochs or of minutes.
        step: steps done; the rate rises over the first `warmup_steps`.
        flat: share of the run at the full rate, before the schedule sets in.
    """
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    if schedule == "step":
        # From the first step after that share on: after 200 of 300 epochs, epoch 201 has the small rate as a whole.
        return warmup * (0.1 if progress >= flat else 1.0)
    if schedule == "constant" or progress <= flat:
        return warmup
    fading = min(1.0, (progress - flat) / (1 - flat))
    return warmup * (1 + math.cos(math.pi * fading)) / 2
