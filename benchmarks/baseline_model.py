"""A detector of transformers with the interface of a detr_lite model, and with its own loss in the output."""

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
"""Names of the heads in the various models; no model has all of them."""

PARTS = {"class": ("loss_ce", "loss_vfl"), "l1": ("loss_bbox",), "giou": ("loss_giou",)}
"""detr_lite's names of the loss terms -> those of transformers; the values are those of the last layer."""


@dataclass(frozen=True)
class BaselineOutput(DetrOutput):
    """Predictions of the last layer and, in training, the loss, which transformers computes in the forward pass."""

    losses: Losses | None = None


class BaselineModel(nn.Module):
    """Heads and losses run in float32, as in detr_lite.

    Under autocast the boxes would have bfloat16's 8 bits of precision, about a pixel in an image of 256.
    """

    def __init__(self, baseline: Baseline, sizes: BaselineSizes) -> None:
        super().__init__()
        self.boxes_include_padding = baseline.boxes_include_padding
        self.network = build_network(baseline, sizes)
        # Collected by name, before the heads are wrapped.
        self.class_weights = [
            module.weight
            for name, module in self.network.named_modules()
            if isinstance(module, nn.Linear) and any(part in name for part in ("class_", "score_head"))
        ]
        for name in HEADS:
            _wrap(self.network, name)
        decoder = self.network.model.decoder
        for name in ("class_embed", "bbox_embed"):  # some decoders hold a second reference to the heads
            if getattr(decoder, name, None) is not None:
                setattr(decoder, name, getattr(self.network, name))
        self.network.loss_function = LossInFloat32(self.network.loss_function)

    def forward(self, batch: Batch) -> BaselineOutput:
        """In training the batch must have targets, and the output has losses."""
        images, is_padding = batch.images, batch.is_padding
        if self.boxes_include_padding:
            height, width = images.shape[-2:]
            extra = (0, -width % PYRAMID[-1], 0, -height % PYRAMID[-1])
            images, is_padding = F.pad(images, extra), F.pad(is_padding, extra, value=True)
        scales = _unpadded_scale(is_padding) if self.boxes_include_padding else images.new_ones(len(images), 4)
        labels = None
        if self.training:
            assert batch.targets is not None
            labels = [
                {"class_labels": target.labels, "boxes": target.boxes_cxcywh * scale}
                for target, scale in zip(batch.targets, scales, strict=True)
            ]
        output = self.network(
            pixel_values=images.contiguous(memory_format=torch.channels_last),
            pixel_mask=(~is_padding).long(),
            labels=labels,
        )
        return BaselineOutput(
            logits=output.logits[None],
            boxes_cxcywh=(output.pred_boxes / scales[:, None])[None],
            losses=None
            if labels is None
            else Losses(output.loss.float(), _parts(output.loss_dict, self.network.config)),
        )


def baseline_criterion(output: DetrOutput, targets: Sequence[Target]) -> Losses:
    """The loss that transformers has computed in the forward pass."""
    assert isinstance(output, BaselineOutput)
    assert output.losses is not None
    return output.losses


@dataclass(frozen=True)
class LossInFloat32:
    """A loss of transformers, run in float32 and without autocast."""

    loss: Any

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        device = next(value.device for value in args if isinstance(value, Tensor))
        with torch.autocast(device.type, enabled=False):
            return self.loss(*_to_float32(args), **_to_float32(kwargs))


class InFloat32(nn.Module):
    """A layer that runs in float32 and without autocast."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, values: Tensor) -> Tensor:
        with torch.autocast(values.device.type, enabled=False):
            output: Tensor = self.layer(values.float())
        return output


def _wrap(network: Any, name: str) -> None:
    """Wrap the head of that name, or each head of a list, in `InFloat32`, if the model has it."""
    *path, last = name.split(".")
    for step in path:
        network = getattr(network, step)
    head = getattr(network, last, None)
    if isinstance(head, nn.ModuleList):
        setattr(network, last, nn.ModuleList([InFloat32(layer) for layer in head]))
    elif head is not None:
        setattr(network, last, InFloat32(head))


def _unpadded_scale(is_padding: Tensor) -> Float[Tensor, "batch 4"]:
    """(width, height, width, height) of each image without its padding, relative to the padded size."""
    height, width = is_padding.shape[1:]
    widths, heights = (~is_padding[:, 0]).sum(1) / width, (~is_padding[:, :, 0]).sum(1) / height
    return torch.stack([widths, heights, widths, heights], dim=1)


def _parts(terms: Mapping[str, Tensor], config: Any) -> dict[str, Float[Tensor, " layer"]]:
    """The unweighted loss terms; RT-DETRv2 and D-FINE return them weighted."""
    parts = {}
    for part, hf_names in PARTS.items():
        for name in hf_names:
            if name in terms:
                weight = getattr(config, name.replace("loss_", "weight_loss_"), 1.0)
                parts[part] = (terms[name] / weight).reshape(1)
    return parts


def _to_float32(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float() if value.is_floating_point() else value
    if isinstance(value, list | tuple):
        return type(value)(_to_float32(item) for item in value)
    if type(value) is dict:
        return {key: _to_float32(item) for key, item in value.items()}
    return value
