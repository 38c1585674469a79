"""Linear layers by oneDNN: torch's numbers and gradients but for rounding, and torch's own where oneDNN cannot."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from detr_lite.build import build_model
from detr_lite.config import ModelConfig
from detr_lite.model import onednn
from detr_lite.model.onednn import Linear, PointwiseConv, use_pointwise_convs

SHAPES = [(7, 32), (2, 5, 32), (2, 3, 4, 32), (1, 32), (2, 0, 32)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_are_those_of_torch(shape: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(0)
    linear = Linear(32, 48, bias=bias)
    original = nn.Linear(32, 48, bias=bias)
    original.load_state_dict(linear.state_dict())
    values = torch.randn(shape)
    inputs = [values.clone().requires_grad_(), values.clone().requires_grad_()]
    outputs = [layer(each) for layer, each in zip((linear, original), inputs, strict=True)]
    torch.testing.assert_close(outputs[0], outputs[1])
    weight = torch.randn(outputs[0].shape)
    for output in outputs:
        (output * weight).sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
    for name, parameter in original.named_parameters():
        torch.testing.assert_close(linear.get_parameter(name).grad, parameter.grad, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(linear(values), original(values))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [(8, 24), (24, 8)])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_pointwise_convolutions_are_those_of_torch(
    stride: int, channels: tuple[int, int], order: torch.memory_format
) -> None:
    torch.manual_seed(0)
    original = nn.Conv2d(*channels, kernel_size=1, stride=stride).to(memory_format=order)
    conv = deepcopy(original)
    use_pointwise_convs(conv)
    assert type(conv) is PointwiseConv
    values = torch.randn(2, channels[0], 5, 7).contiguous(memory_format=order)
    inputs = [values.clone().requires_grad_(), values.clone().requires_grad_()]
    outputs = [layer(each).relu_() for layer, each in zip((conv, original), inputs, strict=True)]
    torch.testing.assert_close(outputs[0], outputs[1])
    weight = torch.randn(outputs[0].shape)
    for output in outputs:
        (output * weight).sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
    for name, parameter in original.named_parameters():
        torch.testing.assert_close(conv.get_parameter(name).grad, parameter.grad, rtol=1e-4, atol=1e-5)


def test_other_convolutions_are_left_as_they_are() -> None:
    network = nn.Sequential(
        nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1, groups=2), nn.Conv2d(4, 4, 1, padding=1), nn.Conv2d(4, 4, 1)
    )
    use_pointwise_convs(network)
    assert [type(each).__name__ for each in network] == ["Conv2d", "Conv2d", "Conv2d", "PointwiseConv"]


@pytest.mark.skipif(not onednn.HAS_ONEDNN, reason="torch without oneDNN")
def test_views_give_the_same_as_copies() -> None:
    """Transposed and expanded values, and a gradient that is one number for all."""
    torch.manual_seed(0)
    linear = Linear(32, 48)
    for values in (torch.randn(32, 6).t(), torch.randn(1, 32).expand(6, -1), torch.randn(2, 6, 64)[..., ::2]):
        leaf = values.clone().requires_grad_()
        linear.zero_grad()
        linear(leaf.expand_as(leaf)).sum().backward()
        torch.testing.assert_close(linear(values), linear(values.contiguous()))
        expected = linear.weight.detach().sum(0).expand_as(values)
        torch.testing.assert_close(leaf.grad, expected)
        torch.testing.assert_close(
            linear.weight.grad, values.flatten(0, -2).sum(0).expand(48, -1), rtol=1e-4, atol=1e-5
        )


def test_frozen_weights_and_constant_inputs_have_no_gradient() -> None:
    linear = Linear(8, 4)
    linear.weight.requires_grad_(False)
    values = torch.randn(3, 8)
    linear(values).sum().backward()
    assert linear.weight.grad is None
    torch.testing.assert_close(linear.bias.grad, torch.full((4,), 3.0))


def test_autocast_and_other_types_are_torchs() -> None:
    linear = Linear(8, 4)
    values = torch.randn(3, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(values).dtype == torch.bfloat16
    double = deepcopy(linear).double()
    assert torch.equal(double(values.double()), nn.functional.linear(values.double(), double.weight, double.bias))


def test_exact_models_have_torchs_last_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    config = ModelConfig(backbone="resnet10t", pretrained=False, dim=32, heads=2, num_queries=4)
    for exact in (False, True):
        linears = [each for each in build_model(config, 3, exact=exact).modules() if isinstance(each, Linear)]
        assert len(linears) > 20
        assert all(each.is_exact == exact for each in linears)
    values = torch.randn(5, linears[0].in_features)
    assert torch.equal(linears[0](values), nn.functional.linear(values, linears[0].weight, linears[0].bias))
