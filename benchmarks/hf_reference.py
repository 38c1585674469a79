"""What transformers' DETR answers, layer by layer, and what its loss makes of answers, in our words.

With `auxiliary_loss` transformers hands each decoder layer the *normed* state of the one before, and norms the last one
twice. In the original (arXiv 2005.12872 and its code) the norm stands before the heads, off the way from layer to
layer. The original is the measure: `auxiliary_loss` is off, and each layer's state is read with the norm and the heads.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.parity_models import Network
from detr_lite.loss import Losses
from detr_lite.structures import Batch, DetrOutput, Target


def hf_reference_outputs(theirs: Network, batch: Batch) -> DetrOutput:
    """Every decoder layer's answer of theirs, the norm and the heads applied to each as in the original."""
    states: list[Tensor] = []
    watches = [
        layer.register_forward_hook(lambda module, given, state: states.append(state))
        for layer in theirs.model.decoder.layers
    ]
    try:
        theirs(pixel_values=batch.images, pixel_mask=(~batch.is_padding).long())
    finally:
        for watch in watches:
            watch.remove()
    normed = theirs.model.decoder.layernorm(torch.stack(states))
    logits, boxes_cxcywh = theirs.class_labels_classifier(normed), theirs.bbox_predictor(normed).sigmoid()
    return DetrOutput(logits, boxes_cxcywh)


def hf_reference_losses(theirs: Network, output: DetrOutput, targets: Sequence[Target]) -> Losses:
    """transformers' loss with all auxiliary layers, in our words; `Losses.total` with the weights of its settings."""
    from transformers.loss.loss_for_object_detection import ForObjectDetectionLoss

    settings = copy.copy(theirs.config)
    settings.auxiliary_loss = True  # of the loss; what the decoder reads is the model's own
    logits, boxes_cxcywh = output.logits, output.boxes_cxcywh
    total, terms, _ = ForObjectDetectionLoss(
        logits[-1], _labels(targets), logits.device, boxes_cxcywh[-1], settings, logits, boxes_cxcywh
    )
    suffixes = [*(f"_{layer}" for layer in range(len(logits) - 1)), ""]
    names = {"ce": "loss_ce", "l1": "loss_bbox", "giou": "loss_giou"}
    return Losses(
        total, {ours: torch.stack([terms[name + suffix] for suffix in suffixes]) for ours, name in names.items()}
    )


def hf_reference_matches(
    theirs: Network, output: DetrOutput, targets: Sequence[Target]
) -> set[tuple[int, int, int, int]]:
    """(layer, image, query, object) of every pair that transformers' matcher makes."""
    from transformers.loss.loss_for_object_detection import HungarianMatcher

    settings = theirs.config
    matcher = HungarianMatcher(settings.class_cost, settings.bbox_cost, settings.giou_cost)
    pairs = set()
    for layer, (logits, boxes_cxcywh) in enumerate(zip(output.logits, output.boxes_cxcywh, strict=True)):
        of_images = matcher({"logits": logits, "pred_boxes": boxes_cxcywh}, _labels(targets))
        for image, (queries, objects) in enumerate(of_images):
            pairs |= {(layer, image, *pair) for pair in zip(queries.tolist(), objects.tolist(), strict=True)}
    return pairs


def _labels(targets: Sequence[Target]) -> list[dict[str, Tensor]]:
    return [{"class_labels": target.labels, "boxes": target.boxes_cxcywh} for target in targets]


def random_batch(
    sides: Sequence[tuple[int, int]], objects: Sequence[int], classes: int, generator: torch.Generator
) -> Batch:
    """Images of random patches and grain, (height, width) each, so that tokens differ; with random objects."""
    images, targets = [], []
    for index, ((height, width), count) in enumerate(zip(sides, objects, strict=True)):
        patches = torch.randn(1, 3, height // 24 + 2, width // 24 + 2, generator=generator)
        grain = torch.randn(3, height, width, generator=generator)
        images.append(1.5 * F.interpolate(patches, size=(height, width), mode="bilinear")[0] + 0.5 * grain)
        center, size = torch.rand(2, count, 2, generator=generator)
        boxes_cxcywh = torch.cat([0.2 + 0.6 * center, 0.05 + 0.3 * size], dim=1)
        labels = torch.randint(0, classes, (count,), generator=generator)
        targets.append(Target(boxes_cxcywh, labels, index, (height, width)))
    return Batch.from_images(images, targets)
