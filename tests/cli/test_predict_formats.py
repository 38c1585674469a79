"""`predict --format`, `--tile`, and Ctrl-C: what is written in each case."""

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from detr_lite.cli.detections_file import FORMATS, make_writer
from detr_lite.detector import Detector
from detr_lite.structures import Category

Predict = Callable[..., Any]


@pytest.fixture(scope="module")
def detector(finished_run: Path) -> Detector:
    return Detector.from_checkpoint(finished_run, "cpu")


@pytest.fixture
def photos(tiny_data: Path, tmp_path: Path) -> Path:
    """Images whose names differ in folder and suffix alone."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for source, name in (("000", "a.png"), ("003", "sub/a.png"), ("002", "classes.png")):
        shutil.copy(tiny_data / "val" / f"{source}.png", folder / name)
    with Image.open(tiny_data / "val" / "004.png") as image:
        image.convert("RGB").save(folder / "a.jpg")
    return folder


@pytest.fixture
def predict(run_tool: Predict, finished_run: Path, photos: Path, tmp_path: Path) -> Predict:
    words = ("predict", "--checkpoint", finished_run, "--source", photos, "--output", tmp_path / "out")
    return lambda *more: run_tool(*words, "--threshold", 0.2, *more)


def written(tmp_path: Path, suffix: str) -> set[str]:
    return {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob(f"*{suffix}")}


@pytest.mark.slow
def test_yolo_has_a_label_file_for_each_image(
    predict: Predict, detector: Detector, photos: Path, tmp_path: Path
) -> None:
    assert predict("--format", "yolo").code == 0
    assert written(tmp_path, ".txt") == {"a.txt", "a.png.txt", "sub/a.txt", "classes.png.txt", "classes.txt"}
    assert (tmp_path / "out" / "classes.txt").read_text().split("\n") == [*detector.class_names, ""]
    for image, label in (("a.jpg", "a.txt"), ("a.png", "a.png.txt"), ("sub/a.png", "sub/a.txt")):
        found = detector(photos / image).above(0.2)
        assert (tmp_path / "out" / label).read_text() == found.to_yolo()


@pytest.mark.slow
def test_json_has_a_file_for_each_image(predict: Predict, detector: Detector, photos: Path, tmp_path: Path) -> None:
    assert predict("--format", "json").code == 0
    assert written(tmp_path, ".json") == {"a.json", "a.png.json", "sub/a.json", "classes.json"}
    for image, name in (("a.jpg", "a.json"), ("sub/a.png", "sub/a.json")):
        content, found = json.loads((tmp_path / "out" / name).read_text()), detector(photos / image).above(0.2)
        assert (content["file_name"], content["height"], content["width"]) == (image, *found.image_size)
        assert content["info"] == {"threshold": 0.2}
        entries = [{key: row[key] for key in ("category_id", "bbox", "score")} for row in content["detections"]]
        assert entries == [{key: row[key] for key in ("category_id", "bbox", "score")} for row in found.to_coco(0)]
        assert [row["category_name"] for row in content["detections"]] == found.names


@pytest.mark.slow
def test_csv_is_one_table(predict: Predict, detector: Detector, photos: Path, tmp_path: Path) -> None:
    assert predict("--format", "csv").code == 0
    with (tmp_path / "out" / "detections.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for image in ("a.jpg", "a.png", "sub/a.png", "classes.png"):
        own, found = [row for row in rows if row["file_name"] == image], detector(photos / image).above(0.2)
        assert [row["category_name"] for row in own] == found.names
        corners = [[float(row[name]) for name in ("x_min", "y_min", "x_max", "y_max")] for row in own]
        assert corners == [pytest.approx(box, abs=0.002) for box in found.boxes_xyxy.tolist()]
    assert rows


@pytest.mark.parametrize("format", FORMATS)
def test_names_of_classes_and_files_are_data_in_every_format(detector: Detector, tmp_path: Path, format: str) -> None:
    name, file = '=HYPERLINK("http://a.org")\n<b>', Path("=1+1.png")
    image = Image.new("RGB", (64, 48), (220, 40, 40))
    found = replace(detector(image)[:1], class_names=(name,) * 3)
    writer = make_writer(format, tmp_path, [file], [Category(id, name) for id in (1, 2, 3)], {})
    writer.add(file, image, found)
    writer.save()
    texts = {path.name: path.read_text() for path in tmp_path.iterdir()}
    if format == "csv":
        with (tmp_path / "detections.csv").open(newline="") as table:
            (row,) = csv.DictReader(table)
        assert (row["file_name"], row["category_name"]) == ("'=1+1.png", f"'{name}")
    elif format == "yolo":
        assert len(texts["classes.txt"].splitlines()) == 3, "a line for each class"
    else:
        assert all(json.loads(text) for text in texts.values())


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.slow
def test_after_ctrl_c_what_was_found_is_written(
    predict: Predict, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    detect, calls = Detector.__call__, []

    def interrupted(self: Detector, images: Any, batch_size: int = 8) -> Any:
        calls.append(images)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return detect(self, images, batch_size)

    monkeypatch.setattr(Detector, "__call__", interrupted)
    ended = predict("--format", format, "--batch_size", 1)
    assert (ended.code, ended.err) == (130, "stopped\n")
    assert ended.out.endswith("stopped after 2 of 4 images\n")
    assert "in 2 images" in ended.out or "of 2 images" in ended.out
    assert len(written(tmp_path, ".png") | written(tmp_path, ".jpg")) == 2
    if format == "coco":
        content = json.loads((tmp_path / "out" / "detections.json").read_text())
        assert len(content["images"]) == 2
        assert content["info"] == {"threshold": 0.2, "stopped_after": {"images": 2, "of": 4}}
    elif format == "csv":
        assert written(tmp_path, ".csv") == {"detections.csv"}
    else:
        assert len(written(tmp_path, {"yolo": ".txt", "json": ".json"}[format])) == 2 + (format == "yolo")


@pytest.mark.slow
def test_the_last_line_says_how_fast_it_was(predict: Predict) -> None:
    assert predict().out.rstrip().splitlines()[-1].endswith("images a second with reading and drawing")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--format", "xml"), "--format is 'xml'; it must be one of coco, csv, yolo, json"),
        (("--tile", 20), "--tile is 20; it must be at least 32 pixels"),
        (("--tile", 64, "--overlap", 1), "--overlap is 1.0; it must be from 0 to less than 1"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(
    refusal: Callable[..., str], finished_run: Path, photos: Path, tmp_path: Path, words: tuple[Any, ...], message: str
) -> None:
    given = ("--checkpoint", finished_run, "--source", photos, "--output", tmp_path / "out", *words)
    assert refusal("predict", *given).startswith(message)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_tiles_are_those_of_a_detector(predict: Predict, finished_run: Path, photos: Path, tmp_path: Path) -> None:
    with Image.open(photos / "a.png") as image:
        wide = Image.new("RGB", (64 * 5, 48 * 3), (190, 190, 190))
        wide.paste(image, (64 * 3, 48))
    wide.save(photos / "wide.png")
    assert predict("--tile", 64, "--overlap", 0.25, "--source", photos / "wide.png").code == 0
    content = json.loads((tmp_path / "out" / "detections.json").read_text())
    found = Detector.from_checkpoint(finished_run, "cpu", tile=64, overlap=0.25)(wide).above(0.2)
    assert [entry["bbox"] for entry in content["annotations"]] == [row["bbox"] for row in found.to_coco(1)]
    assert max(found.tiles) >= 0, "something is found in a tile"
