"""`predict` on folders of images of many kinds, and on wrong arguments."""

import contextlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from pycocotools.coco import COCO

from detr_lite.data.reading import read_dataset
from detr_lite.detector import Detector

Predict = Callable[..., Any]


@pytest.fixture(scope="module")
def checkpoint(finished_run: Path) -> Path:
    return finished_run / "checkpoints" / "best.ckpt"


@pytest.fixture(scope="module")
def detector(checkpoint: Path) -> Detector:
    return Detector.from_checkpoint(checkpoint, "cpu")


@pytest.fixture
def photos(tiny_data: Path, tmp_path: Path) -> Path:
    """A folder of images of many kinds, two of the same name in different folders."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    shutil.copy(tiny_data / "val" / "000.png", folder / "a.png")
    with Image.open(tiny_data / "val" / "003.png") as image:
        image.save(folder / "sub" / "a.png")
        image.convert("L").save(folder / "gray.jpg")
        image.convert("P").save(folder / "palette.gif")
        image.convert("RGBA").save(folder / "sub" / "alpha.webp")
        Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(folder / "deep.png")
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(folder / "turned.jpg", exif=exif)
    (folder / "notes.txt").write_text("no image")
    return folder


WRITTEN = [
    *("a.png", "deep.png", "detections.json", "gray.jpg", "palette.png"),
    *("sub", "sub/a.png", "sub/alpha.png", "turned.jpg"),
]


@pytest.fixture
def predict(run_tool: Predict, checkpoint: Path, tmp_path: Path) -> Predict:
    """Run the tool with this checkpoint and the output folder `out`."""
    return lambda *words: run_tool("predict", "--checkpoint", checkpoint, "--output", tmp_path / "out", *words)


@pytest.fixture
def refused(refusal: Callable[..., str], checkpoint: Path, tmp_path: Path) -> Callable[..., str]:
    """As `predict`, on something wrong, of which nothing may be left."""

    def run(*words: object) -> str:
        message = refusal("predict", "--checkpoint", checkpoint, "--output", tmp_path / "out", *words)
        assert not (tmp_path / "out").exists()
        return message

    return run


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.slow
def test_a_folder_of_all_kinds(predict: Predict, detector: Detector, photos: Path, tmp_path: Path) -> None:
    ended = predict("--source", photos, "--threshold", "0.3", "--batch_size", 3)
    assert (ended.code, ended.err) == (0, ""), ended
    assert files_in(tmp_path / "out") == WRITTEN
    content = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert content["categories"] == [{"id": category.id, "name": category.name} for category in detector.categories]
    by_name = {image["file_name"]: image for image in content["images"]}
    assert sorted(by_name) == [
        *("a.png", "deep.png", "gray.jpg", "palette.gif", "sub/a.png", "sub/alpha.webp", "turned.jpg")
    ]
    assert (by_name["sub/a.png"]["width"], by_name["sub/a.png"]["height"]) == (90, 60)
    assert (by_name["turned.jpg"]["width"], by_name["turned.jpg"]["height"]) == (60, 90), "as a viewer shows it"
    assert len({annotation["id"] for annotation in content["annotations"]}) == len(content["annotations"])

    ids = {name: category.id for category in detector.categories for name in [category.name]}
    for name, image in by_name.items():
        entries = [entry for entry in content["annotations"] if entry["image_id"] == image["id"]]
        found = detector(photos / name).above(0.3)
        assert len(entries) == len(found)
        for entry, box_xyxy, score, label in zip(
            entries, found.boxes_xyxy.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
        ):
            x, y, width, height = entry["bbox"]
            assert [x, y, x + width, y + height] == pytest.approx(box_xyxy, abs=0.01)
            assert entry["score"] == pytest.approx(score, abs=1e-4)
            assert entry["category_name"] == found.class_names[label]
            assert entry["category_id"] == ids[found.class_names[label]]
    assert content["annotations"], "the trained model finds something"
    assert f"{len(content['images'])} images (score at least 0.3)" in ended.out


@pytest.mark.slow
def test_nms(predict: Predict, refused: Callable[..., str], tiny_data: Path, tmp_path: Path, checkpoint: Path) -> None:
    assert "--nms is 1.5" in refused("--source", tiny_data / "val", "--nms", 1.5)
    assert predict("--source", tiny_data / "val", "--threshold", 0, "--nms", 0.4).code == 0
    content = json.loads((tmp_path / "out" / "detections.json").read_text())
    detector = Detector.from_checkpoint(checkpoint, "cpu", nms=0.4)
    every = Detector.from_checkpoint(checkpoint, "cpu")
    images = [tiny_data / "val" / image["file_name"] for image in content["images"]]
    assert len(content["annotations"]) == sum(map(len, detector(images))) < sum(map(len, every(images)))


def test_pycocotools_and_this_project_read_what_was_written(predict: Predict, tiny_data: Path, tmp_path: Path) -> None:
    assert predict("--source", tiny_data / "val", "--threshold", 0.2).code == 0
    written = tmp_path / "out" / "detections.json"
    with contextlib.redirect_stdout(io.StringIO()):
        COCO(str(tiny_data / "annotations" / "instances_val.json"))
        coco = COCO(str(written))
        coco.loadRes(json.loads(written.read_text())["annotations"])
    assert len(coco.imgs) == 5
    root = tmp_path / "labelled"
    (root / "annotations").mkdir(parents=True)
    shutil.copy(written, root / "annotations" / "instances_train.json")
    shutil.copytree(tiny_data / "val", root / "train")
    splits = read_dataset(root).values()
    assert sum(len(split.images.labels) for split in splits) == len(coco.anns) > 0


def test_annotated_images_show_the_boxes(predict: Predict, photos: Path, tmp_path: Path) -> None:
    assert predict("--source", photos / "a.png", photos / "gray.jpg", "--threshold", 0.1).code == 0
    with Image.open(tmp_path / "out" / "a.png") as drawn, Image.open(photos / "a.png") as original:
        assert drawn.format == "PNG"
        assert drawn.width == 8 * original.width, "enlarged to be legible"
        enlarged = original.convert("RGB").resize(drawn.size, Image.Resampling.LANCZOS)
        assert (np.asarray(drawn) != np.asarray(enlarged)).any(axis=-1).mean() > 0.005
    with Image.open(tmp_path / "out" / "gray.jpg") as drawn:
        assert (drawn.format, drawn.mode) == ("JPEG", "RGB")


@pytest.mark.slow
def test_nothing_found(predict: Predict, photos: Path, tmp_path: Path) -> None:
    ended = predict("--source", photos, "--threshold", 1)
    assert (ended.code, ended.err) == (0, "")
    assert "found nothing in 7 images (score at least 1)" in ended.out
    content = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert (len(content["images"]), content["annotations"]) == (7, [])
    assert files_in(tmp_path / "out") == WRITTEN


@pytest.mark.slow
def test_where_no_image_has_a_detection_the_best_guesses_are_drawn_and_the_best_score_is_printed(
    predict: Predict, detector: Detector, photos: Path, tmp_path: Path
) -> None:
    names = ["a.png", "sub/a.png"]
    found = {name: detector(photos / name) for name in names}
    best = max(found, key=lambda name: float(found[name].scores[0]))
    score, label = float(found[best].scores[0]), found[best].class_names[int(found[best].labels[0])]
    source = [word for name in names for word in (photos / name,)]
    ended = predict("--source", *source, "--threshold", 1)
    line = next(line for line in ended.out.splitlines() if line.startswith("the best score"))
    file = line.removeprefix(f"the best score was {score:.2g} ({label}, ").split(")")[0]
    assert best.endswith(file)
    with Image.open(tmp_path / "out" / "a.png") as drawn, Image.open(photos / "a.png") as original:
        scale = drawn.width // original.width
        assert drawn.height > scale * original.height, "a caption below"
    assert json.loads((tmp_path / "out" / "detections.json").read_text())["annotations"] == []


@pytest.mark.slow
def test_an_image_without_detections_stays_empty_among_others(
    predict: Predict, detector: Detector, photos: Path, tmp_path: Path
) -> None:
    best = {name: float(detector(photos / name).scores[0]) for name in ("a.png", "gray.jpg", "turned.jpg")}
    low, high = min(best, key=lambda name: best[name]), max(best, key=lambda name: best[name])
    assert best[low] < best[high]
    threshold = (best[low] + best[high]) / 2
    ended = predict("--source", photos / low, photos / high, "--threshold", threshold)
    assert "best score" not in ended.out
    with Image.open(photos / low) as original:
        expected = ImageOps.exif_transpose(original).convert("RGB")
    with Image.open(tmp_path / "out" / low) as drawn:
        enlarged = expected.resize(drawn.size, Image.Resampling.LANCZOS)
        assert np.abs(np.asarray(drawn.convert("RGB")).astype(int) - np.asarray(enlarged)).mean() < 4


@pytest.mark.slow
def test_what_cannot_be_read_is_named_and_the_others_are_done(
    predict: Predict, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "cut.png").write_bytes((photos / "a.png").read_bytes()[:60])
    Image.new("1", (200, 150)).save(photos / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 14_000)
    ended = predict("--source", photos, photos / "notes.txt")
    assert ended.code == 2
    assert files_in(tmp_path / "out") == WRITTEN
    skipped = [line for line in ended.out.splitlines() if "skipped" in line]
    assert len(skipped) == 3
    for line, name in zip(skipped, ("cut.png", "huge.png", "notes.txt"), strict=True):
        assert f"{photos}/{name}: " in line
    assert ended.err == (
        f"error: 3 of 10 files could not be read as images ({photos}/cut.png, {photos}/huge.png, {photos}/notes.txt); "
        f"the results of the other 7 are in {tmp_path / 'out'}\n"
    )


def test_nothing_is_written_where_nothing_can_be_read(refused: Callable[..., str], photos: Path) -> None:
    message = refused("--source", photos / "notes.txt")
    assert message == f"1 of 1 files could not be read as images ({photos}/notes.txt); nothing is written"


@pytest.mark.slow
def test_a_large_photo(predict: Predict, tmp_path: Path) -> None:
    Image.new("RGB", (6000, 4000), (190, 190, 190)).save(tmp_path / "large.jpg")
    assert predict("--source", tmp_path / "large.jpg").code == 0
    with Image.open(tmp_path / "out" / "large.jpg") as drawn:
        assert drawn.width == 6000
        assert 4000 < drawn.height < 4300, "a caption below it: nothing is found"


@pytest.mark.slow
def test_a_second_time_into_the_same_folder(
    predict: Predict, refusal: Callable[..., str], checkpoint: Path, photos: Path
) -> None:
    """Which lies in the source, and is none."""
    words = ("--source", photos, "--output", photos / "found")
    assert predict(*words).code == 0
    (photos / "found" / "mine.txt").write_text("mine")
    before = files_in(photos)
    message = refusal("predict", "--checkpoint", checkpoint, *words)
    assert message.startswith(f"--output {photos}/found is not empty; name another folder, or give --overwrite")
    ended = predict(*words, "--overwrite", "--threshold", 1)
    assert ended.code == 0, ended
    assert "nothing in 7 images" in ended.out, "results are not read as images"
    assert files_in(photos) == before
    assert (photos / "found" / "mine.txt").read_text() == "mine"


def test_sources_are_never_overwritten(refusal: Callable[..., str], checkpoint: Path, photos: Path) -> None:
    before = (photos / "a.png").read_bytes()
    for source in (photos, photos / "a.png", photos / "sub"):
        words = ("--source", source, "--output", photos, "--overwrite")
        assert f"--source {source} lies in the output folder" in refusal("predict", "--checkpoint", checkpoint, *words)
    assert (photos / "a.png").read_bytes() == before


def test_two_sources_with_images_of_one_name(predict: Predict, photos: Path, tmp_path: Path) -> None:
    assert predict("--source", photos / "a.png", photos / "sub").code == 0
    assert files_in(tmp_path / "out") == ["a.png", "detections.json", "sub", "sub/a.png", "sub/alpha.png"]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--threshold", "1.5"], "--threshold is 1.5; it must be from 0 to 1"),
        (["--threshold", "-0.1"], "--threshold is -0.1; it must be from 0 to 1"),
        (["--threshold", "nan"], "--threshold is nan; it must be from 0 to 1"),
        (["--threshold", "half"], "argument --threshold: 'half' is neither a score from 0 to 1 nor best"),
        (["--batch_size", "0"], "--batch_size is 0; it must be at least 1"),
        (["--device", "cuda:99"], 'device "cuda:99" cannot be used here'),
        (["--source", "nowhere.png"], "--source nowhere.png: no such file or folder"),
        (["--checkpoint", "nowhere.ckpt"], "nowhere.ckpt: no such checkpoint"),
        (["--layer", "0"], "unrecognized arguments: --layer 0"),
    ],
)
def test_a_wrong_command_line(refused: Callable[..., str], photos: Path, words: list[str], part: str) -> None:
    assert part in refused("--source", photos, *words)


def test_folders_without_images(refused: Callable[..., str], tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    assert f"--source {folder}: no images in it" in refused("--source", folder)
    (folder / "notes.txt").write_text("no image")
    assert f"--source {folder}: no images in it" in refused("--source", folder)


def test_an_output_that_is_a_file(refusal: Callable[..., str], checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    for more in ([], ["--overwrite"]):
        words = ("--source", photos, "--output", tmp_path / "out", *more)
        message = refusal("predict", "--checkpoint", checkpoint, *words)
        assert message == f"--output {tmp_path / 'out'} is a file; name a folder"
    assert (tmp_path / "out").read_text() == "mine"


def test_a_checkpoint_that_is_none(refused: Callable[..., str], photos: Path) -> None:
    message = refused("--source", photos, "--checkpoint", photos / "notes.txt")
    assert message.startswith(f"{photos}/notes.txt: not a checkpoint")


def test_help_describes_the_file(run_tool: Predict) -> None:
    ended = run_tool("predict", "--help")
    assert (ended.code, ended.err) == (0, "")
    for word in ("file_name", "category_name", "bbox", "score", "--overwrite", "--threshold"):
        assert word in ended.out
