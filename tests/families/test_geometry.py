"""Strides, padding and spans of token grids."""

import math

import pytest
import torch

from detr_lite.families.geometry import token_padding, token_spans, token_stride


@pytest.mark.parametrize("stride", [4, 8, 16, 32, 64])
def test_the_stride_of_a_convolutional_network_that_rounds_sizes_up(stride):
    for height in range(8, 200, 3):
        for width in (stride + 1, 100, 333):
            grid = math.ceil(height / stride), math.ceil(width / stride)
            assert token_stride((height, width), grid) == stride


@pytest.mark.parametrize(("patch_size", "grid", "stride"), [(14, (40, 20), 14), (14, (80, 40), 7), (16, (18, 9), 32)])
def test_the_stride_of_a_vision_transformer(patch_size, grid, stride):
    assert token_stride((grid[0] * stride, grid[1] * stride), grid, patch_size) == stride
    assert token_stride((16, 48), (1, 2), 16) == 32  # three patches, halved and rounded up


def test_padding_and_spans():
    is_padding = torch.zeros(2, 40, 64, dtype=torch.bool)
    is_padding[1, 20:] = True
    is_padding[1, :, 24:] = True
    grids = ((5, 8), (3, 4))
    assert token_spans(is_padding, grids).tolist() == [[[8, 5], [4, 2.5]], [[3, 2.5], [1.5, 1.25]]]
    marked = token_padding(is_padding, grids)
    assert marked.shape == (2, 52)
    assert not marked[0].any()
    fine = marked[1, :40].view(5, 8)
    assert not fine[:3, :3].any()
    assert fine[3:].all()
    assert fine[:, 3:].all()
