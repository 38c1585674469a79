"""Annotation files in many encodings, and names of image files as other systems and tools write them."""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from detr_lite.data.reading import Reading
from detr_lite.data.records import Split
from tests.helpers.case_data import CaseData, assert_equal_objects, findings_of

Splits = dict[str, Split]


def rename(data: CaseData, name_of: Callable[[str, str], str], move: bool = False) -> None:
    """Give each image another `file_name`, made from its split and name, and move its file there."""
    for split, content in (("train", data.train), ("val", data.val)):
        for image in content["images"]:
            name = name_of(split, image["file_name"])
            if move:
                target = data.root / split / name.replace("\\", "/")
                target.parent.mkdir(exist_ok=True)
                (data.root / split / image["file_name"]).rename(target)
            image["file_name"] = name


def names_begin_with_the_splits_folder(data: CaseData) -> None:
    rename(data, lambda split, name: f"{split}/{name}")


def names_have_backslashes(data: CaseData) -> None:
    rename(data, lambda _, name: f"a\\{name}", move=True)


def names_are_absolute(data: CaseData) -> None:
    rename(data, lambda split, name: str(data.root / split / name))


def names_leave_the_folder_and_come_back(data: CaseData) -> None:
    rename(data, lambda split, name: f"../{split}/{name}")


def names_leave_the_folder_and_come_back_on_windows(data: CaseData) -> None:
    rename(data, lambda split, name: f"..\\{split}\\{name}")


def endings_are_capitals_on_the_disk(data: CaseData) -> None:
    for number in range(1, 9):
        data.file(number).rename(data.file(number).with_suffix(".JPG"))


def an_umlaut_is_decomposed_on_the_disk(data: CaseData) -> None:
    composed = "K\u00fcche_002.jpg"
    data.train["images"][2]["file_name"] = composed
    data.file(3).rename(data.file(3).with_name(unicodedata.normalize("NFD", composed)))


def names_have_odd_characters(data: CaseData) -> None:
    odd = ["a b.jpg", "a,b.jpg", "a#b%20c.jpg", 'it\'s "x" 🐈.jpg']
    for number, name in enumerate(odd, start=1):
        data.file(number).rename(data.file(number).with_name(name))
        data.train["images"][number - 1]["file_name"] = name


def a_folder_of_images_is_a_link(data: CaseData) -> None:
    store = data.root.parent / "store"
    (data.root / "train").rename(store)
    (data.root / "train").mkdir()
    (data.root / "train" / "batch_1").symlink_to(store)
    for image in data.train["images"]:
        image["file_name"] = f"batch_1/{image['file_name']}"


def each_image_is_a_link(data: CaseData) -> None:
    store = data.root.parent / "store"
    store.mkdir()
    for number in range(1, 9):
        moved = data.file(number).rename(store / data.file(number).name)
        data.file(number).symlink_to(moved)


def two_folders_have_images_of_the_same_names(data: CaseData) -> None:
    for number in range(1, 9):
        name = f"cam{number % 2 + 1}/{(number - 1) // 2:04}.jpg"
        (data.root / "train" / name).parent.mkdir(exist_ok=True)
        data.file(number).rename(data.root / "train" / name)
        data.train["images"][number - 1]["file_name"] = name


def encode(encoding: str, **options: bool) -> Callable[[CaseData], None]:
    def write(data: CaseData) -> None:
        data.train["categories"] = [{"id": 1, "name": "box"}, {"id": 2, "name": "Löffel"}]
        data.val["categories"] = data.train["categories"]
        for split, content in (("train", data.train), ("val", data.val)):
            data.annotation_file(split).write_bytes(json.dumps(content, ensure_ascii=False).encode(encoding))

    return write


def annotations_are_an_object(data: CaseData) -> None:
    data.train["annotations"] = {str(each["id"]): each for each in data.train["annotations"]}


@pytest.mark.parametrize(
    ("fault", "action"),
    [
        (names_begin_with_the_splits_folder, {"noted"}),
        (names_have_backslashes, {"noted"}),
        (names_are_absolute, {"noted"}),
        (names_leave_the_folder_and_come_back, {"noted"}),
        (names_leave_the_folder_and_come_back_on_windows, {"noted"}),
        (endings_are_capitals_on_the_disk, {"repaired"}),
        (an_umlaut_is_decomposed_on_the_disk, {"repaired"}),
        (names_have_odd_characters, set()),
        (a_folder_of_images_is_a_link, set()),
        (each_image_is_a_link, set()),
        (two_folders_have_images_of_the_same_names, set()),
        (annotations_are_an_object, {"noted"}),
    ],
)
def test_images_are_found(
    read_spoiled: Callable[..., Splits], sound: Splits, fault: Callable[[CaseData], None], action: set[str]
) -> None:
    splits = read_spoiled(fault)
    for name, split in splits.items():
        assert_equal_objects(split, sound[name])
        assert {finding.action for finding in split.report.findings} <= action
        assert all(record.path.is_file() for record in split.images)
    if fault is two_folders_have_images_of_the_same_names:
        assert len({record.path for record in splits["train"].images}) == 8


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_annotation_files_in_unicode(read_spoiled: Callable[..., Splits], encoding: str) -> None:
    splits = read_spoiled(encode(encoding))
    assert [category.name for category in splits["train"].categories] == ["box", "Löffel"]
    assert [findings_of(split) for split in splits.values()] == [[], []]


def test_a_windows_encoding_is_named_with_its_line(refusals: Callable[..., str]) -> None:
    def saved_by_windows(data: CaseData) -> None:
        data.train["categories"][1] = {"id": 2, "name": "Löffel"}
        text = json.dumps(data.train, ensure_ascii=False, indent=1)
        assert data.annotation_file().write_bytes(text.encode("cp1252"))

    message = refusals(saved_by_windows)
    assert "annotations/instances_train.json: " in message
    assert "UTF-8" in message
    assert "line " in message
    assert "damaged" not in message, "nothing is lost that a copy would bring back"


def test_a_comma_too_many_is_named_with_line_and_column(refusals: Callable[..., str]) -> None:
    def edited_by_hand(data: CaseData) -> None:
        text = json.dumps(data.train, indent=1)
        end = text.index("\n ]", text.index('"annotations"'))
        brace = text.rindex("}", 0, end)
        text = text[: brace + 1] + "," + text[brace + 1 :]
        data.annotation_file().write_text(text)
        line = text[:brace].count("\n") + 1
        expected.append(f"line {line}")

    expected: list[str] = []
    message = refusals(edited_by_hand)
    assert "comma" in message
    assert expected[0] in message
    assert "column" in message
    assert "damaged" not in message


def test_a_missing_image_names_its_near_match(refusals: Callable[..., str]) -> None:
    def a_name_lacks_a_zero(data: CaseData) -> None:
        data.train["images"][0]["file_name"] = "train_00.jpg"

    message = refusals(a_name_lacks_a_zero)
    assert "train_00.jpg" in message
    assert "train_000.jpg" in message


def test_a_name_of_thousands_of_characters_is_shortened(refusals: Callable[..., str]) -> None:
    message = refusals(lambda data: data.train["images"][0].update(file_name="folder/" * 900 + "a.jpg"))
    assert "folder/folder/" in message
    assert "/a.jpg" in message
    assert len(message) < 1500


@pytest.mark.parametrize("kind", ["above", "absolute"])
def test_names_outside_of_the_dataset_are_refused_or_left_out(
    spoil: Callable[..., Path], refusals: Callable[..., str], kind: str
) -> None:
    def a_name_leaves_the_dataset(data: CaseData) -> None:
        outside = data.root.parent / "secret.jpg"
        Image.new("RGB", (96, 72)).save(outside)
        data.train["images"][0]["file_name"] = "../../secret.jpg" if kind == "above" else str(outside)

    message = refusals(a_name_leaves_the_dataset)
    assert "secret.jpg" in message
    assert "outside" in message


def test_one_missing_image_of_many_is_left_out(read_spoiled: Callable[..., Splits], larger_data: Path) -> None:
    train = read_spoiled(lambda data: data.file(6).unlink(), source=larger_data)["train"]
    assert findings_of(train) == ["skipped missing_image 1"]
    assert "train_005.jpg" in train.report.lines()[0]
    assert len(train.images) == 39
    assert train.report.skipped["image"] == 1


def test_one_missing_image_of_eight_is_refused_unless_the_user_accepts_it(
    spoil: Callable[..., Path], refusals: Callable[..., str]
) -> None:
    message = refusals(lambda data: data.file(6).unlink())
    assert "1 of 8 images would be left out" in message
    assert "train_005.jpg" in message
    assert "--data.on_fault skip" in message


def test_a_missing_image_is_accepted_if_the_user_says_so(read_spoiled: Callable[..., Splits]) -> None:
    train = read_spoiled(lambda data: data.file(6).unlink(), Reading(on_fault="skip"))["train"]
    assert [record.path.name for record in train.images] == [
        f"train_{number:03}.jpg" for number in range(8) if number != 5
    ]
    assert len(train.ground_truth.labels) == 14
