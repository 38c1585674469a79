"""Parameter groups, the optimizer and the learning-rate schedule."""

import math

import pytest
import torch
from torch import nn

from detr_lite.build import build_model
from detr_lite.config import ModelConfig
from detr_lite.structures import DetrLiteError
from detr_lite.training.optim import lr_factor, make_optimizer, parameter_groups


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.ModuleDict({"network": nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))})
        self.backbone["pyramid"] = nn.Linear(2, 2)  # as untrained as the transformer
        self.backbone_like = nn.Linear(2, 2)  # its name alone begins like the backbone's
        self.norm = nn.LayerNorm(2)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


def by_name(groups: list) -> dict:
    return {group["name"]: group for group in groups}


def test_every_trained_parameter_is_in_one_group() -> None:
    model = Model()
    groups = parameter_groups(model, 1.0, 0.1, 0.01, decay_all=False)
    members = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(members) == sorted(id(parameter) for parameter in model.parameters() if parameter.requires_grad)


def test_learning_rates_by_module_and_weight_decay_by_kind() -> None:
    model = Model()
    groups = by_name(parameter_groups(model, 1.0, 0.1, 0.01, decay_all=False))
    assert {name: (group["lr"], group["weight_decay"]) for name, group in groups.items()} == {
        "backbone": (0.1, 0.01),
        "backbone (no decay)": (0.1, 0.0),
        "transformer": (1.0, 0.01),
        "transformer (no decay)": (1.0, 0.0),
    }
    assert [parameter.shape for parameter in groups["backbone"]["params"]] == [(2, 1, 1, 1)]
    fully = [model.backbone["pyramid"].weight, model.backbone_like.weight]
    assert [id(parameter) for parameter in groups["transformer"]["params"]] == [id(parameter) for parameter in fully]
    assert all(group["initial_lr"] == group["lr"] for group in groups.values())


def test_with_decay_all_norms_and_biases_decay_too() -> None:
    groups = by_name(parameter_groups(Model(), 1.0, 0.1, 0.01, decay_all=True))
    assert {name: group["weight_decay"] for name, group in groups.items()} == {"backbone": 0.01, "transformer": 0.01}


@pytest.mark.parametrize("fused", [False, True])
def test_each_group_has_its_own_learning_rate(fused: bool) -> None:
    model = Model()
    before = [
        parameter.detach().clone() for parameter in (model.backbone["network"][0].weight, model.backbone_like.weight)
    ]
    optimizer = make_optimizer(parameter_groups(model, 1e-2, 0.1, 0.0, decay_all=False), fused)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    # AdamW's first step is the rate itself.
    torch.testing.assert_close(before[0] - model.backbone["network"][0].weight, torch.full((2, 1, 1, 1), 1e-3))
    torch.testing.assert_close(before[1] - model.backbone_like.weight, torch.full((2, 2), 1e-2))


def test_a_model_without_trainable_parameters_is_refused() -> None:
    with pytest.raises(DetrLiteError, match="nothing to train"):
        make_optimizer(parameter_groups(Model().requires_grad_(False), 1.0, 1.0, 0.0, False), fused=False)


def test_warmup_is_linear() -> None:
    rates = [lr_factor(0.0, step, "constant", lr_hold=1.0, warmup_steps=4) for step in range(6)]
    assert rates == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert lr_factor(0.0, 0, "constant", lr_hold=1.0, warmup_steps=0) == 1.0


def test_cosine_holds_then_falls_to_zero() -> None:
    def rate(progress: float) -> float:
        return lr_factor(progress, 1000, "cosine", lr_hold=0.5, warmup_steps=10)

    assert rate(0.0) == rate(0.3) == rate(0.5) == 1.0
    assert rate(0.75) == pytest.approx(0.5)
    assert rate(0.625) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert rate(1.0) == pytest.approx(0.0)
    falling = [rate(0.5 + step / 100) for step in range(51)]
    assert falling == sorted(falling, reverse=True)


def test_step_drops_to_a_tenth() -> None:
    assert lr_factor(0.69, 1000, "step", lr_hold=0.7, warmup_steps=1) == 1.0
    assert lr_factor(0.7, 1000, "step", lr_hold=0.7, warmup_steps=1) == pytest.approx(0.1)


@pytest.mark.parametrize("schedule", ["cosine", "step", "constant"])
@pytest.mark.parametrize("lr_hold", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_the_rate_stays_within_its_bounds(schedule: str, lr_hold: float, progress: float) -> None:
    for step in (0, 1, 100):
        assert 0 <= lr_factor(progress, step, schedule, lr_hold, warmup_steps=3) <= 1


def test_muon_updates_only_matrices_between_hidden_layers() -> None:
    config = ModelConfig(pretrained=False, dim=32, heads=2, num_queries=6, decoder_layers=2)
    model = build_model(config, classes=20)
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, 1.0, 1.0, 0.01, decay_all=False, optimizer="muon")
    taken = {names[parameter] for group in groups if group["use_muon"] for parameter in group["params"]}
    assert {
        "backbone.network.layer1.0.conv1.weight",
        "decoder.layers.0.cross_attention.query_content.weight",
        "heads.edges.0.0.weight",
        "heads.edges.0.4.weight",  # four distributions
        "queries.token_box.0.weight",
    } <= taken
    left = {*names.values()} - taken
    assert {
        "backbone.network.conv1.0.weight",  # 3 channels of pixels
        "queries.content.weight",
        "queries.token_label.weight",
        "heads.label.0.weight",
        "heads.box.4.weight",  # 4 numbers
        "decoder.norms.0.weight",
    } <= left
    assert sum(len(group["params"]) for group in groups) == len(names)


def test_a_pretrained_backbone_keeps_adamw() -> None:
    model = build_model(ModelConfig(pretrained=False, dim=32, heads=2, num_queries=6), classes=3)
    groups = by_name(parameter_groups(model, 1.0, 0.05, 0.01, decay_all=False, optimizer="muon"))
    assert {name for name, group in groups.items() if group["use_muon"]} == {"transformer matrices"}
    assert groups["backbone"]["lr"] == 0.05


def test_muons_update_is_orthogonal_and_as_large_as_adamws() -> None:
    """All singular values of the update are about the same, and its root mean square is about 0.2 of the rate."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32, bias=False))
    groups = parameter_groups(model, 1e-2, 1.0, 0.0, decay_all=False, optimizer="muon")
    optimizer = make_optimizer(groups, fused=True, name="muon")
    before = model[0].weight.detach().clone()
    model[0].weight.grad = torch.randn(32, 64) * torch.logspace(-2, 1, 32)[:, None]
    optimizer.step()
    step = before - model[0].weight.detach()
    values = torch.linalg.svdvals(step)
    assert values.max() / values.median() < 2
    assert step.square().mean().sqrt().item() == pytest.approx(0.2e-2, rel=0.25)
