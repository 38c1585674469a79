"""Other people's detectors, out of transformers, at our sizes: who they are and how each is built.

Each is what its paper calls by that name as far as transformers has it: DETR (arXiv 2005.12872), Conditional DETR
(2108.06152), Deformable DETR with refined boxes (2010.04159; transformers' loss leaves out the proposals of the
two-stage one), RT-DETRv2 (2407.17140) and D-FINE (2410.13842) in their smallest published proportions. All supervise
every decoder layer, as published.
"""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from benchmarks.baseline_init import RARE, start_as_published
from detr_lite.evaluation.postprocess import Activation
from detr_lite.model.backbone import Backbone
from detr_lite.structures import DetrLiteError

# transformers has no types.
Network = Any

PYRAMID = (8, 16, 32)
"""Pixels between the tokens of each level, for those that ask several."""


@dataclass(frozen=True)
class BaselineSizes:
    """What all models of a comparison have in common."""

    backbone: str
    stride: int
    """Of the only level, for those that ask one."""
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
    """One of transformers' detectors."""

    title: str
    family: str
    """Its classes are `<family>Config` and `<family>ForObjectDetection`."""
    levels: Literal["one", "pyramid"]
    activation: Activation = "sigmoid"
    counts_padding: bool = False
    """Its boxes are relative to the padded image, whose sides must be multiples of the coarsest stride."""
    two_rates: bool = False
    """Worth a second learning rate: the strongest ones are not to lose for a rate that does not suit them."""
    own: Callable[[BaselineSizes], Mapping[str, Any]] = field(default=lambda sizes: {})
    """Settings beside those that all have."""

    def strides(self, sizes: BaselineSizes) -> tuple[int, ...]:
        return PYRAMID if self.levels == "pyramid" else (sizes.stride,)


def _hybrid(sizes: BaselineSizes) -> dict[str, Any]:
    """Of the encoders with one attention layer on the coarsest level and convolutions between levels."""
    return {
        "encoder_hidden_dim": sizes.dim,
        "decoder_in_channels": [sizes.dim] * len(PYRAMID),
        "feat_strides": list(PYRAMID),
        "hidden_expansion": 0.5,
        "initializer_bias_prior_prob": RARE,
    }


PEERS = {
    "rtdetr_v2": Baseline("RT-DETRv2", "RTDetrV2", "pyramid", counts_padding=True, two_rates=True, own=_hybrid),
    "d_fine": Baseline(
        "D-FINE",
        "DFine",
        "pyramid",
        counts_padding=True,
        two_rates=True,
        own=lambda sizes: {**_hybrid(sizes), "depth_mult": 0.34},
    ),
    "deformable_detr": Baseline(
        "Deformable DETR",
        "DeformableDetr",
        "pyramid",
        own=lambda sizes: {"with_box_refine": True, "num_feature_levels": len(PYRAMID) + 1},
    ),
    "conditional_detr": Baseline("Conditional DETR", "ConditionalDetr", "one"),
    "detr": Baseline("DETR", "Detr", "one", activation="softmax"),
}


class Maps(list[Any]):
    """Feature maps as each of transformers' models asks for them."""

    @property
    def feature_maps(self) -> "Maps":
        return self


class BaselineBackbone(nn.Module):
    """Our backbone where theirs would be: the same network, random weights, batch norm that learns, branches open."""

    def __init__(self, network: Backbone) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Any) -> Maps:
        return Maps(self.network(images))


def find_baseline(name: str) -> Baseline:
    """Errors: there is none of that name."""
    if name not in PEERS:
        raise DetrLiteError(f"--against: {name!r} is none of {', '.join(PEERS)}")
    return PEERS[name]


def require_transformers() -> None:
    """Errors: it is not installed."""
    if importlib.util.find_spec("transformers") is None:
        raise DetrLiteError(
            "transformers is not installed, and it is what to compare with; get it with: pip install transformers"
        )


def build_network(peer: Baseline, sizes: BaselineSizes) -> Network:
    """The model of transformers with random weights, started as published, on our backbone.

    Its own backbone is a placeholder with as many channels: transformers freezes batch norm in it, and in some models
    its first stage, and with random weights that trains next to nothing.

    Errors: transformers is not installed, or the backbone lacks a stride.
    """
    require_transformers()
    import transformers

    backbone = Backbone(sizes.backbone, peer.strides(sizes))
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
        # As ours and the original: of values, attention weights and hidden values alike.
        "dropout": sizes.dropout,
        "attention_dropout": sizes.dropout,
        "activation_dropout": sizes.dropout,
        "auxiliary_loss": True,
    }
    if peer.counts_padding:
        settings["encoder_in_channels"] = list(backbone.channels)
    config = getattr(transformers, f"{peer.family}Config")(**settings, **peer.own(sizes))
    network = getattr(transformers, f"{peer.family}ForObjectDetection")(config)
    start_as_published(network)
    network.model.backbone.model = BaselineBackbone(backbone)
    return network.to(memory_format=torch.channels_last)
