"""Time of a backbone's forward and backward pass on the CPU: as the original computes it, and as it is trained."""

import time

import torch
from torch import Tensor

from detr_lite.model.backbone import Backbone, has_first_stage

BACKBONES = ("resnet18", "resnet50", "tf_efficientnet_lite0", "mobilenetv3_large_100", "convnext_atto")
SIZE = (2, 3, 256, 320)
REPEATS = 7


def backbones_table(names: tuple[str, ...] = BACKBONES, repeats: int = REPEATS) -> str:
    """Markdown: milliseconds with frozen batch norm and strides 8 and 16, the fastest of some repetitions.

    "exact" computes batch norms by themselves and everything in the given precision, as the original would.
    """
    images = torch.randn(SIZE)
    lines = [
        f"| {SIZE[0]} images of {SIZE[2]} x {SIZE[3]}, ms | float32, exact | float32 | bfloat16, exact | bfloat16 "
        "| bfloat16, first stage frozen |",
        "| --- " * 6 + "|",
    ]
    for name in names:
        times = []
        for is_bfloat16 in (False, True):
            for exact in (True, False):
                backbone = Backbone(name, (8, 16), freeze_batch_norm=True, exact=exact)
                times.append(_milliseconds(backbone, images, is_bfloat16, repeats))
        if has_first_stage(name):
            backbone = Backbone(name, (8, 16), freeze_batch_norm=True, freeze_first_stage=True)
        times.append(_milliseconds(backbone, images, True, repeats))
        lines.append(f"| {name} | " + " | ".join(f"{value:.0f}" for value in times) + " |")
    return "\n".join(lines)


def _milliseconds(backbone: Backbone, images: Tensor, is_bfloat16: bool, repeats: int) -> float:
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=is_bfloat16):
            total = sum((features.float().square().mean() for features in backbone(images)), torch.zeros(()))
        torch.autograd.backward(total)
        best = min(best, time.perf_counter() - start)
    return 1e3 * best
