"""Inputs of the tiny random models of `transformers`, and what a capture of their attention gives."""

from functools import cache

import torch

from benchmarks.tiny_families import SQUARE, STRETCHED, tiny_model
from detr_lite.families.capture import AttentionCapture


@cache
def cached_model(family, settings=()):
    """Settings as (name, value), with tuples for lists."""
    return tiny_model(family, **keywords(settings))


def keywords(settings):
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settings}


def inputs(family):
    """Two images, the second of which is smaller (40 x 50 pixels); and the padding."""
    shape = (SQUARE, SQUARE) if family in STRETCHED else (72, 90)
    images = torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(3))
    is_padding = torch.zeros(2, *shape, dtype=torch.bool)
    is_padding[1, 40:] = True
    is_padding[1, :, 50:] = True
    return {"pixel_values": images.masked_fill(is_padding[:, None], 0), "pixel_mask": (~is_padding).long()}, is_padding


@torch.no_grad()
def captured(network, family, selection=None):
    batch, is_padding = inputs(family)
    with AttentionCapture(network, selection) as capture:
        output = network(**batch)
    return capture.maps(is_padding), output
