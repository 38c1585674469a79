"""Frozen parts of a backbone."""

import pytest
import torch
from timm.layers import BatchNormAct2d, freeze_batch_norm_2d
from torch import Tensor, nn
from torch.nn import functional as F

from detr_lite.model.backbone import Backbone
from detr_lite.model.frozen import FrozenBatchNorm, freeze_batch_norms
from detr_lite.structures import DetrLiteError


@pytest.mark.parametrize("name", ["resnet10t", "resnet18"])  # a stem of several convolutions, and of one
@pytest.mark.parametrize("freeze_batch_norm", [False, True])
def test_stem_and_first_stage_get_no_gradient_and_all_others_do(name: str, freeze_batch_norm: bool) -> None:
    backbone = Backbone(name, (8, 16), freeze_first_stage=True, freeze_batch_norm=freeze_batch_norm)
    sum(features.square().mean() for features in backbone(torch.randn(2, 3, 64, 64))).backward()
    frozen = ("network.conv1.", "network.bn1.", "network.layer1.")
    for key, parameter in backbone.named_parameters():
        assert (parameter.grad is None) == key.startswith(frozen), key
    assert {key.split(".")[1] for key, parameter in backbone.named_parameters() if parameter.requires_grad} == {
        "layer2",
        "layer3",
    }


def test_nothing_is_frozen_by_default() -> None:
    assert all(parameter.requires_grad for parameter in Backbone("resnet18", (16,)).parameters())


@pytest.mark.parametrize(
    ("name", "trained"),
    [
        ("tf_efficientnet_lite0", {"blocks.2", "blocks.3", "blocks.4"}),
        ("convnext_atto", {"stages_1", "stages_2"}),
        ("swin_tiny_patch4_window7_224", {"layers_1", "layers_2"}),
        ("regnety_002", {"s2", "s3"}),
    ],
)
@pytest.mark.slow
def test_the_first_stage_of_other_networks_ends_at_stride_4(name: str, trained: set[str]) -> None:
    network = Backbone(name, (8, 16), freeze_first_stage=True).network
    keys = [key for key, parameter in network.named_parameters() if parameter.requires_grad]
    assert {".".join(key.split(".")[: next(iter(trained)).count(".") + 1]) for key in keys} == trained
    # What is frozen comes before all that is trained.
    requires = [parameter.requires_grad for parameter in network.parameters()]
    assert requires == sorted(requires)
    assert not requires[0]


def test_a_network_without_a_first_stage_is_an_error() -> None:
    with pytest.raises(DetrLiteError, match=r"model.freeze_first_stage: vit_tiny_patch16_224 has no stage .* false$"):
        Backbone("vit_tiny_patch16_224", (16,), freeze_first_stage=True)


def random_norm(channels: int = 64) -> nn.BatchNorm2d:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(channels)
    for values in (norm.weight.data, norm.running_var):
        values.uniform_(0.5, 1.5)
    for values in (norm.bias.data, norm.running_mean):
        values.normal_(std=0.3)
    return norm


def original_formula(norm: nn.BatchNorm2d, features: Tensor) -> Tensor:
    """models/backbone.py of facebookresearch/detr."""
    weight, bias, mean, var = (
        values.reshape(1, -1, 1, 1) for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    )
    scale = weight * (var + norm.eps).rsqrt()
    return features * scale + (bias - mean * scale)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_in_float32_it_is_the_originals_to_the_last_bit(memory_format: torch.memory_format) -> None:
    norm, features = random_norm(), torch.randn(2, 64, 9, 7).to(memory_format=memory_format)
    assert torch.equal(FrozenBatchNorm(norm)(features), original_formula(norm, features))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_features_are_rounded_once(dtype: torch.dtype) -> None:
    """As accurate as `F.batch_norm`: every number is the exact one, rounded to the features' dtype."""
    norm, features = random_norm(), torch.randn(2, 64, 9, 7).to(dtype)
    normalized = FrozenBatchNorm(norm)(features)
    assert normalized.dtype == dtype
    exact = original_formula(norm.double(), features.double())

    def rms_error(values: Tensor) -> float:
        return (values.double() - exact).square().mean().sqrt().item()

    norm.float()
    expected = F.batch_norm(features, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
    assert rms_error(normalized) == pytest.approx(rms_error(exact.to(dtype)), rel=0.01)
    assert rms_error(normalized) == pytest.approx(rms_error(expected), rel=0.01)


def test_under_autocast_features_stay_in_bfloat16() -> None:
    network = nn.Sequential(nn.Conv2d(3, 64, 3), random_norm(), nn.ReLU())
    freeze_batch_norms(network)
    with torch.autocast("cpu", torch.bfloat16):
        assert network(torch.randn(1, 3, 8, 8)).dtype == torch.bfloat16


def test_frozen_norms_are_timms() -> None:
    """timm's own function, also for a norm that holds an activation."""
    network, reference = (nn.Sequential(random_norm(), BatchNormAct2d(64), nn.Conv2d(64, 4, 1)) for _ in range(2))
    network.load_state_dict(reference.state_dict())
    freeze_batch_norms(network)
    features = torch.randn(2, 64, 9, 7)
    assert torch.equal(network(features.clone()), freeze_batch_norm_2d(reference)(features.clone()))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
