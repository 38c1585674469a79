"""Gradient checkpointing: the same gradients and statistics from fewer kept activations."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from detr_lite.build import build_criterion, build_model
from detr_lite.config import Config, ModelConfig
from detr_lite.model.backbone import Backbone
from detr_lite.model.frozen import FrozenBatchNorm
from detr_lite.model.recompute import residual_blocks
from detr_lite.structures import Batch, Target


def make_batch() -> Batch:
    targets = [Target(torch.rand(3, 4) * 0.3 + 0.3, torch.randint(0, 5, (3,)), index, (64, 64)) for index in range(2)]
    return Batch.from_images([torch.randn(3, 64, 50), torch.randn(3, 40, 64)], targets)


class Kept:
    """The bytes that autograd keeps for the backward pass, each storage once, without those of parameters."""

    def __init__(self, module: nn.Module) -> None:
        self.parameters = {value.untyped_storage().data_ptr() for value in module.parameters()}
        self.storages: dict[int, int] = {}

    def pack(self, value: torch.Tensor) -> torch.Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in self.parameters:
            self.storages[storage.data_ptr()] = storage.nbytes()
        return value

    def context(self) -> saved_tensors_hooks:
        return saved_tensors_hooks(self.pack, lambda value: value)

    @property
    def total(self) -> int:
        return sum(self.storages.values())


@pytest.mark.parametrize("name", ["lite", "detr"])
@pytest.mark.slow
def test_gradients_losses_and_statistics_are_the_same(name):
    """With dropout, whose random numbers must be drawn once, and training batch norm, whose statistics must change
    once."""
    torch.manual_seed(0)
    sizes = {"dim": 32, "heads": 2, "feedforward_dim": 64, "num_queries": 6, "denoising_queries": 8, "dropout": 0.2}
    settings = ModelConfig(name=name, pretrained=False, strides=(8, 16) if name == "lite" else (32,), **sizes)
    plain = build_model(settings, classes=5).train()
    saving = deepcopy(plain)
    saving.set_gradient_checkpointing()
    criterion, batch = build_criterion(Config(model=settings), 5), make_batch()
    kept = {}
    for model in (plain, saving):
        torch.manual_seed(3)
        kept[model] = Kept(model)
        with kept[model].context():
            loss = criterion(model(batch), batch.targets).total
        loss.backward()
        model.loss, model.after = loss.detach(), torch.rand(3)
    assert saving.loss == plain.loss
    assert torch.equal(saving.after, plain.after)
    for (key, one), (_, other) in zip(saving.named_parameters(), plain.named_parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-5, atol=1e-6, msg=key)
    for (key, one), (_, other) in zip(saving.named_buffers(), plain.named_buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, msg=key)
    assert kept[saving].total < 0.75 * kept[plain].total
    assert not any("forward" in vars(module) for module in saving.modules())


def test_folded_batch_norms_are_folded_the_second_time_too():
    torch.manual_seed(0)
    plain = Backbone("resnet10t", (8, 16), freeze_batch_norm=True)
    for module in plain.network.modules():
        if isinstance(module, FrozenBatchNorm):
            module.weight.uniform_(0.5, 1.5)
            module.running_mean.normal_(std=0.3)
    assert plain.folded
    saving = deepcopy(plain)
    saving.recompute = True
    images = torch.randn(2, 3, 75, 90)
    for backbone in (plain, saving):
        sum(features.square().mean() for features in backbone(images)).backward()
    for (key, one), (_, other) in zip(saving.named_parameters(), plain.named_parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-5, atol=1e-6, msg=key)


def test_nothing_is_recomputed_in_evaluation():
    torch.manual_seed(0)
    backbone = Backbone("resnet10t", (16,)).eval()
    backbone.recompute = True
    calls: list[nn.Module] = []
    for _, block in residual_blocks(backbone.network):
        block.register_forward_hook(lambda module, inputs, output: calls.append(module))
    backbone(torch.randn(1, 3, 64, 64))[0].sum().backward()
    assert len(calls) == len(list(residual_blocks(backbone.network)))


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("resnet50", 16),
        pytest.param("convnext_atto", 12, marks=pytest.mark.slow),
        pytest.param("tf_efficientnet_lite0", 16, marks=pytest.mark.slow),
        pytest.param("vit_tiny_patch16_224", 12, marks=pytest.mark.slow),
        pytest.param("swin_tiny_patch4_window7_224", 12, marks=pytest.mark.slow),
    ],
)
def test_the_blocks_of_a_network_are_the_residual_ones(name, count):
    backbone = Backbone(name, (16,) if name.startswith(("vit", "tf")) else (32,))
    assert len(list(residual_blocks(backbone.network))) >= count - 5 * name.startswith("tf")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convnext_atto", "tf_efficientnet_lite0", "vit_tiny_patch16_224", "resnet18"])
@pytest.mark.parametrize("frozen", [False, True])
def test_gradients_of_other_networks(name, frozen):
    torch.manual_seed(0)
    plain = Backbone(name, (16,), freeze_batch_norm=frozen, freeze_first_stage=frozen and not name.startswith("vit"))
    saving = deepcopy(plain)
    saving.recompute = True
    images = torch.randn(2, 3, 75, 90)
    for backbone in (plain, saving):
        torch.manual_seed(1)
        backbone(images)[0].square().mean().backward()
    for (key, one), (_, other) in zip(saving.named_parameters(), plain.named_parameters(), strict=True):
        if other.grad is None:
            assert one.grad is None, key
        else:
            assert (one.grad - other.grad).norm() <= 1e-4 * other.grad.norm() + 1e-7, key
