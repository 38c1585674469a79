"""Gradient-weighted relevance: the paper's rules, and gradients held to what transformers and differences give."""

from dataclasses import replace

import pytest
import torch

from benchmarks.tiny_families import tiny_model
from detr_lite.attribution.recording import recorded_attention
from detr_lite.attribution.relevance import EncoderLevels, encoder_levels, propagate, query_relevance
from detr_lite.build import build_model
from detr_lite.families.anatomy import anatomy_of
from detr_lite.families.network import FamilyDetr
from detr_lite.families.registry import FAMILIES
from detr_lite.structures import AttentionSelection, Batch, DetrLiteError
from detr_lite.weights.imports import import_checkpoint
from tests.helpers.reference_models import transformers_detr

EAGER = ("detr", "conditional_detr")
"""Families that return their attention weights as tensors of the graph."""


def image_batch(seed=0, height=64, width=64):
    return Batch.from_images([torch.randn(3, height, width, generator=torch.Generator().manual_seed(seed))])


@torch.no_grad()
def maps_of(model, batch):
    return model(batch, need_attention=AttentionSelection(samples_only=True)).attention


def by_the_paper(encoder, queries, cross):
    """Equations 6 to 11, matrix by matrix, where the encoder's tokens are all tokens."""

    def normalized(relevance):
        identity = torch.eye(len(relevance))
        rest = relevance - identity
        return rest / rest.sum(1, keepdim=True) + identity

    image, among = torch.eye(cross[0].shape[1]), torch.eye(len(cross[0]))
    both = torch.zeros_like(cross[0])
    for each in encoder:
        image = image + each @ image
    for own, other in zip(queries, cross, strict=True):
        among, both = among + own @ among, both + own @ both
        both = both + normalized(among).T @ other @ normalized(image)
    return both


def averaged_weights(generator, layers, rows, columns):
    return [torch.rand(rows, columns, generator=generator) for _ in range(layers)]


def test_relevance_follows_the_equations_of_the_paper():
    generator = torch.Generator().manual_seed(0)
    encoder, queries, cross = (averaged_weights(generator, *shape) for shape in ((2, 6, 6), (3, 4, 4), (3, 4, 6)))
    levels = EncoderLevels(torch.arange(6), first=0)
    torch.testing.assert_close(propagate(encoder, queries, cross, levels), by_the_paper(encoder, queries, cross))


def test_without_encoder_layers_each_token_stands_for_itself():
    generator = torch.Generator().manual_seed(0)
    own, other = torch.zeros(4, 4), torch.rand(4, 6, generator=generator)
    torch.testing.assert_close(propagate([], [own], [other]), other)


def test_finer_tokens_have_the_context_of_the_coarse_token_over_them():
    # Two levels of 2 x 4 and 1 x 2 tokens; the first coarse token has all its context from the second.
    levels = EncoderLevels(torch.tensor([0, 0, 1, 1, 0, 0, 1, 1, 0, 1]), first=8)
    encoder = [torch.tensor([[0.0, 0.5], [0.0, 0.0]])]
    cross = torch.zeros(1, 10)
    cross[0, 4] = 1
    relevance = propagate(encoder, [torch.zeros(1, 1)], [cross], levels)
    assert relevance[0].nonzero().flatten().tolist() == [4, 9]
    assert relevance[0, [4, 9]].tolist() == [1, 1]


def test_small_weights_keep_their_digits():
    """Of a prediction that is certain gradients are tiny; normalized, the rows are the same whatever their size."""
    generator = torch.Generator().manual_seed(0)
    encoder, queries, cross = (averaged_weights(generator, *shape) for shape in ((1, 6, 6), (1, 4, 4), (1, 4, 6)))
    levels = EncoderLevels(torch.arange(6), first=0)
    expected = propagate(encoder, queries, cross, levels)
    for scale in (1e-7, 1e-15, 1e-25):
        small = propagate([scale * each for each in encoder], [scale * each for each in queries], cross, levels)
        torch.testing.assert_close(small, expected, atol=0, rtol=1e-5)


@pytest.mark.parametrize("family", EAGER)
def test_gradients_are_those_of_the_weights_that_transformers_returns(family):
    network = tiny_model(family)
    model, batch = FamilyDetr(network).eval(), image_batch()
    with recorded_attention(model) as recorded:
        logit = model(batch).logits[-1, 0, 3, 1]
        gradients = torch.autograd.grad(logit, [each.weights for each in recorded.all()])
    network.set_attn_implementation("eager")
    output = network(
        pixel_values=batch.images, pixel_mask=torch.ones(1, *batch.images.shape[2:]).long(), output_attentions=True
    )
    weights = [*output.encoder_attentions, *output.decoder_attentions, *output.cross_attentions]
    expected = torch.autograd.grad(output.logits[0, 3, 1], weights)
    for each, own, gradient, other in zip(recorded.all(), weights, gradients, expected, strict=True):
        torch.testing.assert_close(each.weights, own)
        torch.testing.assert_close(gradient, other, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def logit_with_changed_weights(model, batch, cross, change):
    """A logit when `change` is added to the weights of the points that one module of cross-attention samples."""
    if hasattr(cross, "attn"):
        at = 5

        def add(_, args):
            return (*args[:at], args[at] + change.view_as(args[at]), *args[at + 1 :])

        handle = cross.attn.register_forward_pre_hook(add)
        logit = model(batch).logits[-1, 0, 3, 1]
        handle.remove()
        return logit
    core = cross.ms_deformable_attn_core
    cross.ms_deformable_attn_core = lambda value, grids, locations, weights, *rest: core(
        value, grids, locations, weights + change.view_as(weights), *rest
    )
    logit = model(batch).logits[-1, 0, 3, 1]
    cross.ms_deformable_attn_core = core
    return logit


@pytest.mark.parametrize("family", ["deformable_detr", "lw_detr", "d_fine"])
def test_gradients_of_sampled_points_are_differences(family):
    model, batch = FamilyDetr(tiny_model(family).double()).eval(), image_batch()
    batch = Batch(batch.images.double(), batch.is_padding)
    with recorded_attention(model) as recorded:
        logit = model(batch).logits[-1, 0, 3, 1]
        gradients = torch.autograd.grad(logit, [each.weights for each in recorded.cross])
    step = 1e-2  # heads compute in float32
    # In other families boxes go from layer to layer without gradients, so that only the last layer has whole ones.
    layers = list(zip(anatomy_of(model.network).cross, gradients, strict=True))
    for cross, gradient in layers if family == "lw_detr" else layers[-1:]:
        direction = gradient / gradient.norm()
        low, high = (logit_with_changed_weights(model, batch, cross, sign * step * direction) for sign in (-1, 1))
        torch.testing.assert_close((high - low).double() / (2 * step), gradient.norm(), atol=1e-4, rtol=2e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_relevance(family):
    model, batch = FamilyDetr(tiny_model(family)).eval(), image_batch()
    before = {name: (value.clone(), value.requires_grad) for name, value in model.named_parameters()}
    expected = model(batch).logits
    maps = maps_of(model, batch)
    relevance = query_relevance(model, batch, maps, [0, 3, 3], [0, 1, 2])
    assert relevance.shape == (3, maps.is_padding.shape[1])
    assert relevance.min() >= 0
    assert (relevance.sum(1) > 0).all()
    assert not torch.allclose(relevance[1], relevance[2])  # another class, other gradients
    # The network is as it was.
    torch.testing.assert_close(model(batch).logits, expected, atol=0, rtol=0)
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name][0])
        assert value.requires_grad == before[name][1]


def test_frozen_parameters_change_nothing_and_stay_frozen():
    model, batch = FamilyDetr(tiny_model("rt_detr")).eval(), image_batch()
    maps = maps_of(model, batch)
    expected = query_relevance(model, batch, maps, [0], [1])
    model.requires_grad_(False)
    assert torch.equal(query_relevance(model, batch, maps, [0], [1]), expected)
    assert not any(each.requires_grad for each in model.parameters())


@pytest.mark.parametrize(("name", "strides"), [("detr", (32,)), ("lite", (8, 16, 32))])
def test_our_own_models_have_relevance(tiny_config, name, strides):
    torch.manual_seed(0)
    model = build_model(replace(tiny_config.model, name=name, strides=strides), 3).eval()
    batch = image_batch(height=64, width=96)
    maps = maps_of(model, batch)
    relevance = query_relevance(model, batch, maps, [0, 1], [2, 0])
    assert relevance.shape == (2, maps.is_padding.shape[1])
    assert relevance.min() >= 0
    assert (relevance.sum(1) > 0).all()


@pytest.mark.slow
def test_our_detr_has_the_relevance_of_its_twin_in_transformers(tmp_path):
    """Two implementations of one model, with the same weights: every gradient is another one's."""
    twin = transformers_detr()
    twin.save_pretrained(tmp_path / "twin")
    own = import_checkpoint(tmp_path / "twin" / "model.safetensors")
    batch = image_batch(height=64, width=96)
    relevances = [
        query_relevance(model.eval(), batch, maps_of(model.eval(), batch), [2, 5], [1, 7])
        for model in (own, FamilyDetr(twin))
    ]
    torch.testing.assert_close(*relevances, atol=1e-6, rtol=1e-3)


def test_a_prediction_that_depends_on_nothing_has_no_relevance():
    model, batch = FamilyDetr(tiny_model("detr")).eval(), image_batch()
    torch.nn.init.zeros_(model.network.class_labels_classifier.weight)
    assert query_relevance(model, batch, maps_of(model, batch), [0], [0]).abs().sum() == 0


def test_no_detections_have_no_rows():
    model, batch = FamilyDetr(tiny_model("rt_detr")).eval(), image_batch()
    maps = maps_of(model, batch)
    assert query_relevance(model, batch, maps, [], []).shape == (0, maps.is_padding.shape[1])


def test_gradients_that_are_not_finite_are_an_error():
    with pytest.raises(DetrLiteError, match="not finite"):
        propagate([], [torch.zeros(1, 1)], [torch.full((1, 2), torch.nan)])


def test_parents_lie_over_their_tokens(tiny_config):
    torch.manual_seed(0)
    model = build_model(replace(tiny_config.model, name="lite", strides=(8, 16)), 3).eval()
    levels = encoder_levels(maps_of(model, image_batch(height=40, width=56)))
    fine, coarse = levels.parents[:35].view(5, 7), levels.parents[35:]
    assert levels.first == 35
    assert coarse.tolist() == list(range(12))  # 3 x 4
    assert fine.tolist() == [[row // 2 * 4 + column // 2 for column in range(7)] for row in range(5)]
