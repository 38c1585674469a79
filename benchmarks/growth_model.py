"""`growth`: the parts that see batches, at many sizes."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from benchmarks.growth_measure import Case
from detr_lite.build import build_criterion, build_model
from detr_lite.config import Config, ModelConfig
from detr_lite.data.collate import collate
from detr_lite.evaluation.postprocess import Postprocess
from detr_lite.loss.matcher import MatchingCost, match
from detr_lite.loss.targets import pad_targets
from detr_lite.model.denoising import make_denoising_queries
from detr_lite.model.queries import topk_distinct
from detr_lite.structures import Batch, DetrOutput, Target

IMAGES, LAYERS, QUERIES, CLASSES, OBJECTS = 2, 3, 300, 80, 7
COST = MatchingCost("sigmoid", 2.0, 5.0, 2.0)
LITE = ModelConfig(
    backbone="resnet18", pretrained=False, dim=64, heads=4, num_queries=50, decoder_layers=2, feedforward_dim=128
)
DETR = replace(LITE, name="detr", strides=(32,), encoder_layers=2)

ATTENTION = "queries attend to each other"
PAGES = "linear, but the system gives large tensors new pages at each call"


def model_cases() -> list[Case]:
    return [
        Case("collate", "objects", (8, 512), lambda size, _: _collate(64, size)),
        Case("padded targets", "objects", (8, 512), lambda size, _: partial(pad_targets, random_targets(size))),
        Case("matching", "objects", (8, 128), lambda size, _: _match(objects=size), "Hungarian method"),
        Case("criterion of lite", "objects", (8, 128), lambda size, _: _criterion(objects=size), "Hungarian method"),
        Case("denoising queries", "objects", (8, 512), lambda size, _: _denoising(size)),
        Case("matching", "queries", (100, 1600), lambda size, _: _match(queries=size)),
        Case("matching, as many objects", "queries", (25, 400), lambda size, _: _match(size, size), "Hungarian method"),
        Case("postprocessing", "queries", (100, 3200), lambda size, _: _postprocess(size, CLASSES)),
        Case(
            "selection of distinct anchors", "queries", (50, 800), lambda size, _: _distinct(size),
            "IoU of each candidate with each",
        ),
        Case("step of lite", "queries", (25, 400), lambda size, _: _step(replace(LITE, num_queries=size)), ATTENTION),
        Case("matching", "classes", (20, 1280), lambda size, _: _match(classes=size)),
        Case("criterion of lite", "classes", (20, 640), lambda size, _: _criterion(classes=size)),
        Case("postprocessing", "classes", (20, 1280), lambda size, _: _postprocess(QUERIES, size)),
        Case("step of lite", "pixels", (128**2, 512**2), lambda size, _: _step(LITE, size)),
        Case("step of detr", "pixels", (256**2, 1024**2), lambda size, _: _step(DETR, size), "tokens attend to tokens"),
        Case("collate", "pixels", (128**2, 1024**2), lambda size, _: _collate(4, OBJECTS, size), PAGES),
    ]  # fmt: skip


def random_targets(objects: int, images: int = IMAGES, classes: int = CLASSES, side: int = 640) -> list[Target]:
    boxes_cxcywh = torch.cat([torch.rand(objects, 2), 0.02 + 0.1 * torch.rand(objects, 2)], dim=1)
    labels = torch.randint(classes, (objects,))
    return [Target(boxes_cxcywh, labels, image, (side, side)) for image in range(images)]


def _output(queries: int, classes: int) -> DetrOutput:
    boxes_cxcywh = torch.rand(LAYERS, IMAGES, queries, 4) * 0.3 + 0.2
    return DetrOutput(torch.randn(LAYERS, IMAGES, queries, classes).requires_grad_(), boxes_cxcywh.requires_grad_())


def _collate(images: int, objects: int, pixels: int = 32**2) -> Callable[[], object]:
    side = round(pixels**0.5)
    image = torch.zeros(3, side, side)
    return partial(collate, [(image, target) for target in random_targets(objects, images)])


def _match(queries: int = QUERIES, objects: int = OBJECTS, classes: int = CLASSES) -> Callable[[], object]:
    output, targets = _output(queries, classes), pad_targets(random_targets(objects, classes=classes))
    return partial(match, COST, output.logits.detach(), output.boxes_cxcywh.detach(), targets)


def _criterion(objects: int = OBJECTS, classes: int = CLASSES) -> Callable[[], object]:
    criterion = build_criterion(Config(), classes)
    output, targets = _output(QUERIES, classes), random_targets(objects, classes=classes)
    return lambda: torch.autograd.backward(criterion(output, targets).total)


def _denoising(objects: int) -> Callable[[], object]:
    return partial(make_denoising_queries, random_targets(objects), CLASSES, 2 * objects, contrastive=True)


def _postprocess(queries: int, classes: int) -> Callable[[], object]:
    postprocess = Postprocess("sigmoid", [str(label) for label in range(classes)], 300)
    return partial(postprocess, _output(queries, classes), [(480, 640)] * IMAGES)


def _distinct(queries: int) -> Callable[[], object]:
    boxes_cxcywh = torch.rand(IMAGES, 4 * queries, 4)
    return partial(topk_distinct, torch.rand(IMAGES, 4 * queries), boxes_cxcywh, queries, 0.8)


def _step(config: ModelConfig, pixels: int = 256**2) -> Callable[[], object]:
    side = round(pixels**0.5)
    whole = Config(model=config)
    model = build_model(config, CLASSES, for_checkpoint=True).train()
    criterion, targets = build_criterion(whole, CLASSES), random_targets(OBJECTS, side=side)
    batch = Batch(torch.randn(IMAGES, 3, side, side), torch.zeros(IMAGES, side, side, dtype=torch.bool), tuple(targets))
    return lambda: torch.autograd.backward(criterion(model(batch), targets).total)


def warm_up(folder: Path) -> None:
    """Imports and the first allocations of torch, which the first measurement would be charged for."""
    _match(10)()
    _step(LITE, 64**2)()
