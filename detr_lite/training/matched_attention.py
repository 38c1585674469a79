"""Where a model looks, measured on images whose objects are known, and what an evaluation writes about it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm import tqdm

from detr_lite.data.coco import CocoSplit
from detr_lite.evaluation.attention_metrics import AttentionMeter, AttentionMetrics
from detr_lite.io import atomic_write
from detr_lite.loss.matcher import MatchingCost, match
from detr_lite.loss.targets import pad_targets
from detr_lite.structures import AttentionMaps, AttentionSelection, Batch, Category, Detections
from detr_lite.training.checks.diagnostics import ZERO_AP50
from detr_lite.training.checks.prediction_stats import ALIKE, find_collapse
from detr_lite.viz.figures.attention_curves import plot_attention_curves

CROSS_ATTENTION = AttentionSelection(encoder_layers=())
"""All of the decoder's: which queries matter is known when the answers are."""

WRITTEN = ("attention.json", "attention.png")
"""The files that are written."""


@dataclass(frozen=True)
class MatchedAttention:
    """A batch's attention, and which queries answer for its objects, in the last layer's matching."""

    maps: AttentionMaps
    image: Int[Tensor, " pair"]
    query: Int[Tensor, " pair"]
    object: Int[Tensor, " pair"]
    """Place in the image's target."""
    boxes_cxcywh: Float[Tensor, "pair 4"]
    """The true ones."""


def match_attention(model: nn.Module, cost: MatchingCost, batch: Batch) -> MatchedAttention:
    """What the model, which is to be in evaluation mode, attends to in a batch, all on its device.

    Args:
        cost: of the loss that the model learns with, so that queries are matched as in training.
    """
    assert batch.targets is not None
    output = model(batch, need_attention=CROSS_ATTENTION)
    true = pad_targets(batch.targets)
    pairs = match(cost, output.logits[-1:].float(), output.boxes_cxcywh[-1:].float(), true)
    boxes_cxcywh = true.boxes_cxcywh[pairs.image, pairs.object]
    return MatchedAttention(output.attention, pairs.image, pairs.query, pairs.object, boxes_cxcywh)


@torch.inference_mode()
def measure_attention(
    model: nn.Module, cost: MatchingCost, batches: Iterable[Batch], device: torch.device
) -> AttentionMetrics:
    """The numbers over all batches, of which no more than one's weights are held. Labels are to be the model's own."""
    model.eval()
    meter = AttentionMeter()
    for batch in tqdm(batches, desc="attention", unit="batch", leave=False, disable=None):
        seen = match_attention(model, cost, batch.to(device))
        meter.add(seen.maps, seen.image, seen.query, seen.boxes_cxcywh)
    return meter.numbers()


def in_labels_of(split: CocoSplit, categories: Sequence[Category]) -> CocoSplit:
    """The split with its objects under the labels of a model of these categories, which have the same names."""
    label_of = {category.name: label for label, category in enumerate(categories)}
    labels = np.array([label_of[category.name] for category in split.categories], dtype=np.int64)
    return replace(
        split,
        categories=tuple(categories),
        images=tuple(replace(record, labels=labels[record.labels]) for record in split.images),
    )


def tell_attention(numbers: AttentionMetrics, collapse: str | None, folder: Path) -> None:
    """Print the table, and write `attention.json` and `attention.png`.

    Args:
        collapse: how, why and what to do, if all queries are alike.
    """
    content = {**numbers.as_dict(), "collapse": collapse}
    atomic_write(folder / "attention.json", lambda file: file.write(f"{json.dumps(content, indent=2)}\n".encode()))
    plot_attention_curves(numbers, folder / "attention.png")
    if numbers.objects:
        heads = numbers.inside.shape[1] - 1
        print(f"attention of the queries that answer for {numbers.objects:,} true objects, mean of {heads} heads\n")
        print(f"{numbers.table()}\n\n{numbers.sentence()}")
    else:
        print("attention  not measured: there are no objects in these images")
    if collapse is not None:
        print(f"collapsed  {collapse}")


def collapse_of(
    numbers: AttentionMetrics,
    found: Mapping[int, Detections],
    sizes: Mapping[int, tuple[int, int]],
    AP50: float,  # noqa: N803
) -> str | None:
    """In which way all queries are alike, in what they answer or in where they look; None if they are not.

    Args:
        found: detections of the same images, by image id.
        sizes: (height, width) in pixels of each image by its id.
        AP50: -1 where there are no objects. Where it is above nothing, answers that are alike are right.
    """
    answers = find_collapse(found, sizes) if 0 <= AP50 < ZERO_AP50 else None
    if answers is None and len(numbers.apart) and numbers.apart[-1] < ALIKE:
        return f"all queries of an image look at the same places (in {1 - numbers.apart[-1]:.1%} of their attention)"
    return answers
