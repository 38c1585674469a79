"""The tokens that become anchors."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.ops import box_convert, box_iou

from detr_lite.model import queries
from detr_lite.model.encoder import EncoderOutput
from detr_lite.model.queries import CANDIDATES, AnchorQueries, topk_distinct

BOXES_CXCYWH = torch.tensor(
    [[[0.2, 0.5, 0.2, 0.2], [0.21, 0.5, 0.2, 0.2], [0.8, 0.5, 0.2, 0.2], [0.5, 0.5, 0.2, 0.2], [0.8, 0.51, 0.2, 0.2]]]
)
"""The second is a duplicate of the first, the fifth of the third."""


@pytest.mark.parametrize(("count", "chosen"), [(1, [1]), (2, [1, 4]), (3, [1, 4, 3]), (5, [1, 4, 3, 0, 2])])
def test_duplicates_come_last(count, chosen):
    scores = torch.tensor([[1.0, 3.0, 0.0, -2.0, 2.0]])
    assert topk_distinct(scores, BOXES_CXCYWH, count, dedup_iou=0.8).tolist() == [chosen]


def test_without_deduplication_it_is_topk():
    torch.manual_seed(0)
    scores, boxes_cxcywh = torch.randn(3, 40), torch.full((3, 40, 4), 0.5)
    assert torch.equal(topk_distinct(scores, boxes_cxcywh, 10, dedup_iou=1.0), scores.topk(10).indices)


def test_padding_comes_after_duplicates():
    scores = torch.tensor([[1.0, 3.0, -torch.inf, -torch.inf, 2.0]])
    assert topk_distinct(scores, BOXES_CXCYWH, 4, dedup_iou=0.8)[0, :3].tolist() == [1, 4, 0]


def test_images_are_independent():
    torch.manual_seed(0)
    scores, boxes_cxcywh = torch.randn(4, 60), torch.rand(4, 60, 4) * 0.3 + 0.2
    together = topk_distinct(scores, boxes_cxcywh, 15, dedup_iou=0.5)
    apart = [topk_distinct(scores[[image]], boxes_cxcywh[[image]], 15, dedup_iou=0.5) for image in range(4)]
    assert torch.equal(together, torch.cat(apart))


@pytest.mark.parametrize("seed", range(5))
def test_a_loop_over_tokens_with_torchvisions_iou_gives_the_same(seed):
    torch.manual_seed(seed)
    count = 40
    scores = torch.randn(1, CANDIDATES * count)
    scores[0, :40] = -torch.inf
    boxes_cxcywh = torch.rand(1, CANDIDATES * count, 4)
    boxes_cxcywh[..., 2:] = boxes_cxcywh[..., 2:] * 0.3 + 0.3
    overlaps = box_iou(*[box_convert(boxes_cxcywh[0], "cxcywh", "xyxy")] * 2)
    distinct: list[int] = []
    duplicates: list[int] = []
    for rank, token in enumerate(order := scores[0].argsort(descending=True)[:80].tolist()):
        is_duplicate = any(overlaps[token, earlier] > 0.5 for earlier in order[:rank])
        (duplicates if is_duplicate else distinct).append(token)
    assert 5 < len(distinct) < count  # duplicates fill the remaining places
    chosen = topk_distinct(scores, boxes_cxcywh, count, dedup_iou=0.5)[0].tolist()
    assert chosen == [*distinct, *duplicates][:count]


class LargestTensor(TorchDispatchMode):
    """Notes the number of elements of the largest tensor that any operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, torch.Tensor):
                self.elements = max(self.elements, value.untyped_storage().nbytes() // value.element_size())
        return result


@pytest.mark.slow
def test_memory_does_not_grow_with_the_batch(monkeypatch):
    """300 queries compare 900 boxes of each image with each other; the pairs of 16 images would be 13 million."""
    torch.manual_seed(0)
    scores, boxes_cxcywh = torch.randn(16, 1000), torch.rand(16, 1000, 4) * 0.2 + 0.3
    with LargestTensor() as largest:
        selected = topk_distinct(scores, boxes_cxcywh, 300, dedup_iou=0.6)
    assert largest.elements <= 2 * queries.MAX_PAIRS  # (x, y) of each pair
    monkeypatch.setattr(queries, "MAX_PAIRS", 16 * 900**2)
    with LargestTensor() as largest:
        at_once = topk_distinct(scores, boxes_cxcywh, 300, dedup_iou=0.6)
    assert largest.elements == 2 * 16 * 900**2
    assert torch.equal(selected, at_once)


def test_fewer_tokens_than_queries():
    assert sorted(topk_distinct(torch.randn(1, 5), BOXES_CXCYWH, 9, dedup_iou=0.8)[0].tolist()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("height", "expected"), [(2, 0.9), (4, 0.9), (16, 0.25)])
def test_proposals_start_four_tokens_large_with_a_gradient(height, expected):
    centers = torch.stack(torch.meshgrid(torch.arange(16), torch.arange(height), indexing="xy"), -1).flatten(0, 1)
    share = torch.tensor([1 / 16, 1 / height])
    count = len(centers)
    encoded = EncoderOutput(
        memory=torch.randn(1, count, 8),
        position=torch.zeros(1, count, 8),
        centers=((centers + 0.5) * share)[None],
        sizes=share.expand(1, count, 2),
        is_padding=torch.zeros(1, count, dtype=torch.bool),
        grids=((height, 16),),
        spans=torch.tensor([[[16.0, float(height)]]]),
    )
    anchor_queries = AnchorQueries(4, 8, 3, denoising_queries=0)
    proposals = anchor_queries.propose(encoded)
    torch.testing.assert_close(proposals.boxes_cxcywh[..., :2], encoded.centers)
    torch.testing.assert_close(proposals.boxes_cxcywh[0, 0, 2:], torch.tensor([0.25, expected]))
    proposals.boxes_cxcywh[..., 3].sum().backward()
    assert anchor_queries.token_box[-1].bias.grad[3] > 0.08 * count  # the derivative of the sigmoid, from each token
