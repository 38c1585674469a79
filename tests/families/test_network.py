"""Losses, gradients and predictions of detectors of transformers, beside direct calls of the same models."""

import copy

import pytest
import torch

from benchmarks import tiny_families
from benchmarks.tiny_families import QUERIES, SQUARE, tiny_model
from detr_lite.build import build_criterion
from detr_lite.config import Config
from detr_lite.families.network import FamilyDetr, LossCall, build_network
from detr_lite.families.registry import FAMILIES, family_of
from detr_lite.structures import Batch, DetrLiteError, Target

pytestmark = pytest.mark.slow

CLASSES = 3


def make_batch(*sizes, objects=(2, 1)):
    generator = torch.Generator().manual_seed(0)
    images = [torch.randn(3, *size, generator=generator) for size in sizes]
    targets = [
        Target(
            0.3 * torch.rand(count, 4, generator=generator) + 0.3,
            torch.randint(0, CLASSES, (count,), generator=generator),
            index,
            (100, 100),
        )
        for index, count in enumerate(objects)
    ]
    return Batch.from_images(images, targets)


def labels_of(batch):
    return [{"class_labels": target.labels, "boxes": target.boxes_cxcywh} for target in batch.targets]


def gradients(network):
    return {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}


def test_all_families_are_tested():
    assert set(FAMILIES) == set(tiny_families.FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_are_those_of_a_direct_call(family):
    network, batch = tiny_model(family), make_batch((SQUARE, SQUARE), (SQUARE, SQUARE))
    criterion = build_criterion(Config(), CLASSES, network.config.to_dict())
    model = FamilyDetr(copy.deepcopy(network)).train()
    torch.manual_seed(1)
    losses = criterion(model(batch), batch.targets)
    losses.total.backward()

    torch.manual_seed(1)
    expected = network.train()(
        pixel_values=batch.images, pixel_mask=(~batch.is_padding).long(), labels=labels_of(batch)
    )
    expected.loss.backward()
    assert torch.equal(losses.total, expected.loss)
    ours, theirs = gradients(model.network), gradients(network)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], gradient) for name, gradient in theirs.items())
    assert {"class", "l1", "giou"} <= set(losses.parts)
    assert torch.equal(losses.parts["l1"][-1], l1_of(expected.loss_dict, network.config))


def l1_of(terms, config):
    return terms["loss_bbox"] / getattr(config, "weight_loss_bbox", 1.0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("objects", [(0, 2), (0, 0)])
def test_images_without_objects(family, objects):
    batch = make_batch((SQUARE, SQUARE), (SQUARE, SQUARE), objects=objects)
    network = tiny_model(family)
    model = FamilyDetr(network).train()
    losses = build_criterion(Config(), CLASSES, network.config.to_dict())(model(batch), batch.targets)
    losses.total.backward()
    assert losses.total.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients(network).values())


@pytest.mark.parametrize("family", FAMILIES)
def test_boxes_are_relative_to_the_unpadded_image(family):
    """In families that ignore the padding mask, too, whose own boxes are relative to the padded image."""
    network = tiny_model(family)
    model = FamilyDetr(network).eval()
    batch = make_batch((SQUARE, SQUARE), (SQUARE // 2, SQUARE))
    with torch.no_grad():
        output = model(batch)
        theirs = network(pixel_values=batch.images, pixel_mask=(~batch.is_padding).long())
    scale = torch.ones(2, 4)
    if family_of({"model_type": family}).boxes_include_padding:
        scale[1] = torch.tensor([1.0, 0.5, 1.0, 0.5])
    assert torch.equal(output.logits[-1], theirs.logits)
    torch.testing.assert_close(output.boxes_cxcywh[-1], theirs.pred_boxes / scale[:, None], rtol=0, atol=0)


def test_targets_of_the_loss_are_relative_to_the_padded_image_where_the_boxes_are():
    model = FamilyDetr(tiny_model("rt_detr", num_denoising=0)).train()
    batch = make_batch((SQUARE, SQUARE), (SQUARE // 2, SQUARE // 4))
    call = model(batch).loss_call
    labels = call.argument(1, "labels")
    first, second = (target.boxes_cxcywh for target in batch.targets)
    assert torch.equal(labels[0]["boxes"], first)
    assert torch.equal(labels[1]["boxes"], second * torch.tensor([0.25, 0.5, 0.25, 0.5]))


@pytest.mark.parametrize("family", ["rt_detr", "lw_detr", "rf_detr"])
def test_images_of_any_size_are_padded_to_whole_strides(family):
    model = FamilyDetr(tiny_model(family)).eval()
    with torch.no_grad():
        output = model(make_batch((50, 70), (33, 90)))
    assert output.logits.shape[1:3] == (2, QUERIES)
    assert output.boxes_cxcywh.isfinite().all()


@pytest.mark.parametrize("family", FAMILIES)
def test_heads_compute_in_float32_under_autocast(family):
    model = FamilyDetr(tiny_model(family)).eval()
    batch = make_batch((SQUARE, SQUARE), (SQUARE, SQUARE))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        output = copy.deepcopy(model)(batch)
        assert torch.is_autocast_enabled("cpu")
    assert output.logits.dtype == output.boxes_cxcywh.dtype == torch.float32
    assert len(output.logits.unique()) > 0.9 * output.logits.numel() / len(output.logits)  # bfloat16 has many ties


def test_autocast_is_left_on_after_a_head_that_fails():
    model = FamilyDetr(tiny_model("detr")).eval()
    with torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(RuntimeError):
            model.network.class_labels_classifier(torch.zeros(2, 5))
        assert torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_state_dict_has_the_names_of_transformers(family):
    network = tiny_model(family)
    names = {f"network.{name}" for name in network.state_dict()}
    model = FamilyDetr(network)
    assert set(model.state_dict()) == names
    with torch.no_grad():
        model.eval()(make_batch((SQUARE, SQUARE), (SQUARE, SQUARE)))
    assert "_loss_function" not in vars(network), "the model is left as it was"


def test_a_loss_of_predictions_that_are_not_finite_is_nan():
    network = tiny_model("d_fine")
    model, batch = FamilyDetr(network).train(), make_batch((SQUARE, SQUARE), (SQUARE, SQUARE))
    with torch.no_grad():
        network.class_embed[-1].bias.fill_(float("nan"))
    losses = build_criterion(Config(), CLASSES, network.config.to_dict())(model(batch), batch.targets)
    assert losses.total.isnan()


def test_arguments_by_place_or_by_name():
    call = LossCall(None, (1, 2), {"c": 3})
    assert (call.argument(1, "b"), call.argument(2, "c"), call.argument(3, "d")) == (2, 3, None)


def test_configurations_that_do_not_fit():
    config = tiny_model("detr").config.to_dict()
    with pytest.raises(DetrLiteError, match="configuration has 3 classes, not 4"):
        build_network(config, 4)
    with pytest.raises(DetrLiteError, match="model_type 'bert' is none of"):
        build_network({"model_type": "bert"}, 4)
