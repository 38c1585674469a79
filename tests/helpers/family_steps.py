"""A training step of a tiny detector of transformers, in one process or as the mean of several.

Imported by these processes, too.
"""

from pathlib import Path

import torch
import transformers
from torch import distributed as dist

from benchmarks.tiny_families import SQUARE, tiny_config
from detr_lite.build import build_criterion
from detr_lite.config import Config
from detr_lite.families.network import FamilyDetr
from detr_lite.structures import Batch, Target
from tests.helpers.ranks import join

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
