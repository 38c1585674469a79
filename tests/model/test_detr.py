"""The whole model, of both kinds: shapes, padding, empty images, attention."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from detr_lite.build import build_criterion, build_model
from detr_lite.config import Config, ModelConfig
from detr_lite.model.heads import inverse_sigmoid
from detr_lite.structures import AttentionSelection, Batch, DetrLiteError, Target

MODELS = ["lite", "detr"]


def settings(name: str, **changes: object) -> ModelConfig:
    sizes = {"dim": 32, "heads": 4, "feedforward_dim": 64, "num_queries": 6, "denoising_queries": 8}
    return ModelConfig(name=name, pretrained=False, **{**sizes, **changes})


def make_batch(objects: tuple[int, ...], size: int = 64) -> Batch:
    images = [torch.randn(3, size - 8 * index, size + 5 * index) for index in range(len(objects))]
    targets = [
        Target(torch.rand(count, 4) * 0.3 + 0.3, torch.randint(0, 5, (count,)), index, (size, size))
        for index, count in enumerate(objects)
    ]
    return Batch.from_images(images, targets)


@pytest.mark.parametrize("name", MODELS)
def test_every_layer_answers_with_boxes_in_the_image(name):
    torch.manual_seed(0)
    model = build_model(settings(name), classes=5).eval()
    output = model(make_batch((2, 0)))
    assert output.logits.shape == (3, 2, 6, 6 if name == "detr" else 5)
    assert output.boxes_cxcywh.shape == (3, 2, 6, 4)
    assert (output.boxes_cxcywh >= 0).all()
    assert (output.boxes_cxcywh <= 1).all()
    assert output.attention is None
    assert output.denoising is None


@pytest.mark.parametrize(
    "model_settings",
    [
        settings("lite"),
        settings("lite", relation_bias=False),
        settings("lite", box_head="regression", contrastive_denoising=False),
        settings("detr"),
    ],
    ids=str,
)
@pytest.mark.parametrize("objects", [(0, 0), (1,), (3, 0, 7), (40,)])
def test_every_parameter_learns_from_every_batch(model_settings, objects):
    """Also without objects, or ranks would wait for gradients that never come."""
    torch.manual_seed(0)
    config = Config(model=model_settings)
    model = build_model(config.model, classes=5)
    batch = make_batch(objects)
    losses = build_criterion(config, classes=5)(model(batch), batch.targets)
    losses.total.backward()
    assert losses.total.isfinite()
    missing = [parameter for parameter, value in model.named_parameters() if value.grad is None]
    assert missing == []
    assert all(value.grad.isfinite().all() for value in model.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_attention_is_returned_and_changes_nothing(name):
    torch.manual_seed(0)
    model = build_model(settings(name), classes=5).eval()
    batch = make_batch((2, 1))
    plain, seen = model(batch), model(batch, need_attention=True)
    torch.testing.assert_close(plain.logits, seen.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(plain.boxes_cxcywh, seen.boxes_cxcywh, atol=1e-5, rtol=1e-5)
    maps = seen.attention
    ((height, width),) = maps.grids
    assert maps.cross.shape == (3, 2, 4, 6, height * width)
    assert maps.queries.shape == (3, 2, 4, 6, 6)
    assert maps.encoder.shape == (1, 2, 4, height * width, height * width)
    for weights in (maps.cross, maps.queries, maps.encoder):
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights.sum(-1)))
    assert not maps.cross.masked_select(maps.is_padding[None, :, None, None]).any()


@pytest.mark.parametrize("name", MODELS)
def test_several_strides_are_asked_together(name):
    """All levels are keys and values; the encoder's attention is among the coarsest level's tokens."""
    torch.manual_seed(0)
    model = build_model(settings(name, strides=(8, 16, 32)), classes=5)
    batch = make_batch((2, 0), size=70)
    output = model.eval()(batch, need_attention=True)
    maps = output.attention
    assert maps.grids == ((9, 10), (5, 5), (3, 3))
    assert maps.encoder_grids == ((3, 3),)
    assert maps.cross.shape[-1] == maps.is_padding.shape[1] == 90 + 25 + 9
    assert maps.encoder.shape == (1, 2, 4, 9, 9)
    torch.testing.assert_close(model(batch).boxes_cxcywh, output.boxes_cxcywh, atol=1e-5, rtol=1e-5)
    by_level = maps.cross.split([90, 25, 9], dim=-1)
    assert all((level.sum(-1) > 0).all() for level in by_level)

    config = Config(model=settings(name, strides=(8, 16, 32)))
    losses = build_criterion(config, classes=5)(model.train()(batch), batch.targets)
    losses.total.backward()
    assert [parameter for parameter, value in model.named_parameters() if value.grad is None] == []


@torch.no_grad()
@pytest.mark.parametrize(("name", "strides"), [("detr", (32,)), ("lite", (16,)), ("lite", (8, 16, 32))])
def test_rows_sum_to_one_and_nothing_is_left_for_padding(name, strides):
    torch.manual_seed(0)
    model = build_model(settings(name, strides=strides, encoder_layers=2), classes=5).eval()
    batch = Batch.from_images([torch.randn(3, 64, 170), torch.randn(3, 150, 70)])
    plain, seen = model(batch), model(batch, need_attention=True)
    torch.testing.assert_close(plain.logits, seen.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(plain.boxes_cxcywh, seen.boxes_cxcywh, atol=1e-5, rtol=0)
    maps = seen.attention
    assert maps.is_padding.any(1).all()
    coarsest = maps.is_padding[:, -maps.encoder.shape[-1] :]
    for weights, is_padding in ((maps.cross, maps.is_padding), (maps.encoder, coarsest)):
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights.sum(-1)))
        assert weights.masked_select(is_padding[None, :, None, None]).max() == 0
        assert weights.masked_select(~is_padding[None, :, None, None]).min() > 0


@torch.no_grad()
@pytest.mark.parametrize("name", MODELS)
def test_a_choice_is_a_part_of_all(name):
    torch.manual_seed(0)
    model = build_model(settings(name, encoder_layers=2, strides=(16, 32)), classes=5).eval()
    batch = make_batch((2, 1))
    whole = model(batch, need_attention=True).attention
    choice = AttentionSelection(layers=[-1, 0], heads=[3, 1], queries=[5, 0, 2], encoder_layers=[1], encoder_mean=True)
    part = model(batch, need_attention=choice).attention
    for name in ("cross", "queries"):
        expected = getattr(whole, name)[[2, 0]][:, :, [3, 1]][:, :, :, [5, 0, 2]]
        torch.testing.assert_close(getattr(part, name), expected)
    torch.testing.assert_close(part.encoder, whole.encoder[[1]][:, :, [3, 1]].mean(2, keepdim=True))
    nothing = model(batch, need_attention=AttentionSelection(layers=[], encoder_layers=[], queries=[])).attention
    assert nothing.cross.shape == (0, *whole.cross.shape[1:3], 0, whole.cross.shape[-1])
    assert nothing.encoder.shape == (0, *whole.encoder.shape[1:])


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (AttentionSelection(layers=[3]), "there is no decoder layer 3; this model has 3, counted from 0"),
        (AttentionSelection(heads=[0, -5]), "there is no head -5; this model has 4, counted from 0"),
        (AttentionSelection(queries=[6]), "there is no query 6; this model has 6, counted from 0"),
        (AttentionSelection(encoder_layers=[0]), "there is no encoder layer 0; this model has none"),
    ],
)
def test_a_choice_of_what_is_not_there(choice, message):
    model = build_model(settings("lite", encoder_layers=0), classes=5).eval()
    with pytest.raises(DetrLiteError, match=message):
        model(make_batch((1,)), need_attention=choice)


def test_denoising_queries_are_not_in_the_maps():
    torch.manual_seed(0)
    model = build_model(settings("lite", dropout=0.0), classes=5).train()
    batch = make_batch((2, 1))
    seen = model(batch, need_attention=True)
    assert seen.denoising is not None
    assert seen.attention.queries.shape == (3, 2, 4, 6, 6)
    assert seen.attention.cross.shape[:4] == (3, 2, 4, 6)
    # A query may look at no noisy copy, so what it has left is all of its attention.
    torch.testing.assert_close(seen.attention.queries.sum(-1), torch.ones(3, 2, 4, 6))


def test_a_model_without_encoder_layers_has_no_encoder_attention():
    model = build_model(settings("lite", encoder_layers=0), classes=5).eval()
    assert model(make_batch((1,)), need_attention=True).attention.encoder.shape[0] == 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's peak in kilobytes")
def test_all_attention_of_the_original_at_its_full_size_fits_in_4_gb():
    """Six layers on a ResNet-50, 800 x 1333 pixels, in a process of its own and without the checks of shapes."""
    program = """
import resource, torch
from detr_lite.build import build_model
from detr_lite.config import ModelConfig
from detr_lite.structures import Batch
model = build_model(ModelConfig(name="detr", backbone="resnet50", strides=(32,), pretrained=False, dim=256, heads=8,
    encoder_layers=6, decoder_layers=6, feedforward_dim=2048, num_queries=100), classes=91).eval()
with torch.no_grad():
    maps = model(Batch.from_images([torch.randn(3, 800, 1333)]), need_attention=True).attention
assert maps.cross.shape == (6, 1, 8, 100, 1050) and maps.encoder.shape == (6, 1, 8, 1050, 1050)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(ended.stdout) < 4


def test_padding_in_whole_tokens_hardly_changes_an_answer():
    """Inside the network padding differs a bit from zero, so answers differ a bit; with a mask that is off by a token,
    or boxes relative to the padded image, they would differ by far more."""
    torch.manual_seed(0)
    model = build_model(settings("detr"), classes=5).eval()
    image = torch.randn(3, 64, 48)
    alone, beside = model(Batch.from_images([image])), model(Batch.from_images([image, torch.randn(3, 96, 96)]))
    assert (alone.boxes_cxcywh[-1, 0] - beside.boxes_cxcywh[-1, 0]).abs().max() < 0.05


def test_padding_moves_no_token():
    model = build_model(settings("lite"), classes=5).eval()
    image = torch.randn(3, 64, 48)
    alone, beside = model(Batch.from_images([image])), model(Batch.from_images([image, torch.randn(3, 96, 96)]))
    real = ~beside.tokens.is_padding[0]
    assert real.sum() == 4 * 3
    torch.testing.assert_close(beside.tokens.centers[0, real], alone.tokens.centers[0])
    torch.testing.assert_close(beside.tokens.sizes[0, real], alone.tokens.sizes[0])


@pytest.mark.parametrize("strides", [(16,), (8, 16)])
def test_padding_hardly_changes_what_a_token_says(strides):
    """Convolutions see a little of it at the border; a norm over the whole map would tell every token of it."""
    torch.manual_seed(0)
    model = build_model(settings("lite", strides=strides, encoder_layers=0), classes=5).eval()
    image = torch.randn(3, 128, 96)
    alone, beside = model(Batch.from_images([image])), model(Batch.from_images([image, torch.randn(3, 192, 192)]))
    before, after = alone.tokens.logits[0], beside.tokens.logits[0, ~beside.tokens.is_padding[0]]
    assert (after - before).abs().median() < 0.03 * before.std()


def test_noisy_copies_do_not_reach_the_real_queries():
    """Truth must not leak: answers of the real queries are the same whatever the targets are."""
    torch.manual_seed(0)
    model = build_model(settings("lite", dropout=0.0), classes=5).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    batch = make_batch((3,))
    other = Batch(batch.images, batch.is_padding, make_batch((5,)).targets)
    torch.testing.assert_close(model(batch).logits, model(other).logits, atol=1e-5, rtol=1e-5)
    assert model(batch).denoising.logits.shape[2] == 6  # 2 groups of 3


def test_the_best_tokens_place_the_anchors():
    torch.manual_seed(0)
    model = build_model(settings("lite", query_dedup_iou=1.0), classes=5).eval()
    batch = make_batch((1,))
    tokens = model.encoder(model.backbone(batch.images), batch.is_padding)
    queries = model.queries(tokens, None)
    best = queries.tokens.logits.max(-1).values.topk(6, dim=1).indices
    expected = queries.tokens.boxes_cxcywh[0, best[0]]
    torch.testing.assert_close(queries.anchors_cxcywh[0], expected)
    torch.testing.assert_close(queries.scores[0], queries.tokens.logits[0, best[0]].max(-1).values.sigmoid())
    assert not queries.anchors_cxcywh.requires_grad
    assert not queries.scores.requires_grad


def test_what_queries_are_told_of_each_other_carries_no_gradient():
    """Boxes and scores of the layer before are facts: to change them for the next layer's sake is no way to learn."""
    torch.manual_seed(0)
    model, told = build_model(settings("lite"), classes=5).train(), []
    for bias in model.decoder.pair_bias:
        bias.register_forward_pre_hook(lambda module, arguments: told.append(arguments))
    batch = make_batch((3,))
    output = model(batch)
    assert len(told) == 3
    noisy = output.denoising.logits.shape[2]
    for layer, (boxes_cxcywh, scores) in enumerate(told):
        assert not boxes_cxcywh.requires_grad
        assert not scores.requires_grad
        if layer == 0:
            assert (scores[:, :noisy] == 0.5).all()
        else:
            before = torch.cat([output.denoising.logits, output.logits], dim=2)[layer - 1]
            torch.testing.assert_close(scores, before.sigmoid().amax(-1))


def test_the_first_boxes_are_the_anchors():
    """Refinement starts without moving anything."""
    torch.manual_seed(0)
    model = build_model(settings("lite"), classes=5).eval()
    output = model(make_batch((1,)))
    for layer in output.boxes_cxcywh[1:]:
        torch.testing.assert_close(layer, output.boxes_cxcywh[0], atol=1e-4, rtol=1e-4)


def test_an_image_with_fewer_tokens_than_queries():
    model = build_model(settings("lite", num_queries=30), classes=5).eval()
    output = model(Batch.from_images([torch.randn(3, 32, 40)]))
    assert output.logits.shape == (3, 1, 6, 5)


def test_inverse_sigmoid_is_finite_at_the_ends():
    values = torch.tensor([0.0, 0.3, 1.0])
    assert inverse_sigmoid(values).isfinite().all()
    torch.testing.assert_close(inverse_sigmoid(values)[1].sigmoid(), values[1])
