"""Names and links from others: none leads to a file outside the folder that was given."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detr_lite.data.reading import read_split
from detr_lite.structures import DetrLiteError
from detr_lite.training.loggers import make_logger, remove_logs
from detr_lite.weights.checkpoint import FORMAT, KEY
from tests.helpers.payloads import rename_categories

Tool = Callable[..., Any]


INSIDE = ["../val/000.png", "sub/../../val/000.png", "..\\val\\000.png", "C:\\000.png", "/elsewhere/val/000.png"]


@pytest.mark.parametrize("name", INSIDE)
def test_names_that_come_back_or_only_begin_elsewhere_are_found_inside(
    edit_annotations: Callable[..., Path], name: str
) -> None:
    root = edit_annotations("val", lambda content: content["images"][0].update(file_name=name))
    assert read_split(root, "val").images[0].path == root / "val" / "000.png"


OUTSIDE = [
    "..",
    "../../val/000.png",
    "a/../../../val/000.png",
    "..\\..\\000.png",
    "/etc/passwd",
    "../../home/mine.json",
]
MISSING = [
    *(".", "", "a\0.png", "a\0/b.png", "\ud800.png", "\ud800/a.png", "loop/a.png", "a" * 300, "a/" * 3000),
    *("file:///etc/passwd", "~/a.png", "$HOME/a.png", "C:\\a.png"),
]


@pytest.mark.parametrize("name", [*OUTSIDE, *MISSING])
def test_annotations_name_no_file_outside_their_folder(
    edit_annotations: Callable[..., Path], unchanged_home: None, name: str
) -> None:
    root = edit_annotations("val", lambda content: content["images"][0].update(file_name=name))
    (root / "val" / "loop").symlink_to("loop")
    with pytest.raises(DetrLiteError) as refused:
        read_split(root, "val")
    message = str(refused.value)
    assert "annotations/instances_val.json: " in message
    assert ("lead out of the data folder" in message) == (name in OUTSIDE)
    assert ("1 of 5 images would be left out" in message) == (name in MISSING)
    assert message.isprintable()


def test_what_is_behind_a_link_is_read_as_an_image_or_not_at_all(
    refusal: Callable[..., str], edit_annotations: Callable[..., Path], words: Tool, checkpoint: Path,
    unchanged_home: None, tmp_path: Path
) -> None:  # fmt: skip
    root = edit_annotations("val", lambda content: content["images"][0].update(file_name="out/mine.json"))
    (root / "val" / "out").symlink_to(tmp_path / "home")
    message = refusal(*words("evaluate", checkpoint), "--data.root", root, "--output", tmp_path / "out")
    assert "1 of 5 images would be left out" in message
    assert "out/mine.json" in message
    assert not (tmp_path / "out").exists()


PATHS = ["../../home/escaped", "/tmp/escaped", "a/../../../home/mine.json"]


@pytest.mark.slow
@pytest.mark.parametrize("way", ["predict", "visualize", "evaluate", "export"])
def test_names_of_categories_are_never_paths(
    run_tool: Tool, untrusted: Callable[..., Path], edit_annotations: Callable[..., Path], words: Tool,
    unchanged_home: None, tmp_path: Path, way: str
) -> None:  # fmt: skip
    path = untrusted(rename_categories(PATHS))
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
    run_tool: Tool, refusal: Callable[..., str], checkpoint: Path, photos: Path, unchanged_home: None, tmp_path: Path,
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
    (out / "own" / "mine.png").symlink_to(tmp_path / "home" / "mine.json")  # is replaced; its target is not written
    assert run_tool(*words).code == 0
    assert not (out / "own" / "mine.png").is_symlink()


@pytest.mark.parametrize("link", ["evaluation", "evaluation/metrics.json", "evaluation/pr_curves.png"])
def test_an_evaluation_does_not_follow_a_link_out_of_the_run(
    refusal: Callable[..., str],
    untrusted: Callable[..., Path],
    words: Tool,
    unchanged_home: None,
    tmp_path: Path,
    link: str,
) -> None:
    """By default the output is the run folder of the checkpoint."""
    path = untrusted(lambda content: None)
    place = path.parents[1] / link
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(tmp_path / "home" if link == "evaluation" else tmp_path / "home" / "mine.json")
    assert f"is behind a link that leads out of {path.parents[1]}" in refusal(*words("evaluate", path))


def test_an_export_replaces_a_link_and_not_what_it_leads_to(
    run_tool: Tool, checkpoint: Path, words: Tool, unchanged_home: None, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    for suffix in (".json", ".safetensors"):
        (tmp_path / "out" / f"model{suffix}").symlink_to(tmp_path / "home" / "mine.json")
    assert run_tool(*words("export", checkpoint), "--overwrite").code == 0
    assert json.loads((tmp_path / "out" / "model.json").read_text())[KEY]["format"] == FORMAT


def test_logs_behind_a_link_are_not_removed(unchanged_home: None, tmp_path: Path) -> None:
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
