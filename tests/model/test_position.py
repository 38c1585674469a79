import math
from itertools import product

import pytest
import torch
from torchvision.ops import box_convert, box_iou

from detr_lite.model.position import (
    MAX_BIAS,
    AnchoredMLP,
    AxisBias,
    BoxPairBias,
    BoxRelativeBias,
    CenterSinePosition,
    SinePosition,
    sine_embed,
)


def test_sine_embedding_by_hand():
    embedding = sine_embed(torch.tensor([0.25]), dim=4, temperature=100.0)
    angle = 2 * math.pi * 0.25
    expected = [math.sin(angle), math.cos(angle), math.sin(angle / 10), math.cos(angle / 10)]
    torch.testing.assert_close(embedding, torch.tensor(expected))


def test_detr_positions_are_cumulative_sums_over_unpadded_tokens_y_first():
    is_padding = torch.ones(1, 3, 4, dtype=torch.bool)
    is_padding[0, :2, :3] = False
    position = SinePosition(dim=8)(is_padding, torch.zeros(1, 3, 4, 2))
    y, x = 1 / (2 + 1e-6), 3 / (3 + 1e-6)  # row 0, column 2 of 2 x 3 unpadded tokens
    expected = sine_embed(torch.tensor([y, x]), 4, 10000.0)
    torch.testing.assert_close(position[0, 0, 2], expected)


def test_padding_does_not_change_positions():
    alone = torch.zeros(1, 3, 4, dtype=torch.bool)
    padded = torch.ones(1, 5, 6, dtype=torch.bool)
    padded[:, :3, :4] = False
    position = SinePosition(dim=16)
    torch.testing.assert_close(
        position(alone, torch.zeros(1, 3, 4, 2)), position(padded, torch.zeros(1, 5, 6, 2))[:, :3, :4]
    )


def test_positions_of_centers_are_comparable_to_those_of_boxes():
    centers = torch.rand(2, 3, 4, 2)
    position = CenterSinePosition(dim=16)(torch.zeros(2, 3, 4, dtype=torch.bool), centers)
    torch.testing.assert_close(position, sine_embed(centers[..., [1, 0]], 8, 20.0))


@pytest.mark.parametrize("queries", [0, 1, 3])
def test_box_bias_sums_both_axes(queries):
    """Against a loop over all pairs of a query and a token."""
    torch.manual_seed(0)
    bias = BoxRelativeBias(heads=2, hidden=8)
    boxes_xyxy, spans = torch.rand(1, queries, 2, 2).sort(2).values.flatten(2), torch.tensor([[[35.0, 20], [17.5, 10]]])
    grids = ((2, 4), (1, 2))
    result = bias(boxes_xyxy, grids, spans)
    assert result.shape == (1, 2, queries, 8 + 2)

    def by_hand(axis: AxisBias, edges: torch.Tensor, token: float) -> torch.Tensor:
        distance = edges - token
        learned = axis.network(distance.sign() * (distance.abs() + 1).log() / math.log(9))
        size = max(1.0, (edges[1] - edges[0]).item())
        offset = (token - edges.mean()) / size
        return (learned - axis.log_sharpness.exp() * (offset - axis.middle) ** 2).clamp(-MAX_BIAS, MAX_BIAS)

    token = 0
    for level, (height, width) in enumerate(grids):
        for row in range(height):
            for column in range(width):
                for query in range(queries):
                    x = by_hand(bias.horizontal, boxes_xyxy[0, query, [0, 2]] * spans[0, level, 0], column + 0.5)
                    y = by_hand(bias.vertical, boxes_xyxy[0, query, [1, 3]] * spans[0, level, 1], row + 0.5)
                    torch.testing.assert_close(result[0, :, query, token], x + y, atol=1e-4, rtol=1e-4)
                token += 1


def test_padding_gets_minus_infinity_except_for_the_first_token():
    """Of 5 x 4 tokens the second image covers 2.5 x 1, the third none."""
    spans = torch.tensor([[[5.0, 4.0]], [[2.5, 1.0]], [[0.0, 0.0]]])
    bias = BoxRelativeBias(heads=2)(torch.rand(3, 2, 4), ((4, 5),), spans).view(3, 2, 2, 4, 5)
    assert bias[0].isfinite().all()
    assert bias[1].isfinite()[..., :1, :3].all()
    assert bias[1].isinf().sum() == 2 * 2 * (20 - 3)
    assert (bias[2].isfinite().sum((-2, -1)) == 1).all()


def test_heads_attend_to_the_sides_of_the_box_at_initialization():
    bias = BoxRelativeBias(heads=4)
    for axis in (bias.horizontal, bias.vertical):
        for parameter in axis.network.parameters():
            torch.nn.init.zeros_(parameter)
    box_xyxy = torch.tensor([[[0.25, 0.25, 0.75, 0.75]]])
    weights = bias(box_xyxy, ((20, 20),), torch.tensor([[[20.0, 20.0]]])).softmax(-1).view(4, 20, 20)
    y, x = ((weights.sum(side) * (torch.arange(20) + 0.5)).sum(-1) / 20 for side in (2, 1))
    torch.testing.assert_close(x, torch.tensor([0.7, 0.5, 0.3, 0.5]), atol=0.05, rtol=0)
    torch.testing.assert_close(y, torch.tensor([0.5, 0.7, 0.5, 0.3]), atol=0.05, rtol=0)


def test_a_box_without_area_gives_a_finite_bias_and_gradient():
    bias = BoxRelativeBias(heads=2)
    box_xyxy = torch.tensor([[[0.5, 0.5, 0.5, 0.5]]], requires_grad=True)
    result = bias(box_xyxy, ((3, 3),), torch.tensor([[[3.0, 3.0]]]))
    (gradient,) = torch.autograd.grad(result.sum(), box_xyxy)
    assert result.isfinite().all()
    assert gradient.isfinite().all()


def test_distant_tokens_have_small_weights_that_do_not_underflow():
    """60,000 tokens; denormal numbers would make a softmax on a CPU ten times as slow."""
    bias = BoxRelativeBias(heads=4)
    corner_xyxy = torch.tensor([[[0.0, 0.0, 0.001, 0.001]]])
    weights = bias(corner_xyxy, ((200, 300),), torch.tensor([[[300.0, 200.0]]])).softmax(-1).view(4, 200, 300)
    assert weights.min() > torch.finfo(torch.float32).tiny
    assert weights[:, 8:].sum() + weights[:, :, 8:].sum() < 1e-4


@pytest.mark.parametrize("queries", [0, 1, 4])
def test_pair_bias_by_hand(queries):
    """Against a loop over all pairs, with torchvision's IoU."""
    torch.manual_seed(0)
    bias = BoxPairBias(heads=2, hidden=8)
    torch.nn.init.normal_(bias.overlap)
    boxes_cxcywh, scores = torch.rand(2, queries, 4) * 0.5 + 0.2, torch.rand(2, queries)
    result = bias(boxes_cxcywh, scores)
    assert result.shape == (2, 2, queries, queries)
    assert result.is_contiguous()  # needed by fused attention on GPUs
    for image, query, other in product(range(2), range(queries), range(queries)):
        first, second = boxes_cxcywh[image, query].tolist(), boxes_cxcywh[image, other].tolist()
        overlap = box_iou(*(box_convert(torch.tensor([box]), "cxcywh", "xyxy") for box in (first, second))).item()
        features = [
            math.log(1 + abs(second[0] - first[0]) / first[2]),
            math.log(1 + abs(second[1] - first[1]) / first[3]),
            math.log(second[2] / first[2]),
            math.log(second[3] / first[3]),
            (scores[image, other] - scores[image, query]).item(),
            overlap,
        ]
        expected = bias.network(torch.tensor(features)) + bias.overlap * overlap
        torch.testing.assert_close(result[image, :, query, other], expected, atol=1e-5, rtol=1e-5)


def test_queries_attend_to_overlapping_ones_at_initialization():
    bias = BoxPairBias(heads=4)
    boxes_cxcywh = torch.tensor([[[0.3, 0.3, 0.2, 0.2], [0.31, 0.3, 0.2, 0.2], [0.8, 0.8, 0.2, 0.2]]])
    result = bias(boxes_cxcywh, torch.tensor([[0.5, 0.5, 0.5]]))
    assert (result[0, :, 0, 1] > result[0, :, 0, 2] + 1).all()


def test_boxes_without_area_give_a_finite_pair_bias():
    bias = BoxPairBias(heads=2)
    assert bias(torch.tensor([[[0.5, 0.5, 0.0, 0.0], [0.5, 0.5, 1.0, 0.0]]]), torch.rand(1, 2)).half().isfinite().all()


def test_the_bias_without_gradients_is_the_same():
    torch.manual_seed(0)
    bias = BoxRelativeBias(heads=2)
    boxes_xyxy = torch.rand(2, 3, 4).sort(dim=-1).values
    grids = ((4, 6), (2, 3))
    spans = torch.tensor([[[6.0, 4.0], [3.0, 2.0]], [[5.0, 2.5], [2.5, 1.25]]])
    expected = bias(boxes_xyxy, grids, spans)
    with torch.no_grad():
        found = bias(boxes_xyxy, grids, spans)
    assert torch.equal(found, expected)
    assert found.is_contiguous()


def test_the_learned_bias_is_that_of_an_ordinary_mlp_but_for_a_constant():
    """Which the softmax cancels; without a way for it, it cannot walk."""
    torch.manual_seed(0)
    mlp = AnchoredMLP(2, 8, 3)
    values = torch.randn(5, 7, 2)
    difference = mlp(values) - mlp[2](mlp[1](mlp[0](values)))
    torch.testing.assert_close(difference, difference[:1, :1].expand_as(difference))
    assert difference.abs().max() > 0.01
    assert mlp[2].bias is None
    for dtype in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
            assert (mlp(torch.zeros(1, 2)) == 0).all()
            assert mlp(values).dtype == dtype
