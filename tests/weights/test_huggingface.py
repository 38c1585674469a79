"""DETR of `transformers`: the same answers, in either version's naming, with either ResNet, from either file."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_models import assert_answers_as_theirs, their_detr
from torch import Tensor

from detr_lite.data.coco_names import COCO_NAMES
from detr_lite.data.transforms import ResizeRule
from detr_lite.structures import Batch, Category, DetrLiteError
from detr_lite.weights import import_checkpoint
from detr_lite.weights.imports import read_foreign

pytestmark = pytest.mark.slow

OWN_RESNET = {
    "model_type": "resnet",
    "depths": [2, 2, 2, 2],
    "hidden_sizes": [64, 128, 256, 512],
    "layer_type": "basic",
    "out_features": ["stage4"],
}
"""The ResNet-18 of `transformers` itself."""
OWN_RESNET_50 = {
    **OWN_RESNET,
    "depths": [3, 4, 6, 3],
    "hidden_sizes": [256, 512, 1024, 2048],
    "layer_type": "bottleneck",
}


def test_the_import_answers_as_theirs(theirs: Any, folder: Path, batch: Batch) -> None:
    imported = read_foreign(folder)
    assert not imported.model.training
    assert_answers_as_theirs(imported.model, theirs, batch)


@pytest.mark.parametrize(
    "changes",
    [
        {"dilation": True},
        {"backbone_config": OWN_RESNET},
        {"backbone_config": OWN_RESNET_50},
        {"backbone_config": OWN_RESNET, "dilation": True},
        {"encoder_layers": 1, "num_queries": 5, "id2label": {0: "cat", 1: "dog"}},
        {"backbone": "resnet26"},
    ],
    ids=["DC5", "own ResNet-18", "own ResNet-50", "DC5 asked for in vain", "other sizes", "another of timm's"],
)
def test_other_models_answer_as_theirs(tmp_path: Path, batch: Batch, changes: dict[str, Any]) -> None:
    theirs = their_detr(**changes)
    theirs.save_pretrained(tmp_path)
    assert_answers_as_theirs(import_checkpoint(tmp_path), theirs, batch)


def named_as_in_version_4(state: dict[str, Tensor]) -> dict[str, Tensor]:
    names = {"backbone.model.": "backbone.conv_encoder.model.", ".o_proj.": ".out_proj.", ".mlp.fc": ".fc"}
    for new, old in names.items():
        assert any(new in name for name in state)
        state = {name.replace(new, old): value for name, value in state.items()}
    return state


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("own", [False, True], ids=["timm", "own ResNet"])
def test_the_names_of_both_versions_are_read(tmp_path: Path, version: int, own: bool) -> None:
    """In memory they are version 5's, whatever `save_pretrained` makes of them."""
    theirs = their_detr(**({"backbone_config": OWN_RESNET} if own else {}))
    theirs.config.save_pretrained(tmp_path)
    state = theirs.state_dict()
    torch.save(named_as_in_version_4(state) if version == 4 else state, tmp_path / "pytorch_model.bin")
    batch = Batch.from_images([torch.randn(3, 64, 80), torch.randn(3, 96, 64)])
    assert_answers_as_theirs(import_checkpoint(tmp_path), theirs, batch)


def test_the_backbone_of_timms_may_stand_one_level_deeper(theirs: Any, tmp_path: Path) -> None:
    """As version 4 wrote it for a backbone_config of timm's."""
    theirs.config.save_pretrained(tmp_path)
    state = {
        name.replace(".conv_encoder.model.", ".conv_encoder.model._backbone."): value
        for name, value in named_as_in_version_4(theirs.state_dict()).items()
    }
    assert any("._backbone.conv1." in name for name in state)
    torch.save(state, tmp_path / "pytorch_model.bin")
    assert_answers_as_theirs(import_checkpoint(tmp_path), theirs, Batch.from_images([torch.randn(3, 64, 80)]))


def test_the_file_itself_may_be_given(folder: Path) -> None:
    from_folder, from_file = read_foreign(folder), read_foreign(folder / "model.safetensors")
    assert from_file.description == from_folder.description
    assert from_file.notes == from_folder.notes


def test_a_file_without_its_config_is_read_as_it_looks(folder: Path, tmp_path: Path) -> None:
    """Sizes are in the weights; heads and DC5 are not."""
    alone = Path(shutil.copy(folder / "model.safetensors", tmp_path / "alone.safetensors"))
    imported = read_foreign(alone, heads=4)
    assert imported.description == read_foreign(folder).description
    assert "DC5: no (assumed" in "\n".join(imported.notes)


def test_names_come_from_id2label(folder: Path, edit_config: Callable[..., Path]) -> None:
    categories = read_foreign(folder).description.categories
    assert {category.id: category.name for category in categories if "unused" not in category.name} == COCO_NAMES
    assert len(categories) == 91
    assert categories[71] == Category(71, "unused 71"), "a door, by id2label, that no image of COCO shows"
    other = {str(label): "N/A" if label == 5 else f"thing {label}" for label in range(91)}
    categories = read_foreign(edit_config(id2label=other)).description.categories
    assert categories[4:6] == (Category(4, "thing 4"), Category(5, "unused 5"))


def test_settings_that_are_left_out_are_seen_in_the_weights(folder: Path, edit_config: Callable[..., Path]) -> None:
    expected = read_foreign(folder).description
    keys = ("d_model", "encoder_layers", "decoder_layers", "encoder_ffn_dim", "decoder_ffn_dim", "num_queries")
    assert read_foreign(edit_config(id2label=None, **dict.fromkeys(keys))).description == expected


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
    ids=["first files", "later files of version 4", "other options beside it", "own ResNet"],
)
def test_dc5_as_older_files_say_it(edit_config: Callable[..., Path], changes: dict[str, Any], is_dilated: bool) -> None:
    imported = read_foreign(edit_config(**changes))
    assert imported.description.config.model.dilation == is_dilated
    assert "weights do not tell" not in "\n".join(imported.notes)


def test_dc5_that_transformers_does_not_apply_may_be_asked_for(edit_config: Callable[..., Path]) -> None:
    folder = edit_config(backbone_config=OWN_RESNET, dilation=True)
    assert "DC5: no (assumed" in "\n".join(read_foreign(folder).notes)
    assert read_foreign(folder, dc5=True).description.config.model.dilation


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "deformable_detr"}, "config.json: model_type is 'deformable_detr'; only \"detr\" is read"),
        ({"model_type": None}, "config.json: model_type is None"),
        ({"architectures": ["DetrForSegmentation"]}, r"architectures is \['DetrForSegmentation'\]; only DetrForObject"),
        ({"position_embedding_type": "learned"}, "position_embedding_type is 'learned'; only 'sine' is read"),
        ({"activation_function": "gelu"}, "activation_function is 'gelu'; only 'relu' is read"),
        ({"auxiliary_loss": True}, "auxiliary_loss is True; only False is read"),
        ({"decoder_ffn_dim": 64}, "encoder_ffn_dim and decoder_ffn_dim differ"),
        ({"decoder_attention_heads": 2}, "encoder_attention_heads and decoder_attention_heads differ"),
        ({"d_model": "wide"}, "config.json: d_model is 'wide'; it must be a number"),
        ({"id2label": ["cat", "dog"]}, "id2label does not give a name for each number"),
        ({"backbone_config": {**OWN_RESNET, "downsample_in_bottleneck": True}}, "downsample_in_bottleneck is True"),
        (
            {"backbone_config": {"backbone": "efficientnet_b0"}},
            "its backbone is efficientnet_b0; only timm's plain Res",
        ),
        ({"backbone_config": None, "backbone": "resnetblur18"}, "its backbone is resnetblur18; only timm's plain Res"),
        ({"backbone_config": {"output_stride": 8}}, "output_stride is 8; only 16 and 32 are read"),
    ],
)
def test_a_config_of_another_model_is_told(
    edit_config: Callable[..., Path], changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(DetrLiteError, match=rf"theirs: config\.json: .*{reason}|theirs: {reason}"):
        read_foreign(edit_config(**changes))


@pytest.mark.parametrize(
    "size", [{"size": {"shortest_edge": 400, "longest_edge": 600}}, {"size": 400, "max_size": 600}], ids=["new", "old"]
)
def test_images_are_prepared_as_the_folder_says(folder: Path, size: dict[str, Any]) -> None:
    assert "images     shorter side 800 pixels, longer side at most 1333 (assumed)" in read_foreign(folder).notes
    said = {**size, "image_mean": [0.5, 0.4, 0.3], "image_std": [1, 1, 1]}
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    imported = read_foreign(folder)
    assert "images     shorter side 400 pixels, longer side at most 600" in imported.notes
    assert imported.description.resize == ResizeRule("shortest", 400, 600)
    assert (imported.description.mean, imported.description.std) == ((0.5, 0.4, 0.3), (1.0, 1.0, 1.0))
    (folder / "preprocessor_config.json").write_text('{"image_mean": [1, 2]}')
    with pytest.raises(DetrLiteError, match=r"preprocessor_config.json: image_mean is \[1, 2\]; it must be three"):
        read_foreign(folder)


@pytest.mark.parametrize("text", ["", "[1, 2]", '{"model_type": "detr"', "\xff"])
def test_a_config_that_is_no_json_object_is_told(folder: Path, text: str) -> None:
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DetrLiteError, match=r"theirs: config\.json: (not readable as JSON|it holds a list)"):
        read_foreign(folder)


def test_a_folder_without_weights_is_told(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(
        DetrLiteError, match=r"theirs: no weights in it, neither model.safetensors nor pytorch_model.bin"
    ):
        read_foreign(folder)


def test_weights_in_several_files_are_told(theirs: Any, tmp_path: Path) -> None:
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="20MB")
    with pytest.raises(
        DetrLiteError, match=r"shards: its weights are in several files; save them in one, with save_pre"
    ):
        read_foreign(tmp_path / "shards")
