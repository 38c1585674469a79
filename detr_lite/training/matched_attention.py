"""Attention of the queries that are matched to ground-truth objects: measured over a dataset, and reported."""

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm import tqdm

from detr_lite.evaluation.attention_metrics import AttentionMeter, AttentionMetrics
from detr_lite.io import atomic_write
from detr_lite.loss.matcher import MatchingCost, match
from detr_lite.loss.targets import pad_targets
from detr_lite.structures import AttentionMaps, AttentionSelection, Batch, Detections
from detr_lite.training.checks.diagnostics import ZERO_AP50
from detr_lite.training.checks.prediction_stats import ALIKE, find_collapse
from detr_lite.viz.figures.attention_curves import plot_attention_curves

CROSS_ATTENTION = AttentionSelection(encoder_layers=(), samples_only=True)
"""Of all queries, as the matching is known only after the forward pass."""

ATTENTION_FILES = ("attention.json", "attention.png")
"""What `report_attention` writes."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MatchedAttention:
    """Attention of a batch, and the queries that the last layer's matching assigns to its objects."""

    maps: AttentionMaps
    image: Int[Tensor, " pair"]
    query: Int[Tensor, " pair"]
    object: Int[Tensor, " pair"]
    """Index in the image's target."""
    boxes_cxcywh: Float[Tensor, "pair 4"]
    """The ground truth."""


def match_attention(model: nn.Module, cost: MatchingCost, batch: Batch) -> MatchedAttention:
    """Attention of a model in evaluation mode to a batch on its device, matched to the batch's objects.

    Args:
        cost: the matching cost of the model's loss, so that queries are matched as in training.
    """
    assert batch.targets is not None
    output = model(batch, need_attention=CROSS_ATTENTION)
    targets = pad_targets(batch.targets)
    pairs = match(cost, output.logits[-1:].float(), output.boxes_cxcywh[-1:].float(), targets)
    boxes_cxcywh = targets.boxes_cxcywh[pairs.image, pairs.object]
    return MatchedAttention(output.attention, pairs.image, pairs.query, pairs.object, boxes_cxcywh)


@torch.inference_mode()
def measure_attention(
    model: nn.Module, cost: MatchingCost, batches: Iterable[Batch], device: torch.device
) -> AttentionMetrics:
    """Metrics over all batches, whose labels are the model's own; holds the attention of one batch at a time."""
    model.eval()
    meter = AttentionMeter()
    for batch in tqdm(batches, desc="attention", unit="batch", leave=False, disable=None):
        matched = match_attention(model, cost, batch.to(device))
        meter.update(matched.maps, matched.image, matched.query, matched.boxes_cxcywh)
    return meter.compute()


def report_attention(metrics: AttentionMetrics, collapse: str | None, folder: Path) -> None:
    """Log the metrics as a table, and write `attention.json` and `attention.png`.

    Args:
        collapse: how all queries are alike, and what to do about it, if they are.
    """
    content = {**metrics.as_dict(), "collapse": collapse}
    atomic_write(folder / "attention.json", lambda file: file.write(f"{json.dumps(content, indent=2)}\n".encode()))
    plot_attention_curves(metrics, folder / "attention.png")
    if metrics.objects:
        logger.info(
            "attention of the queries matched to %s ground-truth objects, mean of %d heads\n\n%s\n\n%s",
            f"{metrics.objects:,}",
            metrics.inside.shape[1] - 1,
            metrics.table(),
            metrics.sentence(),
        )
    else:
        logger.warning("attention was not measured, as there are no objects in these images")
    if collapse is not None:
        logger.warning("%s", collapse)


def find_attention_collapse(
    metrics: AttentionMetrics,
    detections: Mapping[int, Detections],
    sizes_wh: Int[np.ndarray, "image 2"],
    AP50: float,  # noqa: N803
) -> str | None:
    """How all queries are alike, in their predictions or in their attention; None if they are not.

    Args:
        detections: of the same images, by image index.
        sizes_wh: of each image in pixels.
        AP50: -1 where there are no objects. Predictions that are alike are correct where it is not about 0.
    """
    collapse = find_collapse(detections, sizes_wh) if 0 <= AP50 < ZERO_AP50 else None
    if collapse is None and len(metrics.apart) and metrics.apart[-1] < ALIKE:
        share = 1 - metrics.apart[-1]
        return f"all queries of an image attend to the same places (in {share:.1%} of their attention)"
    return collapse
