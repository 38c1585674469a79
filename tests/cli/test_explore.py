"""`visualize --explore`: one page of all images, where it is written, and what is refused before that."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detr_lite.detector import Detector

pytestmark = pytest.mark.slow

Tool = Callable[..., Any]


@pytest.fixture(scope="module")
def checkpoint(finished_run: Path) -> Path:
    """Of two decoder layers with two heads, and one encoder layer."""
    return finished_run / "checkpoints" / "best.ckpt"


@pytest.fixture
def photos(tiny_data: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    shutil.copy(tiny_data / "val" / "000.png", folder / "000.png")
    shutil.copy(tiny_data / "val" / "003.png", folder / "sub" / "003.png")
    return folder


def metadata_in(page: Path) -> Any:
    found = re.search(r'id="metadata">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found
    return json.loads(found[1])


@pytest.mark.stress
def test_a_page_of_all_images(run_tool: Tool, checkpoint: Path, photos: Path, tiny_data: Path, tmp_path: Path) -> None:
    page, truth = tmp_path / "new" / "page.html", tiny_data / "annotations" / "instances_val.json"
    words = ("--checkpoint", checkpoint, "--source", photos, "--truth", truth, "--threshold", 0.3)
    ended = run_tool("visualize", *words, "--explore", page)
    assert (ended.code, ended.err) == (0, ""), ended
    size = page.stat().st_size / 1e6
    assert ended.out.splitlines()[-1] == f"wrote {page}: 2 images, {size:.2f} MB"
    metadata = metadata_in(page)
    assert [scene["name"] for scene in metadata["scenes"]] == ["000.png", "sub/003.png"]
    assert (metadata["threshold"], metadata["layer"], metadata["head"]) == (0.3, None, None)
    assert [scene["attribution"] for scene in metadata["scenes"]] == [None, None]
    for scene, name in zip(metadata["scenes"], ("000.png", "sub/003.png"), strict=True):
        expected = Detector.from_checkpoint(checkpoint, "cpu")(photos / name)
        assert scene["detections"]["queries"] == expected.queries.tolist()
        assert scene["detections"]["scores"] == pytest.approx(expected.scores.tolist(), abs=1e-3)
        assert (scene["layers"], scene["heads"], scene["leftOut"]) == (2, 2, [])
    assert metadata["scenes"][0]["truth"] == {"boxes": [[4, 4, 25, 20]], "names": ["red thing"]}
    assert len(metadata["scenes"][1]["truth"]["boxes"]) == 2
    assert metadata["scenes"][0]["crowds"] == {"boxes": [], "names": []}


@pytest.mark.stress
def test_what_scores_depend_on(run_tool: Tool, checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    words = ("--checkpoint", checkpoint, "--source", photos, "--threshold", 0.01, "--attribution", 2)
    ended = run_tool("visualize", *words, "--explore", tmp_path / "page.html")
    assert (ended.code, ended.err) == (0, ""), ended
    for scene, name in zip(metadata_in(tmp_path / "page.html")["scenes"], ("000.png", "sub/003.png"), strict=True):
        expected = list(dict.fromkeys(Detector.from_checkpoint(checkpoint, "cpu")(photos / name).queries.tolist()))
        assert scene["attribution"]["queries"] == expected[:2]


@pytest.mark.parametrize(
    ("words", "written"),
    [
        (["--explore", "OUT/a.html"], "a.html"),
        (["--explore", "OUT"], "explorer.html"),
        (["--explore", "--output", "OUT"], "explorer.html"),
        (["--explore", "--output", "OUT/b.html"], "b.html"),
    ],
)
def test_where_the_page_is_written(
    run_tool: Tool, checkpoint: Path, photos: Path, tmp_path: Path, words: list[str], written: str
) -> None:
    out = tmp_path / "out"
    words = [word.replace("OUT", str(out)) for word in words]
    ended = run_tool("visualize", "--checkpoint", checkpoint, "--source", photos / "000.png", *words)
    assert (ended.code, ended.err) == (0, "")
    assert [path.name for path in out.iterdir()] == [written]


def test_an_existing_page_stays_without_overwrite(
    run_tool: Tool, refusal: Callable[..., str], checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    page.write_text("mine")
    words = ("visualize", "--checkpoint", checkpoint, "--source", photos, "--explore", page)
    assert refusal(*words) == f"{page} exists already; name another file, or give --overwrite"
    assert page.read_text() == "mine"
    assert run_tool(*words, "--overwrite", "--layer", 0, "--heads", 1).code == 0
    assert (metadata_in(page)["layer"], metadata_in(page)["head"]) == (0, 1)
    (tmp_path / "folder.html").mkdir()
    assert "folder.html exists already; name a file" in refusal(*words[:-1], tmp_path / "folder.html", "--overwrite")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--explore"], "give --explore PAGE.html, or --output"),
        ([], "give --output"),
        (["--output", "out", "--truth", "a.json"], "--truth needs --explore"),
        (["--output", "out", "--budget", "3"], "--budget needs --explore"),
        (["--output", "out", "--run", "."], "--run needs --explore"),
        (["--explore", "p.html", "--run", "none"], "none: no such run folder"),
        (["--explore", "p.html", "--output", "elsewhere"], "give --output or --explore PAGE.html, not both"),
        (["--explore", "p.html", "--points", "3,4"], "--points cannot be combined with --explore"),
        (["--explore", "p.html", "--figure", "query_boxes"], "--figure cannot be combined with --explore"),
        (["--explore", "p.html", "--heads", "0,1"], "--heads is '0,1'; for a page it must be"),
        (["--explore", "p.html", "--layer", "first"], "--layer is 'first'; for a page it must be"),
        (["--explore", "p.html", "--layer", "2"], "--layer is 2; this model has 0 to 1"),
        (["--explore", "p.html", "--heads", "5"], "--heads is 5; this model has 0 to 1"),
        (["--explore", "p.html", "--threshold", "2"], "--threshold is 2.0"),
        (["--explore", "p.html", "--budget", "0"], "--budget is 0; it must be more than 0 megabytes"),
        (["--explore", "p.html", "--truth", "none.json"], "none.json: cannot be read"),
    ],
)
def test_a_wrong_command_line(
    refusal: Callable[..., str],
    checkpoint: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refusal("visualize", "--checkpoint", checkpoint, "--source", photos, *words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos"]


def test_what_is_no_image_is_named_and_the_others_are_in_the_page(
    refusal: Callable[..., str], checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    (photos / "broken.jpg").write_bytes(b"no image")
    page = tmp_path / "page.html"
    message = refusal("visualize", "--checkpoint", checkpoint, "--source", photos, "--explore", page)
    assert message.endswith(
        f"could not be read as images ({photos}/broken.jpg); the results of the other 2 are in {page}"
    )
    assert len(metadata_in(page)["scenes"]) == 2


def test_what_is_left_out_and_what_truth_does_not_list_is_said(
    run_tool: Tool, checkpoint: Path, photos: Path, tiny_data: Path, tmp_path: Path
) -> None:
    (photos / "000.png").rename(photos / "other.png")
    truth = tiny_data / "annotations" / "instances_val.json"
    words = ("--source", photos, "--explore", tmp_path / "p.html", "--budget", 0.2, "--truth", truth)
    ended = run_tool("visualize", "--checkpoint", checkpoint, *words)
    assert (ended.code, ended.err) == (0, "")
    assert f"warning: {photos}/other.png: left out for --budget: " in ended.out
    assert "of 6 queries" in ended.out
    assert f"lists 1 of 2 images (not {photos}/other.png)" in ended.out
    assert metadata_in(tmp_path / "p.html")["scenes"][0]["truth"] is None


@pytest.mark.stress
def test_several_checkpoints_side_by_side(run_tool: Tool, checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    """The best and the last weights of a run: each image in the page once, with a scene of each model."""
    page = tmp_path / "page.html"
    last = checkpoint.with_name("last.ckpt")
    ended = run_tool("visualize", "--checkpoint", checkpoint, last, "--source", photos, "--explore", page)
    assert (ended.code, ended.err) == (0, ""), ended
    assert f"wrote {page}: 2 images" in ended.out
    metadata = metadata_in(page)
    run = checkpoint.parent.parent.name
    assert [model["name"] for model in metadata["models"]] == [f"{run} best.ckpt", f"{run} last.ckpt"]
    assert re.fullmatch(r"AP 0\.\d{3}", metadata["models"][0]["facts"][0])
    assert metadata["models"][1]["facts"][0] == "lite", "the AP is that of the best checkpoint"
    assert [scene["name"] for scene in metadata["scenes"]] == ["000.png"] * 2 + ["sub/003.png"] * 2
    expected = Detector.from_checkpoint(last, "cpu")(photos / "000.png")
    assert metadata["scenes"][1]["detections"]["queries"] == expected.queries.tolist()
    assert len(re.findall(r'id="scene-\d-picture"', page.read_text())) == 2
    steps = sorted(int(file.stem[5:]) for file in (checkpoint.parent.parent / "attention").glob("step-*.png"))
    assert [frame["step"] for frame in metadata["history"]] == steps


def test_figures_are_of_one_checkpoint(
    refusal: Callable[..., str], checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    words = ("--checkpoint", checkpoint, checkpoint, "--source", photos, "--output", tmp_path / "out")
    assert "several checkpoints need --explore" in refusal("visualize", *words)


def test_the_budget_is_for_the_page(run_tool: Tool, checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    words = ("--checkpoint", checkpoint, "--source", photos, "--budget", 0.41, "--run", tmp_path)
    ended = run_tool("visualize", *words, "--explore", page)
    assert ended.code == 0
    assert "left out for --budget" in ended.out
    assert page.stat().st_size < 410_000


def test_a_negative_number_of_attributions_is_refused(refusal: Tool, checkpoint: Path, photos: Path) -> None:
    words = ("--checkpoint", checkpoint, "--source", photos, "--explore", photos / "page.html", "--attribution", -1)
    assert refusal("visualize", *words) == "--attribution is -1; it must be at least 0"
