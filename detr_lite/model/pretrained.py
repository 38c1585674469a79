"""Names and pretrained weights of timm's networks, and where random ones need another start."""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from detr_lite.model.frozen import flat_name
from detr_lite.structures import DetrLiteError
from detr_lite.tensor_files import is_state, read_safetensors, read_torch

CONTAINERS = ("state_dict_ema", "model_ema", "state_dict", "model")
"""Keys under which training programs save a state_dict, in timm's order."""


def read_backbone_weights(path: Path) -> dict[str, Tensor]:
    """The state_dict of a timm network, with or without its classifier, from a safetensors file or one of `torch.save`.

    Errors: no such file, one that could execute code or holds something else, and weights that are not finite numbers.
    """
    if not path.is_file():
        raise DetrLiteError(
            f"model.pretrained: no file {path}; give true, false, or a file of a timm network's weights"
        )
    content: Any = read_safetensors(path) if path.suffix == ".safetensors" else read_torch(path)
    if isinstance(content, dict):
        content = next((content[key] for key in CONTAINERS if is_state(content.get(key))), content)
    if not is_state(content) or not content:
        raise DetrLiteError(f"model.pretrained: {path} is not a state_dict (tensors by name)")
    if any(name.startswith("backbone.network.") for name in content):
        raise DetrLiteError(
            f"model.pretrained: {path} holds a whole detector, not a timm network; give it as --model.init_from"
        )
    weights = {name.removeprefix("module."): tensor for name, tensor in content.items()}
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise DetrLiteError(f"model.pretrained: {path}: {name} has values that are not finite")
        if not tensor.is_floating_point() and not name.endswith("num_batches_tracked"):
            raise DetrLiteError(f"model.pretrained: {path}: {name} is {tensor.dtype}, not floating-point")
    return weights


def check_complete(name: str, network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Errors: the network has weights that do not come from those, which timm does not say."""
    given = {flat_name(key) for key in weights}
    state = {key: value for key, value in network.state_dict().items() if not key.endswith("num_batches_tracked")}
    missing = [
        key
        for key, value in state.items()
        if flat_name(key) not in given and not any(_is_renamed(value, other) for other in weights.values())
    ]
    if missing:
        raise DetrLiteError(
            f"model.pretrained: {len(missing):,} of {len(state):,} weights of {name} are not in the file, such as "
            f"{missing[0]}; it has {next(iter(weights))} and others: another network, or not timm's names"
        )


def _is_renamed(value: Tensor, other: Tensor) -> bool:
    """Whether timm has loaded `other` under another name; a constant, such as an initial bias, may equal any."""
    is_constant = bool((value == value.flatten()[0]).all())
    return value.shape == other.shape and not is_constant and torch.equal(value, other.to(value.dtype))


def normalization_of(name: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation of RGB in 0..1 with which a timm network was trained."""
    pretrained = timm.models.get_pretrained_cfg(name if has_weights(name) else name.split(".")[0])
    if pretrained is None:
        return timm.data.IMAGENET_DEFAULT_MEAN, timm.data.IMAGENET_DEFAULT_STD
    return tuple(pretrained.mean), tuple(pretrained.std)


def has_weights(name: str) -> bool:
    try:
        pretrained = timm.models.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError:  # an unknown tag after the dot
        return False
    return pretrained is not None and bool(pretrained.has_weights)


def check_name(name: str, pretrained: bool) -> None:
    # timm also accepts "hf-hub:NAME" and "local-dir:PATH", files that a checkpoint must not make us load.
    if not re.fullmatch(r"[\w.]+", name) or not timm.is_model(name):
        near = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=3)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise DetrLiteError(f"model.backbone: timm has no model named {name!r}{hint}")
    if pretrained and not has_weights(name):
        known = ", ".join(timm.list_pretrained(f"{name.split('.')[0]}.*")[:5])
        raise DetrLiteError(
            f"model.backbone: timm has no pretrained weights for {name}; set --model.pretrained false"
            + (f", or use one of {known}" if known else "")
        )


def reset_zero_init_residuals(network: nn.Module) -> None:
    """Set zero or tiny initial scales of residual branches to one.

    timm initializes the last norm of a residual block, or its layer scale, so that the block starts as the identity.
    That helps very deep networks; in a short run it keeps the other weights of the block from learning.
    """
    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm)
    for module in network.modules():
        if isinstance(module, norms) and module.weight is not None and not module.weight.any():
            nn.init.ones_(module.weight)
    for parameter in network.parameters():
        # Layer scales have many names, but no other parameter starts as a constant below 0.01.
        first = parameter.flatten()[0]
        if parameter.numel() > 1 and 0 < first < 0.01 and (parameter == first).all():
            nn.init.ones_(parameter)
