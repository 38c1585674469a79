"""`doctor`: what it finds in sound and in spoiled data, where it writes, its exit codes, and the mended copy."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detr_lite.data.reading import read_dataset

pytestmark = pytest.mark.slow

Tool = Callable[..., Any]


def kinds_in(page: Path) -> list[str]:
    return re.findall(r'<section class="group card" id="[^"]*" data-kind="(\w+)"', page.read_text())


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def spoil(content: dict[str, Any]) -> None:
    """A box turned round, one without numbers, and two boxes of one object."""
    first, second = content["annotations"][:2]
    third = content["annotations"][4]
    x, y, w, h = first["bbox"]
    first["bbox"] = [x + w, y + h, -w, -h]
    second["bbox"] = []
    again = {**third, "id": 999}
    again["bbox"] = [third["bbox"][0] + 0.4, *third["bbox"][1:]]
    content["annotations"].append(again)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    return tmp_path / "page.html"


@pytest.fixture
def spoiled(edit_annotations: Callable[..., Path], own_data: Path) -> Path:
    edit_annotations("train", spoil)
    for number in range(20):  # so that what is left out is less than a tenth
        edit_annotations("train", lambda content, number=number: _add_object(content, number))
    return own_data


def _add_object(content: dict[str, Any], number: int) -> None:
    box = [2 + number, 2, 9, 7]
    content["annotations"].append(
        {"id": 2000 + number, "image_id": 100, "category_id": 3, "bbox": box, "area": 63, "iscrowd": 0}
    )


def test_sound_data(run_tool: Tool, tiny_data: Path, page: Path) -> None:
    before = files_in(tiny_data)
    ended = run_tool("doctor", tiny_data, "--output", page)
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert "Ready to train; 2 things are worth a look." in lines
    assert "  ! worth a look: same files in both splits, val and train: 5" in lines, "as this dataset is drawn"
    assert "  ! worth a look: rare classes, train: 3" in lines
    assert lines[-1] == f"wrote {page}: {page.stat().st_size / 1e6:.1f} MB"
    assert files_in(tiny_data) == before, "the dataset is only read"
    assert kinds_in(page) == ["copies_in_both", "rare_class", "near_repeated"]
    assert "5 of 5 val images are files that stand in train too." in page.read_text()
    assert "--data.image_size" in page.read_text().replace("<wbr>", "")


def test_spoiled_data(run_tool: Tool, spoiled: Path, page: Path) -> None:
    ended = run_tool("doctor", spoiled, "--output", page)
    assert ended.code == 0, ended.out
    kinds = kinds_in(page)
    for kind in ("inverted_box", "no_box", "odd_near_duplicate", "copies_in_both"):
        assert kinds.count(kind) == 1, kinds
    text = page.read_text()
    assert "annotation 1" in text, "entries are named"


def test_data_that_training_would_refuse(run_tool: Tool, edit_annotations: Callable[..., Path], page: Path) -> None:
    root = edit_annotations("val", lambda content: content["annotations"][0].update({"category_id": 12}))
    (root / "annotations" / "instances_train.json").write_text('{"images": [}')
    ended = run_tool("doctor", root, "--output", page)
    assert (ended.code, ended.err) == (1, "")
    assert "Training would refuse this dataset: 2 things must be mended first." in ended.out
    assert "✕ must be mended: annotations that cannot be read, train" in ended.out
    assert kinds_in(page)[:2] == ["unreadable", "unlisted_category"]


def test_no_dataset(refusal: Tool, tmp_path: Path, page: Path) -> None:
    assert "no such data folder" in refusal("doctor", tmp_path / "none", "--output", page)
    assert not page.exists()


def test_a_second_run_replaces_its_own_page_alone(run_tool: Tool, refusal: Tool, tiny_data: Path, page: Path) -> None:
    page.write_text("<!doctype html><p>mine</p>")
    assert refusal("doctor", tiny_data, "--output", page) == (
        f"--output {page} is a file that this command did not write; name another file"
    )
    assert page.read_text() == "<!doctype html><p>mine</p>"
    page.unlink()
    assert run_tool("doctor", tiny_data, "--output", page).code == 0
    first = page.read_bytes()
    assert run_tool("doctor", tiny_data, "--output", page).code == 0
    assert page.read_bytes() == first, "it depends on nothing but the data"


def test_nothing_is_written_into_the_dataset(refusal: Tool, own_data: Path, page: Path) -> None:
    before = files_in(own_data)
    assert "lies in the dataset" in refusal("doctor", own_data, "--output", own_data / "new" / "page.html")
    assert "is a folder" in refusal("doctor", own_data, "--output", page.parent)
    assert "overlap" in refusal("doctor", own_data, "--output", page, "--fix", own_data / "mended")
    assert "--max_images is 0" in refusal("doctor", own_data, "--output", page, "--max_images", 0)
    assert files_in(own_data) == before
    assert not page.exists()


# --- The mended copy ---


def test_a_mended_copy(run_tool: Tool, spoiled: Path, page: Path, tmp_path: Path) -> None:
    before, mended = files_in(spoiled), tmp_path / "mended"
    original = json.loads((spoiled / "annotations" / "instances_train.json").read_text())["annotations"]
    ended = run_tool("doctor", spoiled, "--output", page, "--fix", mended)
    assert ended.code == 0, ended
    assert files_in(spoiled) == before
    assert f"wrote {mended}: a mended copy; 2 entries changed or left out, listed in changes.json" in ended.out

    changes = json.loads((mended / "changes.json").read_text())
    assert changes["not_written"] == []
    by_kind = {kind["kind"]: kind for kind in changes["splits"]["train"]}
    (turned,), (left_out,) = (by_kind[kind]["entries"] for kind in ("inverted_box", "no_box"))
    x, y, w, h = original[0]["bbox"]
    assert turned["image"] == "000.png"
    assert turned["before"] == {"bbox": [x, y, w, h], "category": "red thing"}
    assert turned["after"] == {"bbox": [x + w, y + h, -w, -h], "category": "red thing"}
    assert left_out == {"entry": "annotation 2", "after": None}
    assert changes["splits"]["val"] == []
    readable = (mended / "changes.txt").read_text()
    assert "annotation 1: bbox" in readable
    assert "annotation 2: left out" in readable

    was, now = read_dataset(spoiled), read_dataset(mended)
    for split in ("train", "val"):
        assert not [each for each in now[split].report.findings if each.action != "noted"]
        np.testing.assert_array_equal(now[split].images.boxes_xyxy, was[split].images.boxes_xyxy)
        np.testing.assert_array_equal(now[split].images.labels, was[split].images.labels)
        assert [record.path.name for record in now[split].images] == [record.path.name for record in was[split].images]


def test_a_mended_copy_is_replaced_on_request_alone(
    run_tool: Tool, refusal: Tool, tiny_data: Path, tmp_path: Path
) -> None:
    page, mended = tmp_path / "page.html", tmp_path / "mended"
    assert run_tool("doctor", tiny_data, "--output", page, "--fix", mended).code == 0
    (mended / "changes.json").write_text("old")
    assert "--overwrite" in refusal("doctor", tiny_data, "--output", page, "--fix", mended)
    assert (mended / "changes.json").read_text() == "old"
    assert run_tool("doctor", tiny_data, "--output", page, "--fix", mended, "--overwrite").code == 0
    assert json.loads((mended / "changes.json").read_text())["splits"] == {"train": [], "val": []}
    other = tmp_path / "other"
    other.mkdir()
    (other / "letter.txt").write_text("mine")
    assert "was not written by this command" in refusal(
        "doctor", tiny_data, "--output", page, "--fix", other, "--overwrite"
    )


def test_what_cannot_be_mended_is_not_written(
    run_tool: Tool, refusal: Tool, edit_annotations: Callable[..., Path], page: Path, tmp_path: Path
) -> None:
    root = edit_annotations("val", lambda content: content["annotations"][0].update({"category_id": 12}))
    ended = run_tool("doctor", root, "--output", page, "--fix", tmp_path / "mended")
    assert ended.code == 1
    assert json.loads((tmp_path / "mended" / "changes.json").read_text())["not_written"] == ["val"]
    assert sorted(path.name for path in (tmp_path / "mended" / "annotations").iterdir()) == ["instances_train.json"]
    assert "must be mended by hand: val" in (tmp_path / "mended" / "changes.txt").read_text()
    edit_annotations("train", lambda content: content["annotations"][0].update({"category_id": 12}))
    assert "--fix: nothing can be mended without you" in refusal(
        "doctor", root, "--output", page, "--fix", tmp_path / "none"
    )
    assert not (tmp_path / "none").exists()


# --- A model's opinion ---


@pytest.mark.stress
def test_labels_that_a_model_contradicts(
    run_tool: Tool, finished_run: Path, edit_annotations: Callable[..., Path], page: Path
) -> None:
    """The class of one object is changed, another object's box is taken away; nearly all else the model has learned."""

    def change(content: dict[str, Any]) -> None:
        first, second = (each for each in content["annotations"] if each["image_id"] in (100, 104))
        first["category_id"] = {7: 3, 3: 90, 90: 7}[first["category_id"]]
        content["annotations"].remove(second)

    root = edit_annotations("train", change)
    checkpoint = finished_run / "checkpoints" / "best.ckpt"
    ended = run_tool("doctor", root, "--output", page, "--checkpoint", checkpoint, "--device", "cpu")
    assert ended.code == 0, ended
    text = page.read_text()
    kinds = kinds_in(page)
    assert "wrong_class" in kinds
    assert "missing_label" in kinds
    wrong = text[text.index('data-kind="wrong_class"') :]
    assert re.search(r"000\.png: \w+ thing, rather red thing\? \(0\.\d\d\)", wrong)
    missing = text[text.index('data-kind="missing_label"') :]
    assert re.search(r"004\.png: \w+ thing\? \(0\.\d\d\)", missing)


def test_a_model_of_other_classes(refusal: Tool, finished_run: Path, edit_annotations: Any, page: Path) -> None:
    def rename(content: dict[str, Any]) -> None:
        for category in content["categories"]:
            category["name"] += "!"

    edit_annotations("train", rename)
    root = edit_annotations("val", rename)
    message = refusal("doctor", root, "--output", page, "--checkpoint", finished_run / "checkpoints" / "best.ckpt")
    assert message.startswith("--checkpoint: the model's classes (blue thing, red thing, green thing) are none of")


def test_near_copies_in_both_splits(run_tool: Tool, own_data: Path, page: Path) -> None:
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8)).resize((64, 48))
    photo.save(own_data / "train" / "000.png")
    photo.save(own_data / "val" / "000.png", compress_level=1)
    assert run_tool("doctor", own_data, "--output", page).code == 0
    assert "near_in_both" in kinds_in(page)
    assert "1 of 5 val images have a near copy in train" in page.read_text()
    assert "val/000.png | train/000.png" in page.read_text().replace("<wbr>", "")
