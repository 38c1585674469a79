"""DETR of `transformers`: equal predictions, with the keys of both versions, both ResNets and both file formats."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from detr_lite.data.coco_names import COCO_NAMES
from detr_lite.data.transforms import ResizeRule
from detr_lite.structures import Batch, Category, DetrLiteError
from detr_lite.weights import import_checkpoint
from detr_lite.weights.imports import load_any_checkpoint
from tests.helpers.reference_models import assert_predicts_as_transformers, transformers_detr

pytestmark = pytest.mark.slow

TRANSFORMERS_RESNET = {
    "model_type": "resnet",
    "depths": [2, 2, 2, 2],
    "hidden_sizes": [64, 128, 256, 512],
    "layer_type": "basic",
    "out_features": ["stage4"],
}
"""backbone_config of the ResNet-18 of `transformers`."""
TRANSFORMERS_RESNET_50 = {
    **TRANSFORMERS_RESNET,
    "depths": [3, 4, 6, 3],
    "hidden_sizes": [256, 512, 1024, 2048],
    "layer_type": "bottleneck",
}


def test_the_imported_model_predicts_as_transformers(reference: Any, folder: Path, batch: Batch) -> None:
    imported = load_any_checkpoint(folder)
    assert not imported.model.training
    assert_predicts_as_transformers(imported.model, reference, batch)


@pytest.mark.parametrize(
    "changes",
    [
        {"dilation": True},
        {"backbone_config": TRANSFORMERS_RESNET},
        {"backbone_config": TRANSFORMERS_RESNET_50},
        {"backbone_config": TRANSFORMERS_RESNET, "dilation": True},
        {"encoder_layers": 1, "num_queries": 5, "id2label": {0: "cat", 1: "dog"}},
        {"backbone": "resnet26"},
    ],
    ids=["DC5", "ResNet-18", "ResNet-50", "ignored dilation", "other sizes", "another timm ResNet"],
)
@pytest.mark.stress
def test_other_models_predict_as_transformers(tmp_path: Path, batch: Batch, changes: dict[str, Any]) -> None:
    reference = transformers_detr(**changes)
    reference.save_pretrained(tmp_path)
    assert_predicts_as_transformers(import_checkpoint(tmp_path), reference, batch)


def with_keys_of_version_4(state: dict[str, Tensor]) -> dict[str, Tensor]:
    names = {"backbone.model.": "backbone.conv_encoder.model.", ".o_proj.": ".out_proj.", ".mlp.fc": ".fc"}
    for new, old in names.items():
        assert any(new in name for name in state)
        state = {name.replace(new, old): value for name, value in state.items()}
    return state


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("is_transformers_resnet", [False, True], ids=["timm", "transformers"])
def test_the_keys_of_both_versions_are_supported(tmp_path: Path, version: int, is_transformers_resnet: bool) -> None:
    """In memory keys are version 5's, whatever `save_pretrained` writes."""
    reference = transformers_detr(**({"backbone_config": TRANSFORMERS_RESNET} if is_transformers_resnet else {}))
    reference.config.save_pretrained(tmp_path)
    state = reference.state_dict()
    torch.save(with_keys_of_version_4(state) if version == 4 else state, tmp_path / "pytorch_model.bin")
    batch = Batch.from_images([torch.randn(3, 64, 80), torch.randn(3, 96, 64)])
    assert_predicts_as_transformers(import_checkpoint(tmp_path), reference, batch)


def test_timm_backbones_one_module_deeper_are_supported(reference: Any, tmp_path: Path) -> None:
    """As of version 4 with a backbone_config of timm."""
    reference.config.save_pretrained(tmp_path)
    state = {
        name.replace(".conv_encoder.model.", ".conv_encoder.model._backbone."): value
        for name, value in with_keys_of_version_4(reference.state_dict()).items()
    }
    assert any("._backbone.conv1." in name for name in state)
    torch.save(state, tmp_path / "pytorch_model.bin")
    assert_predicts_as_transformers(import_checkpoint(tmp_path), reference, Batch.from_images([torch.randn(3, 64, 80)]))


def test_the_path_may_be_the_file_of_weights(folder: Path) -> None:
    from_folder, from_file = load_any_checkpoint(folder), load_any_checkpoint(folder / "model.safetensors")
    assert from_file.description == from_folder.description
    assert from_file.notes == from_folder.notes


def test_a_file_without_its_config_is_supported(folder: Path, tmp_path: Path) -> None:
    """Weights show sizes, but not heads and DC5."""
    alone = Path(shutil.copy(folder / "model.safetensors", tmp_path / "alone.safetensors"))
    imported = load_any_checkpoint(alone, heads=4)
    assert imported.description == load_any_checkpoint(folder).description
    assert "DC5: no (assumed" in "\n".join(imported.notes)


def test_names_come_from_id2label(folder: Path, edit_config: Callable[..., Path]) -> None:
    categories = load_any_checkpoint(folder).description.categories
    assert {category.id: category.name for category in categories if "unused" not in category.name} == COCO_NAMES
    assert len(categories) == 91
    assert categories[71] == Category(71, "unused 71"), "a door in id2label, which COCO does not use"
    other = {str(label): "N/A" if label == 5 else f"thing {label}" for label in range(91)}
    categories = load_any_checkpoint(edit_config(id2label=other)).description.categories
    assert categories[4:6] == (Category(4, "thing 4"), Category(5, "unused 5"))


def test_missing_settings_are_inferred_from_the_weights(folder: Path, edit_config: Callable[..., Path]) -> None:
    expected = load_any_checkpoint(folder).description
    keys = ("d_model", "encoder_layers", "decoder_layers", "encoder_ffn_dim", "decoder_ffn_dim", "num_queries")
    assert load_any_checkpoint(edit_config(id2label=None, **dict.fromkeys(keys))).description == expected


@pytest.mark.parametrize(
    ("changes", "is_dilated"),
    [
        ({"backbone_config": None, "backbone": "resnet18", "dilation": True}, True),
        ({"backbone_config": None, "backbone": "resnet18", "backbone_kwargs": {"output_stride": 16}}, True),
        (
            {
                **{"backbone_config": None, "backbone": "resnet18", "dilation": True},
                "backbone_kwargs": {"out_indices": [1, 2, 3, 4], "in_chans": 3},
            },
            True,
        ),
        ({"backbone_config": None, "use_timm_backbone": False, "dilation": False}, False),
    ],
    ids=["first files", "later files of version 4", "with other options", "transformers ResNet"],
)
def test_dc5_in_older_files(edit_config: Callable[..., Path], changes: dict[str, Any], is_dilated: bool) -> None:
    imported = load_any_checkpoint(edit_config(**changes))
    assert imported.description.config.model.dilation == is_dilated
    assert "weights do not show" not in "\n".join(imported.notes)


def test_dc5_that_transformers_ignores_can_be_set(edit_config: Callable[..., Path]) -> None:
    folder = edit_config(backbone_config=TRANSFORMERS_RESNET, dilation=True)
    assert "DC5: no (assumed" in "\n".join(load_any_checkpoint(folder).notes)
    assert load_any_checkpoint(folder, dc5=True).description.config.model.dilation


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "deformable_detr"}, "config.json: model_type is 'deformable_detr'; only \"detr\" is supported"),
        ({"model_type": None}, "config.json: model_type is None"),
        ({"architectures": ["DetrForSegmentation"]}, r"architectures is \['DetrForSegmentation'\]; only DetrForObject"),
        ({"position_embedding_type": "learned"}, "position_embedding_type is 'learned'; only 'sine' is supported"),
        ({"activation_function": "gelu"}, "activation_function is 'gelu'; only 'relu' is supported"),
        ({"auxiliary_loss": True}, "auxiliary_loss is True; only False is supported"),
        ({"decoder_ffn_dim": 64}, "encoder_ffn_dim and decoder_ffn_dim differ"),
        ({"decoder_attention_heads": 2}, "encoder_attention_heads and decoder_attention_heads differ"),
        ({"d_model": "wide"}, "config.json: d_model is 'wide'; it must be a number"),
        ({"id2label": ["cat", "dog"]}, "id2label does not map numbers to names"),
        (
            {"backbone_config": {**TRANSFORMERS_RESNET, "downsample_in_bottleneck": True}},
            "downsample_in_bottleneck is True",
        ),
        (
            {"backbone_config": {"backbone": "efficientnet_b0"}},
            "its backbone is efficientnet_b0; only timm's plain Res",
        ),
        ({"backbone_config": None, "backbone": "resnetblur18"}, "its backbone is resnetblur18; only timm's plain Res"),
        ({"backbone_config": {"output_stride": 8}}, "output_stride is 8; only 16 and 32 are supported"),
    ],
)
def test_unsupported_settings_are_refused(
    edit_config: Callable[..., Path], changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(DetrLiteError, match=rf"transformers: config\.json: .*{reason}|transformers: {reason}"):
        load_any_checkpoint(edit_config(**changes))


@pytest.mark.parametrize(
    "size", [{"size": {"shortest_edge": 400, "longest_edge": 600}}, {"size": 400, "max_size": 600}], ids=["new", "old"]
)
def test_preprocessing_comes_from_the_folder(folder: Path, size: dict[str, Any]) -> None:
    assert "images: shorter side 800 pixels, longer side at most 1333 (assumed)" in load_any_checkpoint(folder).notes
    settings = {**size, "image_mean": [0.5, 0.4, 0.3], "image_std": [1, 1, 1]}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    imported = load_any_checkpoint(folder)
    assert "images: shorter side 400 pixels, longer side at most 600" in imported.notes
    assert imported.description.resize == ResizeRule("shortest", 400, 600)
    assert (imported.description.mean, imported.description.std) == ((0.5, 0.4, 0.3), (1.0, 1.0, 1.0))
    (folder / "preprocessor_config.json").write_text('{"image_mean": [1, 2]}')
    with pytest.raises(DetrLiteError, match=r"preprocessor_config.json: image_mean is \[1, 2\]; it must be three"):
        load_any_checkpoint(folder)


@pytest.mark.parametrize("text", ["", "[1, 2]", '{"model_type": "detr"', "\xff"])
def test_a_config_that_is_no_json_object_is_refused(folder: Path, text: str) -> None:
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(
        DetrLiteError, match=r"transformers: config\.json: (not readable as JSON|expected a JSON object, got a list)"
    ):
        load_any_checkpoint(folder)


def test_a_folder_without_weights_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(
        DetrLiteError, match=r"transformers: no weights found, neither model.safetensors nor pytorch_model.bin"
    ):
        load_any_checkpoint(folder)


def test_weights_in_several_files_are_refused(reference: Any, tmp_path: Path) -> None:
    reference.save_pretrained(tmp_path / "shards", max_shard_size="20MB")
    with pytest.raises(
        DetrLiteError, match=r"shards: its weights are in several files; save them in one with save_pre"
    ):
        load_any_checkpoint(tmp_path / "shards")
