"""Detectors that do equal work: `detr` and DETR of transformers; `lite`, RT-DETRv2 and D-FINE on one backbone."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from benchmarks.baseline_run import baseline_sizes
from benchmarks.baselines import build_network, find_baseline
from benchmarks.parity_models import Sizes, make_parity_models, train_batch_norms
from detr_lite.build import build_criterion, build_model
from detr_lite.config import Config
from detr_lite.loss import official_criterion
from detr_lite.loss.criterion import Criterion
from detr_lite.structures import Batch

TRAINED_STAGES = ("layer2", "layer3", "layer4")
LITE_PEERS = ("rtdetr_v2", "d_fine")


@dataclass(frozen=True)
class Contender:
    """A detector as its library runs it."""

    name: str
    model: nn.Module
    loss: Callable[[Batch], Tensor]
    """Forward pass and loss, for training mode."""
    predict: Callable[[Batch], object]
    """Forward pass, for evaluation mode."""


def detr_pair(sizes: Sizes, freeze_batch_norm: bool) -> list[Contender]:
    """`detr` as `build_model` makes it and DETR of transformers, on the same timm backbone with the same weights.

    With frozen batch norm both also freeze the stem and the first stage, as published; else both train everything.
    """
    reference, model = make_parity_models(sizes, seed=0, freeze_batch_norm=freeze_batch_norm, exact=False)
    reference.config.auxiliary_loss = reference.model.decoder.config.auxiliary_loss = True
    if freeze_batch_norm:
        for detector in (reference.model, model):
            for name, parameter in detector.named_parameters():
                is_first = name.startswith("backbone.") and not any(part in name for part in TRAINED_STAGES)
                parameter.requires_grad_(not is_first)
    else:
        train_batch_norms(reference)
    ours = _ours("detr", model, official_criterion(sizes.classes))
    return [ours, _theirs("DETR", reference, with_mask=True)]


def lite_and_peers(config: Config, classes: int) -> list[Contender]:
    """`lite` of the settings, and RT-DETRv2 and D-FINE of its sizes, all on one backbone with random weights."""
    model = build_model(config.model, classes, for_checkpoint=True)
    contenders = [_ours("lite", model, build_criterion(config, classes))]
    for name in LITE_PEERS:
        baseline = find_baseline(name)
        network = build_network(baseline, baseline_sizes(config, classes))
        contenders.append(_theirs(baseline.title, network, with_mask=False))
    return contenders


def _ours(name: str, model: nn.Module, criterion: Criterion) -> Contender:
    def loss(batch: Batch) -> Tensor:
        assert batch.targets is not None
        return criterion(model(batch), batch.targets).total

    return Contender(name, model, loss, model)


def _theirs(name: str, network: Any, with_mask: bool) -> Contender:
    def call(batch: Batch, **keywords: Any) -> Any:
        mask = {"pixel_mask": (~batch.is_padding).long()} if with_mask else {}
        return network(pixel_values=batch.images, **mask, **keywords)

    def loss(batch: Batch) -> Tensor:
        assert batch.targets is not None
        labels = [{"class_labels": target.labels, "boxes": target.boxes_cxcywh} for target in batch.targets]
        return call(batch, labels=labels).loss  # type: ignore[no-any-return]

    return Contender(f"{name} of transformers", network, loss, call)
