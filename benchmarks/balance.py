"""Padded pixels of the slowest of several processes beside their mean, on images of COCO's sizes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from torchvision import tv_tensors

from benchmarks.study import markdown
from detr_lite.data.augmentation.detr import detr_scales
from detr_lite.data.augmentation.scale_crop import RandomScaleCrop
from detr_lite.data.augmentation.settings import PRESETS, Preset
from detr_lite.data.sampler import BucketedBatchSampler, SeededBatchSampler, SeededIndex
from detr_lite.data.transforms import ResizeRule

# Width and height, and a share of the images: about those of COCO's training images, most of which are of few sizes.
FREQUENT = {
    **{(640, 480): 0.20, (640, 427): 0.15, (480, 640): 0.08, (640, 426): 0.06, (427, 640): 0.05, (500, 375): 0.045},
    **{(640, 425): 0.03, (640, 428): 0.025, (640, 640): 0.02, (426, 640): 0.02, (375, 500): 0.015, (500, 333): 0.015},
    **{(612, 612): 0.015, (640, 360): 0.015},
}
SHORTEST_SIDE = 320
"""The others have a longer side of 640 pixels and a shorter one from this to 640."""

CASES: tuple[tuple[ResizeRule, Preset, int], ...] = (
    (ResizeRule("longest", 640), "light", 2),
    (ResizeRule("longest", 640), "light", 16),
    (ResizeRule("longest", 640), "photographs", 4),
    (ResizeRule("shortest", 800, 1333), "light", 4),
    (ResizeRule("shortest", 800, 1333), "detr", 2),
)
"""Resize rule, augmentation, images of a batch."""


class Pixels(NamedTuple):
    """Of each step and process."""

    padded: Int64[np.ndarray, "step process"]
    """Of the batch, all images of which are padded to the largest height and width."""
    unpadded: Int64[np.ndarray, "step process"]

    @property
    def slowest(self) -> float:
        """The time of a run over that of one in which all processes always have as many pixels as each other."""
        return float(self.padded.max(axis=1).sum() / self.padded.mean(axis=1).sum())

    @property
    def padding(self) -> float:
        return float(1 - self.unpadded.sum() / self.padded.sum())


def balance_table(images: int, processes: int) -> str:
    """Markdown: the slowest process over the mean, with batches dealt in the order of one process and as they are."""
    sizes_wh = coco_sizes(images)
    rows = []
    for rule, preset, batch_size in CASES:
        found = [deal(sizes_wh, rule, preset, batch_size, processes, is_alike) for is_alike in (False, True)]
        shares = [f"{each.slowest:.3f}" for each in found] + [f"{each.padding:.1%}" for each in found]
        rows.append([f"{rule.kind} {rule.size}", preset, str(batch_size), *shares])
    columns = ["resize", "augmentation", "batch", "slowest, in turn", "alike", "padding, in turn", "alike"]
    return markdown(columns, rows)


def deal(
    sizes_wh: Sequence[tuple[int, int]],
    rule: ResizeRule,
    preset: Preset,
    batch_size: int,
    processes: int,
    is_alike: bool = True,
) -> Pixels:
    """The first epoch's pixels, with the sizes that the augmentation draws.

    Args:
        is_alike: False deals the batches of a single process in turn.
    """
    sizes = [rule.target_size(height, width) for width, height in sizes_wh]
    samplers = [BucketedBatchSampler(sizes, batch_size, True, 0, rank, processes) for rank in range(processes)]
    if is_alike:
        steps = list(zip(*(SeededBatchSampler(each) for each in samplers), strict=True))
    else:
        in_turn = list(SeededBatchSampler(BucketedBatchSampler(sizes, batch_size, True)))
        whole = range(0, len(in_turn) - processes + 1, processes)
        steps = [tuple(in_turn[first : first + processes]) for first in whole]
    geometry = _geometry(preset, rule)

    def size(draw: SeededIndex) -> tuple[int, int]:
        return sizes[draw.image] if geometry is None else _augmented_size(sizes_wh[draw.image], draw, geometry)

    shapes = [[np.array([size(draw) for draw in batch]) for batch in step] for step in steps]
    padded = [[len(batch) * batch.max(axis=0).prod() for batch in step] for step in shapes]
    return Pixels(np.array(padded), np.array([[batch.prod(axis=1).sum() for batch in step] for step in shapes]))


def _geometry(preset: Preset, rule: ResizeRule) -> torch.nn.Module | None:
    """What changes the sizes of training images; None if nothing does after they are resized."""
    parts = PRESETS[preset]
    geometry: torch.nn.Module | None = None
    if parts.geometry == "detr":
        geometry = detr_scales(rule)
    elif parts.scale_jitter:
        geometry = RandomScaleCrop(rule, parts.scale_jitter, parts.zoom_out)
    return geometry


def _augmented_size(size_wh: tuple[int, int], draw: SeededIndex, geometry: torch.nn.Module) -> tuple[int, int]:
    """(height, width) of an image in training; tensors on the device "meta" have no pixels, which would take time."""
    image = tv_tensors.Image(torch.empty(3, *size_wh[::-1], device="meta"))
    boxes = tv_tensors.BoundingBoxes(torch.zeros(0, 4), format="XYXY", canvas_size=size_wh[::-1])
    torch.manual_seed(draw.seed)
    height, width = geometry(image, boxes, torch.zeros(0, dtype=torch.long))[0].shape[1:]
    return height, width


def coco_sizes(images: int, seed: int = 0) -> list[tuple[int, int]]:
    """Random (width, height) as frequent as in COCO."""
    random = np.random.default_rng(seed)
    shares = [*FREQUENT.values(), 1 - sum(FREQUENT.values())]
    shorter = random.integers(SHORTEST_SIDE, 641, images).tolist()
    is_wide = (random.random(images) < 0.7).tolist()
    others = [(640, side) if wide else (side, 640) for side, wide in zip(shorter, is_wide, strict=True)]
    kinds = random.choice(len(shares), images, p=shares).tolist()
    frequent = list(FREQUENT)
    return [frequent[kind] if kind < len(frequent) else other for kind, other in zip(kinds, others, strict=True)]
