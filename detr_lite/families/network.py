"""A detector of transformers with the interface of detr_lite's own models."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from detr_lite.families.capture import AttentionCapture
from detr_lite.families.precision import compute_heads_in_float32
from detr_lite.families.registry import Network, family_of, require_transformers
from detr_lite.structures import AttentionSelection, Batch, DetrLiteError, DetrOutput


@dataclass(frozen=True)
class LossCall:
    """The loss function of a model of transformers, and the arguments of its call at the end of a forward pass."""

    function: Any
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]

    def argument(self, index: int, name: str) -> Any:
        """The argument, which some families pass by its place and others by name; None if it is not given."""
        return self.arguments[index] if len(self.arguments) > index else self.keywords.get(name)


@dataclass(frozen=True)
class FamilyOutput(DetrOutput):
    """Predictions of every decoder layer and, in training, what the family's own loss is computed from."""

    loss_call: LossCall | None = None


class FamilyDetr(nn.Module):
    """A `...ForObjectDetection` of transformers: batches of detr_lite in, `DetrOutput` out.

    The predictions of all decoder layers are those that the model hands to its loss function, which every family calls
    if there are labels. The loss is not computed in the forward pass. Heads compute in float32 under autocast, as ours
    do: boxes would have bfloat16's 8 bits of precision, about a pixel in an image of 256.

    Images are padded at the right and at the bottom to multiples of the coarsest stride. Boxes are relative to the
    unpadded image, also in families whose own are relative to the padded one.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.family = family_of({"model_type": network.config.model_type})
        self.multiple = side_multiple(network.config)
        compute_heads_in_float32(network)

    def set_gradient_checkpointing(self) -> None:
        """Compute activations again in the backward pass, where transformers can.

        Errors: a model that does not support it.
        """
        if not self.network.supports_gradient_checkpointing:
            kind = self.network.config.model_type
            raise DetrLiteError(f"models of type {kind} have no gradient checkpointing; set it to false")
        self.network.gradient_checkpointing_enable({"use_reentrant": False})

    def forward(self, batch: Batch, need_attention: bool | AttentionSelection = False) -> FamilyOutput:
        """Predictions of every decoder layer whose predictions the model computes.

        Args:
            need_attention: also return attention weights, all or a selection. Then predictions are as many as decoder
                layers: a model that predicts with its last layer alone has those of that layer for all.

        In training mode the batch must have targets, and the predictions include those of denoising queries and of all
        query groups, relative to the padded image: they are for the family's own loss.
        """
        images, is_padding = _pad(batch.images, batch.is_padding, self.multiple)
        scales = _unpadded_scales(is_padding) if self.family.boxes_include_padding else None
        labels = _labels(batch, scales) if self.training else _no_labels(images)
        selection = AttentionSelection() if need_attention is True else need_attention or None
        capture = None if selection is None else AttentionCapture(self.network, selection)
        with capture or nullcontext(), _recorded_loss_call(self.network) as calls:
            output = self.network(pixel_values=images, pixel_mask=(~is_padding).long(), labels=labels)
        (call,) = calls
        logits, boxes_cxcywh = self._of_all_layers(call, output)
        if self.training:
            return FamilyOutput(logits, boxes_cxcywh, loss_call=call)
        boxes_cxcywh = boxes_cxcywh if scales is None else boxes_cxcywh / scales[:, None]
        if capture is None:
            return FamilyOutput(logits, boxes_cxcywh)
        missing = max(0, len(capture.anatomy.cross) - len(logits))
        logits, boxes_cxcywh = (
            torch.cat([each[:1].expand(missing, -1, -1, -1), each]) for each in (logits, boxes_cxcywh)
        )
        return FamilyOutput(logits, boxes_cxcywh, attention=capture.maps(is_padding))

    def last_layer(self, batch: Batch) -> tuple[Float[Tensor, "batch query class"], Float[Tensor, "batch query 4"]]:
        """The final logits and boxes alone, in evaluation mode: what the forward pass gives as those of the last layer,
        by nothing but tensor operations, so that it can be exported."""
        images, is_padding = _pad(batch.images, batch.is_padding, self.multiple)
        output = self.network(pixel_values=images, pixel_mask=(~is_padding).long())
        boxes_cxcywh = output.pred_boxes
        if self.family.boxes_include_padding:
            boxes_cxcywh = boxes_cxcywh / _unpadded_scales(is_padding)[:, None]
        return output.logits, boxes_cxcywh

    def _of_all_layers(
        self, call: LossCall, output: Any
    ) -> tuple[Float[Tensor, "layer batch query class"], Float[Tensor, "layer batch query 4"]]:
        logits, boxes = call.argument(5, "outputs_class"), call.argument(6, "outputs_coord")
        if logits is None or boxes is None:  # a model without auxiliary losses
            return output.logits[None], output.pred_boxes[None]
        if self.family.is_batch_first:
            logits, boxes = logits.transpose(0, 1), boxes.transpose(0, 1)
        if self.training:
            return logits, boxes
        # The last layer's are exactly those that the model returns.
        return torch.cat([logits[:-1], output.logits[None]]), torch.cat([boxes[:-1], output.pred_boxes[None]])


def build_network(architecture: Mapping[str, Any], classes: int) -> Network:
    """A model of transformers with random weights, without any download.

    Errors: transformers is not installed, and a configuration that is not that of a known family or of these classes.
    """
    config = family_config(architecture)
    import transformers

    if config.num_labels != classes:
        raise DetrLiteError(f"the model's configuration has {config.num_labels} classes, not {classes}")
    return getattr(transformers, f"{family_of(architecture).class_prefix}ForObjectDetection")(config)


def family_config(architecture: Mapping[str, Any]) -> Any:
    """The configuration object of transformers for the content of a config.json.

    Errors: transformers is not installed, and a model of another kind.
    """
    require_transformers()
    import transformers

    return getattr(transformers, f"{family_of(architecture).class_prefix}Config").from_dict(dict(architecture))


def side_multiple(config: Any) -> int:
    """The number of pixels of which the sides of images must be multiples."""
    backbone: Any = getattr(config, "backbone_config", None)
    if config.model_type == "lw_detr":
        return int(backbone.patch_size * backbone.num_windows_side)
    if config.model_type == "rf_detr":
        return int(backbone.patch_size * backbone.num_windows)
    return int(max(getattr(config, "feat_strides", None) or [1]))


@contextmanager
def _recorded_loss_call(network: Network) -> Iterator[list[LossCall]]:
    calls: list[LossCall] = []
    function = network.loss_function

    def record(*arguments: Any, **keywords: Any) -> tuple[None, dict[str, Tensor], None]:
        calls.append(LossCall(function, arguments, keywords))
        return None, {}, None

    # Restored, because models of transformers are saved and copied with their attributes.
    had_own, own = "_loss_function" in vars(network), vars(network).get("_loss_function")
    network.loss_function = record
    try:
        yield calls
    finally:
        if had_own:
            network._loss_function = own
        else:
            del network._loss_function


def _labels(batch: Batch, scales: Float[Tensor, "batch 4"] | None) -> list[dict[str, Tensor]]:
    """As transformers takes them; with boxes relative to the padded images where the family's are."""
    if batch.targets is None:
        raise ValueError("a batch for training needs targets")
    boxes = [target.boxes_cxcywh for target in batch.targets]
    if scales is not None:
        boxes = [each * scale for each, scale in zip(boxes, scales, strict=True)]
    return [{"class_labels": target.labels, "boxes": each} for target, each in zip(batch.targets, boxes, strict=True)]


def _no_labels(images: Float[Tensor, "batch 3 height width"]) -> list[dict[str, Tensor]]:
    labels = torch.zeros(0, dtype=torch.long, device=images.device)
    return [{"class_labels": labels, "boxes": images.new_zeros(0, 4)} for _ in images]


def _pad(
    images: Float[Tensor, "batch 3 height width"], is_padding: Bool[Tensor, "batch height width"], multiple: int
) -> tuple[Tensor, Tensor]:
    height, width = images.shape[-2:]
    extra = (0, -width % multiple, 0, -height % multiple)
    # An exported graph has sizes for names, so that nothing can be decided by them.
    if not torch.compiler.is_exporting() and not any(extra):
        return images, is_padding
    return F.pad(images, extra), F.pad(is_padding, extra, value=True)


def _unpadded_scales(is_padding: Bool[Tensor, "batch height width"]) -> Float[Tensor, "batch 4"]:
    """(width, height, width, height) of each image without its padding, relative to the padded size."""
    height, width = is_padding.shape[1:]
    widths, heights = (~is_padding[:, 0]).sum(1) / width, (~is_padding[:, :, 0]).sum(1) / height
    return torch.stack([widths, heights, widths, heights], dim=1)
