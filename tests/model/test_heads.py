"""Box refinement from layer to layer."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from detr_lite.box_ops import cxcywh_to_xyxy
from detr_lite.model.heads import DetrHeads, FDRHeads, RefinementHeads, fdr_bins

DIM = 8


def randomized(heads: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in heads.parameters():
        nn.init.normal_(parameter, std=0.3)
    return heads


def test_bins_are_d_fines():
    """Eq. 4 with a = 1/2, c = 1/4 and 9 bins."""
    bins = fdr_bins(9)
    growth = 3 ** (2 / 6)
    expected = [0.25 * (growth**step - 1) for step in (1, 2, 3)]
    assert bins.tolist() == pytest.approx([-1, *(-step for step in reversed(expected)), 0, *expected, 1])
    torch.testing.assert_close(fdr_bins(33).diff()[16:].sort().values, fdr_bins(33).diff()[16:])  # finer near 0


@pytest.mark.parametrize("heads", [RefinementHeads(DIM, 3, 3), FDRHeads(DIM, 3, 3)])
def test_new_heads_leave_the_anchors_where_they_are(heads):
    anchors, output = torch.rand(2, 5, 4) * 0.4 + 0.3, None
    for layer in range(3):
        output = heads(layer, torch.randn(2, 5, DIM), anchors, output)
        torch.testing.assert_close(output.boxes_cxcywh, anchors, atol=1e-5, rtol=1e-5)


def test_edges_move_by_the_mean_of_their_distribution_in_sizes_of_the_initial_box():
    heads = randomized(FDRHeads(DIM, 3, 3, num_bins=5))
    states = torch.randn(3, 1, 1, DIM)
    anchors = torch.tensor([[[0.5, 0.5, 0.2, 0.4]]])
    first = heads(0, states[0], anchors, None)
    assert first.edges.logits.shape == (0, 1, 1, 4, 5)
    second = heads(1, states[1], first.boxes_cxcywh, first)
    third = heads(2, states[2], second.boxes_cxcywh, second)
    start = cxcywh_to_xyxy(first.boxes_cxcywh)[0, 0]
    size = torch.stack([start[2] - start[0], start[3] - start[1]]).repeat(2)
    logits = [heads.edges[index](states[index + 1])[0, 0].view(4, 5) for index in (0, 1)]
    bins = fdr_bins(5)
    for output, total in ((second, logits[0]), (third, logits[0] + logits[1])):
        moved = torch.stack([start[edge] + (total[edge].softmax(0) * bins).sum() * size[edge] for edge in range(4)])
        torch.testing.assert_close(cxcywh_to_xyxy(output.boxes_cxcywh)[0, 0], moved, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(output.edges.logits[0, 0, 0], total, atol=1e-5, rtol=1e-5)


def test_crossing_edges_give_a_positive_size():
    heads = FDRHeads(DIM, 3, 2)
    anchors = torch.tensor([[[0.5, 0.5, 0.2, 0.2]]])
    first = heads(0, torch.zeros(1, 1, DIM), anchors, None)
    inward = torch.zeros(1, 1, 1, 4, 33)
    inward[..., :2, -1], inward[..., 2:, 0] = 50.0, 50.0
    crossed = replace(first, edges=replace(first.edges, logits=inward))
    second = heads(1, torch.zeros(1, 1, DIM), anchors, crossed)
    assert (second.boxes_cxcywh[..., 2:] > 0).all()


def test_gradients_reach_earlier_layers_through_the_sum_of_logits():
    heads = randomized(FDRHeads(DIM, 3, 3))
    output = None
    for layer in range(3):
        output = heads(layer, torch.randn(1, 2, DIM), torch.rand(1, 2, 4) * 0.4 + 0.3, output)
    output.boxes_cxcywh.sum().backward()
    assert heads.edges[0][-1].weight.grad.any()
    assert heads.box[-1].weight.grad is None  # only the first layer's own loss trains the initial boxes


@pytest.mark.parametrize("heads", [DetrHeads(DIM, 3), RefinementHeads(DIM, 3, 2), FDRHeads(DIM, 3, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_under_autocast_predictions_are_computed_in_float32(heads, dtype):
    """From states in float32 or bfloat16."""
    states, anchors = torch.randn(2, 5, DIM).to(dtype), torch.rand(2, 5, 4) * 0.4 + 0.3

    def predict(states):
        if isinstance(heads, DetrHeads):
            return heads(states)
        return heads(1, states, anchors, heads(0, states, anchors, None))

    randomized(heads)
    expected = predict(states.float())
    with torch.autocast("cpu", torch.bfloat16):
        output = predict(states)
    assert torch.equal(output.logits, expected.logits)
    assert torch.equal(output.boxes_cxcywh, expected.boxes_cxcywh)
