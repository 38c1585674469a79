"""Parameter groups, the optimizer and the learning-rate schedule."""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from detr_lite.families.registry import CLASS_LAYERS
from detr_lite.structures import DetrLiteError
from detr_lite.training.muon import Muon

OptimizerName = Literal["adamw", "muon"]

BACKBONES = ("backbone.network.", "network.model.backbone.", "network.model.conv_encoder.")
"""Prefix of the backbone's parameters in our models and in those of transformers."""

SMALLEST_MATRIX = 8
"""Shorter side from which Muon updates a matrix; equal singular values of a smaller one would mostly amplify noise."""


def parameter_groups(
    model: nn.Module,
    lr: float,
    backbone_lr_factor: float,
    weight_decay: float,
    decay_all: bool,
    optimizer: OptimizerName = "adamw",
) -> list[dict[str, Any]]:
    """Parameter groups by learning rate (backbone, rest), by weight decay, and for "muon" by optimizer.

    Norms and biases are decayed only with `decay_all`. AdamW updates the matrices of a pretrained backbone, which is
    one with a `backbone_lr_factor` below 1: Muon's orthogonal steps would soon undo its pretraining.
    """
    hidden = _hidden_matrices(model) if optimizer == "muon" else set()
    groups: dict[tuple[bool, bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = decay_all or parameter.ndim > 1
            # Without the feature pyramid, which is as untrained as the transformer.
            in_backbone = name.startswith(BACKBONES) and ".projector." not in name
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
    """Weights between hidden layers: no embeddings, no class heads, and nothing as small as the layer that reads pixels
    or the one that predicts a box's four numbers. The layer that predicts FDR distributions is one of them."""
    return {
        module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
        and not any(part in name for part in ("label", *CLASS_LAYERS))
        and min(module.weight.shape[:2]) >= SMALLEST_MATRIX
    }


def make_optimizer(groups: list[dict[str, Any]], fused: bool, name: OptimizerName = "adamw") -> torch.optim.Optimizer:
    """AdamW (arXiv 1711.05101), or Muon (arXiv 2502.16982) for hidden matrices and AdamW for the rest.

    Muon's updates are scaled to the size of AdamW's, so that both share one learning rate (section 2.2 of the paper).

    Errors: no parameter requires a gradient.
    """
    if not groups:
        raise DetrLiteError("the model has nothing to train: no parameter requires a gradient")
    if name == "muon":
        return Muon(groups, fused=fused)
    return torch.optim.AdamW(groups, fused=fused)


def clip_gradients(model: nn.Module, max_norm: float) -> Tensor:
    """Scale all gradients down to this norm, where they have a larger one, and return what they had; 0 for no limit.

    Not by Lightning, which refuses fused optimizers under autocast, even without a gradient scaler.
    """
    norm = nn.utils.get_total_norm([each.grad for each in model.parameters() if each.grad is not None])
    if max_norm:
        nn.utils.clip_grads_with_norm_(model.parameters(), max_norm, norm)
    return norm


def lr_factor(
    progress: float, step: int, schedule: Literal["cosine", "step", "constant"], lr_hold: float, warmup_steps: int
) -> float:
    """Factor of the full learning rate.

    Args:
        progress: completed fraction of the run, 0 .. 1, in epochs or in minutes.
        step: completed steps; the factor rises linearly over the first `warmup_steps`.
        lr_hold: fraction of the run at the full rate, before the cosine or the step.
    """
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    if schedule == "step":
        # Inclusive: after 200 of 300 epochs the whole of epoch 201 has the smaller rate.
        return warmup * (0.1 if progress >= lr_hold else 1.0)
    if schedule == "constant" or progress <= lr_hold:
        return warmup
    annealed = min(1.0, (progress - lr_hold) / (1 - lr_hold))
    return warmup * (1 + math.cos(math.pi * annealed)) / 2
