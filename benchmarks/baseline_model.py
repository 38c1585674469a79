"""A detector of transformers as our training sees a model: from a `Batch` to answers, with its own loss beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.baselines import PYRAMID, Baseline, BaselineSizes, build_network
from detr_lite.loss import Losses
from detr_lite.structures import Batch, DetrOutput, Target

HEADS = (
    *("class_embed", "bbox_embed", "class_labels_classifier", "bbox_predictor"),
    *("model.enc_score_head", "model.enc_bbox_head", "model.decoder.pre_bbox_head"),
)
"""Where the models have what gives classes and boxes; no model has all of these."""

PARTS = {"class": ("loss_ce", "loss_vfl"), "l1": ("loss_bbox",), "giou": ("loss_giou",)}
"""Our names of what they log, of the last layer."""


@dataclass(frozen=True)
class BaselineOutput(DetrOutput):
    """The last layer's answer, and in training the loss, which their models compute on the way."""

    losses: Losses | None = None


class BaselineModel(nn.Module):
    """Classes and boxes are computed, and judged, in single precision, as ours are.

    Under autocast their boxes would have the 8 bits of bfloat16: pixels, in an image of 256.
    """

    def __init__(self, peer: Baseline, sizes: BaselineSizes) -> None:
        super().__init__()
        self.counts_padding = peer.counts_padding
        self.network = build_network(peer, sizes)
        # Before the heads are wrapped: what their weights are is told by name.
        self.class_weights = [
            module.weight
            for name, module in self.network.named_modules()
            if isinstance(module, nn.Linear) and any(part in name for part in ("class_", "score_head"))
        ]
        for name in HEADS:
            _wrap(self.network, name)
        decoder = self.network.model.decoder
        for name in ("class_embed", "bbox_embed"):  # of which some decoders have a second list, of the same weights
            if getattr(decoder, name, None) is not None:
                setattr(decoder, name, getattr(self.network, name))
        self.network.loss_function = LossInFloat32(self.network.loss_function)

    def forward(self, batch: Batch) -> BaselineOutput:
        """In training the batch has targets, and the output losses."""
        images, is_padding = batch.images, batch.is_padding
        if self.counts_padding:
            height, width = images.shape[-2:]
            missing = (0, -width % PYRAMID[-1], 0, -height % PYRAMID[-1])
            images, is_padding = F.pad(images, missing), F.pad(is_padding, missing, value=True)
        shares = _shares(is_padding) if self.counts_padding else images.new_ones(len(images), 4)
        labels = None
        if self.training:
            assert batch.targets is not None
            labels = [
                {"class_labels": target.labels, "boxes": target.boxes_cxcywh * share}
                for target, share in zip(batch.targets, shares, strict=True)
            ]
        answer = self.network(
            pixel_values=images.contiguous(memory_format=torch.channels_last),
            pixel_mask=(~is_padding).long(),
            labels=labels,
        )
        return BaselineOutput(
            logits=answer.logits[None],
            boxes_cxcywh=(answer.pred_boxes / shares[:, None])[None],
            losses=None
            if labels is None
            else Losses(answer.loss.float(), _parts(answer.loss_dict, self.network.config)),
        )


def baseline_criterion(output: DetrOutput, targets: Sequence[Target]) -> Losses:
    """The loss that has come with the output."""
    assert isinstance(output, BaselineOutput)
    assert output.losses is not None
    return output.losses


@dataclass(frozen=True)
class LossInFloat32:
    """One of transformers' losses, outside of autocast and with all its numbers in single precision."""

    loss: Any

    def __call__(self, *given: Any, **named: Any) -> Any:
        device = next(value.device for value in given if isinstance(value, Tensor))
        with torch.autocast(device.type, enabled=False):
            return self.loss(*_single(given), **_single(named))


class InFloat32(nn.Module):
    """A layer outside of autocast."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, values: Tensor) -> Tensor:
        with torch.autocast(values.device.type, enabled=False):
            output: Tensor = self.layer(values.float())
        return output


def _wrap(network: Any, name: str) -> None:
    """Put a head, or each head of a list, into single precision, if the model has one of that name."""
    *path, last = name.split(".")
    for step in path:
        network = getattr(network, step)
    head = getattr(network, last, None)
    if isinstance(head, nn.ModuleList):
        setattr(network, last, nn.ModuleList([InFloat32(layer) for layer in head]))
    elif head is not None:
        setattr(network, last, InFloat32(head))


def _shares(is_padding: Tensor) -> Float[Tensor, "batch 4"]:
    """(width, height, width, height) of each image, relative to the padded one."""
    height, width = is_padding.shape[1:]
    widths, heights = (~is_padding[:, 0]).sum(1) / width, (~is_padding[:, :, 0]).sum(1) / height
    return torch.stack([widths, heights, widths, heights], dim=1)


def _parts(terms: Mapping[str, Tensor], settings: Any) -> dict[str, Float[Tensor, " layer"]]:
    """What the logs show; RT-DETRv2 and D-FINE give their terms weighted already, which is undone."""
    parts = {}
    for ours, theirs in PARTS.items():
        for name in theirs:
            if name in terms:
                weight = getattr(settings, name.replace("loss_", "weight_loss_"), 1.0)
                parts[ours] = (terms[name] / weight).reshape(1)
    return parts


def _single(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float() if value.is_floating_point() else value
    if isinstance(value, list | tuple):
        return type(value)(_single(item) for item in value)
    if type(value) is dict:
        return {key: _single(item) for key, item in value.items()}
    return value
