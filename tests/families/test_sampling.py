"""Rows of deformable attention, compared with `grid_sample` and the functions of `transformers`."""

import importlib

import pytest
import torch
from torch.nn import functional as F

from detr_lite.attention_maps import dense_rows
from detr_lite.families.sampling import Samples, bilinear_rows, nearest_rows, points_in_image

GRIDS = ((6, 9), (3, 5), (1, 2))
TOKENS = sum(height * width for height, width in GRIDS)
POINTS = (4, 3, 1)
LEVEL = torch.tensor([level for level, count in enumerate(POINTS) for _ in range(count)])
BATCH, HEADS, QUERIES, DIM = 2, 3, 5, 4


@pytest.fixture
def sampled():
    """Locations of which many lie beyond the border, and weights that sum to 1."""
    generator = torch.Generator().manual_seed(0)
    locations = 3 * torch.rand(BATCH, HEADS, QUERIES, sum(POINTS), 2, generator=generator) - 1
    locations[0, 0, 0] = torch.tensor([0.0, 1.0])  # on the border
    locations[0, 0, 1] = torch.tensor([1e30, -1e30])
    locations[0, 0, 2] = torch.tensor([0.5 / 9, 0.5 / 6])  # the center of a token
    weights = torch.randn(BATCH, HEADS, QUERIES, sum(POINTS), generator=generator).softmax(-1)
    return locations, weights


@pytest.fixture
def values():
    return torch.randn(BATCH, TOKENS, HEADS, DIM, generator=torch.Generator().manual_seed(1))


def densify(rows, count):
    return dense_rows(rows.tokens, rows.weights, count)


def times(dense, values):
    """Rows times values, in the layout of the functions of `transformers`: (batch query head*dim)."""
    return torch.einsum("bhqt,bthd->bqhd", dense, values).flatten(2)


def by_grid_sample(locations, weights, values):
    """Level by level, point by point."""
    result = torch.zeros(BATCH, HEADS, QUERIES, DIM)
    for level, part in enumerate(values.split([height * width for height, width in GRIDS], 1)):
        chosen = level == LEVEL
        maps = part.permute(0, 2, 3, 1).reshape(BATCH * HEADS, DIM, *GRIDS[level])
        found = F.grid_sample(maps, 2 * locations[..., chosen, :].flatten(0, 1) - 1, align_corners=False)
        result += (found.view(BATCH, HEADS, DIM, QUERIES, -1) * weights[:, :, None, :, chosen]).sum(-1).transpose(2, 3)
    return result.transpose(1, 2).flatten(2)


def test_bilinear_rows_times_values_are_what_grid_sample_gives(sampled, values):
    rows = bilinear_rows(*sampled, LEVEL, GRIDS)
    assert rows.tokens.shape == (BATCH, HEADS, QUERIES, 4 * sum(POINTS))
    torch.testing.assert_close(
        times(densify(rows, TOKENS), values), by_grid_sample(*sampled, values), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("family", ["rt_detr_v2", "d_fine", "deimv2"])
@pytest.mark.parametrize("method", ["default", "discrete"])
def test_rows_times_values_are_what_transformers_computes(family, method, sampled, values):
    modeling = importlib.import_module(f"transformers.models.{family}.modeling_{family}")
    locations, weights = sampled
    if method == "discrete":  # its conversion to integers overflows there
        locations = locations.clamp(-1e6, 1e6)
    expected = modeling.multi_scale_deformable_attention_v2(
        values, GRIDS, locations.transpose(1, 2), weights.transpose(1, 2), list(POINTS), method
    )
    rows = Samples(locations, weights, LEVEL, GRIDS, is_discrete=method == "discrete").rows()
    assert rows.tokens.shape[-1] == sum(POINTS) * (1 if method == "discrete" else 4)
    torch.testing.assert_close(times(densify(rows, TOKENS), values), expected, atol=1e-5, rtol=1e-5)


def test_rows_sum_to_one_minus_the_share_outside(sampled):
    rows = bilinear_rows(*sampled, LEVEL, GRIDS)
    sums = densify(rows, TOKENS).sum(-1)
    torch.testing.assert_close(sums, 1 - rows.outside)
    assert (sums <= 1 + 1e-6).all()
    assert rows.weights.min() >= 0
    assert rows.outside[0, 0, 1] == pytest.approx(1)  # far away
    assert rows.outside[0, 0, 0] == pytest.approx(0.75)  # at a corner three of four tokens are outside
    nearest = nearest_rows(*sampled, LEVEL, GRIDS)
    torch.testing.assert_close(densify(nearest, TOKENS).sum(-1), torch.ones(BATCH, HEADS, QUERIES))
    assert not nearest.outside.any()


def test_a_point_at_the_center_of_a_token_gives_it_everything():
    location = torch.tensor([3.5 / 9, 2.5 / 6]).view(1, 1, 1, 1, 2)
    row = densify(bilinear_rows(location, torch.ones(1, 1, 1, 1), LEVEL[:1], GRIDS), TOKENS)[0, 0, 0]
    expected = torch.zeros(TOKENS)
    expected[2 * 9 + 3] = 1
    torch.testing.assert_close(row, expected, atol=1e-5, rtol=0)


def test_masked_tokens_receive_nothing_and_count_as_outside(sampled, values):
    locations, weights = sampled
    is_masked = torch.zeros(BATCH, TOKENS, dtype=torch.bool)
    is_masked[1, ::2] = True
    masked = Samples(locations, weights, LEVEL, GRIDS, is_masked=is_masked).rows()
    dense = densify(masked, TOKENS)
    assert not dense[1, :, :, ::2].any()
    torch.testing.assert_close(dense.sum(-1), 1 - masked.outside)
    zeroed = values.masked_fill(is_masked[..., None, None], 0)
    torch.testing.assert_close(times(dense, values), by_grid_sample(locations, weights, zeroed), atol=1e-5, rtol=1e-5)


def test_half_precision_is_computed_in_single_precision(sampled):
    locations, weights = (each.clamp(-2, 2).bfloat16() for each in sampled)
    rows = bilinear_rows(locations, weights, LEVEL, GRIDS)
    exact = bilinear_rows(locations.float(), weights.float(), LEVEL, GRIDS)
    assert rows.weights.dtype == torch.float32
    assert torch.equal(rows.weights, exact.weights)


def test_no_queries(sampled):
    locations, weights = (each[:, :, :0] for each in sampled)
    assert densify(bilinear_rows(locations, weights, LEVEL, GRIDS), TOKENS).shape == (BATCH, HEADS, 0, TOKENS)


def test_points_relative_to_the_unpadded_image():
    """An image that fills the left half of the grid: its right border is at half of the grid's width."""
    locations = torch.tensor([[0.5, 1.0], [0.25, 0.5]]).view(1, 1, 1, 2, 2)
    spans = torch.tensor([[[4.5, 6.0], [2.5, 3.0], [1.0, 1.0]]])
    points = points_in_image(locations, torch.tensor([0, 1]), GRIDS, spans)
    torch.testing.assert_close(points.flatten(0, 3), torch.tensor([[1.0, 1.0], [0.5, 0.5]]))
