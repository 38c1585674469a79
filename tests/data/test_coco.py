"""Reading datasets in COCO format: records of valid data, and one line for every error."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from detr_lite.data.coco import CocoDetection, read_split
from detr_lite.data.transforms import ResizeRule, evaluation_transform
from detr_lite.structures import DetrLiteError

FILE = "annotations/instances_train.json"


def content_of_two_images() -> dict[str, Any]:
    return {
        "images": [
            {"id": 7, "file_name": "a.png", "width": 40, "height": 30},
            {"id": 3, "file_name": "b.png", "width": 20, "height": 50},
        ],
        "annotations": [
            {"id": 16, "image_id": 3, "category_id": 90, "bbox": [1, 2, 3, 4], "area": 9.5, "iscrowd": 0},
            {"id": 17, "image_id": 7, "category_id": 2, "bbox": [10, 5, 20, 10]},
            {"id": 18, "image_id": 7, "category_id": 90, "bbox": [0, 0, 40, 30], "iscrowd": 1},
        ],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 2, "name": "bicycle"}],
    }


def write_data(root: Path, content: Any, suffix: str = "") -> Path:
    """A dataset with any content. The images are those of `content_of_two_images`."""
    (root / "annotations").mkdir(parents=True)
    (root / f"train{suffix}").mkdir()
    (root / f"annotations/instances_train{suffix}.json").write_text(json.dumps(content))
    for image in content_of_two_images()["images"]:
        Image.new("RGB", (image["width"], image["height"])).save(root / f"train{suffix}" / image["file_name"])
    return root


@pytest.mark.parametrize("suffix", ["", "2017"])
def test_both_layouts_of_coco_are_read(tmp_path: Path, suffix: str) -> None:
    split = read_split(write_data(tmp_path, content_of_two_images(), suffix), "train")

    assert [(category.id, category.name) for category in split.categories] == [(2, "bicycle"), (90, "toothbrush")]
    assert split.label_of == {2: 0, 90: 1}
    assert split.image_folder == tmp_path / f"train{suffix}"
    assert [image.id for image in split.images] == [7, 3]
    first, second = split.images
    assert (first.path, first.width, first.height) == (tmp_path / f"train{suffix}" / "a.png", 40, 30)
    # 18 is a crowd
    np.testing.assert_array_equal(first.boxes_xyxy, np.array([[10, 5, 30, 15]], dtype=np.float32))
    np.testing.assert_array_equal(second.boxes_xyxy, np.array([[1, 2, 4, 6]], dtype=np.float32))
    assert (first.labels.tolist(), second.labels.tolist()) == ([0], [1])
    assert split.notes == ()
    assert split.describe() == (
        f"{split.annotation_file}: 2 images with 2 objects of 2 categories; 0 images without objects"
    )


def test_ground_truth_has_missing_area_and_iscrowd_filled_in(tmp_path: Path) -> None:
    content = content_of_two_images()
    split = read_split(write_data(tmp_path, content), "train")

    expected = content_of_two_images()
    expected["annotations"][1] |= {"area": 200, "iscrowd": 0}
    expected["annotations"][2] |= {"area": 1200}
    assert split.ground_truth == expected

    coco = COCO()
    coco.dataset = split.ground_truth
    coco.createIndex()
    assert coco.getAnnIds(iscrowd=True) == [18]


@pytest.mark.parametrize("objects", [0, 1, 7])
def test_number_of_objects(tmp_path: Path, objects: int) -> None:
    content = content_of_two_images()
    content["annotations"] = [
        {"id": 5 + index, "image_id": 3, "category_id": 2, "bbox": [index, 0, 2, 2]} for index in range(objects)
    ]
    split = read_split(write_data(tmp_path, content), "train")
    assert [image.boxes_xyxy.shape for image in split.images] == [(0, 4), (objects, 4)]

    dataset = CocoDetection(split, evaluation_transform(ResizeRule("longest", 25)))
    assert len(dataset) == 2
    image, target = dataset[1]
    assert image.shape == (3, 25, 10)
    assert image.dtype == target.boxes_cxcywh.dtype == torch.float32
    assert type(image) is type(target.boxes_cxcywh) is torch.Tensor
    assert (target.image_id, target.original_size) == (3, (50, 20))
    # Relative to the image, so that resizing changes nothing.
    expected = torch.tensor([[(index + 1) / 20, 1 / 50, 2 / 20, 2 / 50] for index in range(objects)]).reshape(-1, 4)
    torch.testing.assert_close(target.boxes_cxcywh, expected)
    assert target.labels.tolist() == [0] * objects


def test_boxes_outside_the_image_or_without_area_are_noted(tmp_path: Path) -> None:
    content = content_of_two_images()
    boxes = {
        1: [-5, -5, 10, 10],  # partly outside: clipped
        2: [5, 5, 0, 10],  # without area
        3: [60, 5, 10, 10],  # outside
        4: [35, 25, 5.5, 5.5],  # less than a pixel outside: clipped without a note
        5: [8, 8, 1e-7, 3],  # no width left in float32
    }
    content["annotations"] = [{"id": id, "image_id": 7, "category_id": 2, "bbox": bbox} for id, bbox in boxes.items()]
    split = read_split(write_data(tmp_path, content), "train")
    assert split.images[0].boxes_xyxy.tolist() == [[0, 0, 5, 5], [35, 25, 40, 30]]
    assert len(split.ground_truth["annotations"]) == 5
    assert split.notes == (
        f"{FILE}: boxes without area are not trained on: 2 (annotation ids 2, 5)",
        f"{FILE}: boxes outside their image are not trained on: 1 (annotation ids 3)",
        f"{FILE}: boxes that extend beyond their image are clipped: 1 (annotation ids 1)",
    )


def test_images_in_subfolders_and_in_a_linked_folder(tmp_path: Path) -> None:
    content = content_of_two_images()
    content["images"][0]["file_name"] = "night/a.png"
    elsewhere = write_data(tmp_path / "elsewhere", content) / "train"
    (elsewhere / "night").mkdir()
    (elsewhere / "a.png").rename(elsewhere / "night/a.png")
    root = write_data(tmp_path / "root", content)
    (root / "train").rename(root / "old")
    (root / "train").symlink_to(elsewhere)
    assert read_split(root, "train").images[0].path == root / "train/night/a.png"


@pytest.mark.parametrize("image_id", [0, -5, 9007199254740993, 2**64 - 1])
def test_image_ids_may_be_any_integers(tmp_path: Path, image_id: int) -> None:
    content = content_of_two_images()
    content["images"][0]["id"] = content["annotations"][1]["image_id"] = content["annotations"][2]["image_id"] = (
        image_id
    )
    split = read_split(write_data(tmp_path, content), "train")
    _, target = CocoDetection(split, evaluation_transform(ResizeRule("longest", 25)))[0]
    assert (target.image_id, len(target.labels)) == (image_id, 1)


Change = Callable[[dict[str, Any]], Any]


def change(key: str, index: int, **fields: Any) -> Change:
    return lambda content: content[key][index].update(fields)


def remove(key: str, index: int, field: str) -> Change:
    return lambda content: content[key][index].pop(field)


ERRORS: dict[str, tuple[Change, str]] = {
    "no annotations": (lambda c: c.pop("annotations"), 'it has no "annotations"'),
    "images not a list": (lambda c: c.update(images={"a": 1}), '"images" is not a list'),
    "no categories": (lambda c: c.update(categories=[]), '"categories" is empty'),
    "no images": (lambda c: c.update(images=[], annotations=[]), '"images" is empty'),
    "entry not an object": (lambda c: c["annotations"].append(5), 'entry 3 of "annotations" is 5'),
    "image not an object": (lambda c: c["images"].append("c.png"), "entry 2 of \"images\" is 'c.png'"),
    "category not an object": (lambda c: c["categories"].append(None), 'entry 2 of "categories" is None'),
    "no bbox": (remove("annotations", 1, "bbox"), 'entry 1 of "annotations" (id 17) has no "bbox"'),
    "no image_id": (remove("annotations", 1, "image_id"), '(id 17) has no "image_id"'),
    "no category_id": (remove("annotations", 1, "category_id"), '(id 17) has no "category_id"'),
    "no annotation id": (remove("annotations", 1, "id"), 'entry 1 of "annotations" has no "id"'),
    "no file_name": (remove("images", 0, "file_name"), '(id 7) has no "file_name"'),
    "no width": (remove("images", 0, "width"), '(id 7) has no "width"'),
    "no category name": (remove("categories", 0, "name"), '(id 90) has no "name"'),
    "unlisted category": (
        change("annotations", 1, category_id=9),
        'annotation 17 has category_id 9, which "categories" does not list; add the category or remove the annotation',
    ),
    "category no id": (change("annotations", 1, category_id=[2]), "annotation 17 has category_id [2]"),
    "unlisted image": (change("annotations", 1, image_id=8), 'annotation 17 has image_id 8, which "images" does not'),
    "nan": (change("annotations", 1, bbox=[1, float("nan"), 2, 2]), "annotation 17 has bbox [1, nan, 2, 2]"),
    "infinite": (change("annotations", 1, bbox=[1, 1, float("inf"), 2]), "annotation 17 has bbox [1, 1, inf, 2]"),
    "none": (change("annotations", 1, bbox=[1, 1, None, 2]), "annotation 17 has bbox [1, 1, None, 2]"),
    "text": (change("annotations", 1, bbox=[1, 1, "3", 2]), "annotation 17 has bbox [1, 1, '3', 2]"),
    "three numbers": (change("annotations", 1, bbox=[1, 1, 3]), "annotation 17 has bbox [1, 1, 3]"),
    "no box": (change("annotations", 1, bbox=None), "annotation 17 has bbox None"),
    "beyond floats": (change("annotations", 1, bbox=[1, 1, 10**400, 2]), "annotation 17 has bbox [1, 1, 1000"),
    "negative width": (
        change("annotations", 1, bbox=[1, 1, -3, 2]),
        "annotation 17 has a box of negative size, width -3",
    ),
    "negative height": (change("annotations", 1, bbox=[1, 1, 3, -2]), "annotation 17 has a box of negative size"),
    "area": (change("annotations", 1, area="12"), "annotation 17 has area '12'"),
    "infinite area": (change("annotations", 1, area=float("inf")), "annotation 17 has area inf"),
    "iscrowd": (change("annotations", 1, iscrowd=2), "annotation 17 has iscrowd 2"),
    "annotation id twice": (change("annotations", 1, id=16), "annotation id 16 is listed twice"),
    "image id twice": (change("images", 1, id=7), "image id 7 is listed twice"),
    "category id twice": (change("categories", 1, id=90), "category id 90 is listed twice"),
    "category name twice": (change("categories", 1, name="toothbrush"), "category 2 repeats the name 'toothbrush'"),
    "annotation id text": (change("annotations", 1, id="17"), "has id '17', which is not an integer"),
    "image id text": (change("images", 0, id="7"), "has id '7', which is not an integer"),
    "category id float": (change("categories", 0, id=9.5), "has id 9.5, which is not an integer"),
    "category name not a string": (change("categories", 0, name=3), "category 90 has the name 3"),
    "file name not a string": (change("images", 0, file_name=3), "image 7 has file_name 3"),
    "zero width": (change("images", 0, width=0), "image 7 has width 0"),
    "negative height of image": (change("images", 1, height=-4), "image 3 has height -4"),
    "size text": (change("images", 0, width="40"), "image 7 has width '40'"),
    "in the parent folder": (
        change("images", 0, file_name="../secret.png"),
        "image 7 has file_name '../secret.png', which is outside of",
    ),
    "through the parent folder": (
        change("images", 0, file_name="../train/a.png"),
        "image 7 has file_name '../train/a.png'",
    ),
    "absolute": (change("images", 0, file_name="/etc/hostname"), "image 7 has file_name '/etc/hostname'"),
    "empty name": (change("images", 0, file_name=""), "image 7 has file_name ''"),
    "null byte": (change("images", 0, file_name="x\0/a.png"), "image 7 has file_name 'x\\x00/a.png'"),
    "new line": (change("images", 0, file_name="a\nb.png"), "1 of the 2 images that"),
}


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_is_one_line_with_file_and_id(tmp_path: Path, error: str) -> None:
    break_content, expected = ERRORS[error]
    content = content_of_two_images()
    break_content(content)
    with pytest.raises(DetrLiteError) as raised:
        read_split(write_data(tmp_path, content), "train")
    message = str(raised.value)
    assert FILE in message
    assert expected in message
    assert ";" in message, "the remedy"
    assert "\n" not in message
    assert len(message) < 400


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (json.dumps(content_of_two_images())[:150], "(char "),
        ("", "line 1 column 1"),
        ("\ufeff{", "line 1 column"),
        ("[" * 100_000, "recursion"),
        ("[1, 2]", "not COCO: it contains a list"),
        ('"images"', "not COCO: it contains a str"),
        ("{}", 'it has no "images"'),
        ("9" * 5000, "digits"),
    ],
)
def test_a_file_that_is_not_coco(tmp_path: Path, text: str, expected: str) -> None:
    (write_data(tmp_path, {}) / FILE).write_text(text)
    with pytest.raises(DetrLiteError) as error:
        read_split(tmp_path, "train")
    message = str(error.value)
    assert message.startswith(f"{FILE}: ")
    assert expected in message
    assert "\n" not in message


def test_a_file_that_is_not_utf_8(tmp_path: Path) -> None:
    (write_data(tmp_path, {}) / FILE).write_bytes(b"\x80\x81 no text")
    with pytest.raises(DetrLiteError, match=rf"^{FILE}: not valid JSON .* damaged"):
        read_split(tmp_path, "train")


def test_a_file_without_permission_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_data(tmp_path, content_of_two_images())

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DetrLiteError, match=rf"^{FILE}: cannot be read \(Permission denied\); check {tmp_path}"):
        read_split(tmp_path, "train")


def test_missing_folders_and_files(tmp_path: Path) -> None:
    with pytest.raises(DetrLiteError, match=r"nowhere: no such data folder; .* --data\.root DIR$"):
        read_split(tmp_path / "nowhere", "train")
    with pytest.raises(DetrLiteError) as error:
        read_split(tmp_path, "train")
    assert str(error.value) == (
        f"{tmp_path}: contains no annotations/instances_train.json with train/ or "
        "annotations/instances_train2017.json with train2017/ or train/_annotations.coco.json with train/; "
        "give a dataset in COCO format with --data.root DIR"
    )

    root = write_data(tmp_path / "data", content_of_two_images())
    (root / "train/b.png").unlink()
    with pytest.raises(DetrLiteError, match=rf"train: 1 of the 2 images that {FILE} lists are missing \('b\.png'\)"):
        read_split(root, "train")
    (root / "train").rename(root / "pictures")
    with pytest.raises(DetrLiteError, match=rf"train: no such folder, but {FILE} expects its images there"):
        read_split(root, "train")


def test_many_missing_files_are_counted(tmp_path: Path) -> None:
    content = content_of_two_images()
    content["images"] += [{"id": 100 + n, "file_name": f"{n}.png", "width": 5, "height": 5} for n in range(9)]
    with pytest.raises(DetrLiteError, match=r"9 of the 11 images .* \('0\.png', '1\.png', '2\.png' and 6 more\); "):
        read_split(write_data(tmp_path, content), "train")


def test_a_linked_subfolder_outside_the_image_folder_is_refused(tmp_path: Path) -> None:
    content = content_of_two_images()
    content["images"][0]["file_name"] = "link/a.png"
    root = write_data(tmp_path / "data", content)
    (tmp_path / "outside").mkdir()
    (root / "train/a.png").rename(tmp_path / "outside/a.png")
    (root / "train/link").symlink_to(tmp_path / "outside")
    with pytest.raises(
        DetrLiteError, match=r"image 7 has file_name 'link/a\.png', which is outside of the image folder train/"
    ):
        read_split(root, "train")


def test_an_image_whose_size_differs_from_its_annotation(tmp_path: Path) -> None:
    content = content_of_two_images()
    content["images"][0] |= {"width": 41}
    split = read_split(write_data(tmp_path, content), "train")
    with pytest.raises(DetrLiteError, match=r"a\.png: the file is 40 x 30 pixels, .* say 41 x 30 "):
        CocoDetection(split, evaluation_transform(ResizeRule("longest", 64)))[0]
