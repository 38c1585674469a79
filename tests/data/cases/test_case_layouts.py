"""Folders as tools and people arrange them, and datasets without a validation split."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from detr_lite.data.reading import read_dataset, read_split
from detr_lite.data.records import Split
from detr_lite.structures import DetrLiteError
from tests.helpers.case_data import CaseData, assert_equal_objects, findings_of, true_objects

Splits = dict[str, Split]


def one_folder_of_images_and_two_files(data: CaseData) -> None:
    (data.root / "images").mkdir()
    for split in ("train", "val"):
        for path in (data.root / split).iterdir():
            path.rename(data.root / "images" / path.name)
        (data.root / split).rmdir()
    data.names = {"train": "annotations/train.json", "val": "annotations/val.json"}


def folders_of_coco_2017_below_images(data: CaseData) -> None:
    (data.root / "images").mkdir()
    for split in ("train", "val"):
        (data.root / split).rename(data.root / "images" / f"{split}2017")
    data.names = {split: f"annotations/instances_{split}2017.json" for split in ("train", "val")}


def coco_2017(data: CaseData) -> None:
    for split in ("train", "val"):
        (data.root / split).rename(data.root / f"{split}2017")
    data.names = {split: f"annotations/instances_{split}2017.json" for split in ("train", "val")}


def roboflow(data: CaseData) -> None:
    (data.root / "val").rename(data.root / "valid")
    data.names = {"train": "train/_annotations.coco.json", "val": "valid/_annotations.coco.json"}


@pytest.mark.parametrize(
    "fault", [one_folder_of_images_and_two_files, folders_of_coco_2017_below_images, coco_2017, roboflow]
)
def test_layouts_of_coco(read_spoiled: Callable[..., Splits], sound: Splits, fault: Callable[[CaseData], None]) -> None:
    for name, split in read_spoiled(fault).items():
        assert_equal_objects(split, sound[name])
        assert findings_of(split) == []


def there_is_no_validation_split(data: CaseData) -> None:
    data.val = {}
    for path in (data.root / "val").iterdir():
        path.unlink()
    (data.root / "val").rmdir()


def roboflow_without_validation_split(data: CaseData) -> None:
    (data.root / "val").rename(data.root / "test")
    data.names = {"train": "train/_annotations.coco.json", "val": "test/_annotations.coco.json"}


def one_file_beside_the_images(data: CaseData) -> None:
    there_is_no_validation_split(data)
    (data.root / "train").rename(data.root / "images")
    data.names["train"] = "annotations.json"


@pytest.mark.parametrize(
    "fault", [there_is_no_validation_split, roboflow_without_validation_split, one_file_beside_the_images]
)
def test_a_share_of_training_becomes_the_validation_split_and_is_said(
    read_spoiled: Callable[..., Splits], sound: Splits, fault: Callable[[CaseData], None]
) -> None:
    splits = read_spoiled(fault)
    names = {name: {record.path.name for record in split.images} for name, split in splits.items()}
    assert 1 <= len(names["val"]) <= 3
    assert not names["train"] & names["val"]
    assert names["train"] | names["val"] == {record.path.name for record in sound["train"].images}
    for split in splits.values():
        (finding,) = split.report.findings
        assert finding.kind == "no_validation_split"
        assert f"{len(names['val'])} of 8 images" in finding.text
    # Each image keeps its own objects.
    of_name: dict[str, list[object]] = {record.path.name: [] for record in sound["train"].images}
    for image, *rest in true_objects(sound["train"]):
        of_name[sound["train"].images[image].path.name].append(rest)
    for split in splits.values():
        for index, record in enumerate(split.images):
            assert [rest for image, *rest in true_objects(split) if image == index] == of_name[record.path.name]


def test_the_share_is_the_same_wherever_the_dataset_lies(
    spoil: Callable[..., Path], sound_data: Path, tmp_path: Path
) -> None:
    first = read_dataset(spoil(there_is_no_validation_split))
    moved = (tmp_path / "spoiled").rename(tmp_path / "moved")
    second = read_dataset(moved)
    assert [record.path.name for record in first["val"].images] == [record.path.name for record in second["val"].images]


@pytest.mark.parametrize(("faulty", "is_refused"), [(3, False), (6, True)])
@pytest.mark.parametrize("fault", ["annotation", "image"])
def test_a_share_does_not_answer_for_the_faults_of_all(
    tmp_path: Path, fault: str, faulty: int, is_refused: bool
) -> None:
    """Of 40 images 3 are less than a tenth, though they are more than a tenth of the share for validation."""
    for number in range(40):
        Image.new("RGB", (50, 50)).save(tmp_path / f"{number}.jpg")
        box = f"<bndbox><xmin>{number % 9}</xmin><ymin>5</ymin><xmax>20</xmax><ymax>30</ymax></bndbox>"
        name = "cat" if number >= faulty or fault == "image" else ""
        text = f"<annotation><object><name>{name}</name>{box}</object></annotation>"
        (tmp_path / f"{number}.xml").write_text("<annot" if number < faulty and fault == "image" else text)
    if is_refused:
        with pytest.raises(DetrLiteError, match=f"{faulty} of 40 {fault}s would be left out"):
            read_dataset(tmp_path)
        return
    for split in (*read_dataset(tmp_path).values(), *read_dataset(tmp_path).values()):  # and from the cache
        assert split.report.count_skipped("image") == (faulty if fault == "image" else 0)


@pytest.mark.parametrize("kind", ["same_folder", "link"])
def test_validation_on_images_of_training_is_said(tmp_path: Path, kind: str) -> None:
    Image.new("RGB", (50, 50)).save(_folder(tmp_path / "images/train") / "a.jpg")
    (_folder(tmp_path / "labels/train") / "a.txt").write_text("0 0.5 0.5 0.2 0.4\n")
    val = "train" if kind == "same_folder" else "val"
    (tmp_path / "data.yaml").write_text(f"train: images/train\nval: images/{val}\nnames: [cat]\n")
    if kind == "link":
        _folder(tmp_path / "annotations")
        (tmp_path / "annotations/instances_val.json").write_text(COCO_OF_A)
        (tmp_path / "annotations/instances_train.json").write_text(COCO_OF_A)
        (tmp_path / "images/val").symlink_to("train")
    for _ in range(2):  # the second time from the cache
        splits = read_dataset(tmp_path)
        assert findings_of(splits["train"]) == []
        (finding,) = splits["val"].report.findings
        assert (finding.kind, finding.entries) == ("images_of_training", ("a.jpg",))


def _folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


COCO_OF_A = """{
"images": [{"id": 1, "file_name": "a.jpg", "width": 50, "height": 50}],
"categories": [{"id": 1, "name": "cat"}],
"annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 20], "area": 400, "iscrowd": 0}]
}"""


def test_a_test_split_is_not_taken_for_validation(spoil: Callable[..., Path], sound: Splits) -> None:
    root = spoil(roboflow_without_validation_split)
    assert_equal_objects(read_split(root, "test"), sound["val"])


def test_a_yolo_folder(tmp_path: Path) -> None:
    root = tmp_path / "yolo"
    for split in ("train", "val"):
        (root / "images" / split).mkdir(parents=True)
        (root / "labels" / split).mkdir(parents=True)
        Image.new("RGB", (100, 50)).save(root / "images" / split / "a.jpg")
        (root / "labels" / split / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (root / "data.yaml").write_text("path: .\ntrain: images/train\nval: images/val\nnames: {0: box}\n")
    for split in read_dataset(root).values():
        assert split.format == "YOLO"
        assert true_objects(split) == [(0, "box", [40.0, 20.0, 20.0, 10.0], 200.0, False)]
        assert findings_of(split) == []


def test_a_link_from_validation_to_training_is_followed(read_spoiled: Callable[..., Splits], sound: Splits) -> None:
    def validation_is_training(data: CaseData) -> None:
        for path in (data.root / "val").iterdir():
            path.unlink()
        (data.root / "val").rmdir()
        (data.root / "val").symlink_to("train")
        data.val = data.train

    splits = read_spoiled(validation_is_training)
    assert_equal_objects(splits["train"], sound["train"])
    assert_equal_objects(splits["val"], sound["train"])


def test_a_test_file_without_annotations_is_refused(spoil: Callable[..., Path]) -> None:
    def as_handed_out_for_a_challenge(data: CaseData) -> None:
        (data.root / "val").rename(data.root / "test")
        data.names["val"] = "annotations/instances_test.json"
        del data.val["annotations"]

    root = spoil(as_handed_out_for_a_challenge)
    with pytest.raises(DetrLiteError, match=r'^annotations/instances_test\.json: .*no "annotations"'):
        read_split(root, "test")
