"""How transformers' detectors start to learn: as their authors' code does.

transformers draws nearly all weights from one narrow normal distribution (deviation 0.01 or 0.02), and RT-DETRv2's
scales of batch norm, which should be one, as well. That is harmless where trained weights are loaded over it, which is
what it is for. From there a model would spend a short run on getting to where its authors let it start.
"""

import math
from typing import Any

import torch
from torch import nn

LEAVES = (nn.Linear, nn.Conv2d, nn.Embedding, nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)

RARE = 0.01
"""Share of queries that say at first that they see a class (RetinaNet, arXiv 1708.02002, section 3.3)."""


def start_as_published(network: Any) -> None:
    """Layers start as torch lets them, the first DETRs' matrices as Glorot has it, and what is singled out so.

    transformers has most of what is singled out (offsets of deformable attention, gates, heads), and that comes last.
    """
    for module in network.modules():
        if isinstance(module, LEAVES):
            module.reset_parameters()
    if hasattr(network.config, "init_xavier_std"):  # DETR and its first heirs
        for part in (network.model.encoder, network.model.decoder):
            for name, parameter in part.named_parameters():
                if parameter.ndim > 1 and "_embed" not in name:  # which are heads
                    nn.init.xavier_uniform_(parameter)
    for tensor in (*network.parameters(), *network.buffers()):
        tensor._is_hf_initialized = False
    for module in network.modules():
        if not isinstance(module, LEAVES):
            network._init_weights(module)
    _start_what_it_leaves_out(network)


@torch.no_grad()
def _start_what_it_leaves_out(network: Any) -> None:
    """Rare classes, boxes that start where their references are, and vectors of noisy classes that differ."""
    kind = network.config.model_type
    if kind == "deformable_detr":
        for layer in network.class_embed:
            _make_rare(layer)
        for head in network.bbox_embed:
            _make_zero(head)
        # The first references are mere points: sides start at sigmoid(-2), an eighth of the image's.
        network.bbox_embed[0].layers[-1].bias[2:] = -2.0
    elif kind == "conditional_detr":
        _make_rare(network.class_labels_classifier)
        _make_zero(network.bbox_predictor)
    elif kind in ("rt_detr_v2", "d_fine"):
        _make_zero(network.model.enc_bbox_head)
        if kind == "d_fine":
            _make_zero(network.model.decoder.pre_bbox_head)
        network.model.denoising_class_embed.reset_parameters()


def _make_rare(layer: nn.Linear) -> None:
    nn.init.constant_(layer.bias, -math.log((1 - RARE) / RARE))


def _make_zero(head: Any) -> None:
    """A network that answers zero at first."""
    nn.init.zeros_(head.layers[-1].weight)
    nn.init.zeros_(head.layers[-1].bias)
