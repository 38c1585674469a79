"""Losses and gradients of extreme inputs are finite, and ranks share whether theirs are."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from detr_lite.box_ops import cxcywh_to_xyxy, paired_iou_and_giou
from detr_lite.loss import Losses, criterion, official_criterion
from detr_lite.loss.criterion import Criterion, LiteCriterion
from detr_lite.loss.matcher import MatchingCost
from detr_lite.structures import DenoisingPredictions, DetrOutput, EdgeDistributions, Target, TokenPredictions

WEIGHTS = {"class": 4.0, "l1": 5.0, "giou": 2.0, "fdr": 0.2}
CRITERIA = {
    "detr": official_criterion(3),
    "lite": LiteCriterion(MatchingCost("sigmoid", 2.0, 5.0, 2.0), WEIGHTS, 4, 1.5),
}
BOXES = {
    "without area": (0.5, 0.5, 0.0, 0.0),
    "without height": (0.5, 0.5, 0.3, 0.0),
    "negative size": (0.5, 0.5, -0.3, -0.2),
    "negative width": (0.5, 0.5, -0.3, 0.2),
    "identical": (0.5, 0.5, 0.2, 0.2),
    "a point in a point": (0.3, 0.3, 0.0, 0.0),
    "tiny": (0.5, 0.5, 1e-20, 1e-20),
    "the smallest number": (0.5, 0.5, 1e-45, 1e-45),
    "outside": (3.0, -4.0, 0.1, 0.1),
    "large": (0.5, 0.5, 1e4, 1e4),
    "huge": (-1e30, 1e30, 1e30, 1e30),
}
TARGET = Target(  # an ordinary box, a point, and one smaller than its rounding errors
    torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.3, 0.3, 0.0, 0.0], [0.3, 0.3, 1e-9, 1e-9]]),
    torch.tensor([0, 1, 2]),
    7,
    (9, 9),
)


def leaf(values: Tensor) -> Tensor:
    return values.clone().requires_grad_()


def make_output(name: str, logits: Tensor, boxes_cxcywh: Tensor) -> tuple[DetrOutput, list[Tensor]]:
    """An output with the same predictions in two layers, tokens and denoising queries; and its leaf tensors."""
    queries = len(logits)
    leaves = [leaf(logits.expand(2, 1, -1, -1)), leaf(boxes_cxcywh.expand(2, 1, -1, -1))]
    output = DetrOutput(*leaves)
    if name == "detr":
        return output, leaves
    of_tokens = [leaf(logits[None]), leaf(boxes_cxcywh[None])]
    geometry = torch.rand(1, queries, 2), torch.full((1, queries, 2), 0.3), torch.zeros(1, queries, dtype=torch.bool)
    denoising = [leaf(logits.expand(2, 1, -1, -1)), leaf(boxes_cxcywh.expand(2, 1, -1, -1))]
    objects = torch.arange(queries)[None] % 3
    edges = EdgeDistributions(
        leaf(logits[:, :1, None].expand(1, 1, -1, 4, 5)),
        cxcywh_to_xyxy(boxes_cxcywh)[None],
        torch.tensor([-1.0, -0.1, 0.0, 0.1, 1.0]),
    )
    return (
        replace(
            output,
            tokens=TokenPredictions(*of_tokens, *geometry),
            denoising=DenoisingPredictions(*denoising, objects, *torch.ones(2, 1, queries, dtype=torch.bool), edges),
            edges=edges,
        ),
        [*leaves, *of_tokens, *denoising, edges.logits],
    )


def assert_finite(losses: Losses, leaves: Sequence[Tensor]) -> None:
    losses.total.backward()
    assert losses.total.isfinite()
    assert losses.not_finite == ()
    assert all(part.isfinite().all() for part in losses.parts.values())
    assert all(values.grad is not None and values.grad.isfinite().all() for values in leaves)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("name", CRITERIA)
def test_degenerate_boxes_give_finite_losses_and_gradients(name: str, box: str, dtype: torch.dtype) -> None:
    """Also as the model predicts them under autocast."""
    torch.manual_seed(0)
    classes = 4 if name == "detr" else 3
    boxes = torch.tensor([BOXES[box]] * 5).to(dtype)
    output, leaves = make_output(name, torch.randn(5, classes).to(dtype), boxes)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        losses = CRITERIA[name](output, [TARGET])
    assert_finite(losses, leaves)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("first", BOXES.values())
def test_overlaps_of_degenerate_boxes_are_finite(first: tuple[float, ...], dtype: torch.dtype) -> None:
    first_xyxy = leaf(torch.tensor([first]).to(dtype))
    others = torch.tensor([*BOXES.values()]).to(dtype)
    overlaps = paired_iou_and_giou(first_xyxy, others)
    sum(value.float().sum() for value in overlaps).backward()
    assert all(value.isfinite().all() for value in overlaps)
    assert first_xyxy.grad.isfinite().all()


LARGEST = {torch.float32: 1e30, torch.float16: 65504.0, torch.bfloat16: 1e30}


@pytest.mark.parametrize("dtype", LARGEST)
@pytest.mark.parametrize("size", [100.0, 1e4, None])
@pytest.mark.parametrize("kind", ["right", "wrong", "all", "none"])
@pytest.mark.parametrize("name", CRITERIA)
def test_saturated_logits_give_finite_losses_and_gradients(
    name: str, kind: str, size: float | None, dtype: torch.dtype
) -> None:
    """High scores for the right class, the wrong ones, all or none; the largest leave room for a sum."""
    size = size or LARGEST[dtype]
    sign = torch.full((5, 4), -1.0)
    sign[:3, :3] += 2 * torch.eye(3)
    sign[3:, 3] = 1.0
    sign = {"right": sign, "wrong": -sign, "all": sign.abs(), "none": -sign.abs()}[kind]
    logits = (size * sign)[:, : 4 if name == "detr" else 3].to(dtype)
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.2]] * 5).to(dtype)
    output, leaves = make_output(name, logits, boxes)
    assert_finite(CRITERIA[name](output, [TARGET]), leaves)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", CRITERIA)
def test_a_logit_that_is_not_finite_makes_the_loss_and_all_gradients_nan(name: str, value: float) -> None:
    logits = torch.zeros(5, 4 if name == "detr" else 3)
    logits[:, 1] = value
    output, leaves = make_output(name, logits, torch.rand(5, 4) * 0.2 + 0.4)
    losses = CRITERIA[name](output, [TARGET])
    losses.total.backward()
    assert losses.total.isnan()
    assert all(values.grad.isnan().any() for values in leaves)
    # The other parts stay finite, so that they can be reported.
    assert losses.parts["l1"].isfinite().all()
    assert not losses.parts["ce" if name == "detr" else "class"].isfinite().any()


def test_sums_that_overflow_float32_give_nan() -> None:
    """Wrong predictions with the largest numbers of bfloat16: no error."""
    output, _ = make_output("lite", torch.full((5, 3), 3e38), torch.rand(5, 4) * 0.2 + 0.4)
    losses = CRITERIA["lite"](output, [TARGET])
    assert losses.total.isnan()
    assert losses.parts["class"].isinf().all()


@pytest.mark.parametrize("name", CRITERIA)
@pytest.mark.parametrize("objects", [7, 50])
def test_with_more_objects_than_queries_every_query_is_matched(name: str, objects: int) -> None:
    torch.manual_seed(0)
    target = Target(torch.rand(objects, 4) * 0.3 + 0.3, torch.randint(0, 3, (objects,)), 1, (9, 9))
    output, leaves = make_output(name, torch.randn(5, 4 if name == "detr" else 3), torch.rand(5, 4) * 0.3 + 0.3)
    losses = CRITERIA[name](output, [target])
    assert_finite(losses, leaves)
    # No query is left for the background.
    queries_only = DetrOutput(leaf(output.logits.detach()), leaf(output.boxes_cxcywh.detach()))
    CRITERIA[name](queries_only, [target]).total.backward()
    assert queries_only.boxes_cxcywh.grad.any(-1).all()


class TwoRanks:
    """Stands for `torch.distributed` with another rank that contributes the given numbers."""

    def __init__(self, others: Sequence[float]) -> None:
        self.others = torch.tensor(others)
        self.calls = 0

    is_available = is_initialized = staticmethod(lambda: True)
    get_world_size = staticmethod(lambda: 2)

    def all_reduce(self, counts: Tensor) -> None:
        self.calls += 1
        counts += self.others


@pytest.mark.parametrize("name", CRITERIA)
def test_a_loss_of_another_rank_that_is_not_finite_makes_this_one_nan(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one all-reduce; the parts are of this rank alone."""
    torch.manual_seed(0)
    logits, boxes = torch.randn(5, 4 if name == "detr" else 3), torch.rand(5, 4) * 0.2 + 0.4
    counts = [3.0, 4.0] if name == "detr" else [3.0, 5.0, 0.0]
    losses: list[Losses] = []
    for other_is_broken in (0.0, 1.0):
        ranks = TwoRanks([*counts, other_is_broken])
        monkeypatch.setattr(criterion, "dist", ranks)
        output, leaves = make_output(name, logits, boxes)
        losses.append(CRITERIA[name](output, [TARGET]))
        losses[-1].total.backward()
        assert ranks.calls == 1
    assert losses[0].total.isfinite()
    assert losses[1].total.isnan()
    assert all(values.grad.isnan().any() for values in leaves)
    assert all(part.isfinite().all() for part in losses[1].parts.values())
    torch.testing.assert_close(losses[0].parts["l1"], losses[1].parts["l1"], rtol=0, atol=0)


@pytest.mark.parametrize("name", CRITERIA)
def test_other_ranks_learn_that_a_loss_or_cost_is_not_finite(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reduced: list[list[float]] = []
    criterion_of_rank: Criterion = CRITERIA[name]
    counts = 2 if name == "detr" else 3

    class Recorder(TwoRanks):
        def all_reduce(self, counts: Tensor) -> None:
            reduced.append(counts.tolist())

    monkeypatch.setattr(criterion, "dist", Recorder([]))
    boxes = torch.rand(5, 4) * 0.2 + 0.4
    broken = boxes.clone()
    broken[4, 2] = math.nan  # matched to no object, so only costs are NaN
    logits = torch.zeros(5, 4 if name == "detr" else 3)
    for given_logits, given_boxes in ((logits, boxes), (logits, broken), (logits / 0, boxes)):
        output, _ = make_output(name, given_logits, given_boxes)
        criterion_of_rank(
            DetrOutput(output.logits, output.boxes_cxcywh, tokens=output.tokens, denoising=output.denoising), [TARGET]
        )
    assert [numbers[-1] for numbers in reduced] == [0.0, 1.0, 1.0]
    assert all(len(numbers) == counts + 1 for numbers in reduced)
