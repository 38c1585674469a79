"""Muon against timm's, torch's AdamW, and singular values."""

import copy

import pytest
import torch
from timm.optim import Muon as TimmMuon
from timm.optim.muon import zeropower_via_newtonschulz
from torch import nn

from detr_lite.training.muon import COEFFICIENTS, Muon, orthogonalize

SHAPES = [(1, 16, 16), (3, 8, 40), (2, 40, 8), (1, 64, 576)]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16), nn.Linear(12, 8), nn.Linear(12, 8))


def groups_of(model: nn.Module, rate: float = 1e-2, decay: float = 0.1) -> list[dict]:
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    return [
        {"params": matrices, "lr": rate, "weight_decay": decay, "use_muon": True},
        {"params": others, "lr": rate, "weight_decay": decay, "use_muon": False},
    ]


def take_steps(model: nn.Module, optimizer: torch.optim.Optimizer, count: int = 3) -> None:
    random = torch.Generator().manual_seed(1)
    for _ in range(count):
        for parameter in model.parameters():
            # With the strides of the weight, as from a backward pass.
            parameter.grad = torch.empty_like(parameter).copy_(torch.randn(parameter.shape, generator=random))
        optimizer.step()


@pytest.mark.parametrize("shape", SHAPES)
def test_the_iteration_on_the_gram_matrix_is_newton_schulz(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(shape) * torch.logspace(-4, 1, shape[1])[:, None]
    expected = zeropower_via_newtonschulz(matrices.double(), 5, [*COEFFICIENTS], dtype=torch.float64)
    torch.testing.assert_close(orthogonalize(matrices), expected.float(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_values_become_about_one(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(shape, dtype=torch.float64) * torch.logspace(-1, 0, shape[1])[:, None]
    (left, _, right), result = torch.linalg.svd(matrices, full_matrices=False), orthogonalize(matrices)
    values = left.mT @ result @ right.mT
    diagonal = values.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(values, torch.diag_embed(diagonal), rtol=0, atol=1e-5)
    assert diagonal.min() > 0.85
    assert diagonal.max() < 1.15


@pytest.mark.parametrize("matrix", [torch.zeros(1, 4, 6), torch.ones(1, 4, 6), torch.full((1, 4, 6), 1e-30)])
def test_rank_deficient_matrices_stay_finite(matrix: torch.Tensor) -> None:
    result = orthogonalize(matrix)
    assert result.isfinite().all()
    assert torch.linalg.matrix_norm(result, 2).item() < 1.2


def test_matrices_are_updated_as_by_timms_muon() -> None:
    ours, timms = network(), network()
    take_steps(ours, Muon(groups_of(ours)))
    take_steps(timms, TimmMuon(groups_of(timms), nesterov=True))
    for mine, expected, start in zip(ours.parameters(), timms.parameters(), network().parameters(), strict=True):
        if mine.ndim > 1:  # timm computes in bfloat16
            torch.testing.assert_close(mine - start, expected - start, rtol=0.05, atol=2e-4)


@pytest.mark.parametrize("fused", [False, True])
def test_other_parameters_are_updated_as_by_adamw(fused: bool) -> None:
    ours, timms = network(), network()
    take_steps(ours, Muon(groups_of(ours), fused=fused))
    take_steps(timms, torch.optim.AdamW(timms.parameters(), lr=1e-2, betas=(0.9, 0.99), weight_decay=0.1))
    for mine, expected in zip(ours.parameters(), timms.parameters(), strict=True):
        if mine.ndim == 1:
            torch.testing.assert_close(mine, expected)


def test_matrices_of_one_shape_do_not_mix() -> None:
    together, apart = network(), network()
    take_steps(together, Muon(groups_of(together)))
    alone = [{**groups_of(apart)[0], "params": [weight]} for weight in apart.parameters() if weight.ndim > 1]
    take_steps(apart, Muon(alone))
    for one, other in zip(together.parameters(), apart.parameters(), strict=True):
        if one.ndim > 1:
            torch.testing.assert_close(one, other)


def test_gradients_that_are_not_finite_leave_weights_and_momentum_unchanged() -> None:
    model = network()
    optimizer = Muon(groups_of(model), fused=True)
    take_steps(model, optimizer)
    weights, state = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict()["state"])
    optimizer.found_inf = torch.ones(())
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, float("nan"))
    optimizer.step()
    torch.testing.assert_close(model.state_dict(), weights, rtol=0, atol=0)
    torch.testing.assert_close(optimizer.state_dict()["state"], state, rtol=0, atol=0)
    optimizer.found_inf = torch.zeros(())
    take_steps(model, optimizer, 1)
    assert all(not torch.equal(value, weights[name]) for name, value in model.named_parameters())


@pytest.mark.parametrize("fused", [False, True])
def test_training_continues_from_its_state(fused: bool) -> None:
    straight, stopped = network(), network()
    optimizer = Muon(groups_of(straight), fused=fused)
    take_steps(straight, optimizer)
    first = Muon(groups_of(stopped), fused=fused)
    take_steps(stopped, first)
    second = Muon(groups_of(stopped, rate=1.0), fused=fused)
    second.load_state_dict(first.state_dict())
    take_steps(straight, optimizer)
    take_steps(stopped, second)
    torch.testing.assert_close(stopped.state_dict(), straight.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("fused", [False, True])
def test_training_continues_from_timms_state(fused: bool) -> None:
    model = network()
    before = TimmMuon(groups_of(model), nesterov=True)
    take_steps(model, before)
    after = Muon(groups_of(model), fused=fused)
    after.load_state_dict(before.state_dict())
    for parameter in model.parameters():
        kept, state = before.state[parameter], after.state[parameter]
        for name in ("momentum_buffer",) if parameter.ndim > 1 else ("step", "exp_avg", "exp_avg_sq"):
            torch.testing.assert_close(state[name], torch.as_tensor(kept[name]), check_dtype=False, rtol=0, atol=0)
    take_steps(model, after)
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize(("was_fused", "is_fused"), [(False, True), (True, False)])
def test_fused_depends_on_the_run_and_not_on_the_loaded_state(was_fused: bool, is_fused: bool) -> None:
    device = "meta" if is_fused else "cpu"  # the only other device that is available everywhere
    old, new = network(), network().to(device)
    before = Muon(groups_of(old), fused=was_fused)
    take_steps(old, before)
    after = Muon(groups_of(new), fused=is_fused)
    after.load_state_dict(before.state_dict())
    assert {group["fused"] for group in after.param_groups} == {is_fused}
    steps = [state["step"] for state in after.state.values() if "step" in state]
    assert {step.device.type for step in steps} == {device}


@pytest.mark.parametrize("fused", [False, True])
def test_the_memory_format_makes_no_difference(fused: bool) -> None:
    def convolutions() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(8, 16, 3), nn.Conv2d(16, 8, 1), nn.Conv2d(8, 8, 3, groups=8))

    plain, turned = convolutions(), convolutions().to(memory_format=torch.channels_last)
    for model in (plain, turned):
        groups = groups_of(model)
        *matrices, depthwise = groups[0]["params"]
        groups[0]["params"] = matrices
        groups[1]["params"] += [depthwise]
        take_steps(model, Muon(groups, fused=fused))
    assert turned[0].weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(turned.state_dict(), plain.state_dict(), rtol=1e-5, atol=1e-6)


def test_a_closure_is_called_with_gradients_on() -> None:
    model = network()
    optimizer = Muon(groups_of(model))

    def closure() -> torch.Tensor:
        loss = sum(parameter.square().sum() for parameter in model.parameters())
        loss.backward()
        return loss

    before = copy.deepcopy(model.state_dict())
    assert optimizer.step(closure) > 0
    assert not torch.equal(model[0].weight, before["0.weight"])
    assert model[1].weight.grad is not None
