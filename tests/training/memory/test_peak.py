"""Memory of a step that is not computed is that of a step that is."""

from dataclasses import replace

import pytest
import torch

from detr_lite.build import build_criterion, build_model
from detr_lite.config import Config, ModelConfig, OptimConfig
from detr_lite.loss import criterion
from detr_lite.model import attention, query_chunks
from detr_lite.training.memory.peak import FakeStep, StepSize
from detr_lite.training.memory.stand_ins import fused_attention, without_numbers

KINDS = ("parameters", "gradients", "optimizer", "activations")
SMALL = StepSize(2, 64, 96, is_half=False)


def settings(name="lite", **changes):
    sizes = {"dim": 32, "heads": 2, "num_queries": 20, "denoising_queries": 20, "decoder_layers": 1}
    return Config(
        model=ModelConfig(name=name, pretrained=False, **sizes, **changes),
        optim=OptimConfig(optimizer="adamw" if name == "detr" else "muon", lr=1e-3),
    )


def fake_step(config, **options):
    torch.manual_seed(0)
    model = build_model(config.model, 5, for_checkpoint=True)
    return FakeStep(model, build_criterion(config, 5), config, **options)


@pytest.mark.parametrize(
    "size",
    [SMALL, pytest.param(replace(SMALL, is_half=True, gradient_checkpointing=True), marks=pytest.mark.slow)],
    ids=str,
)
@pytest.mark.parametrize("name", ["lite", pytest.param("detr", marks=pytest.mark.slow)])
@pytest.mark.stress
@pytest.mark.slow
def test_a_step_without_numbers_takes_as_much_as_a_computed_one(name, size):
    fake = fake_step(settings(name), as_on_gpu=False).peak(size)
    computed = fake_step(settings(name), is_fake=False).peak(size)
    for kind in (*KINDS, "total"):
        assert getattr(fake, kind) == pytest.approx(getattr(computed, kind), rel=0.03, abs=2**18), kind


@pytest.mark.stress
def test_its_parts_are_what_is_known_of_them():
    """4 bytes a parameter, AdamW's two moments, the moving average; activations grow with the images, more than with
    the side of the image, and less than with its pixels squared, as attention does."""
    config = settings("detr")
    config = replace(config, optim=replace(config.optim, ema_decay=0.99))
    model = build_model(config.model, 5, for_checkpoint=True)
    parameters = 4 * sum(value.numel() for value in model.parameters())
    step = fake_step(config)
    small, many, large = (
        step.peak(size) for size in (StepSize(2, 128, 128), StepSize(8, 128, 128), StepSize(2, 256, 256))
    )
    assert small.parameters == pytest.approx(2 * parameters, rel=0.01)
    assert small.optimizer == pytest.approx(2 * parameters, rel=0.01)
    assert 0 <= small.gradients <= parameters
    assert 2 < large.activations / small.activations < 16
    assert 2 < many.activations / small.activations <= 4.2
    assert large.total == large.parameters + large.gradients + large.optimizer + large.activations


@pytest.mark.stress
def test_what_saves_memory_saves_it(monkeypatch):
    step = fake_step(settings())
    size = StepSize(4, 128, 160, is_half=False)
    plain = step.peak(size).total
    assert step.peak(replace(size, is_half=True)).total < plain
    assert step.peak(replace(size, gradient_checkpointing=True)).total < 0.9 * plain
    assert step.peak(size).total == plain
    monkeypatch.setattr(query_chunks, "MAX_BIAS_BYTES", 1000)
    assert step.peak(size).total < plain


def test_the_stand_ins_are_there_for_the_estimate_alone():
    functions = (attention._attend_written_out, criterion.match)
    with without_numbers(as_on_gpu=True):
        assert attention._attend_written_out is fused_attention
        assert criterion.match is not functions[1]
    assert (attention._attend_written_out, criterion.match) == functions
    query = torch.randn(1, 2, 3, 8, requires_grad=True)
    bias = torch.randn(1, 2, 3, 5, requires_grad=True)
    key = torch.randn(1, 2, 5, 8)
    output = fused_attention(query, key, torch.randn(1, 2, 5, 4), bias)
    output.sum().backward()
    assert output.shape == (1, 2, 3, 4)
    assert query.grad.shape == query.shape
    assert bias.grad.shape == bias.shape
