"""The explorer of validation images at the end of a run: which images, their objects, and its limits."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from detr_lite.data.reading import read_split
from detr_lite.data.records import Split
from detr_lite.detector import Detector
from detr_lite.structures import DetrLiteError
from detr_lite.training import explorer_page
from detr_lite.training.explored_model import training_frames
from detr_lite.training.explorer_page import choose_images, explore_split


@pytest.fixture(scope="module")
def detector(finished_run: Path) -> Detector:
    return Detector.from_checkpoint(finished_run / "checkpoints" / "best.ckpt", "cpu")


@pytest.fixture
def val(own_data: Path) -> Split:
    return read_split(own_data, "val")


def metadata_in(page: Path) -> Any:
    found = re.search(r'id="metadata">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found
    return json.loads(found[1])


def test_the_page_of_a_run(finished_run: Path) -> None:
    """All five validation images, those with most errors first, with the objects of each."""
    page = finished_run / "explorer.html"
    metadata = metadata_in(page)
    assert sorted(scene["name"] for scene in metadata["scenes"]) == [f"{index:03}.png" for index in range(5)]
    truth = {scene["name"]: scene["truth"] for scene in metadata["scenes"]}
    assert truth["000.png"] == {"boxes": [[4, 4, 25, 20]], "names": ["red thing"]}
    assert truth["001.png"] == {"boxes": [], "names": []}
    crowds = {scene["name"]: scene["crowds"] for scene in metadata["scenes"]}
    assert crowds["000.png"] == {"boxes": [], "names": []}
    assert crowds["002.png"] == {"boxes": [[30, 2, 50, 14]], "names": ["blue thing"]}
    assert metadata["threshold"] == json.loads((finished_run / "evaluation/thresholds.json").read_text())["score"]
    assert page.stat().st_size < 10e6
    (model,) = metadata["models"]
    assert model["name"] == finished_run.name
    ap = json.loads((finished_run / "evaluation/metrics.json").read_text())["AP"]
    assert model["facts"][0] == f"AP {ap:.3f}"
    steps = sorted(int(file.stem.removeprefix("step-")) for file in (finished_run / "attention").glob("step-*.png"))
    assert [frame["step"] for frame in metadata["history"]] == steps


def test_pictures_of_a_long_run_are_evenly_spaced(tmp_path: Path) -> None:
    (tmp_path / "attention").mkdir()
    for step in range(0, 400, 10):
        Image.new("RGB", (20, 10)).save(tmp_path / "attention" / f"step-{step:06}.png")
    (tmp_path / "attention.csv").write_text("step,AP\n0,\n390,0.5\n")
    frames = training_frames(tmp_path)
    assert len(frames) == 16
    assert (frames[0].step, frames[0].note) == (0, "")
    assert (frames[-1].step, frames[-1].note) == (390, "AP 0.500")
    assert all(20 <= after.step - before.step <= 30 for before, after in pairwise(frames))
    (tmp_path / "attention" / "step-000010.png").unlink()
    (tmp_path / "attention" / "step-000000.png").write_bytes(b"no image")
    with pytest.raises(DetrLiteError, match=r"step-000000\.png: cannot be read"):
        training_frames(tmp_path)


def test_which_images() -> None:
    assert choose_images(3) == [0, 1, 2]
    assert choose_images(80) == [0, 10, 20, 30, 40, 50, 60, 70]
    assert choose_images(80, [75, 10]) == [75, 10, 0, 20, 30, 40, 50, 60]
    assert choose_images(80, range(20)) == list(range(8))


def test_an_image_that_cannot_be_read_is_left_out(
    detector: Detector, val: Split, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(val.images.paths[0]).write_bytes(b"no image")
    page = tmp_path / "explorer.html"
    assert explore_split(detector, val, [0, 3], page, 0.25) == 1
    metadata = metadata_in(page)
    assert [scene["name"] for scene in metadata["scenes"]] == ["003.png"]
    assert metadata["threshold"] == 0.25
    assert "warning: explorer.html goes without 000.png: " in capsys.readouterr().out

    assert explore_split(detector, val, [0], page, 0.25) == 0
    assert not page.exists(), "not that of an earlier run"


def test_it_stops_when_the_time_is_used_up(
    detector: Detector,
    val: Split,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each image takes 6 of 20 seconds, so that the fourth would be late."""
    now = 0.0

    def explain(*_: Any) -> Any:
        nonlocal now
        now += 6
        return explained

    explained = detector.explain(val.images[0].path)
    monkeypatch.setattr(explorer_page, "explain_image", explain)
    monkeypatch.setattr(explorer_page.time, "monotonic", lambda: now)
    assert explore_split(detector, val, [0, 0, 0, 0], tmp_path / "explorer.html", 0.5) == 3
    assert "explorer.html has 3 of 4 images: more take longer than 20 s" in capsys.readouterr().out
    assert explore_split(detector, val, [0, 0], tmp_path / "explorer.html", 0.5, seconds=1.0) == 1


def test_the_budget_is_that_of_the_page(
    detector: Detector, val: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budgets = []
    original = explorer_page.pack_explained

    def remember(*arguments: Any) -> Any:
        budgets.append(arguments[-1])
        return original(*arguments)

    monkeypatch.setattr(explorer_page, "pack_explained", remember)
    explore_split(detector, val, [0, 3, 4], tmp_path / "explorer.html", 0.5)
    assert budgets == [10_000_000 // 3] * 3
