"""The optimiser, and the learning rate over the run."""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from detr_lite.structures import DetrLiteError
from detr_lite.training.muon import Muon

OptimizerName = Literal["adamw", "muon"]

SMALLEST_MATRIX = 8
"""To make the singular values of a smaller one equal would be to learn noise."""


def parameter_groups(
    model: nn.Module,
    lr: float,
    backbone_lr_factor: float,
    weight_decay: float,
    decay_all: bool,
    optimizer: OptimizerName = "adamw",
) -> list[dict[str, Any]]:
    """Groups by rate (backbone, rest), by decay, and for "muon" by what it may take.

    Norms and biases decay only with `decay_all`. Matrices of a backbone that has learned, which is one with a share of
    the rate, are not Muon's: orthogonal steps would soon undo what they were trained to elsewhere.
    """
    hidden = _hidden_matrices(model) if optimizer == "muon" else set()
    groups: dict[tuple[bool, bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = decay_all or parameter.ndim > 1
            # Of the network alone: a pyramid beside it is as new as the transformer.
            in_backbone = name.startswith("backbone.network.")
            is_hidden = parameter in hidden and not (in_backbone and backbone_lr_factor < 1)
            groups.setdefault((in_backbone, decays, is_hidden), []).append(parameter)
    return [
        {
            "name": ("backbone" if in_backbone else "transformer")
            + (" matrices" if is_hidden else "")
            + ("" if decays else " (no decay)"),
            "params": parameters,
            "lr": lr * (backbone_lr_factor if in_backbone else 1.0),
            "initial_lr": lr * (backbone_lr_factor if in_backbone else 1.0),
            "weight_decay": weight_decay if decays else 0.0,
        }
        | ({"use_muon": is_hidden} if optimizer == "muon" else {})
        for (in_backbone, decays, is_hidden), parameters in groups.items()
    ]


def _hidden_matrices(model: nn.Module) -> set[Tensor]:
    """Weights between hidden layers: not embeddings, not what gives classes, and nothing as small as what reads pixels
    or gives a box's four numbers. The layer that gives its edges' distributions is one of them."""
    return {
        module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
        and "label" not in name
        and min(module.weight.shape[:2]) >= SMALLEST_MATRIX
    }


def make_optimizer(groups: list[dict[str, Any]], fused: bool, name: OptimizerName = "adamw") -> torch.optim.Optimizer:
    """AdamW (arXiv 1711.05101) over the groups, or Muon (arXiv 2502.16982) for matrices and AdamW for the rest.

    Muon's steps are scaled to be as large as AdamW's, so that one rate serves both (section 2.2 there).
    """
    if not groups:
        raise DetrLiteError("the model has nothing to train")
    if name == "muon":
        return Muon(groups, fused=fused)
    return torch.optim.AdamW(groups, fused=fused)


def lr_factor(
    progress: float, step: int, schedule: Literal["cosine", "step", "constant"], lr_hold: float, warmup_steps: int
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
        return warmup * (0.1 if progress >= lr_hold else 1.0)
    if schedule == "constant" or progress <= lr_hold:
        return warmup
    fading = min(1.0, (progress - lr_hold) / (1 - lr_hold))
    return warmup * (1 + math.cos(math.pi * fading)) / 2
