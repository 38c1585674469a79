"""Where the files of a COCO dataset may be."""

import json
from pathlib import Path

import pytest

from detr_lite.data.formats.coco import find_coco
from detr_lite.data.report import SplitReport
from detr_lite.structures import DetrLiteError
from tests.helpers.coco_files import read_raw, two_images, write_coco

LAYOUTS: dict[str, dict[str, str]] = {
    "coco": {"annotations/instances_train.json": "train", "annotations/instances_val.json": "val"},
    "coco 2017": {"annotations/instances_train2017.json": "train2017", "annotations/instances_val2017.json": "val2017"},
    "ultralytics": {
        "annotations/instances_train2017.json": "images/train2017",
        "annotations/instances_val2017.json": "images/val2017",
    },
    "coco in a folder": {
        "coco/annotations/instances_train2017.json": "coco/images/train2017",
        "coco/annotations/instances_val2017.json": "coco/images/val2017",
    },
    "roboflow": {
        "train/_annotations.coco.json": "train",
        "valid/_annotations.coco.json": "valid",
        "test/_annotations.coco.json": "test",
    },
    "roboflow unpacked": {"My project.v3/train/_annotations.coco.json": "My project.v3/train"},
    "one folder of images": {"annotations/train.json": "images", "annotations/val.json": "images"},
    "beside images": {"train.json": "images", "validation.json": "images"},
    "by split": {"train/annotations.json": "train/images", "dev/annotations.json": "dev/images"},
    "json by split": {"training/labels.json": "training", "validation/labels.json": "validation"},
    "annotations by split": {"annotations/train/coco.json": "images/train", "annotations/val/coco.json": "images/val"},
    "words in names": {"annotations/my_train_set.json": "Train_Images", "annotations/my-val-set.json": "ValImages"},
    "cvat": {"annotations/instances_default.json": "images"},
    "fiftyone": {"labels.json": "data"},
    "label studio": {"result.json": "images"},
    "one folder": {"export.json": ""},
    "one folder in a folder": {"project-7/export.json": "project-7"},
    "trainval and test": {"annotations/trainval.json": "images", "annotations/test.json": "images"},
    "other folder": {"annotations/train.json": "scans/2020"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path: Path, layout: str) -> None:
    for number, (file, folder) in enumerate(LAYOUTS[layout].items()):
        content = two_images()
        names = [f"{number}{image['file_name']}" for image in content["images"]]
        for image, name in zip(content["images"], names, strict=True):
            image["file_name"] = name
        write_coco(tmp_path, content, file, [(Path(folder) / name).as_posix() for name in names])
    source = find_coco(tmp_path)
    assert source is not None
    assert list(source.splits) == ["train", "val", "test"][: len(LAYOUTS[layout])] or layout == "trainval and test"
    for (split, path), (file, folder) in zip(source.splits.items(), LAYOUTS[layout].items(), strict=True):
        assert path == tmp_path / file
        raw, report = read_raw(tmp_path, split)
        assert [Path(each).parent for each in raw.paths] == [tmp_path / folder] * 2
        assert report.refusals() == []
        assert {path, tmp_path}.issubset(source.files(split))


def test_images_of_the_same_name_are_those_of_the_split(tmp_path: Path) -> None:
    for split in ("train", "val"):
        images = [f"images/{split}/{name}.png" for name in "ab"]
        write_coco(tmp_path, two_images(), f"annotations/{split}.json", images)
    (tmp_path / "images" / "a.png").touch()
    for split in ("train", "val"):
        assert [Path(path).parent.name for path in read_raw(tmp_path, split)[0].paths] == [split, split]


def test_the_folder_of_the_same_year_has_precedence(tmp_path: Path) -> None:
    for year in ("2014", "2017"):
        write_coco(tmp_path, two_images(), "annotations/instances_train2017.json", [f"train{year}/a.png"])
    (tmp_path / "train2017" / "b.png").touch()
    assert [Path(path).parent.name for path in read_raw(tmp_path)[0].paths] == ["train2017", "train2017"]


def test_two_files_for_one_split_are_both_named(tmp_path: Path) -> None:
    write_coco(tmp_path, two_images())
    write_coco(tmp_path, two_images(), "annotations/instances_train_old.json")
    with pytest.raises(DetrLiteError) as error:
        read_raw(tmp_path)
    assert "2 files may be the annotations of split train" in str(error.value)
    assert "annotations/instances_train.json, annotations/instances_train_old.json" in str(error.value)
    assert f"prepare-data merge {tmp_path}/annotations/instances_train.json {tmp_path}/annotations" in str(error.value)


def test_one_annotation_file_may_be_named(tmp_path: Path) -> None:
    write_coco(tmp_path, two_images())
    write_coco(tmp_path, two_images(), "annotations/instances_train_old.json")
    write_coco(tmp_path, {"a": 1}, "annotations/other.json")
    for name in ("instances_train", "instances_train_old"):
        source = find_coco(tmp_path / "annotations" / f"{name}.json")
        assert source is not None
        assert source.splits == {"train": tmp_path / f"annotations/{name}.json"}
        paths = source.read("train", SplitReport(name)).paths
        assert paths == [str(tmp_path / "train/a.png"), str(tmp_path / "train/b.png")]
    assert find_coco(tmp_path / "annotations/other.json") is None
    assert find_coco(tmp_path / "train/a.png") is None


def test_files_of_cocos_other_tasks_and_other_json_are_passed_over(tmp_path: Path) -> None:
    write_coco(tmp_path, two_images())
    for name in ("captions_train.json", "person_keypoints_train.json", "panoptic_train.json"):
        write_coco(tmp_path, two_images(), f"annotations/{name}")
    write_coco(tmp_path, {"version": 3}, "annotations/train_settings.json")
    write_coco(tmp_path, [1], "annotations/train_list.json")
    write_coco(tmp_path, two_images(), ".hidden/train.json")
    assert read_raw(tmp_path)[1].findings == []


@pytest.mark.parametrize("files", [[], ["a.txt"], ["settings.json"], ["train/a.png", "train/b.png"]])
def test_other_folders_are_not_coco(tmp_path: Path, files: list[str]) -> None:
    for file in files:
        write_coco(tmp_path, {"a": 1}, file, [])
    assert find_coco(tmp_path) is None


def test_a_file_for_each_image_is_not_coco(tmp_path: Path) -> None:
    for number in range(60):
        write_coco(tmp_path, {"version": "5.0", "shapes": [], "imagePath": "a.png"}, f"train/{number}.json", [])
    assert find_coco(tmp_path) is None


@pytest.mark.parametrize("content", ["", "{", '{"images": [', "\x00"])
def test_a_damaged_file_of_a_usual_name_is_coco(tmp_path: Path, content: str) -> None:
    with pytest.raises(DetrLiteError, match=r"^annotations/instances_train\.json: "):
        read_raw(write_coco(tmp_path, content))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_other_encodings_are_recognized_by_content(tmp_path: Path, encoding: str) -> None:
    write_coco(tmp_path, two_images(), "a.json", ["images/a.png", "images/b.png"])
    (tmp_path / "a.json").write_bytes(json.dumps(two_images()).encode(encoding))
    assert read_raw(tmp_path)[0].names == ["a.png", "b.png"]


def test_linked_folders_and_links_back(tmp_path: Path) -> None:
    write_coco(tmp_path / "elsewhere", two_images(), "annotations/a.json", ["train/a.png", "train/b.png"])
    root = tmp_path / "root"
    root.mkdir()
    (root / "annotations").symlink_to(tmp_path / "elsewhere/annotations")
    (root / "train").symlink_to(tmp_path / "elsewhere/train")
    (root / "loop").symlink_to(root)
    (root / "self").symlink_to("self")
    raw, report = read_raw(root)
    assert raw.paths == [str(root / "train/a.png"), str(root / "train/b.png")]
    assert report.findings == []
