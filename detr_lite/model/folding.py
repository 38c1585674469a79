"""Frozen batch norm folded into the convolution before it, so that features are read and written once less."""

from collections.abc import Mapping
from contextlib import nullcontext

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from detr_lite.model.frozen import FrozenBatchNorm
from detr_lite.model.recompute import recomputed_blocks


@torch.no_grad()
def fold_batch_norms(network: nn.Module, image: Float[Tensor, "1 3 height width"]) -> dict[str, str]:
    """Leave the scale and shift of frozen batch norms to the convolutions before them.

    Returns the name of each such batch norm and of its convolution; the network must then be called by `call_folded`.
    Parameters and buffers keep their names and values. Nothing is folded where the maps would differ.

    Args:
        image: shows which convolution each batch norm follows; any values, of a size that the network accepts.
    """
    was_training = network.training
    network.eval()
    norms = [module for module in network.modules() if isinstance(module, FrozenBatchNorm)]
    saved = [[buffer.clone() for buffer in norm.buffers(recurse=False)] for norm in norms]
    pairs = _following(network, image)
    folded = [norm for name, norm in network.named_modules() if name in pairs and isinstance(norm, FrozenBatchNorm)]
    # Norms of random weights are the identity, with which a wrong pair would go unnoticed.
    generator = torch.Generator().manual_seed(0)
    for norm in norms:
        norm.weight.uniform_(0.5, 1.5, generator=generator)
        norm.bias.uniform_(-0.5, 0.5, generator=generator)
    image = torch.randn(image.shape, generator=generator)
    expected = list(network(image.clone()))
    for norm in folded:
        norm.is_folded = True
    found = call_folded(network, pairs, image.clone())
    is_equal = all(
        torch.allclose(new, old, rtol=1e-3, atol=1e-3 * float(old.abs().max()))
        for new, old in zip(found, expected, strict=True)
    )
    if not is_equal:
        for norm in folded:
            norm.is_folded = False
    for norm, values in zip(norms, saved, strict=True):
        for buffer, value in zip(norm.buffers(recurse=False), values, strict=True):
            buffer.copy_(value)
    network.train(was_training)
    return pairs if is_equal else {}


def call_folded(network: nn.Module, pairs: Mapping[str, str], images: Tensor, recompute: bool = False) -> list[Tensor]:
    """The network's maps, with weights and biases of convolutions that contain the batch norms after them.

    Args:
        recompute: gradient checkpointing of the network's blocks.
    """
    changed = folded_weights(network, pairs)
    with recomputed_blocks(network, changed) if recompute else nullcontext():
        return list(functional_call(network, changed, (images,)) if changed else network(images))


def folded_weights(network: nn.Module, pairs: Mapping[str, str]) -> dict[str, Tensor]:
    changed: dict[str, Tensor] = {}
    for norm_name, conv_name in pairs.items():
        norm, conv = network.get_submodule(norm_name), network.get_submodule(conv_name)
        assert isinstance(norm, FrozenBatchNorm)
        scale, shift = norm.scale_and_shift()
        assert isinstance(conv, nn.Conv2d)
        changed[f"{conv_name}.weight"] = conv.weight * scale[:, None, None, None]
        changed[f"{conv_name}.bias"] = shift if conv.bias is None else shift + conv.bias * scale
    return changed


def _following(network: nn.Module, image: Tensor) -> dict[str, str]:
    """Name of each frozen batch norm whose input is the output of a convolution, and that convolution's name."""
    names = {module: name for name, module in network.named_modules()}
    outputs: list[tuple[Tensor, str]] = []  # the tensors themselves, since a freed one's id may be given again
    pairs: dict[str, str] = {}

    def see_output(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        outputs.append((output, names[module]))

    def see_input(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        for output, conv in outputs:
            if output is inputs[0]:
                pairs[names[module]] = conv

    hooks = [
        module.register_forward_hook(see_output)
        if isinstance(module, nn.Conv2d)
        else module.register_forward_pre_hook(see_input)
        for module in network.modules()
        if isinstance(module, nn.Conv2d | FrozenBatchNorm)
    ]
    try:
        network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return pairs
