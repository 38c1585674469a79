"""The baselines: detectors of transformers, built with the sizes of detr_lite's model.

They are DETR (arXiv 2005.12872), Conditional DETR (2108.06152), Deformable DETR with iterative box refinement
(2010.04159; not the two-stage variant, whose proposals transformers leaves out of the loss), RT-DETRv2 (2407.17140) and
D-FINE (2410.13842), the last two in their smallest published proportions. All have auxiliary losses after every decoder
layer, as published.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from benchmarks.baseline_init import PRIOR, init_as_published
from detr_lite.evaluation.postprocess import Activation
from detr_lite.families.registry import Network, require_transformers
from detr_lite.model.backbone import Backbone
from detr_lite.structures import DetrLiteError

PYRAMID = (8, 16, 32)
"""Strides of the multi-scale models."""


@dataclass(frozen=True)
class BaselineSizes:
    """The sizes that all models of a comparison share."""

    backbone: str
    stride: int
    """Of the single-scale models."""
    classes: int
    queries: int
    dim: int
    heads: int
    encoder_layers: int
    decoder_layers: int
    feedforward_dim: int
    dropout: float


@dataclass(frozen=True)
class Baseline:
    """A detector of transformers."""

    title: str
    family: str
    """The classes are `<family>Config` and `<family>ForObjectDetection`."""
    levels: Literal["one", "pyramid"]
    activation: Activation = "sigmoid"
    tune_lr: bool = False
    """Run it with several learning rates and show the best, so that the strongest baselines are compared fairly."""
    extra_settings: Callable[[BaselineSizes], Mapping[str, Any]] = field(default=lambda sizes: {})
    """Settings of its configuration class that the others do not have."""

    def strides(self, sizes: BaselineSizes) -> tuple[int, ...]:
        return PYRAMID if self.levels == "pyramid" else (sizes.stride,)


def _hybrid_encoder(sizes: BaselineSizes) -> dict[str, Any]:
    """Settings of RT-DETR's hybrid encoder: attention on the coarsest level, convolutions between levels."""
    return {
        "encoder_hidden_dim": sizes.dim,
        "decoder_in_channels": [sizes.dim] * len(PYRAMID),
        "feat_strides": list(PYRAMID),
        "hidden_expansion": 0.5,
        "initializer_bias_prior_prob": PRIOR,
    }


BASELINES = {
    "rtdetr_v2": Baseline("RT-DETRv2", "RTDetrV2", "pyramid", tune_lr=True, extra_settings=_hybrid_encoder),
    "d_fine": Baseline(
        "D-FINE",
        "DFine",
        "pyramid",
        tune_lr=True,
        extra_settings=lambda sizes: {**_hybrid_encoder(sizes), "depth_mult": 0.34},
    ),
    "deformable_detr": Baseline(
        "Deformable DETR",
        "DeformableDetr",
        "pyramid",
        tune_lr=True,
        extra_settings=lambda sizes: {"with_box_refine": True, "num_feature_levels": len(PYRAMID) + 1},
    ),
    "conditional_detr": Baseline("Conditional DETR", "ConditionalDetr", "one"),
    "detr": Baseline("DETR", "Detr", "one", activation="softmax"),
}


class FeatureMaps(list[Any]):
    """Feature maps that can be read as a list and as a backbone output of transformers; the models differ in that."""

    @property
    def feature_maps(self) -> "FeatureMaps":
        return self


class BaselineBackbone(nn.Module):
    """detr_lite's backbone with the interface of transformers: random weights and trainable batch norm."""

    def __init__(self, network: Backbone) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Any) -> FeatureMaps:
        return FeatureMaps(self.network(images))


def find_baseline(name: str) -> Baseline:
    """Errors: there is no baseline of that name."""
    if name not in BASELINES:
        raise DetrLiteError(f"--against: {name!r} is not one of {', '.join(BASELINES)}")
    return BASELINES[name]


def build_network(baseline: Baseline, sizes: BaselineSizes) -> Network:
    """The detector of transformers on detr_lite's backbone, initialized as published.

    The backbone that transformers builds is a placeholder with the same channels: transformers freezes its batch norm,
    and in some models its first stage, which hardly trains from random weights.

    Errors: transformers is not installed, or the backbone lacks a stride.
    """
    require_transformers()
    import transformers

    backbone = Backbone(sizes.backbone, baseline.strides(sizes))
    stages = [f"stage{number}" for number in range(1, len(backbone.channels) + 1)]
    settings = {
        "backbone_config": transformers.ResNetConfig(
            embedding_size=8,
            hidden_sizes=list(backbone.channels),
            depths=[1] * len(stages),
            layer_type="basic",
            out_features=stages,
        ),
        "num_labels": sizes.classes,
        "num_queries": sizes.queries,
        "d_model": sizes.dim,
        "encoder_attention_heads": sizes.heads,
        "decoder_attention_heads": sizes.heads,
        "encoder_layers": sizes.encoder_layers,
        "decoder_layers": sizes.decoder_layers,
        "encoder_ffn_dim": sizes.feedforward_dim,
        "decoder_ffn_dim": sizes.feedforward_dim,
        # As in the original code, one dropout rate for residual branches, attention weights and hidden activations.
        "dropout": sizes.dropout,
        "attention_dropout": sizes.dropout,
        "activation_dropout": sizes.dropout,
        "auxiliary_loss": True,
    }
    settings |= baseline.extra_settings(sizes)
    if "feat_strides" in settings:  # RT-DETR's hybrid encoder
        settings["encoder_in_channels"] = list(backbone.channels)
    config = getattr(transformers, f"{baseline.family}Config")(**settings)
    network = getattr(transformers, f"{baseline.family}ForObjectDetection")(config)
    init_as_published(network)
    network.model.backbone.model = BaselineBackbone(backbone)
    return network.to(memory_format=torch.channels_last)
