"""Initialize the detectors of transformers as their published code does.

transformers draws nearly all weights from a narrow normal distribution (standard deviation 0.01 or 0.02), even the
scales of batch norm in RT-DETRv2, which should be one. That is harmless where pretrained weights are loaded afterwards,
but a short run from random weights would be spent on recovering from it.
"""

import math
from typing import Any

import torch
from torch import nn

LEAVES = (nn.Linear, nn.Conv2d, nn.Embedding, nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)

PRIOR = 0.01
"""Initial probability of each class (RetinaNet, arXiv 1708.02002, section 3.3)."""


def init_as_published(network: Any) -> None:
    """torch's default initialization for the layers, Xavier for the matrices of DETR and Conditional DETR, then the
    special cases: offsets of deformable attention, gates and heads, most of which transformers implements.
    """
    for module in network.modules():
        if isinstance(module, LEAVES):
            module.reset_parameters()
    if hasattr(network.config, "init_xavier_std"):  # DETR and Conditional DETR
        for part in (network.model.encoder, network.model.decoder):
            for name, parameter in part.named_parameters():
                if parameter.ndim > 1 and "_embed" not in name:  # those are heads
                    nn.init.xavier_uniform_(parameter)
    for tensor in (*network.parameters(), *network.buffers()):
        tensor._is_hf_initialized = False
    for module in network.modules():
        if not isinstance(module, LEAVES):
            network._init_weights(module)
    _init_heads(network)


@torch.no_grad()
def _init_heads(network: Any) -> None:
    """What transformers leaves out: class priors, boxes that start at their references, denoising class embeddings."""
    kind = network.config.model_type
    if kind == "deformable_detr":
        for layer in network.class_embed:
            _set_prior(layer)
        for head in network.bbox_embed:
            _zero_last_layer(head)
        # The first references are points without a size: sides start at sigmoid(-2), an eighth of the image's.
        network.bbox_embed[0].layers[-1].bias[2:] = -2.0
    elif kind == "conditional_detr":
        _set_prior(network.class_labels_classifier)
        _zero_last_layer(network.bbox_predictor)
    elif kind in ("rt_detr_v2", "d_fine"):
        _zero_last_layer(network.model.enc_bbox_head)
        if kind == "d_fine":
            _zero_last_layer(network.model.decoder.pre_bbox_head)
        network.model.denoising_class_embed.reset_parameters()


def _set_prior(layer: nn.Linear) -> None:
    nn.init.constant_(layer.bias, -math.log((1 - PRIOR) / PRIOR))


def _zero_last_layer(head: Any) -> None:
    """Make the initial output of an MLP zero."""
    nn.init.zeros_(head.layers[-1].weight)
    nn.init.zeros_(head.layers[-1].bias)
