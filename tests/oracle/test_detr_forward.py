"""`detr` computes what DetrForObjectDetection of `transformers` computes."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.hf_reference import hf_reference_losses, hf_reference_outputs, random_batch
from benchmarks.parity_models import Sizes, make_parity_models
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


def assert_predictions_vary(output: DetrOutput) -> None:
    """Predictions differ between queries and images; equal constants would not test anything."""
    assert output.logits.isfinite().all()
    for values in (output.logits, output.boxes_cxcywh.logit()):
        assert values.abs().max() < 50
        # Of the image with the largest variation, as with a single token all queries attend to the same.
        assert values.std(dim=2).mean(-1).amax(1).min() > 0.02
        if values.shape[1] > 1:
            assert values.std(dim=1).mean((1, 2)).min() > 0.02


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("sides", SIDES.values(), ids=SIDES)
@torch.no_grad()
def test_every_layer_predicts_as_the_reference(sides, attention):
    reference, detr = make_parity_models(SMALL, seed=1, attention=attention)
    batch = make_batch(sides)
    expected = hf_reference_outputs(reference, batch)
    assert_predictions_vary(expected)
    assert expected.logits.shape == (2, len(sides), 12, 6)
    assert_same(detr(batch), expected)
    assert_same(detr(batch, need_attention=True), expected)


@pytest.mark.parametrize("dilation", [False, True])
@pytest.mark.parametrize("freeze_batch_norm", [False, True])
@torch.no_grad()
def test_every_layer_predicts_as_the_reference_with_either_norm_and_dc5(freeze_batch_norm, dilation):
    """Trained batch norm is the same function in evaluation mode; in DC5 the last stage is dilated."""
    reference, detr = make_parity_models(replace(SMALL, dilation=dilation), seed=1, freeze_batch_norm=freeze_batch_norm)
    batch = make_batch(SIDES["no side divides by 32"])
    expected = hf_reference_outputs(reference, batch)
    assert_predictions_vary(expected)
    assert_same(detr(batch), expected)
    assert detr(batch, need_attention=True).attention.grids == (((9, 7),) if dilation else ((5, 4),))


@torch.no_grad()
def test_every_layer_predicts_as_the_reference_with_resnet50():
    """With bottlenecks, and other numbers of layers and heads."""
    reference, detr = make_parity_models(
        Sizes("resnet50", 64, heads=8, layers=3, feedforward_dim=64, queries=7, classes=91), 2
    )
    batch = make_batch(SIDES["no side divides by 32"], classes=91)
    expected = hf_reference_outputs(reference, batch)
    assert_predictions_vary(expected)
    assert_same(detr(batch), expected)


@pytest.mark.stress
@pytest.mark.parametrize("body", ["resnet18", "resnet50"])
@torch.no_grad()
def test_every_layer_predicts_as_the_reference_at_full_size(body):
    reference, detr = make_parity_models(Sizes(body=body), seed=3)
    batch = make_batch([(333, 500), (427, 320)], classes=91)
    expected = hf_reference_outputs(reference, batch)
    assert_predictions_vary(expected)
    assert_same(detr(batch), expected)


@pytest.mark.parametrize("body", ["resnet18", "resnet50"])
@torch.no_grad()
def test_the_backbone_equals_the_reference_to_the_last_bit(body):
    """Other rounding could switch a ReLU, and gradients would differ by a hundredth."""
    reference, detr = make_parity_models(Sizes(body, 32, 1, 1, 32, queries=2, classes=2), seed=4)
    images = make_batch(SIDES["no side divides by 32"]).images
    assert torch.equal(detr.backbone(images)[0], reference.model.backbone.model(images)[-1])


@torch.no_grad()
def test_the_last_of_the_reference_outputs_is_that_of_the_model():
    reference, _ = make_parity_models(SMALL, seed=1)
    batch = make_batch(SIDES["no side divides by 32"])
    expected = reference(pixel_values=batch.images, pixel_mask=(~batch.is_padding).long())
    outputs = hf_reference_outputs(reference, batch)
    torch.testing.assert_close(outputs.logits[-1], expected.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(outputs.boxes_cxcywh[-1], expected.pred_boxes, atol=1e-5, rtol=0)


@torch.no_grad()
def test_attention_weights_are_those_of_the_reference():
    reference, detr = make_parity_models(SMALL, seed=1, attention="eager")
    batch = make_batch(SIDES["no side divides by 32"])
    expected = reference(pixel_values=batch.images, pixel_mask=(~batch.is_padding).long(), output_attentions=True)
    maps = detr(batch, need_attention=True).attention
    for weights, expected_weights in (
        (maps.cross, expected.cross_attentions),
        (maps.queries, expected.decoder_attentions),
        (maps.encoder, expected.encoder_attentions),
    ):
        torch.testing.assert_close(weights, torch.stack(expected_weights), atol=1e-5, rtol=0)
        assert weights.std(-1).mean() > 1e-3


def test_every_parameter_and_buffer_influences_the_predictions():
    """Also those of batch norm; exceptions cannot in any DETR."""
    reference, _ = make_parity_models(SMALL, seed=1)
    numbers = {**dict(reference.named_parameters()), **dict(reference.named_buffers())}
    for values in numbers.values():
        values.requires_grad_(True)
    output = hf_reference_outputs(reference, make_batch(SIDES["no side divides by 32"]))
    generator = torch.Generator().manual_seed(0)
    (torch.randn(output.logits.shape, generator=generator) * output.logits).sum().backward(retain_graph=True)
    (torch.randn(output.boxes_cxcywh.shape, generator=generator) * output.boxes_cxcywh).sum().backward()
    sizes = {name: values.grad.abs().max().item() for name, values in numbers.items()}
    without_influence = {name for name, size in sizes.items() if size < 1e-3}
    # Softmax cancels what all keys have in common; values of the first self-attention are all equal.
    keys = {name for name in numbers if name.endswith("k_proj.bias")}
    prefix = "model.decoder.layers.0.self_attn."
    first_attention = {prefix + name for name in ("q_proj.weight", "q_proj.bias", "k_proj.weight", "v_proj.weight")}
    assert without_influence == keys | first_attention


def fixed_dropout(values: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Dropout whose mask depends on the shape alone, so that two models with the same dropout drop the same values."""
    if not training or p == 0:
        return values
    mask = torch.rand(values.shape, generator=torch.Generator().manual_seed(values.numel())) >= p
    return values * mask / (1 - p)


def plain_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0
) -> Tensor:
    scores = query @ key.mT / query.shape[-1] ** 0.5
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    return fixed_dropout(scores.softmax(-1), dropout_p) @ value


@pytest.mark.parametrize("need_attention", [False, True])
def test_dropout_is_where_the_reference_has_it(monkeypatch, need_attention):
    """On attention weights, after attention, inside the feed-forward and after it."""
    reference, detr = make_parity_models(replace(SMALL, dropout=0.2), seed=1, attention="eager")
    batch = make_batch(SIDES["no side divides by 32"])
    without_dropout = detr(batch).logits
    reference.train(), detr.train()
    calls: list[tuple[tuple[int, ...], float]] = []

    def recording(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def recorded(values: Tensor, p: float = 0.5, *rest: object, **named: object) -> Tensor:
            calls.append((tuple(values.shape), p))
            return function(values, p, *rest, **named)

        return recorded

    monkeypatch.setattr(F, "dropout", recording(fixed_dropout))
    monkeypatch.setattr(F, "scaled_dot_product_attention", plain_attention)
    expected = hf_reference_outputs(reference, batch)
    expected_calls = sorted(call for call in calls if call[1])
    assert len(expected_calls) == 2 * (1 + 1 + 2) + 2 * (2 + 2 + 2)
    calls.clear()
    output = detr(batch, need_attention=need_attention)
    if need_attention:
        assert sorted(calls) == expected_calls
    assert_same(output, expected)
    assert (output.logits - without_dropout).abs().mean() > 0.1

    hf_reference_losses(reference, expected, batch.targets).total.backward()
    official_criterion(5)(output, batch.targets).total.backward()
    gradient, expected_gradient = detr.encoder.projections[0].weight.grad, reference.model.input_projection.weight.grad
    torch.testing.assert_close(gradient, expected_gradient, atol=1e-4 * expected_gradient.abs().max().item(), rtol=0)
