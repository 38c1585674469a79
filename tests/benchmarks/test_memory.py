"""Memory of a step that is not computed is that of a step that is."""

from dataclasses import replace

import pytest

from benchmarks.memory import memory_table, peak_bytes
from detr_lite.build import build_model
from detr_lite.config import Config, ModelConfig, OptimConfig


@pytest.fixture
def config():
    model = ModelConfig(pretrained=False, dim=32, heads=2, num_queries=20, denoising_queries=20, decoder_layers=1)
    return Config(model=model, optim=OptimConfig(optimizer="adamw", lr=1e-3))


@pytest.mark.slow
@pytest.mark.parametrize("is_bf16", [False, True])
def test_a_step_without_numbers_takes_as_much_as_a_computed_one(config, is_bf16):
    fake = peak_bytes(config, 64, 96, images=2, is_bf16=is_bf16)
    computed = peak_bytes(config, 64, 96, images=2, is_fake=False, is_bf16=is_bf16)
    assert fake == {name: pytest.approx(size, rel=0.02, abs=2**18) for name, size in computed.items()}


@pytest.mark.slow
def test_its_parts_are_what_is_known_of_them(config):
    """4 bytes a parameter, AdamW's two moments; activations grow more than with the side of the image, and less than
    with its pixels squared, as attention does."""
    model = build_model(config.model, 80, for_checkpoint=True)
    parameters = 4 * sum(value.numel() for value in model.parameters())
    small, large = (peak_bytes(config, side, side, images=2) for side in (128, 256))
    assert small["parameters"] == pytest.approx(parameters, rel=0.01)
    assert small["optimizer"] == pytest.approx(2 * parameters, rel=0.01)
    assert 2 < large["activations"] / small["activations"] < 16
    assert large["total"] == pytest.approx(sum(size for name, size in large.items() if name != "total"), rel=0.05)


@pytest.mark.slow
def test_the_table(config):
    config = replace(config, data=replace(config.data, batch_size=2))
    lines = memory_table(config, 64, 96).splitlines()
    assert lines[0] == "| pixels | images | parameters | gradients | optimizer | activations | total, GiB |"
    assert lines[2].startswith("| 96 x 64 | 2 | 0.0 | ")
