"""`detr` is the function that transformers' DetrForObjectDetection is, number by number."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from benchmarks.hf_reference import hf_reference_losses, hf_reference_outputs, random_batch
from benchmarks.parity_models import Sizes, make_parity_models
from torch import Tensor
from torch.nn import functional as F

from detr_lite.loss import official_criterion
from detr_lite.structures import Batch, DetrOutput

pytestmark = pytest.mark.slow

SMALL = Sizes(body="resnet18", dim=64, heads=4, layers=2, feedforward_dim=96, queries=12, classes=5)
SIDES = {
    "one image": [(64, 96)],
    "no padding": [(96, 64), (96, 64)],
    "no side divides by 32": [(70, 101), (129, 33), (31, 47)],
    "less than a token": [(5, 20), (90, 64)],
    "whole tokens of padding": [(64, 160), (128, 32)],
}


def make_batch(sides: list[tuple[int, int]], seed: int = 0, classes: int = 5) -> Batch:
    counts = [3, 0, 6][: len(sides)]
    return random_batch(sides, counts, classes, torch.Generator().manual_seed(seed))


def assert_same(output: DetrOutput, expected: DetrOutput) -> None:
    torch.testing.assert_close(output.logits, expected.logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(output.boxes_cxcywh, expected.boxes_cxcywh, atol=1e-4, rtol=0)


def assert_tells_apart(answer: DetrOutput) -> None:
    """A measure that answers always the same would measure nothing: queries and images have answers of their own."""
    assert answer.logits.isfinite().all()
    for values in (answer.logits, answer.boxes_cxcywh.logit()):
        assert values.abs().max() < 50
        # For the best image: where there is one token, all queries take up the same.
        assert values.std(dim=2).mean(-1).amax(1).min() > 0.02
        if values.shape[1] > 1:
            assert values.std(dim=1).mean((1, 2)).min() > 0.02


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("sides", SIDES.values(), ids=SIDES)
@torch.no_grad()
def test_every_layer_answers_as_the_original(sides, attention):
    theirs, ours = make_parity_models(SMALL, seed=1, attention=attention)
    batch = make_batch(sides)
    expected = hf_reference_outputs(theirs, batch)
    assert_tells_apart(expected)
    assert expected.logits.shape == (2, len(sides), 12, 6)
    assert_same(ours(batch), expected)
    assert_same(ours(batch, need_attention=True), expected)


@pytest.mark.parametrize("dilation", [False, True])
@pytest.mark.parametrize("freeze_batch_norm", [False, True])
@torch.no_grad()
def test_every_layer_answers_as_the_original_with_either_norm_and_dc5(freeze_batch_norm, dilation):
    """A batch norm that learns is the same function in evaluation; DC5's last stage is dilated."""
    theirs, ours = make_parity_models(replace(SMALL, dilation=dilation), seed=1, freeze_batch_norm=freeze_batch_norm)
    batch = make_batch(SIDES["no side divides by 32"])
    expected = hf_reference_outputs(theirs, batch)
    assert_tells_apart(expected)
    assert_same(ours(batch), expected)
    assert ours(batch, need_attention=True).attention.grids == (((9, 7),) if dilation else ((5, 4),))


@torch.no_grad()
def test_every_layer_answers_as_the_original_with_its_body():
    """Bottlenecks, another number of layers and heads."""
    theirs, ours = make_parity_models(
        Sizes("resnet50", 64, heads=8, layers=3, feedforward_dim=64, queries=7, classes=91), 2
    )
    batch = make_batch(SIDES["no side divides by 32"], classes=91)
    expected = hf_reference_outputs(theirs, batch)
    assert_tells_apart(expected)
    assert_same(ours(batch), expected)


@pytest.mark.slow
@pytest.mark.parametrize("body", ["resnet18", "resnet50"])
@torch.no_grad()
def test_every_layer_answers_as_the_original_at_its_size(body):
    theirs, ours = make_parity_models(Sizes(body=body), seed=3)
    batch = make_batch([(333, 500), (427, 320)], classes=91)
    expected = hf_reference_outputs(theirs, batch)
    assert_tells_apart(expected)
    assert_same(ours(batch), expected)


@pytest.mark.parametrize("body", ["resnet18", "resnet50"])
@torch.no_grad()
def test_the_body_is_the_originals_to_the_last_bit(body):
    """A map that rounds otherwise is as good, but turns some ReLU on or off, and gradients are off by a hundredth."""
    theirs, ours = make_parity_models(Sizes(body, 32, 1, 1, 32, queries=2, classes=2), seed=4)
    images = make_batch(SIDES["no side divides by 32"]).images
    assert torch.equal(ours.backbone(images)[0], theirs.model.backbone.model(images)[-1])


@torch.no_grad()
def test_the_last_layer_read_is_the_answer_of_their_model():
    theirs, _ = make_parity_models(SMALL, seed=1)
    batch = make_batch(SIDES["no side divides by 32"])
    said = theirs(pixel_values=batch.images, pixel_mask=(~batch.is_padding).long())
    read = hf_reference_outputs(theirs, batch)
    torch.testing.assert_close(read.logits[-1], said.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(read.boxes_cxcywh[-1], said.pred_boxes, atol=1e-5, rtol=0)


@torch.no_grad()
def test_attention_weights_are_the_originals():
    """What the pictures show is what the original looks at."""
    theirs, ours = make_parity_models(SMALL, seed=1, attention="eager")
    batch = make_batch(SIDES["no side divides by 32"])
    expected = theirs(pixel_values=batch.images, pixel_mask=(~batch.is_padding).long(), output_attentions=True)
    maps = ours(batch, need_attention=True).attention
    for weights, their_weights in (
        (maps.cross, expected.cross_attentions),
        (maps.queries, expected.decoder_attentions),
        (maps.encoder, expected.encoder_attentions),
    ):
        torch.testing.assert_close(weights, torch.stack(their_weights), atol=1e-5, rtol=0)
        assert weights.std(-1).mean() > 1e-3


def test_a_wrong_number_in_any_place_would_be_seen():
    """Every parameter and buffer of theirs, batch norm's too, moves the answers; a few cannot, in any DETR."""
    theirs, _ = make_parity_models(SMALL, seed=1)
    numbers = {**dict(theirs.named_parameters()), **dict(theirs.named_buffers())}
    for values in numbers.values():
        values.requires_grad_(True)
    answer = hf_reference_outputs(theirs, make_batch(SIDES["no side divides by 32"]))
    generator = torch.Generator().manual_seed(0)
    (torch.randn(answer.logits.shape, generator=generator) * answer.logits).sum().backward(retain_graph=True)
    (torch.randn(answer.boxes_cxcywh.shape, generator=generator) * answer.boxes_cxcywh).sum().backward()
    sizes = {name: values.grad.abs().max().item() for name, values in numbers.items()}
    unseen = {name for name, size in sizes.items() if size < 1e-3}
    # Softmax does not see what all keys have in common; the first self-attention's values are all the same.
    keys = {name for name in numbers if name.endswith("k_proj.bias")}
    first = "model.decoder.layers.0.self_attn."
    of_first = {first + name for name in ("q_proj.weight", "q_proj.bias", "k_proj.weight", "v_proj.weight")}
    assert unseen == keys | of_first


def fixed_dropout(values: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Dropout whose mask hangs on the shape alone, so that two models that drop in the same places drop the same."""
    if not training or p == 0:
        return values
    kept = torch.rand(values.shape, generator=torch.Generator().manual_seed(values.numel())) >= p
    return values * kept / (1 - p)


def plain_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0
) -> Tensor:
    scores = query @ key.mT / query.shape[-1] ** 0.5
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    return fixed_dropout(scores.softmax(-1), dropout_p) @ value


@pytest.mark.parametrize("need_attention", [False, True])
def test_dropout_falls_where_the_original_drops(monkeypatch, need_attention):
    """On attention's weights, after attention, inside the feed-forward and after it; nowhere else."""
    theirs, ours = make_parity_models(replace(SMALL, dropout=0.2), seed=1, attention="eager")
    batch = make_batch(SIDES["no side divides by 32"])
    quiet = ours(batch).logits
    theirs.train(), ours.train()
    places: list[tuple[tuple[int, ...], float]] = []

    def watch(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def watched(values: Tensor, p: float = 0.5, *rest: object, **named: object) -> Tensor:
            places.append((tuple(values.shape), p))
            return function(values, p, *rest, **named)

        return watched

    monkeypatch.setattr(F, "dropout", watch(fixed_dropout))
    monkeypatch.setattr(F, "scaled_dot_product_attention", plain_attention)
    expected = hf_reference_outputs(theirs, batch)
    theirs_dropped = sorted(place for place in places if place[1])
    assert len(theirs_dropped) == 2 * (1 + 1 + 2) + 2 * (2 + 2 + 2)
    places.clear()
    output = ours(batch, need_attention=need_attention)
    if need_attention:
        assert sorted(places) == theirs_dropped
    assert_same(output, expected)
    assert (output.logits - quiet).abs().mean() > 0.1

    hf_reference_losses(theirs, expected, batch.targets).total.backward()
    official_criterion(5)(output, batch.targets).total.backward()
    gradient, wanted = ours.encoder.projections[0].weight.grad, theirs.model.input_projection.weight.grad
    torch.testing.assert_close(gradient, wanted, atol=1e-4 * wanted.abs().max().item(), rtol=0)
