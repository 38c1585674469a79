"""What a training step and an evaluation wait for on a GPU, worked out without one."""

import pickle
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import MagicMock, patch

import lightning as L
import torch
from torch import nn

from benchmarks.grid_data import DatasetSpec, generate_dataset
from benchmarks.host_syncs import HostSyncs
from benchmarks.study import markdown
from detr_lite.build import build_criterion, build_model, build_postprocess
from detr_lite.config import Config
from detr_lite.data.reading import read_split
from detr_lite.data.records import Split
from detr_lite.data.transforms import ResizeRule
from detr_lite.evaluation.packing import detection_rows, pack_detections
from detr_lite.evaluation.postprocess import Postprocess, stable_topk
from detr_lite.structures import Batch, DetrOutput, Target
from detr_lite.training.checks.nan_guard import NaNGuard
from detr_lite.training.ema import ModelEMA
from detr_lite.training.module import DetectionModule
from detr_lite.training.trainer import run_optimizer, silence_lightning
from detr_lite.weights.checkpoint import Description

OBJECTS = (2, 0, 7)
"""Of the images of the batch."""
PIXELS = 64
QUERIES, CLASSES = 300, 1_000
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


def waits_table(config: Config) -> str:
    """Markdown: waits, bytes and milliseconds; each one's place or what it was before."""
    with tempfile.TemporaryDirectory() as folder:
        generate_dataset(Path(folder), DatasetSpec(images=1, classes=3, objects=3, pixels=PIXELS), val_images=1)
        val = read_split(Path(folder), "val")
    config = replace(
        config,
        model=replace(config.model, num_queries=config.model.num_queries or QUERIES, pretrained=False),
        optim=replace(config.optim, lr=config.optim.lr or 1e-3),
    )
    silence_lightning()
    rows = []
    for name, syncs in (("a training step", training_syncs(config, val)), ("a batch", evaluation_syncs(config, val))):
        rows.append([f"waits of {name}", str(syncs.total()), ", ".join(syncs)])
    found = Postprocess("sigmoid", [str(label) for label in range(CLASSES)], QUERIES)(
        DetrOutput(torch.randn(1, 1, QUERIES, CLASSES), torch.rand(1, 1, QUERIES, 4)), [(480, 640)]
    )
    sent = detection_rows(dict(enumerate(found)))
    pickled = len(pickle.dumps(pack_detections(sent)))
    size = sent.rows.nbytes + sent.images.nbytes
    rows.append([f"bytes for an image of {QUERIES} detections", f"{size:,}", f"pickled arrays: {pickled:,}"])
    scores = torch.rand(1, QUERIES * CLASSES)
    top, full = _milliseconds(lambda: stable_topk(scores, QUERIES)), _milliseconds(lambda: scores.sort(stable=True))
    rows.append([f"ms for the best of {QUERIES} x {CLASSES:,} scores", f"{top:.1f}", f"sorting all: {full:.1f}"])
    return markdown(["", "", ""], rows)


def _milliseconds(function: Callable[[], object]) -> float:
    """Of this thread, the least of some calls."""
    times = []
    for _ in range(15):
        start = time.thread_time()
        function()
        times.append(time.thread_time() - start)
    return 1e3 * min(times)


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
