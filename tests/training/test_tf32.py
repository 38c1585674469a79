"""TF32 is allowed in float32 training on GPUs that have it, and nowhere else."""

from dataclasses import replace

import pytest
import torch

from detr_lite.build import build_criterion, build_model
from detr_lite.config import Config
from detr_lite.structures import Batch, Target
from detr_lite.training.tf32 import OVERRIDE, tf32_matmuls


@pytest.mark.parametrize(
    ("precision", "device", "capability", "override", "expected"),
    [
        ("32-true", "cuda", (8, 0), None, "high"),
        ("32-true", "cuda", (9, 0), "1", "high"),
        ("32-true", "cuda", (8, 0), "0", "highest"),
        ("32-true", "cuda", (7, 5), None, "highest"),
        ("bf16-mixed", "cuda", (9, 0), None, "highest"),
        ("32-true", "cpu", (9, 0), None, "highest"),
    ],
)
def test_where_matrices_are_multiplied_in_tf32(
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    device: str,
    capability: tuple[int, int],
    override: str | None,
    expected: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.delenv(OVERRIDE, raising=False)
    if override is not None:
        monkeypatch.setenv(OVERRIDE, override)
    with tf32_matmuls(precision, torch.device(device)):
        assert torch.get_float32_matmul_precision() == expected
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize("name", ["lite", "detr"])
def test_costs_and_losses_multiply_no_matrices(tiny_config: Config, name: str) -> None:
    """So that they are exact float32 whatever TF32 does."""
    config = replace(tiny_config, model=replace(tiny_config.model, name=name))
    model, criterion = build_model(config.model, classes=3).train(), build_criterion(config, classes=3)
    targets = (Target(torch.rand(2, 4) * 0.3 + 0.3, torch.tensor([0, 2]), 0, (64, 64)),)
    output = model(Batch.from_images([torch.randn(3, 64, 64)], targets))
    with torch.profiler.profile() as profile:
        criterion(output, targets)
    names = {event.name for event in profile.events()}
    assert not [each for each in names if each.rpartition(":")[2] in ("mm", "bmm", "addmm", "baddbmm", "matmul", "mv")]
