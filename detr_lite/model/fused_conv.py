"""A convolution that oneDNN computes with the batch norm, the sum and the activation that follow it."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call

from detr_lite.model.frozen import FrozenBatchNorm
from detr_lite.model.onednn import PointwiseConv, gradient_of_values, gradient_of_weight

ONEDNN_ACTIVATIONS: Mapping[type[nn.Module], str] = {
    nn.Identity: "none",
    nn.ReLU: "relu",
    nn.SiLU: "swish",
    nn.Hardswish: "hardswish",
}
"""Activations that oneDNN computes with the convolution, by their names in torch.ops.mkldnn."""


class FusedConv(nn.Module):
    """A convolution with the batch norm and the activation after it, and an input that is added before that."""

    def __init__(self, conv: nn.Conv2d, norm: nn.Module | None, activation: nn.Module) -> None:
        super().__init__()
        # In a tuple, as they are modules of the network and not of this one.
        self.origin = conv, norm
        self.activation = activation
        self.weight: Tensor | None = None
        self.bias: Tensor | None = None
        self.packed: tuple[torch.Size, Tensor] | None = None
        """The weight in the order that oneDNN wants for inputs of a size."""
        # A subclass may pad in its own way.
        is_plain = (
            type(conv) in (nn.Conv2d, PointwiseConv)
            and conv.padding_mode == "zeros"
            and not isinstance(conv.padding, str)
        )
        name = ONEDNN_ACTIVATIONS.get(type(activation))
        self.onednn_name = name if is_plain else None

    def tensors(self) -> list[Tensor]:
        """From which weight and bias are made."""
        conv, norm = self.origin
        own = [conv.weight] if conv.bias is None else [conv.weight, conv.bias]
        return own if norm is None else [*own, norm.weight, norm.bias, norm.running_mean, norm.running_var]  # type: ignore[list-item]

    def folded(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of the convolution and its batch norm as one."""
        conv, norm = self.origin
        if norm is None:
            return conv.weight, conv.bias
        scale, shift = _scale_and_shift(norm)
        bias = shift if conv.bias is None else shift + conv.bias * scale
        return conv.weight * scale[:, None, None, None], bias

    @torch.no_grad()
    def prepare(self) -> None:
        weight, bias = self.folded()
        self.weight, self.bias, self.packed = weight.detach(), None if bias is None else bias.detach(), None

    def release(self) -> None:
        self.weight = self.bias = self.packed = None

    def forward(self, features: Tensor, added: Tensor | None = None) -> Tensor:
        is_training = torch.is_grad_enabled()
        weight, bias = self.folded() if is_training else (self.weight, self.bias)
        assert weight is not None
        conv, _ = self.origin
        if self.onednn_name is None or (is_training and self.onednn_name != "relu"):
            own = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
            output = functional_call(conv, own, (features,))
            return self.activation(output if added is None else output + added)  # type: ignore[no-any-return]
        sizes = (list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups)
        if is_training:
            return _ConvReLU.apply(features, weight, bias, added, sizes)  # type: ignore[no-any-return]
        # Of this size, so that the result does not depend on the images before.
        packed = self.packed
        if packed is None or packed[0] != features.shape:
            reorder = torch.ops.mkldnn._reorder_convolution_weight
            packed = self.packed = features.shape, reorder(weight, *sizes, list(features.shape))
        return _convolve(features, packed[1], bias, added, sizes, self.onednn_name)


class _ConvReLU(torch.autograd.Function):
    """ReLU of a convolution's output plus `added`; the backward pass is that of the three one by one."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor | None, added: Tensor | None, sizes: Any
    ) -> Tensor:
        output = _convolve(features, weight, bias, added, sizes, "relu")
        ctx.save_for_backward(features, weight, output)
        ctx.sizes, ctx.bias_sizes = sizes, None if bias is None else list(bias.shape)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, output = ctx.saved_tensors
        padding, stride, dilation, groups = ctx.sizes
        # Where the output is not above zero, there is no gradient.
        gradient = torch.ops.aten.threshold_backward(gradient, output, 0)
        of_conv: tuple[Tensor | None, ...] = (None, None, None)
        of_features, of_weight, of_bias = ctx.needs_input_grad[:3]
        if weight.shape[2:] == (1, 1) and stride == [1, 1] and padding == [0, 0] and groups == 1 and not of_bias:
            pixels, changes = features.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1)
            of_conv = (
                gradient_of_values(changes, weight.flatten(1)).permute(0, 3, 1, 2) if of_features else None,
                gradient_of_weight(changes, pixels)[:, :, None, None] if of_weight else None,
                None,
            )
        elif of_features or of_weight or of_bias:
            of_conv = torch.ops.aten.convolution_backward(
                *(gradient, features, weight, ctx.bias_sizes, stride, padding, dilation, False, [0, 0], groups),
                [of_features, of_weight, of_bias],
            )
        return (*of_conv, gradient if ctx.needs_input_grad[3] else None, None)


def _convolve(
    features: Tensor, weight: Tensor, bias: Tensor | None, added: Tensor | None, sizes: Any, activation: str
) -> Tensor:
    operation = torch.ops.mkldnn._convolution_pointwise
    if added is None:
        return operation(features, weight, bias, *sizes, activation, [], "")  # type: ignore[no-any-return]
    return operation.binary(features, added, weight, bias, *sizes, "add", 1.0, activation, [], "")  # type: ignore[no-any-return]


def has_fixed_statistics(norm: object) -> bool:
    """Whether it is a batch norm that, in evaluation mode, scales and shifts each channel."""
    if isinstance(norm, FrozenBatchNorm):
        return isinstance(norm.drop, nn.Identity)
    if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None or norm.weight is None:
        return False
    # Of timm's BatchNormAct2d; any other subclass may do something else.
    is_known = type(norm).__name__ in ("BatchNorm2d", "BatchNormAct2d", "FrozenBatchNormAct2d")
    return is_known and isinstance(getattr(norm, "drop", None) or nn.Identity(), nn.Identity)


def _scale_and_shift(norm: Any) -> tuple[Float[Tensor, " channel"], Float[Tensor, " channel"]]:
    if isinstance(norm, FrozenBatchNorm):
        return norm.scale_and_shift()
    scale = norm.weight.detach() * (norm.running_var + norm.eps).rsqrt()
    return scale, norm.bias.detach() - norm.running_mean * scale
