import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from detr_lite.box_ops import cxcywh_to_xyxy
from detr_lite.loss.losses import (
    box_losses,
    edge_distribution_loss,
    focal_cost,
    matchability_aware_loss,
    no_object_cross_entropy,
    softmax_cost,
)


@pytest.mark.parametrize("objects", [0, 1, 7])
def test_box_losses_are_those_of_torch_and_torchvision(objects):
    torch.manual_seed(objects)
    predicted, true = torch.rand(objects, 4) * 0.5 + 0.2, torch.rand(objects, 4) * 0.5 + 0.2
    l1, giou, _ = box_losses(predicted, true)
    torch.testing.assert_close(l1, F.l1_loss(predicted, true, reduction="none").sum(-1))
    expected = generalized_box_iou_loss(cxcywh_to_xyxy(predicted), cxcywh_to_xyxy(true))
    torch.testing.assert_close(giou, expected, atol=1e-5, rtol=1e-5)


def test_pairwise_l1_is_cdist():
    first, second = torch.rand(5, 4), torch.rand(3, 4)
    l1, _, _ = box_losses(first[:, None], second[None])
    torch.testing.assert_close(l1, torch.cdist(first, second, p=1))


def test_focal_cost_is_a_difference_of_focal_losses():
    """torchvision's focal loss with the class as positive, minus as negative."""
    torch.manual_seed(0)
    logits, labels = torch.randn(6, 4), torch.tensor([3, 0, 0])
    positive = sigmoid_focal_loss(logits, torch.ones_like(logits), alpha=0.25, gamma=2)
    negative = sigmoid_focal_loss(logits, torch.zeros_like(logits), alpha=0.25, gamma=2)
    torch.testing.assert_close(focal_cost(logits, labels), (positive - negative)[:, labels])


def test_softmax_cost_is_minus_the_probability():
    logits = torch.tensor([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0]])
    cost = softmax_cost(logits, torch.tensor([1, 0]))
    torch.testing.assert_close(cost, -logits.softmax(-1)[:, [1, 0]])


def test_cross_entropy_with_background_is_torchs_by_layer():
    torch.manual_seed(0)
    logits, classes = torch.randn(2, 3, 5, 4), torch.randint(0, 4, (2, 3, 5))
    weight = torch.tensor([1, 1, 1, 0.1])
    expected = torch.stack([F.cross_entropy(logits[i].flatten(0, 1), classes[i].flatten(), weight) for i in range(2)])
    torch.testing.assert_close(no_object_cross_entropy(logits, classes, 0.1), expected)


def test_matchability_by_hand():
    """Positives: cross-entropy towards IoU^1.5. Negatives: p^1.5 times -log(1 - p)."""
    logits = torch.tensor([0.0, 1.0, -2.0])
    quality, is_positive = torch.tensor([0.81, 0.0, 0.9]), torch.tensor([True, True, False])
    p = logits.sigmoid()
    q = 0.81**1.5
    expected = torch.stack(
        [
            -q * p[0].log() - (1 - q) * (1 - p[0]).log(),
            -(1 - p[1]).log(),  # matched with an IoU of 0
            -(p[2] ** 1.5) * (1 - p[2]).log(),  # the quality of negatives is not used
        ]
    )
    torch.testing.assert_close(matchability_aware_loss(logits, quality, is_positive), expected)


def test_matchability_without_quality_is_torchvisions_focal_loss_of_negatives():
    logits = torch.randn(7)
    expected = sigmoid_focal_loss(logits, torch.zeros(7), alpha=-1, gamma=1.5)
    result = matchability_aware_loss(logits, torch.zeros(7), torch.zeros(7, dtype=torch.bool))
    torch.testing.assert_close(result, expected)


def test_a_background_of_weight_zero_gives_zero_loss():
    logits = torch.randn(2, 1, 3, 4, requires_grad=True)
    loss = no_object_cross_entropy(logits, torch.full((2, 1, 3), 3), 0.0)
    loss.sum().backward()
    assert loss.tolist() == [0.0, 0.0]
    assert not logits.grad.any()


def test_an_edge_between_two_bins_is_shared_by_them():
    """A box of 0.2 x 0.4, whose left edge moves by 0.05, a quarter of its width: half way from 0 to 0.5."""
    bins = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0])
    start = torch.tensor([0.4, 0.3, 0.6, 0.7])
    true = torch.tensor([0.45, 0.3, 0.62, 5.0])
    logits = torch.randn(4, 5)
    p = logits.log_softmax(-1)
    left = 0.5 * p[0, 2] + 0.5 * p[0, 3]
    top = p[1, 2]  # does not move
    right = 0.8 * p[2, 2] + 0.2 * p[2, 3]
    bottom = p[3, 4]  # beyond the last bin
    loss = edge_distribution_loss(logits, start, true, bins)
    torch.testing.assert_close(loss, -(left + top + right + bottom), atol=1e-5, rtol=1e-5)


def test_edges_of_a_box_without_area_are_finite():
    logits = torch.zeros(4, 3, requires_grad=True)
    loss = edge_distribution_loss(logits, torch.full((4,), 0.5), torch.rand(4), torch.tensor([-1.0, 0.0, 1.0]))
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()
