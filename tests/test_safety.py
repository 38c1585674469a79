"""Files that somebody hands over: none runs code, leads out of its folder, steers a terminal or breaks a picture.

Each payload would leave a file behind, or take one away; the first tests show that each is live.
"""

import ast
import csv
import io
import json
import os
import pickle
import shutil
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib
import pytest
import safetensors.torch
import timm
import torch
import yaml
from lightning.pytorch.core import saving
from matplotlib.figure import Figure
from PIL import EpsImagePlugin, Image

from detr_lite.data.images import as_image
from detr_lite.structures import DetrLiteError
from detr_lite.text import STEERS
from detr_lite.training.loggers import make_logger, remove_logs
from detr_lite.viz.curves import plot_training_curves
from detr_lite.weights.checkpoint import FORMAT, KEY

PROJECT = Path(__file__).resolve().parents[1]
Tool = Callable[..., Any]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """What every payload would leave behind."""
    return tmp_path / "made_by_payload"


@pytest.fixture(scope="module")
def checkpoint(finished_run: Path) -> Path:
    return finished_run / "checkpoints" / "best.ckpt"


@pytest.fixture
def handed(finished_run: Path, tmp_path: Path) -> Callable[..., Path]:
    """A checkpoint that was changed before it was handed over, in a run folder of its own."""

    def write(change: Callable[[dict[str, Any]], object], source: str = "best") -> Path:
        content = torch.load(finished_run / "checkpoints" / f"{source}.ckpt", weights_only=True)
        change(content)
        path = tmp_path / "handed" / "checkpoints" / f"{source}.ckpt"
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, path)
        return path

    return write


def rename_categories(names: list[str]) -> Callable[[dict[str, Any]], object]:
    """Of a checkpoint or of an annotation file, in ascending order of their ids."""

    def rename(content: dict[str, Any]) -> None:
        categories = sorted(content.get(KEY, content)["categories"], key=lambda category: category["id"])
        for category, name in zip(categories, names, strict=True):
            category["name"] = name

    return rename


@pytest.fixture
def surroundings(tmp_path: Path) -> Iterator[None]:
    """A folder of somebody's own, which is the same after the test."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "mine.json").write_text("mine")
    yield
    assert [(path.name, path.read_text()) for path in home.iterdir()] == [("mine.json", "mine")]


# Code in checkpoints.


class Payload:
    """Unpickled by a careless reader, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def trap(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A function in a module that leaves a file behind when it is imported."""
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
def test_pickles_are_live(write: Callable[[Path, Path], None], tmp_path: Path, made: Path) -> None:
    write(tmp_path / "some.ckpt", made)
    if write in (pickled, text_pickled):
        pickle.loads((tmp_path / "some.ckpt").read_bytes())
    else:
        torch.load(tmp_path / "some.ckpt", weights_only=False)
    assert made.exists()


WORDS: dict[str, list[str]] = {
    "evaluate": ["evaluate", "--checkpoint"],
    "predict": ["predict", "--source", "PHOTOS", "--output", "OUT", "--checkpoint"],
    "visualize": ["visualize", "--source", "PHOTOS", "--output", "OUT", "--checkpoint"],
    "export": ["export", "--output", "OUT", "--checkpoint"],
    "import": ["import_checkpoint"],
    "resume": ["train", "--config", "CONFIG", "--resume"],
    "init_from": ["train", "--config", "CONFIG", "--model.init_from"],
}
"""Every way by which a checkpoint comes in; its path comes last."""


@pytest.fixture
def words(tiny_file: Path, tiny_data: Path, tmp_path: Path) -> Callable[[str, Path], list[str]]:
    def fill(way: str, path: Path) -> list[str]:
        places = {"PHOTOS": tiny_data / "val", "OUT": tmp_path / "out", "CONFIG": tiny_file}
        filled = [str(places.get(word, word)) for word in WORDS[way]]
        return [*filled, str(path), *([str(tmp_path / "out.ckpt")] if way == "import" else [])]

    return fill


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
def test_code_anywhere_in_a_real_checkpoint_keeps_it_closed(
    refusal: Callable[..., str], handed: Callable[..., Path], words: Tool, place: str, made: Path
) -> None:
    path = handed(lambda content: content.update({place: {"x": Payload(made)}}), source="last")
    for way in ("predict", "resume"):
        assert "it may ask to run code, so it is not opened" in refusal(*words(way, path))
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


def test_an_instantiator_is_live(
    handed: Callable[..., Path], trap: str, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where Lightning lets it: of itself it has refused since 2.6.6."""
    from lightning.pytorch.demos.boring_classes import BoringModel

    parameters = {"_instantiator": trap}
    path = handed(lambda content: content.update(hyper_parameters=parameters))
    with pytest.raises(ValueError, match="blocked"):
        BoringModel.load_from_checkpoint(path, weights_only=True)
    assert not made.exists()
    monkeypatch.setattr(saving, "_ALLOWED_INSTANTIATORS", {trap})
    with pytest.raises(AttributeError):  # the trap's function gives no model
        BoringModel.load_from_checkpoint(path, weights_only=True)
    assert made.exists()


@pytest.mark.parametrize("key", ["hyper_parameters", "datamodule_hyper_parameters"])
def test_an_instantiator_in_hyper_parameters_is_not_looked_at(
    run_tool: Tool, handed: Callable[..., Path], words: Tool, trap: str, made: Path, tmp_path: Path, key: str
) -> None:
    def change(content: dict[str, Any]) -> None:
        content[key] = hyper_parameters(trap)
        content[KEY]["_instantiator"] = content[KEY]["config"]["_instantiator"] = trap

    path = handed(change, source="last")
    for way in ("predict", "export", "import", "init_from"):
        extra = ["--run_dir", tmp_path / "run", "--trainer.max_epochs", 1] if way == "init_from" else []
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        ended = run_tool(*words(way, path), *extra)
        assert ended.code == 0, ended
    assert not made.exists()


@pytest.mark.slow
def test_an_instantiator_does_not_run_when_a_run_goes_on(
    run_tool: Tool, handed: Callable[..., Path], words: Tool, trap: str, made: Path
) -> None:
    path = handed(lambda content: content.update(hyper_parameters=hyper_parameters(trap)), source="last")
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


def test_every_reading_of_a_checkpoint_is_weights_only() -> None:
    readings = []
    for path in (*(PROJECT / "detr_lite").rglob("*.py"), *(PROJECT / "tools").glob("*.py")):
        for name, keywords in calls_in(path):
            assert name not in ("eval", "exec", "os.system", "yaml.load", "yaml.unsafe_load", "yaml.full_load"), path
            assert not name.startswith(("marshal.", "shelve.", "joblib.", "dill.", "torch.hub.")), path
            # One place unpacks what this very process has packed, in memory.
            assert not name.startswith("pickle.load") or (path.name, name) == ("coco.py", "pickle.loads"), path
            assert not name.endswith(".load_from_checkpoint"), path
            assert "allow_pickle" not in keywords, path
            assert keywords.get("shell", "False") == "False", path
            if name == "torch.load" or name.endswith("trainer.fit"):
                readings.append((path.name, keywords.get("weights_only")))
    assert sorted(readings) == [("files.py", "True"), ("run.py", "True")]


@pytest.mark.parametrize("name", ["local-dir:FOLDER", "hf-hub:evil/resnet10t", "hf_hub:resnet10t.x", "../resnet10t"])
def test_a_backbone_is_timms_own_whoever_names_it(
    refusal: Callable[..., str], handed: Callable[..., Path], words: Tool, tiny_file: Path, tmp_path: Path, name: str
) -> None:
    """timm would read a folder of anybody's, or fetch it."""
    (tmp_path / "config.json").write_text('{"architecture": "resnet10t", "num_classes": 0}')
    assert timm.create_model(f"local-dir:{tmp_path}", pretrained=False), "this name is live"
    name = name.replace("FOLDER", str(tmp_path))
    expected = f"model.backbone: timm has no model named '{name}'"
    path = handed(lambda content: content[KEY]["config"]["model"].update(backbone=name))
    for way in ("predict", "import", "init_from"):
        assert expected in refusal(*words(way, path))
    assert expected in refusal("train", "--config", tiny_file, "--model.backbone", name, "--run_dir", tmp_path / "run")


# A run that goes on removes the checkpoint before.


@pytest.mark.parametrize("how", ["dots", "another file system", "no folder named", "a number"])
def test_going_on_removes_nothing_that_a_checkpoint_names(
    refusal: Callable[..., str], handed: Callable[..., Path], words: Tool, tmp_path: Path, surroundings: None, how: str
) -> None:
    """Lightning would remove the whole folder as soon as AP rises."""
    folder, home = tmp_path / "handed" / "checkpoints", tmp_path / "home"
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

    path = handed(change, source="last")
    more = ["--trainer.max_epochs", 62, "--trainer.num_evaluations", 62, "--optim.lr", "4e-3"]
    message = refusal(*words("resume", path), *more)
    assert message.startswith(f"{path}: it names ")
    assert message.endswith("as the best before, which is not in its own folder")


# Code in settings.

TAGS = [
    "!!python/object/apply:os.mkdir ['MADE']",
    "!!python/object/new:os.mkdir ['MADE']",
    "!!python/object/apply:os.makedirs {kwds: {name: MADE}}",
]


@pytest.mark.parametrize("tag", TAGS)
def test_tags_are_live(tag: str, made: Path) -> None:
    yaml.unsafe_load(tag.replace("MADE", str(made)))
    assert made.exists()


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize(
    "layout",
    [
        "TAG",
        "data:\n  root: TAG\n",
        "model:\n  strides: [TAG]\n",
        "seed: &x TAG\n",
        "? TAG\n: 1\n",
        "data: {<<: TAG}\n",
    ],
)
def test_tags_in_settings_run_nothing(
    refusal: Callable[..., str], tmp_path: Path, made: Path, tag: str, layout: str
) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(layout.replace("TAG", tag.replace("MADE", str(made))))
    assert refusal("train", "--config", path).startswith(str(path))
    assert not made.exists()


@pytest.mark.parametrize(
    "value", [*TAGS, "{class_path: os.mkdir, init_args: {path: MADE}}", "{'_instantiator': 'os.mkdir'}"]
)
@pytest.mark.parametrize("name", ["model.init_from", "model.strides", "data.num_workers", "trainer.devices", "seed"])
def test_settings_that_are_text_are_not_read_as_code(
    refusal: Callable[..., str], tiny_file: Path, tmp_path: Path, made: Path, name: str, value: str
) -> None:
    """Quoted in a file, and as a word of the command line; both are read once more, as a value."""
    value = value.replace("MADE", str(made))
    path = tmp_path / "settings.yaml"
    path.write_text(f"{tiny_file.read_text()}\n{name}: {json.dumps(value)}\n".replace("seed: 0\n", ""))
    refusal("train", "--config", path, "--run_dir", tmp_path / "run")
    refusal("train", "--config", tiny_file, f"--{name}={value}", "--run_dir", tmp_path / "run")
    assert not made.exists()


@pytest.mark.parametrize("text", ["[" * 20_000, "a: 2001-99-99", "a: !!int x", "a: !!bool x", "a: " + 5000 * "9"])
def test_settings_that_yaml_stumbles_over_are_told(refusal: Callable[..., str], tmp_path: Path, text: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    assert refusal("train", "--config", path).startswith(f"{path}: not plain YAML: ")


# Code in images.


@pytest.fixture
def postscript(tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that looks like an image, and a Ghostscript that leaves a file behind."""
    interpreter = tmp_path / "bin" / "gs"
    interpreter.parent.mkdir()
    interpreter.write_text(f"#!/bin/sh\nmkdir -p {made}\n")
    interpreter.chmod(0o755)
    monkeypatch.setenv("PATH", f"{interpreter.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    path = tmp_path / "photos" / "photo.png"
    path.parent.mkdir()
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\n%%EndComments\nshowpage\n")
    return path


def test_postscript_is_live(postscript: Path, made: Path) -> None:
    with Image.open(postscript) as image, pytest.raises(OSError):  # noqa: PT011 (the interpreter draws nothing)
        image.load()
    assert made.exists()


def test_postscript_is_not_run(
    run_tool: Tool, refusal: Callable[..., str], words: Tool, checkpoint: Path, postscript: Path, own_data: Path,
    made: Path, tmp_path: Path
) -> None:  # fmt: skip
    for tool in ("predict", "visualize"):
        out = tmp_path / f"out of {tool}"
        ended = run_tool(tool, "--checkpoint", checkpoint, "--source", postscript.parent, "--output", out)
        assert ended.code == 2
        assert f"{postscript}: not readable as an image (EPS is a program" in ended.out
    shutil.copy(postscript, own_data / "val" / "000.png")
    assert "EPS is a program" in refusal(*words("evaluate", checkpoint), "--data.root", own_data, "--num_workers", 0)
    with Image.open(postscript) as image, pytest.raises(DetrLiteError, match="EPS is a program"):
        as_image(image)
    assert not made.exists()


def test_images_of_too_many_pixels_are_not_unpacked(
    run_tool: Tool, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (3000, 2000)).save(tmp_path / "photos" / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2_000_000)
    out = tmp_path / "out"
    ended = run_tool("predict", "--checkpoint", checkpoint, "--source", tmp_path / "photos", "--output", out)
    assert ended.code == 2
    assert "bomb.png: more pixels than are safe to read (Image size (6000000 pixels) exceeds limit" in ended.out


# Ways out of a folder.


@pytest.mark.parametrize(
    "name",
    [
        *("../val/000.png", "sub/../../val/000.png", "/etc/hostname", "..", ".", ""),
        *("a\0.png", "a\0/b.png", "\ud800.png", "\ud800/a.png", "loop/a.png", "out/mine.json"),
        *("..\\val\\000.png", "C:\\000.png", "a" * 300, "a/" * 3000, "file:///etc/hostname", "~/a.png", "$HOME/a.png"),
    ],
)
def test_annotations_name_no_file_outside_their_folder(
    refusal: Callable[..., str], edit_annotations: Callable[..., Path], words: Tool, checkpoint: Path,
    surroundings: None, tmp_path: Path, name: str
) -> None:  # fmt: skip
    root = edit_annotations("val", lambda content: content["images"][0].update(file_name=name))
    (root / "val" / "loop").symlink_to("loop")
    (root / "val" / "out").symlink_to(tmp_path / "home")
    message = refusal(*words("evaluate", checkpoint), "--data.root", root, "--output", tmp_path / "out")
    assert any(part in message for part in ("leaves the image folder", "are missing", "File name too long"))
    assert not (tmp_path / "out").exists()


PATHS = ["../../home/escaped", "/tmp/escaped", "a/../../../home/mine.json"]


@pytest.mark.parametrize("way", ["predict", "visualize", "evaluate", "export"])
def test_names_of_categories_are_never_paths(
    run_tool: Tool, handed: Callable[..., Path], edit_annotations: Callable[..., Path], words: Tool,
    surroundings: None, tmp_path: Path, way: str
) -> None:  # fmt: skip
    path = handed(rename_categories(PATHS))
    root = edit_annotations("val", rename_categories(PATHS))
    before = set(tmp_path.rglob("*"))
    extra = ["--data.root", root, "--output", tmp_path / "out"] if way == "evaluate" else []
    ended = run_tool(*words(way, path), *extra)
    assert ended.code == 0, ended
    assert {place.relative_to(tmp_path).parts[0] for place in {*tmp_path.rglob("*")} - before} == {"out"}


@pytest.fixture
def photos(tiny_data: Path, tmp_path: Path) -> Path:
    (tmp_path / "photos" / "sub").mkdir(parents=True)
    shutil.copy(tiny_data / "val" / "000.png", tmp_path / "photos" / "sub" / "mine.png")
    return tmp_path / "photos"


@pytest.mark.parametrize("tool", ["predict", "visualize"])
def test_results_do_not_follow_a_link_out_of_their_folder(
    run_tool: Tool, refusal: Callable[..., str], checkpoint: Path, photos: Path, surroundings: None, tmp_path: Path,
    tool: str
) -> None:  # fmt: skip
    out = tmp_path / "out"
    out.mkdir()
    (out / "sub").symlink_to(tmp_path / "home")
    words = [tool, "--checkpoint", checkpoint, "--source", photos, "--output", out, "--overwrite"]
    assert refusal(*words) == f"{out}/sub is behind a link that leads out of {out}; remove the link"
    (out / "sub").unlink()
    (out / "own").mkdir()
    (out / "sub").symlink_to("own")
    (out / "own" / "mine.png").symlink_to(tmp_path / "home" / "mine.json")  # is replaced, not written into
    assert run_tool(*words).code == 0
    assert not (out / "own" / "mine.png").is_symlink()


@pytest.mark.parametrize("link", ["evaluation", "evaluation/metrics.json", "evaluation/pr_curves.png"])
def test_an_evaluation_does_not_follow_a_link_out_of_the_run(
    refusal: Callable[..., str], handed: Callable[..., Path], words: Tool, surroundings: None, tmp_path: Path, link: str
) -> None:
    """Where no output is given, it is the handed run folder itself."""
    path = handed(lambda content: None)
    place = path.parents[1] / link
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(tmp_path / "home" if link == "evaluation" else tmp_path / "home" / "mine.json")
    assert f"is behind a link that leads out of {path.parents[1]}" in refusal(*words("evaluate", path))


def test_an_export_replaces_a_link_and_not_what_it_leads_to(
    run_tool: Tool, checkpoint: Path, words: Tool, surroundings: None, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    for suffix in (".json", ".safetensors"):
        (tmp_path / "out" / f"model{suffix}").symlink_to(tmp_path / "home" / "mine.json")
    assert run_tool(*words("export", checkpoint), "--overwrite").code == 0
    assert json.loads((tmp_path / "out" / "model.json").read_text())[KEY]["format"] == FORMAT


def test_logs_behind_a_link_are_not_removed(surroundings: None, tmp_path: Path) -> None:
    run, home = tmp_path / "run", tmp_path / "home"
    run.mkdir()
    for name in ("tensorboard", "wandb"):
        (run / name).symlink_to(home)
    events = home / "events.out.tfevents.mine"
    (home / "mine.json").rename(events)
    remove_logs(run)
    events.rename(home / "mine.json")


@pytest.mark.parametrize("name", ["run-", "run-x", "offline-run-", "run-1-\n"])
def test_any_names_in_a_runs_log_folder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    (tmp_path / "wandb" / name).mkdir(parents=True)
    assert make_logger("wandb", tmp_path, resumed_step=3) is not None


# Names on pictures, in tables and on the terminal.

HTML = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</title>&lt;${7*7}{{7*7}}"]
FORMULAS = ["$\\frac{$", "$x^2$ \\alpha", "_\\input{/etc/hostname}"]


def test_formulas_are_live() -> None:
    figure = Figure()
    figure.suptitle(FORMULAS[0])
    with pytest.raises(ValueError, match="ParseSyntaxException"):
        figure.savefig(io.BytesIO())


@pytest.mark.parametrize("names", [HTML, FORMULAS, ["n" * 1000, "-", " "]], ids=["html", "formulas", "long"])
def test_names_are_shown_letter_by_letter(
    run_tool: Tool, handed: Callable[..., Path], edit_annotations: Callable[..., Path], words: Tool, names: list[str],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """In every picture, in JSON, in CSV and on the terminal; nothing is taken for a formula, nothing is lost."""
    drawn: list[Figure] = []
    save = Figure.savefig

    def savefig(figure: Figure, *places: Any, **options: Any) -> None:
        drawn.append(figure)
        save(figure, *places, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    path, root = handed(rename_categories(names)), edit_annotations("val", rename_categories(names))
    out = tmp_path / "out"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for way in ("predict", "visualize", "evaluate"):
            shutil.rmtree(out, ignore_errors=True)
            extra = ["--data.root", root, "--output", out] if way == "evaluate" else []
            ended = run_tool(*words(way, path), *extra)
            assert ended.code == 0, ended
            if way == "predict":
                found = json.loads((out / "detections.json").read_text())
                assert [category["name"] for category in found["categories"]] == names
                assert {annotation["category_name"] for annotation in found["annotations"]} <= {*names}
    with (out / "per_class.csv").open(newline="") as file:
        assert [row["category"].removeprefix("'") for row in csv.DictReader(file)] == names
    assert all(name in ended.out for name in names)
    (curves,) = (figure for figure in drawn if figure.legends)
    labels = [text.get_text() for text in curves.legends[0].get_texts()]
    for name in names:
        assert sum(label.startswith((f"{name}:  AP50", f"{name[:59]}…")) for label in labels) == 1
    titles = [axes.title for figure in drawn if figure is not curves for axes in figure.axes if axes.images]
    assert any(title.get_text().startswith(tuple(name[:50] for name in names)) for title in titles)
    for text in (*curves.legends[0].get_texts(), *titles):
        assert not text.get_parse_math()
        assert not text.get_usetex()


def test_columns_of_a_handed_log_are_shown_letter_by_letter(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_bytes(b"step,loss,loss_$\\frac{$,lr,lr_$\\frac{$\x1b\xff\n1,2,3,4,5\n2,3,4,5,6\n")
    plot_training_curves(path, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").exists()


def test_the_users_own_tex_does_not_get_names(checkpoint: Path, tiny_data: Path) -> None:
    from detr_lite import Detector
    from detr_lite.viz.figures.attention import attention_figure

    image = Image.open(tiny_data / "val" / "000.png")
    explained = Detector.from_checkpoint(checkpoint, "cpu").explain(image)
    with matplotlib.rc_context({"text.usetex": True}):
        figure = attention_figure(image, explained.detections, explained.attention, most=1)
    assert not any(axes.title.get_usetex() for axes in figure.axes if axes.images)


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        *((f"{sign}1+1", f"'{sign}1+1") for sign in "=+-@"),
        ("\uff1d1+1", "'\uff1d1+1"),
        ("a=1", "a=1"),
        ('a,"b"', 'a,"b"'),
        ("'=1", "'=1"),
    ],
)
def test_a_table_computes_nothing(
    run_tool: Tool, handed: Callable[..., Path], edit_annotations: Callable[..., Path], words: Tool, tmp_path: Path,
    name: str, cell: str
) -> None:  # fmt: skip
    names = ["blue thing", name, "green thing"]
    path, root = handed(rename_categories(names)), edit_annotations("val", rename_categories(names))
    out = tmp_path / "out"
    assert run_tool(*words("evaluate", path), "--data.root", root, "--output", out).code == 0
    with (out / "per_class.csv").open(newline="", encoding="utf-8") as file:
        assert [row["category"] for row in csv.DictReader(file)] == ["blue thing", cell, "green thing"]


STEERING = {
    "escape": "a\x1b[2Jb",
    "one-byte escape": "a\x9b2Jb",
    "new line": "a\nerror: b",
    "carriage return": "a\rb",
    "bell": "a\ab",
    "backspace": "a\bb",
    "line separator": "a\u2028b",
    "right to left": "a\u202eb",
}


def steers(text: str) -> bool:
    return STEERS.search(text.replace("\n", "")) is not None


@pytest.mark.parametrize("what", [*STEERING, "half a character", "endless"])
def test_a_category_that_cannot_be_shown_is_refused(
    refusal: Callable[..., str], handed: Callable[..., Path], edit_annotations: Callable[..., Path], words: Tool,
    tiny_file: Path, what: str
) -> None:  # fmt: skip
    others = {"half a character": "a\ud800", "endless": "a" * 100_000}
    names = ["blue thing", {**STEERING, **others}[what], "green thing"]
    reason = "is longer than 1,000 letters" if what == "endless" else "holds control characters"
    root = edit_annotations("train", rename_categories(names))
    refused = [
        refusal("train", "--config", tiny_file, "--data.root", root),
        refusal(*words("predict", handed(rename_categories(names)))),
    ]
    for message in refused:
        assert "category 7 has the name " in message
        assert f", which {reason}; correct it" in message
        assert not steers(message)
        assert len(message) < 500


@pytest.mark.parametrize("name", [*STEERING.values(), os.fsdecode(b"a\xff"), "<b>$x$", "日本"])
def test_any_name_of_a_file_is_named_and_steers_nothing(
    run_tool: Tool, checkpoint: Path, tiny_data: Path, tmp_path: Path, name: str
) -> None:
    """Images that can be read, and that cannot; a damaged checkpoint and settings of that name."""
    photos = tmp_path / "photos" / name
    photos.mkdir(parents=True)
    shutil.copy(tiny_data / "val" / "000.png", photos / f"{name}.png")
    (photos / f"{name} damaged.png").write_text("no image")
    (tmp_path / f"{name}.ckpt").write_text("no checkpoint")
    (tmp_path / f"{name}.yaml").write_text(json.dumps({"a\x1b[2Jb": 1}))
    for tool in ("predict", "visualize"):
        words = [tool, "--checkpoint", checkpoint, "--threshold", 0.999, "--source", tmp_path / "photos"]
        ended = run_tool(*words, "--output", tmp_path / tool)
        assert (ended.code, len(ended.err.splitlines())) == (2, 1), ended
        assert "skipped " in ended.out
        assert not steers(ended.out + ended.err)
        assert {file.name for file in (tmp_path / tool).rglob("*.png")} == {f"{name}.png"}
    found = json.loads((tmp_path / "predict" / "detections.json").read_text())
    assert [image["file_name"] for image in found["images"]] == [f"{name}/{name}.png"]
    for words in (
        ["evaluate", "--checkpoint", tmp_path / f"{name}.ckpt"],
        ["train", "--config", tmp_path / f"{name}.yaml"],
    ):
        ended = run_tool(*words)
        assert (ended.code, len(ended.err.splitlines())) == (2, 1), ended
        assert not steers(ended.out + ended.err)


# Data that is no data.


@pytest.mark.parametrize(
    "text",
    [
        *("[" * 200_000, '{"images": ' * 50_000, "NaN", "9" * 5000, '{"images": NaN}', "\x00", '"\\ud800"'),
        json.dumps({"images": [{"id": 1e999, "file_name": "000.png", "width": 64, "height": 48}]}),
    ],
)
def test_json_that_is_no_data_is_told(
    refusal: Callable[..., str], own_data: Path, checkpoint: Path, words: Tool, tmp_path: Path, text: str
) -> None:
    (own_data / "annotations" / "instances_val.json").write_text(text)
    message = refusal(*words("evaluate", checkpoint), "--data.root", own_data)
    assert message.startswith("annotations/instances_val.json: ")
    beside = tmp_path / "model.json"
    beside.write_text(text)
    (tmp_path / "model.safetensors").write_bytes(safetensors.torch.save({"weight": torch.zeros(1)}))
    refusal(*words("predict", tmp_path / "model.safetensors"))


@pytest.mark.parametrize("box", [[0, 0, "a", 10**15], [0, 0, [1], 10**15], [0, 0, 10**400, 1], [0, 0, "nan", 1]])
def test_boxes_are_numbers_before_they_are_multiplied(
    refusal: Callable[..., str], edit_annotations: Callable[..., Path], checkpoint: Path, words: Tool, box: list[Any]
) -> None:
    def change(content: dict[str, Any]) -> None:
        content["annotations"][0].update(bbox=box, area=None)

    root = edit_annotations("val", change)
    message = refusal(*words("evaluate", checkpoint), "--data.root", root)
    assert "annotation 1 has bbox" in message
    assert len(message) < 500
