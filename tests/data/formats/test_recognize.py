"""Which format a folder has, and what is said of one that has none."""

import json
import logging
from pathlib import Path

import pytest

from detr_lite.data.formats.recognize import find_source
from detr_lite.data.report import SplitReport
from detr_lite.structures import DetrLiteError
from tests.helpers.format_files import draw, read, write

COCO = json.dumps(
    {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 50}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [40, 15, 20, 20], "area": 400, "iscrowd": 0}
        ],
        "categories": [{"id": 1, "name": "cat"}],
    }
)
VOC = (
    "<annotation><object><name>cat</name><bndbox><xmin>40</xmin><ymin>15</ymin><xmax>60</xmax><ymax>35</ymax></bndbox>"
    "</object></annotation>"
)
CVAT = (
    '<annotations><version>1.1</version><image name="a.jpg" width="100" height="50">'
    '<box label="cat" xtl="40" ytl="15" xbr="60" ybr="35"/></image></annotations>'
)
LABELME = json.dumps(
    {"shapes": [{"label": "cat", "points": [[40, 15], [60, 35]], "shape_type": "rectangle"}], "imagePath": "a.jpg"}
)
LABEL_STUDIO = json.dumps(
    [
        {
            "annotations": [
                {"result": [{"value": {"x": 40, "y": 30, "width": 20, "height": 40, "rectanglelabels": ["cat"]}}]}
            ],
            "data": {"image": "a.jpg"},
        }
    ]
)
CREATE_ML = json.dumps(
    [
        {
            "image": "a.jpg",
            "annotations": [{"label": "cat", "coordinates": {"x": 50, "y": 25, "width": 20, "height": 20}}],
        }
    ]
)
CSV = "filename,class,xmin,ymin,xmax,ymax\na.jpg,cat,40,15,60,35\n"
FILES = {
    "COCO": ("instances.json", COCO),
    "YOLO": ("a.txt", "0 0.5 0.5 0.2 0.4"),
    "Pascal VOC": ("a.xml", VOC),
    "CVAT": ("annotations.xml", CVAT),
    "LabelMe": ("a.json", LABELME),
    "Label Studio": ("export.json", LABEL_STUDIO),
    "Create ML": ("createml.json", CREATE_ML),
    "CSV": ("labels.csv", CSV),
}
"""One box of [40, 15, 20, 20] in each format, in order of precedence."""


@pytest.mark.parametrize("format", FILES)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_each_format_is_recognized(tmp_path: Path, format: str, encoding: str) -> None:
    draw(tmp_path / "a.jpg")
    name, text = FILES[format]
    write(tmp_path / name, text, encoding)
    found = read(tmp_path)
    assert found.source.format == format
    assert found.raw.boxes_xywh.tolist() == [[40, 15, 20, 20]]


@pytest.mark.parametrize("format", ["COCO", "CVAT", "Label Studio", "Create ML", "CSV"])
def test_a_file_may_be_named_in_place_of_its_folder(tmp_path: Path, format: str) -> None:
    draw(tmp_path / "a.jpg")
    for name, text in FILES.values():
        write(tmp_path / name, text)
    found = read(tmp_path / FILES[format][0])
    assert found.source.format == format
    assert found.raw.boxes_xywh.tolist() == [[40, 15, 20, 20]]


@pytest.mark.parametrize("format", ["Pascal VOC", "LabelMe"])
def test_the_file_of_one_image_is_no_dataset(tmp_path: Path, format: str) -> None:
    file = write(draw(tmp_path / "a.jpg").with_name(FILES[format][0]), FILES[format][1])
    with pytest.raises(DetrLiteError, match=r"the annotation of one image .*; give the dataset's folder"):
        find_source(file)


def test_the_first_of_several_formats_is_used_and_the_others_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    draw(tmp_path / "a.jpg")
    formats = list(FILES)
    for format in reversed(formats):
        write(tmp_path / FILES[format][0], FILES[format][1])
        caplog.clear()
        with caplog.at_level(logging.INFO):
            source = find_source(tmp_path)
            assert source.format == format
            assert not caplog.messages
            source.read("train", SplitReport("train"))
            source.read("train", SplitReport("train"))
        others = formats[formats.index(format) + 1 :]
        assert len(caplog.messages) == (1 if others else 0)
        assert not others or f"read as {format}, but there are {others[0]}" in caplog.messages[0]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ((), "the data folder is empty; expected are COCO, YOLO"),
        (("a.jpg", "b.jpg", "c.PNG"), "3 images and no annotations; expected are COCO"),
        (("pets.zip",), "no annotations in 1 file (1 .zip); unpack pets.zip"),
        (("train.tfrecord", "a.jpg"), "TFRecord files: export the dataset as COCO"),
        (("data/train-0000.parquet",), "Parquet or Arrow files: export the dataset as COCO"),
        (
            ("a.jpg", "what.json"),
            "no annotations of a known format in 2 files (1 .jpg, 1 .json), also not in what.json",
        ),
        (("a.jpg", "README.txt"), "also not in README.txt"),
        (("model.pt",), "no images and no annotations in 1 file (1 .pt)"),
        ((".hidden/a.xml", "__MACOSX/a.xml", "._a.xml"), "the data folder is empty"),
    ],
)
def test_a_folder_without_annotations_is_told_what_it_holds(tmp_path: Path, files: tuple[str, ...], said: str) -> None:
    for file in files:
        if file.lower().endswith(("jpg", "png")):
            draw(tmp_path / file)
        else:
            write(tmp_path / file, VOC if file.endswith("xml") else "{}")
    with pytest.raises(DetrLiteError) as error:
        find_source(tmp_path)
    assert said in str(error.value)
    assert str(error.value).startswith(f"{tmp_path}: ")
    assert "\n" not in str(error.value)


def test_labels_in_yolos_format_at_another_place_are_said(tmp_path: Path) -> None:
    draw(tmp_path / "pictures/a.jpg")
    write(tmp_path / "notes/README.txt", "of a farm")
    write(tmp_path / "targets/a.txt", "0 0.5 0.5 0.2 0.4")
    with pytest.raises(DetrLiteError, match=r"targets/a\.txt has labels in YOLO's format, but no image has its label"):
        find_source(tmp_path)


def test_a_missing_folder_and_an_archive(tmp_path: Path) -> None:
    with pytest.raises(DetrLiteError, match=r"no such data folder; give the dataset's folder with --data\.root DIR"):
        find_source(tmp_path / "none")
    with pytest.raises(DetrLiteError, match="an archive; unpack it"):
        find_source(write(tmp_path / "pets.zip", "PK"))


def test_results_of_a_detector_are_no_dataset(tmp_path: Path) -> None:
    draw(tmp_path / "a.jpg")
    write(tmp_path / "detections.json", '[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]')
    with pytest.raises(DetrLiteError, match="no annotations of a known format"):
        find_source(tmp_path)


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    draw(tmp_path / "images/a.jpg")
    write(tmp_path / "labels/a.txt", "0 0.5 0.5 0.2 0.4")
    (tmp_path / "images/again").symlink_to(tmp_path)
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    assert list(read(tmp_path).objects) == ["images/a.jpg"]


def test_a_linked_folder_is_entered(tmp_path: Path) -> None:
    draw(tmp_path / "elsewhere/a.jpg")
    write(tmp_path / "data/labels/a.txt", "0 0.5 0.5 0.2 0.4")
    (tmp_path / "data/images").symlink_to(tmp_path / "elsewhere")
    assert read(tmp_path / "data").objects == {"images/a.jpg": [("class 0", [40, 15, 20, 20])]}


def test_coco_without_training_gives_way_to_a_format_with_it(tmp_path: Path) -> None:
    for split in ("train2017", "val2017"):
        draw(tmp_path / f"images/{split}/a.jpg")
        write(tmp_path / f"labels/{split}/a.txt", "0 0.5 0.5 0.2 0.4")
    write(tmp_path / "annotations/instances_val2017.json", COCO)
    source = find_source(tmp_path)
    assert (source.format, list(source.splits)) == ("YOLO", ["train", "val"])
    for file in (tmp_path / "labels").rglob("*.txt"):
        file.unlink()
    source = find_source(tmp_path)
    assert (source.format, list(source.splits)) == ("COCO", ["val"])


@pytest.mark.parametrize(("name", "text"), [("b.xml", VOC), ("b.json", LABELME.replace("a.jpg", "b.jpg"))])
def test_images_that_only_another_format_labels_are_not_read_as_empty(tmp_path: Path, name: str, text: str) -> None:
    for image in ("a.jpg", "b.jpg"):
        draw(tmp_path / image)
    write(tmp_path / "a.txt", "0 0.5 0.5 0.2 0.4")
    write(tmp_path / name, text)
    with pytest.raises(DetrLiteError, match=f"1 image has no YOLO label but objects in .* files \\({name}\\)"):
        find_source(tmp_path).read("train", SplitReport("train"))
    write(tmp_path / name, text.replace("object>", "size>").replace('"points"', '"flags"'))
    assert find_source(tmp_path).read("train", SplitReport("train")).image_index.tolist() == [0]
