"""What a training step and an evaluation wait for on a GPU, worked out without one."""

from collections import Counter
from pathlib import Path
from unittest.mock import MagicMock, patch

import lightning as L
import torch
from torch import nn

from benchmarks.host_syncs import HostSyncs
from detr_lite.build import build_criterion, build_model, build_postprocess
from detr_lite.config import Config
from detr_lite.data.records import Split
from detr_lite.data.transforms import ResizeRule
from detr_lite.structures import Batch, Target
from detr_lite.training.checks.nan_guard import NaNGuard
from detr_lite.training.ema import ModelEMA
from detr_lite.training.module import DetectionModule
from detr_lite.training.trainer import run_optimizer
from detr_lite.weights.checkpoint import Description

OBJECTS = (2, 0, 7)
"""Of the images of the batch."""
PIXELS = 64
STEPS = 2
"""The first makes the optimizer's state."""


def training_syncs(config: Config, val: Split) -> Counter[str]:
    """Where the host waits in a training step: "file:line operator" -> how often.

    Forward pass, losses, clipping, the guard, the optimizer and the moving average as on a GPU; the backward pass is
    computed on the CPU, where only numbers and shapes that are read are found.
    """
    module = _module(config, val)
    classes = len(val.categories)
    with HostSyncs("cpu") as backward:
        losses = module.criterion(module.model(_batch("cpu", classes)), _batch("cpu", classes).targets or ())
        backward.places.clear()
        losses.total.backward()  # type: ignore[no-untyped-call]
    weights = nn.ModuleDict({"model": module.model})
    average = ModelEMA(weights, decay=0.999, tau=1000)
    with HostSyncs() as syncs, patch("torch.cuda.Event", return_value=MagicMock(torch.cuda.Event)):
        for moved in (module.model, average.module):
            syncs.move(moved)
        optimizer = run_optimizer(module.model, config.optim, fused=True)
        for step in range(STEPS):
            syncs.places.clear()
            module.training_step(_batch("cuda", classes), step)
            for parameter in module.model.parameters():
                parameter.grad = torch.empty_like(parameter) if parameter.requires_grad else None
            module.configure_gradient_clipping(optimizer)
            optimizer.step()
            average.update_parameters(weights)
    return backward.places + syncs.places


def evaluation_syncs(config: Config, val: Split) -> Counter[str]:
    """Where the host waits in the evaluation of a batch, as in `training_syncs`."""
    module = _module(config, val).eval()
    with HostSyncs() as syncs, torch.no_grad():
        syncs.move(module.model)
        module.validation_step(_batch("cuda", len(val.categories)), 0)
    return syncs.places


def _module(config: Config, val: Split) -> DetectionModule:
    names = [category.name for category in val.categories]
    description = Description(config, val.categories, ResizeRule("longest", PIXELS), (0.5,) * 3, (0.5,) * 3)
    module = DetectionModule(
        model=build_model(config.model, len(names), for_checkpoint=True),
        criterion=build_criterion(config, len(names)),
        postprocess=build_postprocess(config.model, names),
        val=val,
        make_optimizer=lambda model: run_optimizer(model, config.optim, fused=True),
        max_grad_norm=config.optim.max_grad_norm,
        guard=NaNGuard(Path(), description, MagicMock()),
    )
    module.trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    module.log_dict = MagicMock()  # type: ignore[method-assign]
    return module.train()


def _batch(device: str, classes: int) -> Batch:
    targets = tuple(
        Target(
            torch.rand(count, 4, device=device) / 2 + 0.1,
            torch.randint(classes, (count,), device=device),
            image,
            (PIXELS, PIXELS),
        )
        for image, count in enumerate(OBJECTS)
    )
    images = torch.randn(len(OBJECTS), 3, PIXELS, PIXELS, device=device)
    return Batch(images, torch.zeros(len(OBJECTS), PIXELS, PIXELS, device=device).bool(), targets)
