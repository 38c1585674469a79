"""Two processes with one image each compute the loss and the gradients of one process with both."""

from pathlib import Path

import pytest
import torch
import transformers
from torch import distributed as dist

from benchmarks.tiny_families import SQUARE, tiny_config
from detr_lite.build import build_criterion
from detr_lite.config import Config
from detr_lite.families.network import FamilyDetr
from detr_lite.structures import Batch, Target
from tests.helpers.ranks import join, start

pytestmark = pytest.mark.slow

LOSS = "loss"
WITHOUT_NOISE = {
    "rt_detr_v2": {"num_denoising": 0, "dropout": 0.0},
    "d_fine": {"num_denoising": 0, "dropout": 0.0},
    "rf_detr": {"dropout": 0.0},
    "deformable_detr": {"dropout": 0.0},
}
OBJECTS = {"rt_detr_v2": (3, 1), "d_fine": (2, 2), "rf_detr": (3, 1), "deformable_detr": (3, 1)}
"""In each image. Of D-FINE as many: its self-distillation is a mean over queries, which differs otherwise."""


def step(family: str, images: list[int]) -> dict[str, torch.Tensor]:
    """Gradients and the loss; with batch norm as in evaluation, so that it does not depend on the batch."""
    # As transformers initializes it: rounding blows up in the gradients of wider weights.
    torch.manual_seed(0)
    network = transformers.AutoModelForObjectDetection.from_config(tiny_config(family, **WITHOUT_NOISE[family]))
    model = FamilyDetr(network).train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    pixels, targets = [], []
    for index in images:
        generator = torch.Generator().manual_seed(index)
        count = OBJECTS[family][index]
        pixels.append(torch.randn(3, SQUARE, SQUARE, generator=generator))
        boxes = 0.3 * torch.rand(count, 4, generator=generator) + 0.3
        targets.append(Target(boxes, torch.randint(0, 3, (count,), generator=generator), index, (SQUARE, SQUARE)))
    batch = Batch.from_images(pixels, targets)
    losses = build_criterion(Config(), 3, network.config.to_dict())(model(batch), targets)
    losses.total.backward()
    gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    return {LOSS: losses.total.detach(), **gradients}


def write_mean(folder: Path, family: str) -> None:
    join()
    mean = step(family, [dist.get_rank()])
    for value in mean.values():
        dist.all_reduce(value)
    if dist.get_rank() == 0:
        torch.save({name: value / 2 for name, value in mean.items()}, folder / "mean.pt")
    dist.barrier()


@pytest.mark.parametrize("family", WITHOUT_NOISE)
def test_two_processes_compute_what_one_does(family: str, tmp_path: Path) -> None:
    ranks = start(tmp_path / "output", 2, write_mean, tmp_path, family)
    assert ranks.codes(300) == [0, 0], ranks.err
    mean = torch.load(tmp_path / "mean.pt", weights_only=True)
    expected = step(family, [0, 1])
    assert mean.keys() == expected.keys()
    # A loss that is divided otherwise differs by a third.
    torch.testing.assert_close(mean.pop(LOSS), expected.pop(LOSS), atol=0, rtol=1e-4)
    if family != "d_fine":  # rounding decides between its untrained queries, which are nearly alike
        difference = sum(float((mean[name] - value).square().sum()) for name, value in expected.items())
        assert difference**0.5 < 2e-3 * sum(float(value.square().sum()) for value in expected.values()) ** 0.5
