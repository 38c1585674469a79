"""Which tokens place the anchors."""

import pytest
import torch
from torchvision.ops import box_convert, box_iou

from detr_lite.model.encoder import EncoderOutput
from detr_lite.model.queries import CANDIDATES, AnchorQueries, topk_distinct

BOXES_CXCYWH = torch.tensor(
    [[[0.2, 0.5, 0.2, 0.2], [0.21, 0.5, 0.2, 0.2], [0.8, 0.5, 0.2, 0.2], [0.5, 0.5, 0.2, 0.2], [0.8, 0.51, 0.2, 0.2]]]
)
"""The second is much like the first, the fifth like the third."""


@pytest.mark.parametrize(("count", "chosen"), [(1, [1]), (2, [1, 4]), (3, [1, 4, 3]), (5, [1, 4, 3, 0, 2])])
def test_copies_come_last(count, chosen):
    scores = torch.tensor([[1.0, 3.0, 0.0, -2.0, 2.0]])
    assert topk_distinct(scores, BOXES_CXCYWH, count, dedup_iou=0.8).tolist() == [chosen]


def test_without_a_limit_the_best_are_chosen():
    torch.manual_seed(0)
    scores, boxes_cxcywh = torch.randn(3, 40), torch.full((3, 40, 4), 0.5)
    assert torch.equal(topk_distinct(scores, boxes_cxcywh, 10, dedup_iou=1.0), scores.topk(10).indices)


def test_padding_comes_after_copies():
    scores = torch.tensor([[1.0, 3.0, -torch.inf, -torch.inf, 2.0]])
    assert topk_distinct(scores, BOXES_CXCYWH, 4, dedup_iou=0.8)[0, :3].tolist() == [1, 4, 0]


def test_each_image_is_by_itself():
    torch.manual_seed(0)
    scores, boxes_cxcywh = torch.randn(4, 60), torch.rand(4, 60, 4) * 0.3 + 0.2
    together = topk_distinct(scores, boxes_cxcywh, 15, dedup_iou=0.5)
    apart = [topk_distinct(scores[[image]], boxes_cxcywh[[image]], 15, dedup_iou=0.5) for image in range(4)]
    assert torch.equal(together, torch.cat(apart))


@pytest.mark.parametrize("seed", range(5))
def test_one_token_after_the_other_and_torchvisions_overlap_give_the_same(seed):
    torch.manual_seed(seed)
    count = 40
    scores = torch.randn(1, CANDIDATES * count)
    scores[0, :40] = -torch.inf
    boxes_cxcywh = torch.rand(1, CANDIDATES * count, 4)
    boxes_cxcywh[..., 2:] = boxes_cxcywh[..., 2:] * 0.3 + 0.3
    overlaps = box_iou(*[box_convert(boxes_cxcywh[0], "cxcywh", "xyxy")] * 2)
    distinct: list[int] = []
    copies: list[int] = []
    for seen, token in enumerate(order := scores[0].argsort(descending=True)[:80].tolist()):
        is_copy = any(overlaps[token, better] > 0.5 for better in order[:seen])
        (copies if is_copy else distinct).append(token)
    assert 5 < len(distinct) < count  # copies fill what is left
    chosen = topk_distinct(scores, boxes_cxcywh, count, dedup_iou=0.5)[0].tolist()
    assert chosen == [*distinct, *copies][:count]


def test_fewer_tokens_than_wanted():
    assert sorted(topk_distinct(torch.randn(1, 5), BOXES_CXCYWH, 9, dedup_iou=0.8)[0].tolist()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("height", "expected"), [(2, 0.9), (4, 0.9), (16, 0.25)])
def test_a_proposal_starts_four_tokens_large_where_there_is_room_and_can_learn(height, expected):
    centers = torch.stack(torch.meshgrid(torch.arange(16), torch.arange(height), indexing="xy"), -1).flatten(0, 1)
    share = torch.tensor([1 / 16, 1 / height])
    count = len(centers)
    tokens = EncoderOutput(
        memory=torch.randn(1, count, 8),
        position=torch.zeros(1, count, 8),
        centers=((centers + 0.5) * share)[None],
        sizes=share.expand(1, count, 2),
        is_padding=torch.zeros(1, count, dtype=torch.bool),
        grids=((height, 16),),
        spans=torch.tensor([[[16.0, float(height)]]]),
    )
    queries = AnchorQueries(4, 8, 3, denoising_queries=0)
    proposals = queries.propose(tokens)
    torch.testing.assert_close(proposals.boxes_cxcywh[..., :2], tokens.centers)
    torch.testing.assert_close(proposals.boxes_cxcywh[0, 0, 2:], torch.tensor([0.25, expected]))
    proposals.boxes_cxcywh[..., 3].sum().backward()
    assert queries.token_box[-1].bias.grad[3] > 0.08 * count  # the slope of the sigmoid, from each token
