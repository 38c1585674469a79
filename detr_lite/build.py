"""Builds model, criterion and postprocessing from the settings."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from detr_lite.config import Config, DataConfig, ModelConfig
from detr_lite.data.augmentation.settings import PRESETS, Augmentation
from detr_lite.data.reading import Reading
from detr_lite.data.transforms import ResizeRule
from detr_lite.evaluation.postprocess import Activation, Postprocess
from detr_lite.families.criterion import FamilyCriterion
from detr_lite.families.network import family_config
from detr_lite.families.registry import family_of
from detr_lite.loss.criterion import DetrCriterion, LiteCriterion
from detr_lite.loss.matcher import MatchingCost
from detr_lite.model.backbone import Backbone
from detr_lite.model.decoder import AnchorDecoder, DetrDecoder
from detr_lite.model.detr import Detr
from detr_lite.model.encoder import Encoder
from detr_lite.model.heads import DetrHeads, FDRHeads, RefinementHeads
from detr_lite.model.onednn import Linear, PointwiseConv
from detr_lite.model.position import CenterSinePosition, SinePosition
from detr_lite.model.pretrained import read_backbone_weights
from detr_lite.model.queries import AnchorQueries, LearnedQueries
from detr_lite.structures import DetrLiteError

Number = TypeVar("Number", int, float)


def build_model(config: ModelConfig, classes: int, for_checkpoint: bool = False, exact: bool = False) -> Detr:
    """The detector, with pretrained weights of the backbone if the settings say so.

    Args:
        for_checkpoint: a checkpoint's weights will be loaded, so do not read or download any for the backbone.
        exact: compute as the original DETR does, to the last bit on a CPU, which is slower.
    """
    model = _build_model(config, classes, for_checkpoint, exact)
    for module in model.modules():
        if isinstance(module, Linear | PointwiseConv):
            module.is_exact = exact
    return model


def _build_model(config: ModelConfig, classes: int, for_checkpoint: bool, exact: bool) -> Detr:
    backbone = Backbone(
        config.backbone,
        strides=config.strides,
        pretrained=config.pretrained is True and not for_checkpoint,
        weights=_backbone_weights(config) if not for_checkpoint else None,
        freeze_batch_norm=bool(config.pretrained),
        dilation=config.dilation,
        freeze_first_stage=bool(config.freeze_first_stage),
        exact=exact,
    )
    sizes = (config.dim, config.decoder_layers, config.heads, config.feedforward_dim, config.dropout)

    def encoder(position: SinePosition | CenterSinePosition, normalize_projection: bool) -> Encoder:
        return Encoder(
            channels=backbone.channels,
            strides=backbone.strides,
            dim=config.dim,
            layers=config.encoder_layers,
            heads=config.heads,
            feedforward_dim=config.feedforward_dim,
            dropout=config.dropout,
            position=position,
            normalize_projection=normalize_projection,
        )

    if config.name == "detr":
        return Detr(
            backbone=backbone,
            encoder=encoder(SinePosition(config.dim), normalize_projection=False),
            queries=LearnedQueries(require("model.num_queries", config.num_queries), config.dim),
            decoder=DetrDecoder(*sizes),
            heads=DetrHeads(config.dim, classes),
        )
    return Detr(
        backbone=backbone,
        encoder=encoder(CenterSinePosition(config.dim), normalize_projection=True),
        queries=AnchorQueries(
            require("model.num_queries", config.num_queries),
            config.dim,
            classes,
            config.denoising_queries,
            config.contrastive_denoising,
            config.query_dedup_iou,
            config.denoising_noise,
        ),
        decoder=AnchorDecoder(*sizes, config.relation_bias),
        heads=_heads(config, classes),
    )


def _backbone_weights(config: ModelConfig) -> dict[str, Tensor] | None:
    return read_backbone_weights(Path(config.pretrained)) if isinstance(config.pretrained, str) else None


def _heads(config: ModelConfig, classes: int) -> RefinementHeads | FDRHeads:
    if config.box_head == "fdr":
        return FDRHeads(config.dim, classes, config.decoder_layers)
    return RefinementHeads(config.dim, classes, config.decoder_layers)


def build_criterion(
    config: Config, classes: int, architecture: Mapping[str, Any] | None = None
) -> DetrCriterion | LiteCriterion | FamilyCriterion:
    """The loss of the model.

    Args:
        architecture: the configuration of a model of transformers, which has the weights of its loss.
    """
    loss = config.loss
    if architecture is not None:
        return _family_criterion(architecture)
    if config.model.name == "detr":
        class_weight = 1.0 if loss.class_weight is None else loss.class_weight
        class_cost = 1.0 if loss.class_cost is None else loss.class_cost
        return DetrCriterion(
            cost=MatchingCost("softmax", class_cost, loss.l1, loss.giou),
            weights={"ce": class_weight, "l1": loss.l1, "giou": loss.giou},
            no_object_weight=loss.no_object_weight,
            num_classes=classes,
        )
    class_weight = 4.0 if loss.class_weight is None else loss.class_weight
    class_cost = 2.0 if loss.class_cost is None else loss.class_cost
    return LiteCriterion(
        cost=MatchingCost("sigmoid", class_cost, loss.l1, loss.giou),
        weights={"class": class_weight, "l1": loss.l1, "giou": loss.giou, "fdr": loss.fdr_weight},
        one_to_many_topk=loss.one_to_many_topk,
        gamma=loss.gamma,
    )


def _family_criterion(architecture: Mapping[str, Any]) -> FamilyCriterion:
    family, config = family_of(architecture), family_config(architecture)
    class_cost, l1, giou = (
        float(getattr(config, f"matcher_{name}", None) or getattr(config, name))
        for name in ("class_cost", "bbox_cost", "giou_cost")
    )
    return FamilyCriterion(family, MatchingCost(family.activation, class_cost, l1, giou), config)


def build_postprocess(
    config: ModelConfig,
    class_names: Sequence[str],
    activation: Activation | None = None,
    nms: float | None = None,
    category_ids: Sequence[int] = (),
) -> Postprocess:
    """The postprocessing of the model's outputs; by default with the activation of our model of that name.

    Errors: an IoU for NMS outside 0 .. 1.
    """
    activation = activation or ("softmax" if config.name == "detr" else "sigmoid")
    # COCO's metric considers 100 detections; images may have more objects.
    limit = max(100, require("model.num_queries", config.num_queries))
    return Postprocess(activation, class_names, limit, nms, category_ids)


def build_resize(config: DataConfig) -> ResizeRule:
    """How images are resized for the model."""
    size = require("data.image_size", config.image_size)
    # If training data did not decide it, images are not enlarged.
    return ResizeRule(
        config.resize or "longest", size, round(size * 1333 / 800) if config.resize == "shortest" else None
    )


def build_augmentation(config: DataConfig) -> Augmentation:
    """The preset with the parts that the settings change."""
    # The settings have the names of the fields that they change.
    if config.augmentation is None:
        raise DetrLiteError("data.augmentation is not set and was not chosen; set --data.augmentation")
    settings = {field.name: getattr(config, field.name, None) for field in fields(Augmentation)}
    given: dict[str, Any] = {name: value for name, value in settings.items() if value is not None}
    if "color_jitter" in given:
        given["exposure_jitter"] = 0.0  # contrast and brightness are a part of it
    if config.augmentation_stop is not None:
        given["stop"] = config.augmentation_stop
    return replace(PRESETS[config.augmentation], **given)


def build_reading(config: DataConfig) -> Reading:
    """How a dataset is read and checked."""
    return Reading(config.on_fault, config.orientation)


def require(name: str, value: Number | None) -> Number:
    """The value of a setting that is None until it is chosen from the data.

    Errors: it is still None.
    """
    if value is None:
        raise DetrLiteError(f"{name} is not set and was not chosen from the data; set --{name}")
    return value
