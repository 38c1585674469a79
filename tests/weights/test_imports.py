"""Import of checkpoints: every key is checked, no code is executed, and the result is an ordinary checkpoint."""

import json
import os
import pickle
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import detr_lite.weights
from detr_lite.data.coco_names import COCO_NAMES
from detr_lite.structures import Batch, DetrLiteError
from detr_lite.weights import import_checkpoint
from detr_lite.weights.checkpoint import load_model, read_checkpoint
from detr_lite.weights.imports import load_any_checkpoint
from tests.helpers.reference_models import OriginalDetr, assert_predicts_as_the_original

pytestmark = pytest.mark.slow

State = dict[str, Tensor]


def refused(path: Path) -> str:
    """The error: one line that names the file once."""
    with pytest.raises(DetrLiteError) as caught:
        load_any_checkpoint(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    assert message.count(str(path)) == 1
    return message.removeprefix(f"{path}: ")


@pytest.fixture
def edit_pth(pth: Path) -> Callable[[Callable[[State], object]], Path]:
    """Change the weights in the original's checkpoint in place."""

    def edit(change: Callable[[State], object]) -> Path:
        with torch.serialization.safe_globals([Namespace]):
            content = torch.load(pth, weights_only=True)
        content["model"] = dict(content["model"])
        change(content["model"])
        torch.save(content, pth)
        return pth

    return edit


def test_all_differences_of_the_originals_weights_are_named(edit_pth: Callable[..., Path]) -> None:
    def damage(state: State) -> None:
        for name in (
            "transformer.decoder.norm.weight",
            "backbone.0.body.layer2.1.bn1.running_var",
            "query_embed.weight",
        ):
            del state[name]
        del state["transformer.encoder.layers.1.self_attn.in_proj_bias"]
        state["transformer.encoder.norm.weight"] = torch.zeros(32)
        state["something.else"] = torch.zeros(1)
        state["class_embed.bias"] = torch.zeros(91)
        state["transformer.decoder.layers.0.multihead_attn.in_proj_weight"] = torch.zeros(95, 32)
        state["input_proj.bias"] = torch.zeros(32, dtype=torch.int8)

    assert refused(edit_pth(damage)) == (
        "its weights do not match a DETR with resnet18; "
        "missing: backbone.0.body.layer2.1.bn1.running_var, query_embed.weight, transformer.decoder.norm.weight, "
        "transformer.encoder.layers.1.self_attn.in_proj_bias; "
        "unexpected: something.else, transformer.encoder.norm.weight; "
        "of another shape: class_embed.bias (91,) instead of (92,), "
        "transformer.decoder.layers.0.multihead_attn.in_proj_weight (95, 32) instead of (96, 32); "
        "not floating-point: input_proj.bias torch.int8"
    )


@pytest.mark.parametrize(
    "name",
    [
        "class_embed.weight",
        "query_embed.weight",
        "input_proj.weight",
        "backbone.0.body.conv1.weight",
        "backbone.0.body.layer4.1.bn2.weight",
        "transformer.encoder.layers.0.linear1.weight",
        "transformer.decoder.layers.2.norm3.weight",
    ],
)
def test_missing_keys_that_sizes_are_inferred_from_are_named(
    original: tuple[OriginalDetr, Namespace], tmp_path: Path, name: str
) -> None:
    """In a file of weights alone; sizes are inferred from other keys or are the original's."""
    state = {key: value for key, value in original[0].state_dict().items() if key != name}
    torch.save({"model": state}, tmp_path / "some.pth")
    assert f"do not match a DETR with resnet18; missing: {name}" in refused(tmp_path / "some.pth")


def test_all_differences_of_weights_of_transformers_are_named(folder: Path) -> None:
    file = folder / "model.safetensors"
    state = load_file(file)
    (conv,) = [name for name in state if name.endswith("layer3.0.downsample.0.weight")]
    del state[conv]
    del state["class_labels_classifier.bias"]
    state["model.decoder.layers.0.self_attn.q_proj.bias"] = torch.zeros(31)
    state["model.decoder.norm.bias"] = torch.zeros(32)
    save_file(state, file)
    assert refused(folder) == (
        "its weights do not match a DETR with resnet18; "
        f"missing: class_labels_classifier.bias, {conv}; unexpected: model.decoder.norm.bias; "
        "of another shape: model.decoder.layers.0.self_attn.q_proj.bias (31,) instead of (32,)"
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"num_queries": 10**13}, "num_queries is 10000000000000 in its settings, but 7 in its weights"),
        ({"encoder_layers": 10**7}, "encoder_layers is 10000000 in its settings, but 2 in its weights"),
        (
            {"d_model": 64, "id2label": {"0": "cat"}},
            "dim is 64 in its settings, but 32 in its weights; classes is 1 in its settings, but 91 in its weights",
        ),
    ],
)
def test_sizes_in_settings_that_contradict_the_weights_are_refused(
    edit_config: Callable[..., Path], changes: dict[str, Any], reason: str
) -> None:
    assert refused(edit_config(**changes)) == reason


def test_sizes_do_not_come_from_settings_alone(
    folder: Path, edit_config: Callable[..., Path], edit_pth: Callable[..., Path]
) -> None:
    """Missing queries are an error whatever the settings say; a layer's index is not the number of layers."""
    file = edit_config(num_queries=10**13) / "model.safetensors"
    state = load_file(file)
    del state["model.query_position_embeddings.weight"]
    save_file(state, file)
    assert refused(folder).endswith("missing: model.query_position_embeddings.weight")
    many = "transformer.encoder.layers.9999999.linear1.bias"
    assert refused(edit_pth(lambda state: state.update({many: torch.zeros(48)}))).startswith("encoder_layers is 2 in")


def test_other_architectures_are_refused_by_name(edit_pth: Callable[..., Path]) -> None:
    def make_deformable(state: State) -> None:
        state["transformer.decoder.layers.0.cross_attn.sampling_offsets.weight"] = torch.zeros(1)

    assert refused(edit_pth(make_deformable)) == "a deformable DETR; only the original architecture is supported"
    assert "a DETR for segmentation" in refused(
        edit_pth(lambda state: [state.clear(), state.update({"detr.class_embed.weight": torch.zeros(1)})])
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"model": 3}, "neither a checkpoint of detr_lite nor the weights of a DETR"),
        ({"state_dict": {"weight": torch.zeros(2)}}, "neither a checkpoint of detr_lite nor the weights of a DETR"),
        ([torch.zeros(2)], "neither a checkpoint of detr_lite nor the weights of a DETR"),
        ({"model": {}}, "its keys are not those of a DETR"),
        ({"fc.weight": torch.zeros(2)}, "its keys are not those of a DETR"),
    ],
)
def test_files_of_other_models_are_refused(tmp_path: Path, content: Any, reason: str) -> None:
    torch.save(content, tmp_path / "some.pth")
    assert refused(tmp_path / "some.pth").startswith(reason)


@pytest.mark.parametrize("name", ["some.pth", "some.bin", "some.safetensors"])
@pytest.mark.parametrize("data", [b"", b"just some text\n", bytes(range(256)) * 50])
def test_files_that_are_no_weights_are_refused(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    assert refused(tmp_path / name).startswith("not a ")


@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_a_file_that_is_cut_off_is_refused(pth: Path, folder: Path, share: float) -> None:
    for path in (pth, folder / "model.safetensors"):
        data = path.read_bytes()
        path.write_bytes(data[: int(share * len(data))])
        assert "cut off" in refused(path)


def test_a_missing_file_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "nothing") == "no such file or folder"
    assert refused(tmp_path).startswith(
        "the folder has neither a config.json, as of transformers, nor one .safetensors"
    )


class Payload:
    """Creates a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


class DerivedNamespace(Namespace):
    """Namespace is allowed, and no class derived from it."""


@pytest.mark.parametrize("how", ["pickle", "args", "weights", "pytorch_model.bin", "another class"])
def test_code_in_a_file_is_not_executed(pth: Path, folder: Path, tmp_path: Path, how: str) -> None:
    created, path = tmp_path / "created_by_payload", pth
    if how == "pickle":
        path.write_bytes(pickle.dumps({"model": Payload(created)}))
    elif how == "args":
        torch.save({"model": {"transformer.a": torch.zeros(1)}, "args": Namespace(backbone=Payload(created))}, path)
    elif how == "weights":
        torch.save({"model": {"transformer.a": Payload(created)}}, path)
    elif how == "another class":
        torch.save({"model": {"transformer.a": torch.zeros(1)}, "args": DerivedNamespace(backbone="resnet50")}, path)
    else:
        (folder / "model.safetensors").unlink()
        torch.save({"model.decoder.a": Payload(created)}, folder / "pytorch_model.bin")
        path = folder
    assert "it could execute code, so it is not loaded" in refused(path)
    assert not created.exists()


def test_classes_that_are_not_allowed_are_named(
    original: tuple[OriginalDetr, Namespace], pth: Path, tmp_path: Path
) -> None:
    """The original's runs on a cluster have a path in their arguments."""
    model, arguments = original
    torch.save({"model": model.state_dict(), "args": Namespace(**{**vars(arguments), "job_dir": Path("/some")})}, pth)
    reason = refused(pth)
    assert "it could execute code, so it is not loaded (it contains pathlib.PosixPath); if you trust" in reason
    assert "argparse.Namespace" not in reason
    torch.save({"model": torch.load(pth, weights_only=False)["model"]}, tmp_path / "new.pth")  # as the error says
    load_any_checkpoint(tmp_path / "new.pth")


def test_classes_are_allowed_only_while_loading(pth: Path) -> None:
    load_any_checkpoint(pth)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(pth, weights_only=True)


def test_another_json_beside_weights_is_ignored(pth: Path, folder: Path) -> None:
    """Such as metrics; only a description of detr_lite marks an export."""
    expected = load_any_checkpoint(pth).notes, load_any_checkpoint(folder).notes
    for file in (pth.with_suffix(".json"), folder / "model.json"):
        file.write_text('{"AP": 0.42}')
    assert (load_any_checkpoint(pth).notes, load_any_checkpoint(folder).notes) == expected


def test_checkpoints_of_detr_lite_are_loaded_as_well(finished_run: Path) -> None:
    path = finished_run / "checkpoints" / "best.ckpt"
    imported = load_any_checkpoint(path)
    model, description = load_model(path)
    assert imported.description == description
    state = model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in import_checkpoint(path).state_dict().items())
    assert imported.notes[0] == "format: detr_lite"
    assert imported.notes[-2:] == (
        "images: longer side at most 64 pixels",
        "classes: 3, blue thing, red thing, green thing",
    )


def test_the_command_writes_an_ordinary_checkpoint(
    run_tool: Callable[..., Any],
    refusal: Callable[..., str],
    original: tuple[OriginalDetr, Namespace],
    pth: Path,
    batch: Batch,
    tmp_path: Path,
) -> None:
    output = tmp_path / "new folder" / "detr.ckpt"
    ended = run_tool("import_checkpoint", pth, output)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        "format: the original DETR",
        "backbone: resnet18; DC5: no",
        "transformer: 2 encoder layers, 3 decoder layers, dim 32, 4 heads, 7 queries",
        "images: shorter side 800 pixels, longer side at most 1333 (assumed)",
        "classes: 80, COCO's, assumed from 92 rows; 11 more rows are unused",
        f"wrote {output}",
    ]
    assert [entry.name for entry in output.parent.iterdir()] == ["detr.ckpt"]
    assert all(name.startswith("model.") for name in read_checkpoint(output)["state_dict"])
    assert_predicts_as_the_original(load_model(output)[0], original[0], batch)

    assert refusal("import_checkpoint", pth, output).endswith("give --overwrite to replace it")
    assert run_tool("import_checkpoint", pth, output, "--overwrite").code == 0


def test_an_imported_model_is_evaluated_by_class_name_and_predicts(
    run_tool: Callable[..., Any], edit_annotations: Callable[..., Path], pth: Path, tmp_path: Path
) -> None:
    """On COCO's 80 categories with other ids in another order, without unused rows."""

    def use_coco_names(content: dict[str, Any]) -> None:
        names = sorted(COCO_NAMES.values())
        content["categories"] = [{"id": 100 + place, "name": name} for place, name in enumerate(names)]
        content["images"] = content["images"][:1]  # at the original's image size each takes a second
        content["annotations"] = content["annotations"][:1]
        content["annotations"][0]["category_id"] = 100

    root, output = edit_annotations("val", use_coco_names), tmp_path / "detr.ckpt"
    assert run_tool("import_checkpoint", pth, output).code == 0
    ended = run_tool("evaluate", "--checkpoint", output, "--data.root", root, "--num_workers", 0)
    assert (ended.code, ended.err) == (0, "")
    results = json.loads((tmp_path / "evaluation" / "detections.json").read_text())
    assert 0 < len(results) <= 7
    assert {result["category_id"] for result in results} <= set(range(100, 180))

    (image,) = sorted((root / "val").glob("000.*"))
    words = ("--source", image, "--output", tmp_path / "found", "--threshold", 0)
    assert run_tool("predict", "--checkpoint", output, *words).code == 0
    found = json.loads((tmp_path / "found" / "detections.json").read_text())
    assert len(found["annotations"]) == 7
    assert {"id": 90, "name": "toothbrush"} in found["categories"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["nothing.pth", "out.ckpt"], "nothing.pth: no such checkpoint"),
        (["nothing.pth", "out.safetensors"], "out.safetensors: name a .ckpt file; python "),
        (["nothing.pth", "."], ". is a folder; name a file"),
        (["nothing.pth"], "the following arguments are required: OUTPUT.ckpt; see --help"),
        (["nothing.pth", "out.ckpt", "--heads", "many"], "argument --heads: invalid int value: 'many'; see --help"),
    ],
)
def test_wrong_arguments_of_the_import_command(refusal: Callable[..., str], words: list[str], reason: str) -> None:
    assert refusal("import_checkpoint", *words).startswith(reason)


def test_the_command_writes_nothing_if_the_file_is_refused(
    refusal: Callable[..., str], edit_pth: Callable[..., Path], tmp_path: Path
) -> None:
    path = edit_pth(lambda state: state.pop("class_embed.bias"))
    assert "missing: class_embed.bias" in refusal("import_checkpoint", path, tmp_path / "out" / "detr.ckpt")
    assert not (tmp_path / "out").exists()


def test_the_package_has_import_checkpoint_only() -> None:
    assert detr_lite.weights.import_checkpoint is import_checkpoint
    with pytest.raises(AttributeError, match=r"module 'detr_lite.weights' has no attribute 'export_everything'"):
        _ = detr_lite.weights.export_everything
