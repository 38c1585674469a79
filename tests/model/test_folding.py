"""Frozen batch norm folded into convolutions."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from detr_lite.model.backbone import Backbone
from detr_lite.model.folding import call_folded, fold_batch_norms
from detr_lite.model.frozen import FrozenBatchNorm, freeze_batch_norms

NETWORKS = {"resnet18": 15, "resnet10t": 12, "mobilenetv3_small_050": 27, "tf_efficientnet_lite0": 33}
"""Each with how many batch norms up to stride 16 follow a convolution."""


def randomize_norms(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, FrozenBatchNorm):
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(std=0.3)
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 1.5)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.slow
def test_maps_and_gradients_are_those_of_separate_batch_norms(name: str) -> None:
    torch.manual_seed(0)
    folded = Backbone(name, (8, 16), freeze_batch_norm=True)
    separate = Backbone(name, (8, 16), freeze_batch_norm=True, exact=True)
    randomize_norms(folded.network)
    separate.load_state_dict(folded.state_dict())
    assert len(folded.folded) >= NETWORKS[name] - 3
    assert not separate.folded
    images = torch.randn(2, 3, 75, 90)
    for new, old in zip(folded(images), separate(images), strict=True):
        torch.testing.assert_close(new, old, rtol=1e-3, atol=1e-4)
        for output in (new, old):
            output.square().mean().backward(retain_graph=True)
    gradients = dict(separate.named_parameters())
    for key, parameter in folded.named_parameters():
        new, old = parameter.grad, gradients[key].grad
        assert new is not None, key
        assert old is not None, key
        assert (new - old).norm() <= 1e-3 * old.norm() + 1e-6, key


def test_a_copy_uses_its_own_weights() -> None:
    """As the moving average of the weights does."""
    backbone = Backbone("resnet10t", (16,), freeze_batch_norm=True).eval()
    copy = deepcopy(backbone)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.zero_()
    images = torch.randn(1, 3, 64, 64)
    assert not backbone(images)[0].any()
    assert copy(images)[0].any()


class Branching(nn.Module):
    """The output of its convolution is also used without the batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        features = self.conv(images)
        return [self.bn(features) + features]


def test_a_convolution_whose_output_is_used_elsewhere_is_left_as_it_is() -> None:
    network = Branching()
    freeze_batch_norms(network)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    random = torch.random.get_rng_state()
    assert fold_batch_norms(network, torch.zeros(1, 3, 16, 16)) == {}
    assert torch.equal(torch.random.get_rng_state(), random)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    images = torch.randn(1, 3, 16, 16)
    assert torch.equal(call_folded(network, {}, images)[0], network(images)[0])
    assert not network.bn.is_folded


def test_the_bias_of_a_convolution_is_scaled_with_its_weight() -> None:
    class Block(nn.Sequential):
        def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
            return [super().forward(images)]

    network = Block(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    freeze_batch_norms(network)
    expected_network = deepcopy(network)
    pairs = fold_batch_norms(network, torch.zeros(1, 3, 16, 16))
    assert pairs == {"1": "0"}
    randomize_norms(network)
    expected_network.load_state_dict(network.state_dict())
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(call_folded(network, pairs, images)[0], expected_network(images)[0])
