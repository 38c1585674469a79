"""Checkpoints of the original DETR: equal predictions, and an exact round trip of every tensor."""

import warnings
from argparse import Namespace
from pathlib import Path

import pytest
import torch
import torchvision

from detr_lite.data.coco_names import COCO_NAMES
from detr_lite.structures import Batch, Category, DetrLiteError
from detr_lite.weights import import_checkpoint
from detr_lite.weights.arch_info import RESNETS, arch_info_from_weights
from detr_lite.weights.imports import load_any_checkpoint
from detr_lite.weights.official import OfficialKeyMapping
from tests.helpers.reference_models import OriginalDetr, assert_predicts_as_the_original, original_detr, save_pth


@pytest.mark.slow
def test_the_imported_model_predicts_as_the_original(
    original: tuple[OriginalDetr, Namespace], pth: Path, batch: Batch
) -> None:
    """In every layer."""
    imported = load_any_checkpoint(pth)
    assert not imported.model.training
    assert_predicts_as_the_original(imported.model, original[0], batch)


@pytest.mark.slow
def test_dc5_predicts_as_the_original(tmp_path: Path, batch: Batch) -> None:
    """With `dilation` in `args` the map has stride 16."""
    model, arguments = original_detr(backbone="resnet50", dilation=True)
    imported = load_any_checkpoint(save_pth(tmp_path / "dc5.pth", model, arguments))
    assert imported.description.config.model.strides == (16,)
    assert_predicts_as_the_original(imported.model, model, batch)


@pytest.mark.stress
def test_the_published_size_predicts_as_the_original(tmp_path: Path) -> None:
    published = {"enc_layers": 6, "dec_layers": 6, "dim_feedforward": 2048, "hidden_dim": 256, "nheads": 8}
    model, _ = original_detr(backbone="resnet50", num_queries=100, **published)
    torch.save({"model": model.state_dict()}, tmp_path / "detr-r50.pth")
    batch = Batch.from_images([torch.randn(3, 96, 140), torch.randn(3, 130, 101)])
    assert_predicts_as_the_original(import_checkpoint(tmp_path / "detr-r50.pth", dc5=False), model, batch)


@pytest.mark.slow
def test_round_trip_of_every_tensor(original: tuple[OriginalDetr, Namespace], pth: Path) -> None:
    """To the last bit, through a model."""
    state = original[0].state_dict()
    exported = OfficialKeyMapping().to_external(import_checkpoint(str(pth)).state_dict())
    assert exported.keys() == state.keys()
    assert all(torch.equal(exported[name], state[name]) for name in state)


def test_key_mapping_of_the_published_files() -> None:
    """Copied from the files: a wrong mapping could survive a round trip."""
    key_mapping = OfficialKeyMapping()
    for internal, external in {
        "backbone.network.layer1.0.downsample.0.weight": "backbone.0.body.layer1.0.downsample.0.weight",
        "encoder.projections.0.bias": "input_proj.bias",
        "encoder.layers.5.attention.output.bias": "transformer.encoder.layers.5.self_attn.out_proj.bias",
        "decoder.layers.11.cross_norm.weight": "transformer.decoder.layers.11.norm2.weight",
        "decoder.norm.weight": "transformer.decoder.norm.weight",
        "queries.position.weight": "query_embed.weight",
        "heads.label.weight": "class_embed.weight",
        "heads.box.4.bias": "bbox_embed.layers.2.bias",
    }.items():
        assert key_mapping.external_name(internal) == external
        assert key_mapping.internal_name(external) == internal
    projections = {f"decoder.layers.0.cross_attention.{part}.bias": torch.rand(4) for part in ("query", "key", "value")}
    (name,) = key_mapping.to_external(projections)
    assert name == "transformer.decoder.layers.0.multihead_attn.in_proj_bias"


@pytest.mark.slow
def test_labels_are_coco_category_ids(pth: Path) -> None:
    """The softmax is over all 92 rows, so unused ones are kept, under names that no dataset has."""
    imported = load_any_checkpoint(pth)
    assert imported.model.heads.label.weight.shape[0] == 92
    categories = imported.description.categories
    assert [category.id for category in categories] == list(range(91))
    assert {category.id: category.name for category in categories if category.id in COCO_NAMES} == COCO_NAMES
    unused = [category for category in categories if category.id not in COCO_NAMES]
    assert len(unused) == 11
    assert unused[1] == Category(12, "unused 12")
    assert len({category.name for category in categories}) == 91
    assert "classes: 80, COCO's, assumed from 92 rows; 11 more rows are unused" in imported.notes


@pytest.mark.slow
def test_other_classes_have_no_names(tmp_path: Path) -> None:
    imported = load_any_checkpoint(save_pth(tmp_path / "tuned.pth", *original_detr(classes=3)))
    assert imported.description.categories == (Category(0, "class 0"), Category(1, "class 1"), Category(2, "class 2"))
    assert "classes: 3, without names" in imported.notes


def test_preprocessing_is_the_originals(pth: Path) -> None:
    description = load_any_checkpoint(pth).description
    assert description.resize.to_dict() == {"kind": "shortest", "size": 800, "max_size": 1333}
    assert description.mean == (0.485, 0.456, 0.406)
    assert description.std == (0.229, 0.224, 0.225)


@pytest.mark.slow
def test_options_set_what_weights_do_not_show(original: tuple[OriginalDetr, Namespace], tmp_path: Path) -> None:
    """The published files contain weights alone."""
    path = tmp_path / "hub.pth"
    torch.save({"model": original[0].state_dict()}, path)
    imported = load_any_checkpoint(path)
    assert (imported.description.config.model.dilation, imported.description.config.model.heads) == (False, 8)
    text = "\n".join(imported.notes)
    assert "DC5: no (assumed, as weights do not show it; set --dc5)" in text
    assert "8 heads (assumed, as weights do not show it; set --heads)" in text

    imported = load_any_checkpoint(path, dc5=True, heads=4)
    model = imported.description.config.model
    assert (model.dilation, model.strides, model.heads) == (True, (16,), 4)
    assert "weights do not show" not in "\n".join(imported.notes)


@pytest.mark.slow
def test_a_warning_if_dc5_is_assumed(original: tuple[OriginalDetr, Namespace], pth: Path, tmp_path: Path) -> None:
    """Weights of a DC5 model also load without dilation, but then predict something else."""
    path = tmp_path / "detr-dc5.pth"
    torch.save({"model": original[0].state_dict()}, path)
    with pytest.warns(UserWarning, match=r"detr-dc5.pth: .* assumed to be not dilated; set dc5=True or dc5=False"):
        import_checkpoint(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        import_checkpoint(path, dc5=True)
        import_checkpoint(pth)


@pytest.mark.slow
def test_an_option_that_contradicts_the_file_is_an_error(pth: Path) -> None:
    with pytest.raises(DetrLiteError, match=r"checkpoint.pth: heads was given as 2, but the file says 4"):
        load_any_checkpoint(pth, heads=2)
    with pytest.raises(DetrLiteError, match=r"checkpoint.pth: DC5 was given as yes, but the file says no"):
        load_any_checkpoint(pth, dc5=True)
    assert load_any_checkpoint(pth, dc5=False, heads=4).description.config.model.heads == 4


def test_heads_that_do_not_divide_dim_are_an_error(original: tuple[OriginalDetr, Namespace], tmp_path: Path) -> None:
    path = tmp_path / "hub.pth"
    torch.save({"model": original[0].state_dict()}, path)
    with pytest.raises(
        DetrLiteError, match=r"hub.pth: model.dim is 32; it must be divisible by 4 and by model.heads \(5\)"
    ):
        load_any_checkpoint(path, heads=5)


@pytest.mark.parametrize("how", ["bare", "older format", "step counters", "half precision"])
@pytest.mark.slow
def test_other_ways_to_save_the_same_weights(
    original: tuple[OriginalDetr, Namespace], tmp_path: Path, how: str
) -> None:
    state, path = dict(original[0].state_dict()), tmp_path / "some.pth"
    if how == "step counters":
        state["backbone.0.body.bn1.num_batches_tracked"] = torch.tensor(7)
    if how == "half precision":
        state = {name: value.half() for name, value in state.items()}
    torch.save(state if how == "bare" else {"model": state}, path, _use_new_zipfile_serialization=how != "older format")
    position = import_checkpoint(path, dc5=False, heads=4).state_dict()["queries.position.weight"]
    assert torch.equal(position, state["query_embed.weight"].float())


@pytest.mark.parametrize("name", RESNETS.values())
def test_the_resnet_is_inferred_from_the_weights(name: str) -> None:
    with torch.device("meta"):
        state = getattr(torchvision.models, name)().state_dict()
    shapes = {f"backbone.network.{key}": tuple(value.shape) for key, value in state.items()}
    assert arch_info_from_weights(shapes).backbone == name


def test_another_backbone_is_refused(original: tuple[OriginalDetr, Namespace], tmp_path: Path) -> None:
    state = {name: value for name, value in original[0].state_dict().items() if "layer3" not in name}
    torch.save({"model": state}, tmp_path / "some.pth")
    with pytest.raises(
        DetrLiteError, match=r"its backbone is none of resnet18, resnet34, resnet50, resnet101, resnet152"
    ):
        load_any_checkpoint(tmp_path / "some.pth")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"pre_norm": True}, "args: pre_norm is set"),
        ({"nheads": "eight"}, "args: nheads is 'eight'; it must be a number"),
        ({"enc_layers": True}, "args: enc_layers is True; it must be a number"),
    ],
)
def test_unsupported_arguments_are_refused(
    original: tuple[OriginalDetr, Namespace], tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    model, arguments = original
    with pytest.raises(DetrLiteError, match=reason):
        load_any_checkpoint(save_pth(tmp_path / "some.pth", model, Namespace(**{**vars(arguments), **changes})))
