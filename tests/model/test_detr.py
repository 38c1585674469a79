"""Both models as a whole: shapes, padding, images without objects, attention."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from detr_lite.build import build_criterion, build_model
from detr_lite.config import Config, ModelConfig
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
def test_every_layer_predicts_boxes_in_the_image(name):
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
def test_every_parameter_has_a_gradient_from_every_batch(model_settings, objects):
    """Also without objects, as DistributedDataParallel waits for every gradient."""
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
def test_returning_attention_does_not_change_predictions(name):
    torch.manual_seed(0)
    model = build_model(settings(name), classes=5).eval()
    batch = make_batch((2, 1))
    expected, output = model(batch), model(batch, need_attention=True)
    torch.testing.assert_close(output.logits, expected.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.boxes_cxcywh, expected.boxes_cxcywh, atol=1e-5, rtol=1e-5)
    maps = output.attention
    ((height, width),) = maps.grids
    assert maps.cross.shape == (3, 2, 4, 6, height * width)
    assert maps.queries.shape == (3, 2, 4, 6, 6)
    assert maps.encoder.shape == (1, 2, 4, height * width, height * width)
    for weights in (maps.cross, maps.queries, maps.encoder):
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights.sum(-1)))
    assert not maps.cross.masked_select(maps.is_padding[None, :, None, None]).any()


@pytest.mark.parametrize("name", MODELS)
def test_all_levels_are_in_the_memory(name):
    """The encoder's attention is among the tokens of the coarsest level alone."""
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
def test_weights_sum_to_one_and_are_zero_for_padding(name, strides):
    torch.manual_seed(0)
    model = build_model(settings(name, strides=strides, encoder_layers=2), classes=5).eval()
    batch = Batch.from_images([torch.randn(3, 64, 170), torch.randn(3, 150, 70)])
    expected, output = model(batch), model(batch, need_attention=True)
    torch.testing.assert_close(output.logits, expected.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(output.boxes_cxcywh, expected.boxes_cxcywh, atol=1e-5, rtol=0)
    maps = output.attention
    assert maps.is_padding.any(1).all()
    coarsest = maps.is_padding[:, -maps.encoder.shape[-1] :]
    for weights, is_padding in ((maps.cross, maps.is_padding), (maps.encoder, coarsest)):
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights.sum(-1)))
        assert weights.masked_select(is_padding[None, :, None, None]).max() == 0
        assert weights.masked_select(~is_padding[None, :, None, None]).min() > 0


@torch.no_grad()
@pytest.mark.parametrize("name", MODELS)
def test_selected_attention_is_part_of_all_attention(name):
    torch.manual_seed(0)
    model = build_model(settings(name, encoder_layers=2, strides=(16, 32)), classes=5).eval()
    batch = make_batch((2, 1))
    all_maps = model(batch, need_attention=True).attention
    selection = AttentionSelection(
        layers=[-1, 0], heads=[3, 1], queries=[5, 0, 2], encoder_layers=[1], encoder_mean=True
    )
    selected = model(batch, need_attention=selection).attention
    for name in ("cross", "queries"):
        expected = getattr(all_maps, name)[[2, 0]][:, :, [3, 1]][:, :, :, [5, 0, 2]]
        torch.testing.assert_close(getattr(selected, name), expected)
    torch.testing.assert_close(selected.encoder, all_maps.encoder[[1]][:, :, [3, 1]].mean(2, keepdim=True))
    nothing = model(batch, need_attention=AttentionSelection(layers=[], encoder_layers=[], queries=[])).attention
    assert nothing.cross.shape == (0, *all_maps.cross.shape[1:3], 0, all_maps.cross.shape[-1])
    assert nothing.encoder.shape == (0, *all_maps.encoder.shape[1:])


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (AttentionSelection(layers=[3]), "there is no decoder layer 3; this model has 3, counted from 0"),
        (AttentionSelection(heads=[0, -5]), "there is no head -5; this model has 4, counted from 0"),
        (AttentionSelection(queries=[6]), "there is no query 6; this model has 6, counted from 0"),
        (AttentionSelection(encoder_layers=[0]), "there is no encoder layer 0; this model has none"),
    ],
)
def test_a_selection_that_does_not_exist_is_an_error(selection, message):
    model = build_model(settings("lite", encoder_layers=0), classes=5).eval()
    with pytest.raises(DetrLiteError, match=message):
        model(make_batch((1,)), need_attention=selection)


def test_denoising_queries_are_not_in_the_attention_maps():
    torch.manual_seed(0)
    model = build_model(settings("lite", dropout=0.0), classes=5).train()
    batch = make_batch((2, 1))
    output = model(batch, need_attention=True)
    assert output.denoising is not None
    assert output.attention.queries.shape == (3, 2, 4, 6, 6)
    assert output.attention.cross.shape[:4] == (3, 2, 4, 6)
    # Object queries cannot attend to denoising queries, so their weights still sum to 1.
    torch.testing.assert_close(output.attention.queries.sum(-1), torch.ones(3, 2, 4, 6))


def test_a_model_without_encoder_layers_has_no_encoder_attention():
    model = build_model(settings("lite", encoder_layers=0), classes=5).eval()
    assert model(make_batch((1,)), need_attention=True).attention.encoder.shape[0] == 0


@pytest.mark.stress
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kilobytes on Linux only")
def test_all_attention_of_a_full_size_model_fits_in_4_gb():
    """Six layers on a ResNet-50, 800 x 1333 pixels, in a separate process without shape checks."""
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


def test_padding_hardly_changes_predictions():
    """Features near padding differ slightly; with a mask that is off by a token, or boxes relative to the padded image,
    predictions would differ by far more."""
    torch.manual_seed(0)
    model = build_model(settings("detr"), classes=5).eval()
    image = torch.randn(3, 64, 48)
    alone, padded = model(Batch.from_images([image])), model(Batch.from_images([image, torch.randn(3, 96, 96)]))
    assert (alone.boxes_cxcywh[-1, 0] - padded.boxes_cxcywh[-1, 0]).abs().max() < 0.05


def test_padding_does_not_change_the_geometry_of_tokens():
    model = build_model(settings("lite"), classes=5).eval()
    image = torch.randn(3, 64, 48)
    alone, padded = model(Batch.from_images([image])), model(Batch.from_images([image, torch.randn(3, 96, 96)]))
    real = ~padded.tokens.is_padding[0]
    assert real.sum() == 4 * 3
    torch.testing.assert_close(padded.tokens.centers[0, real], alone.tokens.centers[0])
    torch.testing.assert_close(padded.tokens.sizes[0, real], alone.tokens.sizes[0])


@pytest.mark.parametrize("strides", [(16,), (8, 16)])
def test_padding_hardly_changes_the_predictions_of_tokens(strides):
    """Convolutions see it at the border only; a norm over the whole map would change every token."""
    torch.manual_seed(0)
    model = build_model(settings("lite", strides=strides, encoder_layers=0), classes=5).eval()
    image = torch.randn(3, 128, 96)
    alone, padded = model(Batch.from_images([image])), model(Batch.from_images([image, torch.randn(3, 192, 192)]))
    before, after = alone.tokens.logits[0], padded.tokens.logits[0, ~padded.tokens.is_padding[0]]
    assert (after - before).abs().median() < 0.03 * before.std()


def test_denoising_queries_do_not_influence_object_queries():
    """The ground truth must not leak: predictions of object queries do not depend on the targets."""
    torch.manual_seed(0)
    model = build_model(settings("lite", dropout=0.0), classes=5).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    batch = make_batch((3,))
    other = Batch(batch.images, batch.is_padding, make_batch((5,)).targets)
    torch.testing.assert_close(model(batch).logits, model(other).logits, atol=1e-5, rtol=1e-5)
    assert model(batch).denoising.logits.shape[2] == 6  # 2 groups of 3


def test_the_highest_scoring_tokens_become_anchors():
    torch.manual_seed(0)
    model = build_model(settings("lite", query_dedup_iou=1.0), classes=5).eval()
    batch = make_batch((1,))
    encoded = model.encoder(model.backbone(batch.images), batch.is_padding)
    queries = model.queries(encoded, None)
    top = queries.tokens.logits.max(-1).values.topk(6, dim=1).indices
    expected = queries.tokens.boxes_cxcywh[0, top[0]]
    torch.testing.assert_close(queries.anchors_cxcywh[0], expected)
    torch.testing.assert_close(queries.scores[0], queries.tokens.logits[0, top[0]].max(-1).values.sigmoid())
    assert not queries.anchors_cxcywh.requires_grad
    assert not queries.scores.requires_grad


def test_the_relation_bias_has_no_gradient_to_boxes_and_scores():
    """Boxes and scores of the previous layer are detached, as anchors are."""
    torch.manual_seed(0)
    model, inputs = build_model(settings("lite"), classes=5).train(), []
    for bias in model.decoder.pair_bias:
        bias.register_forward_pre_hook(lambda module, arguments: inputs.append(arguments))
    batch = make_batch((3,))
    output = model(batch)
    assert len(inputs) == 3
    num_denoising = output.denoising.logits.shape[2]
    for layer, (boxes_cxcywh, scores) in enumerate(inputs):
        assert not boxes_cxcywh.requires_grad
        assert not scores.requires_grad
        if layer == 0:
            assert (scores[:, :num_denoising] == 0.5).all()
        else:
            previous = torch.cat([output.denoising.logits, output.logits], dim=2)[layer - 1]
            torch.testing.assert_close(scores, previous.sigmoid().amax(-1))


def test_boxes_start_at_the_anchors():
    """Untrained layers do not move them."""
    torch.manual_seed(0)
    model = build_model(settings("lite"), classes=5).eval()
    output = model(make_batch((1,)))
    for layer in output.boxes_cxcywh[1:]:
        torch.testing.assert_close(layer, output.boxes_cxcywh[0], atol=1e-4, rtol=1e-4)


def test_an_image_with_fewer_tokens_than_queries():
    model = build_model(settings("lite", num_queries=30), classes=5).eval()
    output = model(Batch.from_images([torch.randn(3, 32, 40)]))
    assert output.logits.shape == (3, 1, 6, 5)


@pytest.mark.stress
@pytest.mark.parametrize("name", ["lite", "detr"])
def test_no_bias_is_cancelled_by_a_softmax(name: str) -> None:
    """Its gradient would be rounding alone, with which it would walk. The original has such biases for its keys."""
    torch.manual_seed(0)
    model = build_model(settings(name, box_head="fdr" if name == "lite" else "regression"), classes=5).eval()
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)  # heads start at zero
    batch = make_batch((1,))

    def predicted() -> torch.Tensor:
        with torch.no_grad():
            output = model(batch)
        tokens = [] if output.tokens is None else [output.tokens.boxes_cxcywh.flatten()]
        return torch.cat([output.logits.flatten(), output.boxes_cxcywh.flatten(), *tokens]).double()

    expected, cancelled = predicted(), []
    for key, parameter in model.named_parameters():
        if key.endswith("bias") and not key.startswith("backbone."):
            before = parameter.data.clone()
            parameter.data += torch.randn_like(parameter)  # layer norms cancel the same for all channels
            if (predicted() - expected).abs().max() < 1e-4:
                cancelled.append(key)
            parameter.data.copy_(before)
    originals = [f"{key}.bias" for key, _ in model.named_modules() if key.endswith(".key")] if name == "detr" else []
    # Its first self-attention is among queries that are all zero.
    first = {"decoder.layers.0.self_attention.query.bias"} if name == "detr" else set()
    assert set(originals) <= set(cancelled) <= {*originals, *first}
