import itertools

import pytest
import torch

from detr_lite.loss.matcher import MatchingCost, assign_tokens, match, token_candidates
from detr_lite.loss.targets import pad_targets
from detr_lite.structures import Target


def make_target(objects: int, image_id: int = 0) -> Target:
    return Target(torch.rand(objects, 4) * 0.4 + 0.3, torch.randint(0, 3, (objects,)), image_id, (10, 10))


COSTS = [MatchingCost("softmax", 1.0, 5.0, 2.0), MatchingCost("sigmoid", 2.0, 5.0, 2.0)]


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("objects", [(0,), (1, 0), (4, 3), (6,)])  # the last: more objects than queries
def test_the_matching_has_the_lowest_cost_of_all_assignments(cost, objects):
    torch.manual_seed(0)
    queries = 5
    targets = [make_target(count) for count in objects]
    logits, boxes = torch.randn(2, len(objects), queries, 4), torch.rand(2, len(objects), queries, 4) * 0.5 + 0.2
    matches = match(cost, logits, boxes, pad_targets(targets))
    assert len(matches.query) == 2 * sum(min(count, queries) for count in objects)
    for layer, (image, target) in itertools.product(range(2), enumerate(targets)):
        count = len(target.labels)
        costs = cost(logits[layer, image], boxes[layer, image], target.labels, target.boxes_cxcywh)
        short, long = min(count, queries), max(count, queries)
        by_short = costs if queries <= count else costs.T
        choices = itertools.permutations(range(long), short)
        best = min(sum(by_short[i, j].item() for i, j in enumerate(choice)) for choice in choices)
        here = (matches.layer == layer) & (matches.image == image)
        assert costs[matches.query[here], matches.object[here]].sum().item() == pytest.approx(best, abs=1e-5)
        assert len(set(matches.query[here].tolist())) == short
        assert len(set(matches.object[here].tolist())) == short


def test_batched_cost_is_the_cost_of_each_image():
    """Padding of images with fewer objects has no influence."""
    torch.manual_seed(0)
    targets = [make_target(2), make_target(5)]
    padded = pad_targets(targets)
    logits, boxes = torch.randn(3, 2, 4, 4), torch.rand(3, 2, 4, 4)
    together = COSTS[1](logits, boxes, padded.labels[None], padded.boxes_cxcywh[None])
    for image, target in enumerate(targets):
        alone = COSTS[1](logits[1, image], boxes[1, image], target.labels, target.boxes_cxcywh)
        torch.testing.assert_close(together[1, image, :, : len(target.labels)], alone)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("cost", COSTS)
def test_costs_that_are_not_finite_are_reported_without_an_error(cost, value):
    """All images are matched, the others as without it."""
    torch.manual_seed(0)
    logits, boxes = torch.randn(2, 3, 4, 4), torch.rand(2, 3, 4, 4) * 0.5 + 0.2
    targets = pad_targets([make_target(2, image_id=7), make_target(6, image_id=99), make_target(0)])
    plain = match(cost, logits, boxes, targets)
    assert plain.not_finite == ()
    broken = boxes.clone()
    broken[1, 1] = value
    matches = match(cost, logits, broken, targets)
    assert matches.not_finite == (1,)
    assert len(matches.query) == 2 * (2 + 4)
    for name in ("query", "object"):
        for layer, image in ((0, 0), (0, 1), (1, 0)):
            expected, found = (
                getattr(pairs, name)[(pairs.layer == layer) & (pairs.image == image)] for pairs in (plain, matches)
            )
            assert torch.equal(found, expected)


def test_a_query_that_is_not_finite_is_matched_last():
    targets = [make_target(3)]
    boxes = targets[0].boxes_cxcywh[None, None].repeat(1, 1, 2, 1)[:, :, :5]
    boxes[0, 0, :2] = torch.nan
    matches = match(COSTS[0], torch.zeros(1, 1, 5, 4), boxes, pad_targets(targets))
    assert sorted(matches.query.tolist()) == [2, 3, 4]
    assert matches.not_finite == (0,)


def test_an_image_without_objects_has_no_costs():
    logits, boxes = torch.full((1, 2, 4, 4), torch.nan), torch.rand(1, 2, 4, 4)
    assert match(COSTS[0], logits, boxes, pad_targets([make_target(0), make_target(1)])).not_finite == (1,)


def test_matching_copies_costs_to_the_host_once(monkeypatch):
    calls = []
    original = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: calls.append(tensor.shape) or original(tensor))
    match(COSTS[0], torch.randn(6, 3, 4, 4), torch.rand(6, 3, 4, 4), pad_targets([make_target(n) for n in (1, 0, 3)]))
    assert calls == [(6, 3, 4, 3)]


def test_assignment_of_tokens_by_hand():
    """Token 1 is among the cheapest two of both objects and goes to object 1, whose cost is lower."""
    cost = torch.tensor([[[1.0, 9.0], [2.0, 1.5], [3.0, 8.0], [0.0, 0.0]]])
    is_candidate = torch.tensor([[[True, False], [True, True], [True, True], [False, False]]])
    objects, is_assigned = assign_tokens(cost, is_candidate, per_object=2)
    assert is_assigned.tolist() == [[True, True, True, False]]  # token 2: object 1's second
    assert objects[0, :3].tolist() == [0, 1, 1]


@pytest.mark.parametrize("per_object", [1, 4, 100])
def test_no_object_is_assigned_more_tokens_than_per_object(per_object):
    torch.manual_seed(0)
    cost, is_candidate = torch.rand(2, 30, 3), torch.rand(2, 30, 3) < 0.4
    objects, is_assigned = assign_tokens(cost, is_candidate, per_object)
    for image in range(2):
        counts = torch.bincount(objects[image][is_assigned[image]], minlength=3)
        assert (counts <= per_object).all()
        chosen = is_candidate[image, torch.arange(30), objects[image]]
        assert chosen[is_assigned[image]].all()


def test_candidates_have_their_center_in_the_box_or_contain_its_center():
    centers = torch.tensor([[[0.125, 0.5], [0.375, 0.5], [0.625, 0.5], [0.875, 0.5]]])
    sizes = torch.full((1, 4, 2), 0.25)
    is_padding = torch.tensor([[False, False, False, True]])
    boxes = torch.tensor([[0.5, 0.5, 0.3, 0.3], [0.2, 0.5, 0.01, 0.01], [0.875, 0.5, 0.5, 0.5]])
    targets = pad_targets([Target(boxes, torch.tensor([0, 1, 2]), 0, (10, 10))])
    candidates = token_candidates(centers, sizes, is_padding, targets)[0]
    assert candidates[:, 0].tolist() == [False, True, True, False]
    assert candidates[:, 1].tolist() == [True, False, False, False]  # smaller than a token
    assert candidates[:, 2].tolist() == [False, False, True, False]  # the nearest one is padding


def test_candidates_of_two_levels():
    """A grid of 2 x 2 tokens and one coarser token."""
    fine = [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    centers = torch.tensor([[*fine, [0.5, 0.5]]])
    sizes = torch.tensor([[[0.5, 0.5]] * 4 + [[1.0, 1.0]]])
    boxes = torch.tensor(
        [
            [0.5, 0.25, 0.6, 0.4],  # contains the centers of the upper two tokens and of the coarser one
            [0.3, 0.8, 0.1, 0.1],  # smaller than a token: its center lies in one of each level
            [0.5, 0.5, 1.0, 1.0],
        ]
    )
    targets = pad_targets([Target(boxes, torch.tensor([0, 1, 2]), 0, (10, 10))])
    candidates = token_candidates(centers, sizes, torch.zeros(1, 5, dtype=torch.bool), targets)[0]
    assert candidates.T.int().tolist() == [[1, 1, 0, 0, 1], [0, 0, 1, 0, 1], [1, 1, 1, 1, 1]]


def test_a_token_lost_to_another_object_is_not_replaced():
    """Tokens 0 and 1 are the cheapest of both objects and go to object 1; object 0 does not get token 2 instead."""
    cost = torch.tensor([[[2.0, 1.0], [3.0, 2.0], [4.0, 9.0]]])
    objects, is_assigned = assign_tokens(cost, torch.ones(1, 3, 2, dtype=torch.bool), per_object=2)
    assert is_assigned.tolist() == [[True, True, False]]
    assert objects[0, :2].tolist() == [1, 1]


def test_without_objects_there_are_no_candidates():
    targets = pad_targets([make_target(0)])
    candidates = token_candidates(torch.rand(1, 4, 2), torch.ones(1, 4, 2), torch.zeros(1, 4).bool(), targets)
    assert not candidates.any()
