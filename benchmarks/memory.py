"""Peak memory of a training step, worked out without a GPU: tensors have shapes, but no numbers."""

from contextlib import nullcontext
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker

from benchmarks.study import markdown
from detr_lite.build import build_criterion, build_model, require
from detr_lite.config import Config
from detr_lite.loss.matcher import Matches, MatchingCost
from detr_lite.loss.targets import PaddedTargets
from detr_lite.structures import Batch, Target
from detr_lite.training.trainer import run_optimizer

CLASSES = 80
OBJECTS = 7
"""Of each image; COCO's mean."""
KINDS = {"Parameter": "parameters", "Gradient": "gradients", "Optstate": "optimizer", "Activation": "activations"}
"""The tracker's kinds of tensors -> columns."""


def memory_table(config: Config, height: int, width: int) -> str:
    """Markdown: GiB at the peak of a step, of each kind of tensor, with bf16 autocast.

    The optimizer's state is there from the second step on, which is what counts. Not included: the moving average of
    the weights (as much as the parameters), libraries' working memory, and what the allocator leaves unused.
    """
    images = require("data.batch_size", config.data.batch_size)
    peak = peak_bytes(config, height, width, images)
    cells = [f"{peak[name] / 2**30:.1f}" for name in (*KINDS.values(), "total")]
    return markdown(["pixels", "images", *KINDS.values(), "total, GiB"], [[f"{width} x {height}", str(images), *cells]])


def peak_bytes(
    config: Config, height: int, width: int, images: int, is_fake: bool = True, is_bf16: bool = True
) -> dict[str, int]:
    """Bytes of each kind of tensor, and their "total", at the moment of a step when that is largest.

    Args:
        is_fake: False computes the step.
    """
    torch.manual_seed(0)
    model = build_model(config.model, CLASSES, for_checkpoint=True).train()
    criterion = build_criterion(config, CLASSES)
    mode = FakeTensorMode() if is_fake else None
    if mode is not None:
        _make_fake(model, mode)
    tracker = MemTracker()
    with mode or nullcontext(), patch("detr_lite.loss.criterion.match", match_in_order):
        optimizer = run_optimizer(model, config.optim, fused=False)
        targets = tuple(
            Target(torch.rand(OBJECTS, 4), torch.randint(CLASSES, (OBJECTS,)), number, (height, width))
            for number in range(images)
        )
        batch = Batch(torch.randn(images, 3, height, width), torch.zeros(images, height, width).bool(), targets)
        tracker.track_external(model, optimizer)
        with tracker:
            for _ in range(2):
                optimizer.zero_grad()
                with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
                    output = model(batch)
                    losses = criterion(output, targets)
                losses.total.backward()  # type: ignore[no-untyped-call]
                del output, losses
                optimizer.step()
                tracker.reset_mod_stats()  # it expects one step; the peak stays
        snapshot = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]
    by_name = {getattr(kind, "value", kind): size for kind, size in snapshot.items()}
    return {**{name: by_name.get(kind, 0) for kind, name in KINDS.items()}, "total": by_name["Total"]}


@torch.no_grad()
def match_in_order(cost: MatchingCost, logits: Tensor, boxes_cxcywh: Tensor, targets: PaddedTargets) -> Matches:
    """In place of `match`, which needs numbers: the first query has the first object. The costs are computed."""
    cost(logits, boxes_cxcywh, targets.labels[None], targets.boxes_cxcywh[None])
    pairs = [
        (layer, image, query, query)
        for layer in range(len(logits))
        for image, count in enumerate(targets.counts)
        for query in range(min(count, logits.shape[2]))
    ]
    index = torch.tensor(pairs, dtype=torch.long).reshape(-1, 4).T
    return Matches(index[0], index[1], index[2], index[3])


def _make_fake(model: nn.Module, mode: FakeTensorMode) -> None:
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, value in tensors.items():
                if value is not None:
                    tensors[name] = mode.from_tensor(value)  # type: ignore[assignment]
