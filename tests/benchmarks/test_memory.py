"""The tables of memory."""

from dataclasses import replace

import pytest

from benchmarks import memory
from benchmarks.memory import cards_table, memory_table
from detr_lite.config import Config, ModelConfig, OptimConfig


@pytest.fixture
def config():
    model = ModelConfig(pretrained=False, dim=32, heads=2, num_queries=20, denoising_queries=20, decoder_layers=1)
    return Config(model=model, optim=OptimConfig(optimizer="adamw", lr=1e-3))


@pytest.mark.stress
def test_the_peak_of_one_step(config):
    config = replace(config, data=replace(config.data, batch_size=2))
    lines = memory_table(config, 64, 96).splitlines()
    assert lines[0] == "| pixels | images | parameters | gradients | optimizer | activations | total, GiB |"
    assert lines[2].startswith("| 96 x 64 | 2 | 0.0 | ")


@pytest.mark.stress
def test_what_fits_into_cards(config, monkeypatch):
    monkeypatch.setattr(memory, "QUERIES", (20,))
    monkeypatch.setattr(memory, "SIZES", ((64, 96),))
    monkeypatch.setattr(memory, "IMAGES", (1, 4))
    monkeypatch.setattr(memory, "CARDS", (1, 8))  # a gigabyte is left to CUDA
    shown = []
    lines = cards_table(config, shown.append).splitlines()
    assert lines[0] == "| pixels | queries | checkpointing | 1 | 4 | fit 1 GB | fit 8 GB |"
    assert [line.split(" | ")[2] for line in lines[2:]] == ["no", "yes"]
    assert all(line.endswith("| - | 4 |") for line in lines[2:])
    assert len(shown) == 2
