"""Checkpoints from others: none runs code, loads a backbone that is not timm's, or removes files.

Each payload would leave a file behind; the first tests show that it works where it is not refused.
"""

import ast
import io
import json
import pickle
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from lightning.pytorch.core import saving

from detr_lite.weights.checkpoint import FORMAT, KEY
from tests.helpers.payloads import WORDS, Payload

PROJECT = Path(__file__).resolve().parents[2]
Tool = Callable[..., Any]


@pytest.fixture
def trap(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A function in a module that writes a file when it is imported."""
    (tmp_path / "trap.py").write_text(f"open({str(made)!r}, 'w')\ndef instantiate(cls, settings): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    return "trap.instantiate"


def pickled(path: Path, made: Path) -> None:
    path.write_bytes(pickle.dumps(Payload(made)))


def text_pickled(path: Path, made: Path) -> None:
    path.write_bytes(pickle.dumps(Payload(made), protocol=0))


def saved(path: Path, made: Path) -> None:
    torch.save({"state_dict": {"weight": Payload(made)}}, path)


def saved_the_old_way(path: Path, made: Path) -> None:
    torch.save({"state_dict": {"weight": Payload(made)}}, path, _use_new_zipfile_serialization=False)


CODE = [pickled, text_pickled, saved, saved_the_old_way]


@pytest.mark.parametrize("write", CODE)
def test_the_pickles_work_where_they_are_allowed(
    write: Callable[[Path, Path], None], tmp_path: Path, made: Path
) -> None:
    write(tmp_path / "some.ckpt", made)
    if write in (pickled, text_pickled):
        pickle.loads((tmp_path / "some.ckpt").read_bytes())
    else:
        torch.load(tmp_path / "some.ckpt", weights_only=False)
    assert made.exists()


@pytest.mark.parametrize("write", CODE)
@pytest.mark.parametrize("way", WORDS)
def test_no_tool_runs_a_pickle(
    refusal: Callable[..., str], words: Tool, way: str, write: Callable[[Path, Path], None], tmp_path: Path, made: Path
) -> None:
    write(tmp_path / "some.ckpt", made)
    message = refusal(*words(way, tmp_path / "some.ckpt"))
    assert f"{tmp_path / 'some.ckpt'}: not a checkpoint of tensors and plain types" in message
    assert not made.exists()


@pytest.mark.parametrize("place", ["hyper_parameters", "callbacks", "loops", "optimizer_states", KEY])
def test_a_checkpoint_with_code_anywhere_is_refused(
    refusal: Callable[..., str], untrusted: Callable[..., Path], words: Tool, place: str, made: Path
) -> None:
    path = untrusted(lambda content: content.update({place: {"x": Payload(made)}}), source="last")
    for way in ("predict", "resume"):
        assert "it could execute code, so it is not loaded" in refusal(*words(way, path))
    assert not made.exists()


@pytest.mark.parametrize("kind", ["zip", "tar", "safetensors", "folder"])
def test_archives_are_not_unpacked_and_names_do_not_open_them(
    refusal: Callable[..., str], words: Tool, tmp_path: Path, made: Path, kind: str
) -> None:
    path = tmp_path / "inner" / "some.ckpt"
    path.parent.mkdir()
    payload = pickle.dumps(Payload(made))
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in ("archive/data.pkl", "archive/version", "archive/constants.pkl", "../../made_by_payload"):
                archive.writestr(name, payload)
    elif kind == "tar":
        with tarfile.open(path, "w") as archive:
            for name in ("storages", "tensors", "pickle", "../made_by_payload", str(made)):
                member = tarfile.TarInfo(name)
                member.size = len(payload)
                archive.addfile(member, io.BytesIO(payload))
    else:
        path = path.with_suffix(".safetensors")
        path.write_bytes(payload)
        path.with_suffix(".json").write_text(json.dumps({KEY: {"format": FORMAT}}))
        path = path.parent if kind == "folder" else path
    for way in ("predict", "import", "init_from"):
        assert "not a " in refusal(*words(way, path))
    assert not made.exists()


def hyper_parameters(trap: str) -> dict[str, Any]:
    return {"_instantiator": trap, "_class_path": "os.system", "root": "anything"}


def test_the_instantiator_works_where_it_is_allowed(
    untrusted: Callable[..., Path], trap: str, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning itself refuses it since 2.6.6."""
    from lightning.pytorch.demos.boring_classes import BoringModel

    parameters = {"_instantiator": trap}
    path = untrusted(lambda content: content.update(hyper_parameters=parameters))
    with pytest.raises(ValueError, match="blocked"):
        BoringModel.load_from_checkpoint(path, weights_only=True)
    assert not made.exists()
    monkeypatch.setattr(saving, "_ALLOWED_INSTANTIATORS", {trap})
    with pytest.raises(AttributeError):  # the function returns no model
        BoringModel.load_from_checkpoint(path, weights_only=True)
    assert made.exists()


@pytest.mark.stress
@pytest.mark.parametrize("key", ["hyper_parameters", "datamodule_hyper_parameters"])
def test_an_instantiator_in_hyper_parameters_is_ignored(
    run_tool: Tool, untrusted: Callable[..., Path], words: Tool, trap: str, made: Path, tmp_path: Path, key: str
) -> None:
    def change(content: dict[str, Any]) -> None:
        content[key] = hyper_parameters(trap)
        content[KEY]["_instantiator"] = content[KEY]["config"]["_instantiator"] = trap

    path = untrusted(change, source="last")
    for way in ("predict", "export", "import", "init_from"):
        extra = ["--run_dir", tmp_path / "run", "--trainer.max_epochs", 1] if way == "init_from" else []
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        ended = run_tool(*words(way, path), *extra)
        assert ended.code == 0, ended
    assert not made.exists()


@pytest.mark.stress
def test_an_instantiator_does_not_run_when_a_run_is_resumed(
    run_tool: Tool, untrusted: Callable[..., Path], words: Tool, trap: str, made: Path
) -> None:
    path = untrusted(lambda content: content.update(hyper_parameters=hyper_parameters(trap)), source="last")
    more = ["--trainer.max_epochs", "61", "--optim.lr", "4e-3"]
    ended = run_tool(*words("resume", path), *more)
    assert ended.code == 0, ended
    assert (path.parents[1] / "evaluation" / "metrics.json").exists()
    assert not made.exists()


def calls_in(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Dotted name and keywords of every call."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {keyword.arg or "**": ast.unparse(keyword.value) for keyword in node.keywords}


@pytest.mark.slow
def test_every_reading_of_a_checkpoint_is_weights_only() -> None:
    readings = []
    for path in (path for folder in ("detr_lite", "examples", "tools") for path in (PROJECT / folder).rglob("*.py")):
        for name, keywords in calls_in(path):
            assert name not in ("eval", "exec", "os.system", "yaml.unsafe_load", "yaml.full_load"), path
            # The loader that makes nothing but text, lists and objects.
            assert name != "yaml.load" or keywords.get("Loader") == "yaml.BaseLoader", path
            assert not name.startswith(("marshal.", "shelve.", "joblib.", "dill.", "torch.hub.")), path
            assert not name.startswith("pickle."), path
            assert not name.endswith(".load_from_checkpoint"), path
            assert keywords.get("allow_pickle", "False") == "False", path
            assert keywords.get("shell", "False") == "False", path
            if name == "torch.load" or name.endswith("trainer.fit"):
                readings.append((path.name, keywords.get("weights_only")))
    assert sorted(readings) == [("fit.py", "True"), ("tensor_files.py", "True")]


@pytest.mark.parametrize("name", ["local-dir:FOLDER", "hf-hub:evil/resnet10t", "hf_hub:resnet10t.x", "../resnet10t"])
@pytest.mark.slow
def test_a_backbone_is_always_one_of_timm(
    refusal: Callable[..., str], untrusted: Callable[..., Path], words: Tool, tiny_file: Path, tmp_path: Path, name: str
) -> None:
    """timm would also read any folder, or download it."""
    (tmp_path / "config.json").write_text('{"architecture": "resnet10t", "num_classes": 0}')
    assert timm.create_model(f"local-dir:{tmp_path}", pretrained=False), "timm accepts this name"
    name = name.replace("FOLDER", str(tmp_path))
    expected = f"model.backbone: timm has no model named '{name}'"
    path = untrusted(lambda content: content[KEY]["config"]["model"].update(backbone=name))
    for way in ("predict", "import", "init_from"):
        assert expected in refusal(*words(way, path))
    assert expected in refusal("train", "--config", tiny_file, "--model.backbone", name, "--run_dir", tmp_path / "run")


# A run that goes on removes the checkpoint before.


@pytest.mark.parametrize("how", ["dots", "another file system", "no folder named", "a number"])
def test_resuming_removes_no_file_that_a_checkpoint_names(
    refusal: Callable[..., str],
    untrusted: Callable[..., Path],
    words: Tool,
    tmp_path: Path,
    unchanged_home: None,
    how: str,
) -> None:
    """Lightning removes what a checkpoint names as the best one, as soon as AP rises."""
    folder, home = tmp_path / "untrusted" / "checkpoints", tmp_path / "home"
    file: Any = f"local://{home}" if how != "dots" else f"{folder}/../../home"

    def change(content: dict[str, Any]) -> None:
        (state,) = (state for name, state in content["callbacks"].items() if name.startswith("ModelCheckpoint"))
        low = torch.tensor(-2.0)
        state.update(kth_best_model_path=file, best_k_models={file: low}, kth_value=low, best_model_score=low)
        state["dirpath"] = str(folder)
        if how == "no folder named":
            del state["dirpath"]
        if how == "a number":
            state["kth_best_model_path"] = 5

    path = untrusted(change, source="last")
    more = ["--trainer.max_epochs", 62, "--trainer.num_evaluations", 62, "--optim.lr", "4e-3"]
    message = refusal(*words("resume", path), *more)
    assert message.startswith(f"{path}: its best checkpoint ")
    assert message.endswith("is not in the folder of its checkpoints")
