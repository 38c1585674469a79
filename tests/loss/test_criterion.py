from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import generalized_box_iou_loss

from detr_lite.box_ops import cxcywh_to_xyxy
from detr_lite.loss import official_criterion
from detr_lite.loss.criterion import LiteCriterion
from detr_lite.loss.losses import edge_distribution_loss, matchability_aware_loss
from detr_lite.loss.matcher import MatchingCost
from detr_lite.structures import DenoisingPredictions, DetrOutput, EdgeDistributions, Target, TokenPredictions


def make_target(objects: int) -> Target:
    return Target(torch.rand(objects, 4) * 0.4 + 0.3, torch.randint(0, 3, (objects,)), 0, (10, 10))


def lite_criterion() -> LiteCriterion:
    weights = {"class": 2.0, "l1": 5.0, "giou": 2.0, "fdr": 0.5}
    return LiteCriterion(MatchingCost("sigmoid", 2.0, 5.0, 2.0), weights, one_to_many_topk=4, gamma=1.5)


def test_the_official_loss_by_hand():
    """One image, two queries, one object: query 1 is matched, query 0 is background."""
    box, distant = torch.tensor([0.5, 0.5, 0.2, 0.2]), torch.tensor([0.2, 0.2, 0.1, 0.1])
    near = box + torch.tensor([0.01, 0.0, 0.0, 0.02])
    logits = torch.tensor([[[[0.1, 0.2, 0.3], [2.0, -1.0, 0.5]]]])
    output = DetrOutput(logits, torch.stack([distant, near])[None, None])
    losses = official_criterion(num_classes=2)(output, [Target(box[None], torch.tensor([0]), 0, (10, 10))])
    log_p = logits[0, 0].log_softmax(-1)
    ce = (0.1 * -log_p[0, 2] + -log_p[1, 0]) / 1.1
    l1 = torch.tensor(0.03)
    giou = generalized_box_iou_loss(cxcywh_to_xyxy(near[None]), cxcywh_to_xyxy(box[None]))[0]
    torch.testing.assert_close(losses.parts["ce"], ce[None])
    torch.testing.assert_close(losses.parts["l1"], l1[None])
    torch.testing.assert_close(losses.parts["giou"], giou[None], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(losses.total, ce + 5 * l1 + 2 * giou, atol=1e-5, rtol=1e-5)


def test_the_official_loss_sums_layers_and_divides_by_num_boxes():
    torch.manual_seed(0)
    targets = [make_target(2), make_target(0), make_target(3)]
    output = DetrOutput(torch.randn(6, 3, 8, 4), torch.rand(6, 3, 8, 4) * 0.4 + 0.3)
    criterion = official_criterion(num_classes=3)
    losses = criterion(output, targets)
    assert {name: part.shape for name, part in losses.parts.items()} == dict.fromkeys(("ce", "l1", "giou"), (6,))
    total = losses.parts["ce"].sum() + 5 * losses.parts["l1"].sum() + 2 * losses.parts["giou"].sum()
    torch.testing.assert_close(losses.total, total)
    single = criterion(DetrOutput(output.logits[2:3], output.boxes_cxcywh[2:3]), targets)
    torch.testing.assert_close(single.parts["giou"][0], losses.parts["giou"][2])
    first = criterion(DetrOutput(output.logits[:, :1], output.boxes_cxcywh[:, :1]), targets[:1]).parts["l1"]
    third = criterion(DetrOutput(output.logits[:, 2:], output.boxes_cxcywh[:, 2:]), targets[2:]).parts["l1"]
    torch.testing.assert_close(losses.parts["l1"], (2 * first + 3 * third) / 5)


@pytest.mark.parametrize("make", [lambda: official_criterion(3), lite_criterion])
def test_without_objects_loss_and_gradients_are_finite(make):
    criterion = make()
    classes = 4 if make is not lite_criterion else 3
    logits = torch.randn(2, 2, 5, classes, requires_grad=True)
    boxes = torch.rand(2, 2, 5, 4, requires_grad=True)
    losses = criterion(DetrOutput(logits, boxes), [make_target(0), make_target(0)])
    losses.total.backward()
    assert losses.total > 0
    assert not boxes.grad.any()
    assert logits.grad.isfinite().all()


def test_a_criterion_needs_at_least_one_class():
    with pytest.raises(ValueError, match="at least one class"):
        official_criterion(0)


def test_the_loss_is_computed_in_float32_under_autocast():
    torch.manual_seed(0)
    output = DetrOutput(torch.randn(1, 1, 5, 3), torch.rand(1, 1, 5, 4))
    expected = lite_criterion()(output, [make_target(2)]).total
    torch.manual_seed(0)
    output = DetrOutput(torch.randn(1, 1, 5, 3), torch.rand(1, 1, 5, 4))
    with torch.autocast("cpu", torch.bfloat16):
        loss = lite_criterion()(output, [make_target(2)]).total
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)


def test_quality_of_matched_queries_by_hand():
    box = torch.tensor([0.5, 0.5, 0.2, 0.2])
    wide = torch.tensor([0.5, 0.5, 0.4, 0.2])  # IoU 1 / 2
    distant = torch.tensor([0.1, 0.1, 0.1, 0.1])
    logits = torch.randn(1, 1, 2, 3)
    losses = lite_criterion()(
        DetrOutput(logits, torch.stack([distant, wide])[None, None]),
        [Target(box[None], torch.tensor([2]), 0, (10, 10))],
    )
    quality = torch.zeros(2, 3)
    quality[1, 2] = 0.5
    expected = matchability_aware_loss(logits[0, 0], quality, quality > 0).sum()
    torch.testing.assert_close(losses.parts["class"][0], expected)
    torch.testing.assert_close(losses.parts["l1"][0], torch.tensor(0.2))
    torch.testing.assert_close(losses.parts["giou"][0], torch.tensor(0.5))


def test_denoising_queries_are_trained_on_their_own_objects():
    """Two objects, and a second image with one, whose padding has no influence."""
    torch.manual_seed(0)
    targets = [make_target(2), make_target(1)]
    truth = torch.stack([targets[0].boxes_cxcywh, targets[1].boxes_cxcywh.repeat(2, 1)])
    logits, is_real = torch.randn(1, 2, 2, 3), torch.tensor([[True, True], [True, False]])
    denoising = DenoisingPredictions(
        logits, truth[None] + 0.01, torch.tensor([[0, 1], [0, 1]]), is_real, torch.ones(2, 2).bool()
    )
    output = DetrOutput(torch.randn(1, 2, 4, 3), torch.rand(1, 2, 4, 4), denoising=denoising)
    parts = lite_criterion()(output, targets).parts
    torch.testing.assert_close(parts["denoising_l1"], torch.tensor([0.04]), atol=1e-5, rtol=0)
    changed = logits.clone()
    changed[0, 1, 1] = 100.0
    changed_padding = replace(denoising, logits=changed)
    output = DetrOutput(output.logits, output.boxes_cxcywh, denoising=changed_padding)
    torch.testing.assert_close(lite_criterion()(output, targets).parts, parts)


def test_negative_denoising_queries_are_trained_as_background():
    torch.manual_seed(0)
    target = make_target(1)
    logits, boxes = torch.randn(1, 1, 2, 3), target.boxes_cxcywh.expand(1, 1, 2, 4) + 0.01
    is_near = torch.tensor([[True, False]])
    denoising = DenoisingPredictions(
        logits, boxes, torch.zeros(1, 2, dtype=torch.long), torch.ones(1, 2).bool(), is_near
    )
    parts = lite_criterion()(DetrOutput(torch.randn(1, 1, 4, 3), torch.rand(1, 1, 4, 4), denoising=denoising), [target])
    positives = DenoisingPredictions(
        logits[:, :, :1], boxes[:, :, :1], denoising.objects[:, :1], denoising.is_real[:, :1], is_near[:, :1]
    )
    expected = lite_criterion()(
        DetrOutput(torch.randn(1, 1, 4, 3), torch.rand(1, 1, 4, 4), denoising=positives), [target]
    )
    torch.testing.assert_close(parts.parts["denoising_l1"], expected.parts["denoising_l1"])
    zeros = torch.zeros(3)
    background = matchability_aware_loss(logits[0, 0, 1], zeros, zeros > 0, 1.5).sum()
    torch.testing.assert_close(
        parts.parts["denoising_class"], expected.parts["denoising_class"] + background, atol=1e-5, rtol=1e-5
    )


def test_edge_losses_of_matched_queries_are_weighted_by_iou():
    """Two layers, the second with distributions; two queries, the second matched."""
    truth = torch.tensor([[0.5, 0.5, 0.4, 0.4]])
    boxes = torch.stack([torch.tensor([0.1, 0.1, 0.1, 0.1]), torch.tensor([0.52, 0.5, 0.4, 0.4])]).expand(2, 1, 2, 4)
    torch.manual_seed(0)
    start = cxcywh_to_xyxy(boxes[0])
    edges = EdgeDistributions(torch.randn(1, 1, 2, 4, 5), start, torch.tensor([-1.0, -0.2, 0.0, 0.2, 1.0]))
    output = DetrOutput(torch.zeros(2, 1, 2, 1), boxes, edges=edges)
    losses = lite_criterion()(output, [Target(truth, torch.tensor([0]), 0, (10, 10))])
    edge_loss = edge_distribution_loss(edges.logits[0, 0, 1], start[0, 1], cxcywh_to_xyxy(truth[0]), edges.bins)
    torch.testing.assert_close(losses.parts["fdr"], edge_loss[None] * 0.38 / 0.42, atol=1e-5, rtol=1e-5)
    without = lite_criterion()(replace(output, edges=None), [Target(truth, torch.tensor([0]), 0, (10, 10))])
    torch.testing.assert_close(losses.total, without.total + 0.5 * losses.parts["fdr"].sum())


def test_without_objects_the_edge_loss_is_zero():
    edges = EdgeDistributions(
        torch.randn(2, 1, 3, 4, 5).requires_grad_(), torch.rand(1, 3, 4), torch.linspace(-1, 1, 5)
    )
    losses = lite_criterion()(
        DetrOutput(torch.zeros(3, 1, 3, 2), torch.rand(3, 1, 3, 4), edges=edges), [make_target(0)]
    )
    assert losses.parts["fdr"].tolist() == [0.0, 0.0]
    losses.total.backward()
    assert not edges.logits.grad.any()


def test_tokens_in_the_box_are_positives_and_padding_is_ignored():
    centers = torch.tensor([[[0.25, 0.5], [0.5, 0.5], [0.75, 0.5]]])
    box = torch.tensor([[0.5, 0.5, 0.2, 0.9]])
    boxes = box.expand(1, 3, 4) + torch.tensor([0.0, 0.0, 0.02, 0.0])
    logits = torch.randn(1, 3, 2)
    is_padding = torch.tensor([[False, False, True]])
    tokens = TokenPredictions(logits, boxes, centers, torch.full((1, 3, 2), 0.25), is_padding)
    output = DetrOutput(torch.randn(1, 1, 2, 2), torch.rand(1, 1, 2, 4), tokens=tokens)
    parts = lite_criterion()(output, [Target(box, torch.tensor([1]), 0, (10, 10))]).parts
    quality = torch.zeros(2, 2)
    quality[1, 1] = 0.2 / 0.22
    expected = matchability_aware_loss(logits[0, :2], quality, quality > 0).sum()
    torch.testing.assert_close(parts["token_class"][0], expected)
    torch.testing.assert_close(parts["token_l1"][0], torch.tensor(0.02), atol=1e-6, rtol=0)


def test_repeating_a_batch_does_not_change_the_loss():
    """Sums are divided by the number of objects in the batch."""
    torch.manual_seed(0)
    target = make_target(3)
    logits, boxes = torch.randn(2, 1, 6, 3), torch.rand(2, 1, 6, 4)
    once = lite_criterion()(DetrOutput(logits, boxes), [target])
    twice = lite_criterion()(DetrOutput(logits.repeat(1, 2, 1, 1), boxes.repeat(1, 2, 1, 1)), [target, target])
    torch.testing.assert_close(once.total, twice.total)


def test_cross_entropy_of_the_official_loss_is_torchs():
    torch.manual_seed(0)
    logits = torch.randn(1, 2, 5, 4)
    losses = official_criterion(3)(DetrOutput(logits, torch.rand(1, 2, 5, 4)), [make_target(0), make_target(0)])
    background = torch.full((10,), 3)
    torch.testing.assert_close(losses.parts["ce"][0], F.cross_entropy(logits.flatten(0, 2), background))
