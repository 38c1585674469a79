"""Linear layers and 1x1 convolutions by oneDNN, whose matrix products are twice as fast as MKL's on some CPUs."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def can_use_onednn(values: Tensor) -> bool:
    """Whether these are float32 numbers on a CPU with oneDNN, and no compiler or exporter records the operators."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or torch.onnx.is_in_onnx_export():  # type: ignore[attr-defined, no-untyped-call]
        return False
    is_plain = type(values) is Tensor and values.device.type == "cpu" and values.dtype == torch.float32
    return is_plain and HAS_ONEDNN and not torch.is_autocast_enabled("cpu")


class Linear(nn.Linear):
    """`nn.Linear`, equal but for rounding; `is_exact` makes it equal to the last bit."""

    is_exact = False

    def forward(self, input: Tensor) -> Tensor:
        if self.is_exact or input.numel() == 0 or not can_use_onednn(input):
            return F.linear(input, self.weight, self.bias)
        return _Linear.apply(input, self.weight, self.bias)  # type: ignore[no-any-return]


class PointwiseConv(nn.Conv2d):
    """A 1x1 convolution, as a linear layer of the pixels; see `Linear`."""

    is_exact = False

    def forward(self, input: Tensor) -> Tensor:
        if self.is_exact or input.numel() == 0 or not can_use_onednn(input):
            return super().forward(input)
        height, width = self.stride
        strided = input[:, :, ::height, ::width] if height * width > 1 else input
        return _Pointwise.apply(strided, self.weight.flatten(1), self.bias)  # type: ignore[no-any-return]


def use_pointwise_convs(network: nn.Module) -> None:
    """Turn the 1x1 convolutions of a network into `PointwiseConv`; weights keep their names."""
    for module in network.modules():
        if type(module) is nn.Conv2d and is_pointwise(module):
            module.__class__ = PointwiseConv


def is_pointwise(conv: nn.Conv2d) -> bool:
    return conv.kernel_size == (1, 1) and conv.padding == (0, 0) and conv.groups == 1


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(values, weight)
        return _product(values, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        values, weight = ctx.saved_tensors
        of_values, of_weight, of_bias = ctx.needs_input_grad
        return (
            gradient_of_values(gradient, weight) if of_values else None,
            gradient_of_weight(gradient, values) if of_weight else None,
            gradient.flatten(0, -2).sum(0) if of_bias else None,
        )


class _Pointwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(values, weight)
        # `data`, since the activation after it may be in place, which autograd forbids for views.
        return _product(values.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2).data

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        values, weight = ctx.saved_tensors
        of_values, of_weight, of_bias = ctx.needs_input_grad
        gradient, values = gradient.permute(0, 2, 3, 1), values.permute(0, 2, 3, 1)
        return (
            gradient_of_values(gradient, weight).permute(0, 3, 1, 2) if of_values else None,
            gradient_of_weight(gradient, values) if of_weight else None,
            gradient.sum((0, 1, 2)) if of_bias else None,
        )


def gradient_of_values(
    gradient: Float[Tensor, "*shape out_channel"], weight: Float[Tensor, "out_channel channel"]
) -> Float[Tensor, "*shape channel"]:
    return _product(gradient, weight.t())


def gradient_of_weight(
    gradient: Float[Tensor, "*shape out_channel"], values: Float[Tensor, "*shape channel"]
) -> Float[Tensor, "out_channel channel"]:
    rows, columns = gradient.flatten(0, -2).t(), values.flatten(0, -2).t()
    # The second factor, which oneDNN reorders, is better the larger one.
    return _product(columns, rows).t() if len(rows) > len(columns) else _product(rows, columns)


def _product(values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(values, weight, bias, "none", [], "")  # type: ignore[no-any-return]


def _find_onednn() -> bool:
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    try:
        with torch.no_grad():
            return torch.equal(_product(torch.ones(1, 2), torch.ones(3, 2)), torch.full((1, 3), 2.0))
    except (AttributeError, RuntimeError):  # a torch without this operator, which is not a documented one
        return False


HAS_ONEDNN = _find_onednn()
