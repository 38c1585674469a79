"""A detector for captioners to start from."""

from pathlib import Path

import pytest
import torch

from detr_lite.config import Config
from detr_lite.model.detr import Detr
from detr_lite.structures import Category
from detr_lite.weights.export import write_safetensors
from detr_lite.weights.init import initial_model, new_description


@pytest.fixture(scope="package")
def detector(tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a small detector, of random weights, which are of no other model of a test."""
    description = new_description(tiny_config, (Category(1, "thing"),))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(12345)
        model, _ = initial_model(description)
    assert isinstance(model, Detr)
    path = tmp_path_factory.mktemp("detector") / "model.safetensors"
    write_safetensors(path, model, description)
    return path
