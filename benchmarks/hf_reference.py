"""Predictions, losses and matches of transformers' DETR, layer by layer, in the types of detr_lite.

With `auxiliary_loss` transformers passes the *normalized* state of each decoder layer to the next one, and normalizes
the last one twice. In the original (arXiv 2005.12872 and its code) the norm is applied before the heads only. To follow
the original, `auxiliary_loss` is off, and the norm and the heads are applied here to each layer's state.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.parity_models import Network
from detr_lite.loss import Losses
from detr_lite.structures import Batch, DetrOutput, Target


def hf_reference_outputs(reference: Network, batch: Batch) -> DetrOutput:
    """Predictions of every decoder layer of the reference."""
    states: list[Tensor] = []
    handles = [
        layer.register_forward_hook(lambda module, inputs, state: states.append(state))
        for layer in reference.model.decoder.layers
    ]
    try:
        reference(pixel_values=batch.images, pixel_mask=(~batch.is_padding).long())
    finally:
        for handle in handles:
            handle.remove()
    normed = reference.model.decoder.layernorm(torch.stack(states))
    logits, boxes_cxcywh = reference.class_labels_classifier(normed), reference.bbox_predictor(normed).sigmoid()
    return DetrOutput(logits, boxes_cxcywh)


def hf_reference_losses(reference: Network, output: DetrOutput, targets: Sequence[Target]) -> Losses:
    """transformers' loss with all auxiliary layers; `Losses.total` has the weights of its config."""
    from transformers.loss.loss_for_object_detection import ForObjectDetectionLoss

    config = copy.copy(reference.config)
    config.auxiliary_loss = True  # for the loss alone; the model keeps its own config
    logits, boxes_cxcywh = output.logits, output.boxes_cxcywh
    total, terms, _ = ForObjectDetectionLoss(
        logits[-1], _labels(targets), logits.device, boxes_cxcywh[-1], config, logits, boxes_cxcywh
    )
    suffixes = [*(f"_{layer}" for layer in range(len(logits) - 1)), ""]
    names = {"ce": "loss_ce", "l1": "loss_bbox", "giou": "loss_giou"}
    return Losses(
        total, {part: torch.stack([terms[name + suffix] for suffix in suffixes]) for part, name in names.items()}
    )


def hf_reference_matches(
    reference: Network, output: DetrOutput, targets: Sequence[Target]
) -> set[tuple[int, int, int, int]]:
    """(layer, image, query, object) of every pair that transformers' matcher finds."""
    from transformers.loss.loss_for_object_detection import HungarianMatcher

    config = reference.config
    matcher = HungarianMatcher(config.class_cost, config.bbox_cost, config.giou_cost)
    pairs = set()
    for layer, (logits, boxes_cxcywh) in enumerate(zip(output.logits, output.boxes_cxcywh, strict=True)):
        matches = matcher({"logits": logits, "pred_boxes": boxes_cxcywh}, _labels(targets))
        for image, (queries, objects) in enumerate(matches):
            pairs |= {(layer, image, *pair) for pair in zip(queries.tolist(), objects.tolist(), strict=True)}
    return pairs


def _labels(targets: Sequence[Target]) -> list[dict[str, Tensor]]:
    return [{"class_labels": target.labels, "boxes": target.boxes_cxcywh} for target in targets]


def random_batch(
    sides: Sequence[tuple[int, int]], objects: Sequence[int], classes: int, generator: torch.Generator
) -> Batch:
    """Images of the given (height, width) with random patches and noise, so that tokens differ, and random objects."""
    images, targets = [], []
    for index, ((height, width), count) in enumerate(zip(sides, objects, strict=True)):
        patches = torch.randn(1, 3, height // 24 + 2, width // 24 + 2, generator=generator)
        noise = torch.randn(3, height, width, generator=generator)
        images.append(1.5 * F.interpolate(patches, size=(height, width), mode="bilinear")[0] + 0.5 * noise)
        center, size = torch.rand(2, count, 2, generator=generator)
        boxes_cxcywh = torch.cat([0.2 + 0.6 * center, 0.05 + 0.3 * size], dim=1)
        labels = torch.randint(0, classes, (count,), generator=generator)
        targets.append(Target(boxes_cxcywh, labels, index, (height, width)))
    return Batch.from_images(images, targets)
