"""Reading YOLO's formats: Darknet, YOLOv5 to today, and folders with neither list nor names."""

from pathlib import Path

import hotcoco
import numpy as np
import pytest

from detr_lite.structures import DetrLiteError
from tests.helpers.format_files import draw, read, write

NAMES = "names: [cat, dog]\n"
BOX = "0 0.5 0.5 0.2 0.4\n"
IN_PIXELS = [40.0, 15.0, 20.0, 20.0]
"""`BOX` in an image of 100 x 50 pixels."""


def write_one(root: Path, line: str, yaml: str = NAMES, encoding: str = "utf-8") -> Path:
    """A dataset of one image with these lines."""
    draw(root / "images/train/a.jpg")
    write(root / "labels/train/a.txt", line, encoding)
    write(root / "data.yaml", f"train: images/train\n{yaml}")
    return root


def boxes_of(root: Path) -> list[tuple[str, list[float]]]:
    return read(root).objects["images/train/a.jpg"]


def test_boxes_are_those_of_hotcoco(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for place in range(6):
        draw(tmp_path / f"images/train/{place}.jpg", 90 + 7 * place, 61)
        center, size = generator.uniform(0.3, 0.7, (place, 2)), generator.uniform(0.01, 0.5, (place, 2))
        lines = [
            f"{number % 2} {x} {y} {w} {h}" for number, ((x, y), (w, h)) in enumerate(zip(center, size, strict=True))
        ]
        write(tmp_path / f"labels/train/{place}.txt", "\n".join(lines))
    write(tmp_path / "data.yaml", f"train: images/train\n{NAMES}")
    write(tmp_path / "labels/train/data.yaml", "nc: 2\nnames: [cat, dog]\n")
    expected = hotcoco.COCO.from_yolo(str(tmp_path / "labels/train"), str(tmp_path / "images/train")).dataset
    found = read(tmp_path).raw
    place_of = {image["id"]: int(Path(image["file_name"]).stem) for image in expected["images"]}
    rows = sorted([place_of[each["image_id"]], *each["bbox"]] for each in expected["annotations"])
    own = sorted(
        [int(Path(found.paths[i]).stem), *box] for i, box in zip(found.image_index, found.boxes_xywh, strict=True)
    )
    np.testing.assert_allclose(own, rows, atol=1e-9)
    assert len(own) == 15
    sizes = {place_of[image["id"]]: (image["width"], image["height"]) for image in expected["images"]}
    assert [sizes[place] for place in range(6)] == [tuple(size) for size in found.sizes_wh.tolist()]


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("images/train", "labels/train"),
        ("train/images", "train/labels"),
        ("train", "train"),
        ("train", "train/labels"),
        ("train", "labels/train"),
        ("JPEGImages/train", "labels/train"),
    ],
)
@pytest.mark.parametrize("has_yaml", [True, False])
def test_labels_are_found_in_every_usual_place(tmp_path: Path, images: str, labels: str, has_yaml: bool) -> None:
    for split in ("train", "val"):
        place = images.replace("train", split)
        draw(tmp_path / place / "a.jpg")
        draw(tmp_path / place / "without.png")
        write(tmp_path / labels.replace("train", split) / "a.txt", BOX)
    if has_yaml:
        write(tmp_path / "data.yaml", f"train: {images}\nval: {images.replace('train', 'val')}\n{NAMES}")
    for split in ("train", "val"):
        found = read(tmp_path, split)
        place = images.replace("train", split)
        name = "cat" if has_yaml else "class 0"
        assert found.objects == {f"{place}/a.jpg": [(name, IN_PIXELS)], f"{place}/without.png": []}
    assert list(found.source.splits) == ["train", "val"]


@pytest.mark.parametrize("path", ["", ".", "{root}", "/home/somebody/datasets/old", "C:\\data\\old", "../datasets/old"])
@pytest.mark.parametrize(
    "entry",
    [
        *("images/train", "./images/train/", "../images/train", "[images/train]", "images\\train", "train.txt"),
        "/home/somebody/datasets/old/images/train",
    ],
)
def test_a_moved_dataset_is_found_beside_its_yaml(tmp_path: Path, path: str, entry: str) -> None:
    write_one(tmp_path, BOX)
    write(tmp_path / "train.txt", "./images/train/a.jpg\n")
    write(tmp_path / "data.yaml", f"path: {path.format(root=tmp_path)}\ntrain: {entry}\n{NAMES}")
    assert boxes_of(tmp_path) == [("cat", IN_PIXELS)]
    assert boxes_of(tmp_path / "data.yaml") == [("cat", IN_PIXELS)]


@pytest.mark.parametrize(
    "entries", ["train: ../train/images\nval: ../valid/images", "train: train/images\nval: nowhere"]
)
def test_splits_are_not_mixed_where_the_yaml_has_other_folders(tmp_path: Path, entries: str) -> None:
    """What is left of "../train/images", "images", holds the images of both splits."""
    write_one(tmp_path, BOX)
    draw(tmp_path / "images/val/b.jpg")
    write(tmp_path / "labels/val/b.txt", BOX)
    write(tmp_path / "data.yaml", f"{entries}\n{NAMES}")
    assert list(read(tmp_path).objects) == ["images/train/a.jpg"]
    assert list(read(tmp_path, "val").objects) == ["images/val/b.jpg"]


def test_a_split_of_the_yaml_that_is_not_there_is_named(tmp_path: Path) -> None:
    write_one(tmp_path, BOX)
    write(tmp_path / "data.yaml", f"train: images/train\nval: ../valid/images\ntest: ../test/images\n{NAMES}")
    found = read(tmp_path)
    assert list(found.source.splits) == ["train"]
    findings = [finding for finding in found.report.findings if finding.kind == "split_not_found"]
    assert [finding.entries for finding in findings] == [("val: ../valid/images",)]


def test_labels_are_found_in_folders_of_another_case(tmp_path: Path) -> None:
    draw(tmp_path / "Images/Train/a.jpg")
    write(tmp_path / "Labels/Train/a.txt", BOX)
    write(tmp_path / "data.yaml", NAMES)
    assert read(tmp_path).objects == {"Images/Train/a.jpg": [("cat", IN_PIXELS)]}


def test_a_yaml_that_is_named_itself_may_lead_to_another_folder(tmp_path: Path) -> None:
    write_one(tmp_path / "datasets/pets", BOX)
    yaml = write(
        tmp_path / "yamls/pets.yaml", f"path: ../datasets/pets\ntrain: images/train\nval: images/train\n{NAMES}"
    )
    found = read(yaml)
    assert found.source.root.resolve() == tmp_path / "datasets/pets"
    assert found.objects == {"images/train/a.jpg": [("cat", IN_PIXELS)]}


def test_a_dataset_in_a_folder_of_its_own(tmp_path: Path) -> None:
    write_one(tmp_path / "unpacked", BOX)
    draw(tmp_path / "__MACOSX/unpacked/images/train/a.jpg")
    draw(tmp_path / "unpacked/images/train/._a.jpg")
    assert read(tmp_path).objects == {"unpacked/images/train/a.jpg": [("cat", IN_PIXELS)]}


@pytest.mark.parametrize(
    ("yaml", "names"),
    [
        ("names: [cat, dog]", ["cat", "dog"]),
        ("nc: 2\nnames:\n- cat\n- dog", ["cat", "dog"]),
        ("names: {0: cat, 1: dog}", ["cat", "dog"]),
        ("names:\n  0: 'no'\n  1: yes", ["no", "yes"]),
        ("names: [0, 1]", ["0", "1"]),
        ("names: [cat, cat]", ["cat"]),
        ("names: pets.names", ["cat", "dog"]),
    ],
)
def test_names(tmp_path: Path, yaml: str, names: list[str]) -> None:
    write(tmp_path / "pets.names", "cat\r\ndog\r\n")
    root = write_one(tmp_path, "1 0.5 0.5 0.2 0.4", yaml)
    assert read(root).names == names
    assert boxes_of(root) == [(names[-1], IN_PIXELS)]


@pytest.mark.parametrize("file", ["classes.txt", "labels/classes.txt", "labels/train/classes.txt", "obj.names"])
def test_names_in_a_file_of_their_own(tmp_path: Path, file: str) -> None:
    draw(tmp_path / "images/train/a.jpg")
    write(tmp_path / "labels/train/a.txt", BOX)
    write(tmp_path / file, "cat\ndog\n\n")
    assert read(tmp_path).names == ["cat", "dog"]
    assert boxes_of(tmp_path) == [("cat", IN_PIXELS)]


def test_darknet(tmp_path: Path) -> None:
    draw(tmp_path / "obj_train_data/a.jpg")
    draw(tmp_path / "obj_train_data/b.jpg")
    write(tmp_path / "obj_train_data/a.txt", BOX)
    write(tmp_path / "obj.names", "cat\ndog\n")
    write(tmp_path / "obj.data", "classes = 2\ntrain = data/train.txt\nvalid = data/val.txt\nnames = data/obj.names\n"
          "backup = backup/")  # fmt: skip
    write(tmp_path / "train.txt", "data/obj_train_data/a.jpg\n")
    write(tmp_path / "val.txt", "data/obj_train_data/b.jpg\n")
    assert read(tmp_path).objects == {"obj_train_data/a.jpg": [("cat", IN_PIXELS)]}
    assert read(tmp_path, "val").objects == {"obj_train_data/b.jpg": []}


def test_without_names_classes_have_numbers_that_all_splits_share(tmp_path: Path) -> None:
    for split, number in (("train", 3), ("val", 1)):
        draw(tmp_path / f"{split}/a.jpg")
        write(tmp_path / f"{split}/a.txt", BOX.replace("0 ", f"{number} ", 1))
    for split, name in (("train", "class 3"), ("val", "class 1")):
        found = read(tmp_path, split)
        assert [(category.id, category.name) for category in found.raw.categories] == [(1, "class 1"), (3, "class 3")]
        assert found.objects == {f"{split}/a.jpg": [(name, IN_PIXELS)]}
        assert "no_class_names" in found.findings
    assert found.findings["untrained_class"].entries == ("class 1",)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (BOX, None),
        ("0.0 0.5 0.5 0.2 0.4", None),
        ("  0\t0.5  0.5 0.2 0.4  \r\n\r\n", None),
        ("\ufeff" + BOX, None),
        ("# cat\n" + BOX, None),
        ("0,0.5,0.5,0.2,0.4", "commas"),
        ("0, 0.5, 0.5, 0.2, 0.4", "commas"),
        ("0 0,5 0,5 0,2 0,4", "commas"),
        ("cat 0.5 0.5 0.2 0.4", "named_class"),
        ("0 0.5 0.5 0.2 0.4 0.93", "confidence"),
        ("0 0.4 0.3 0.6 0.3 0.6 0.7 0.4 0.7", "polygon"),
        ("0 0.4 0.5 0.6 0.3 0.5 0.7", "polygon"),
        ("0 0.4 0.3 0.6 0.3 0.6 0.7 0.4 0.7 0.4 0.3", "polygon"),
        ("0 0.5 0.5 0.2 0.4 0.45 0.5 2", "keypoints"),
        ("0 0.5 0.5 0.2 0.4 0.45 0.5 2 0 0 0", "keypoints"),
    ],
)
def test_lines_that_mean_one_box(tmp_path: Path, line: str, kind: str | None) -> None:
    found = read(write_one(tmp_path, line))
    assert found.objects["images/train/a.jpg"] == [("cat", IN_PIXELS)]
    assert list(found.findings) == ([] if kind is None else [kind])
    assert not found.report.refusals()


def test_keypoints_of_two_values_need_the_shape(tmp_path: Path) -> None:
    found = read(write_one(tmp_path, "0 0.5 0.5 0.2 0.4 0.1 0.9 0.8 0.2", NAMES + "kpt_shape: [2, 2]"))
    assert found.objects["images/train/a.jpg"] == [("cat", IN_PIXELS)]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("0 0.5 0.5 0.2", "wrong_count"),
        ("0 0.5 0.5 0.2 0.4 17", "wrong_count"),
        ("0", "wrong_count"),
        ("0 0.5 0.5 0.2 x", "not_numbers"),
        ("0 nan 0.5 0.2 0.4", "not_numbers"),
        ("0 inf 0.5 0.2 0.4", "not_numbers"),
        ("horse 0.5 0.5 0.2 0.4", "no_class"),
        ("-1 0.5 0.5 0.2 0.4", "no_class"),
        ("0.5 0.5 0.5 0.2 0.4", "no_class"),
        ("99999999999999999999 0.5 0.5 0.2 0.4", "no_class"),
        (",", "no_class"),
        ("0 50 25 20 20", "pixels"),
    ],
)
def test_lines_without_a_meaning_are_left_out_with_their_place(tmp_path: Path, line: str, kind: str) -> None:
    found = read(write_one(tmp_path, BOX * 10 + line))
    assert found.objects["images/train/a.jpg"] == [("cat", IN_PIXELS)] * 10
    finding = found.findings[kind]
    assert (finding.action, finding.entries) == ("skipped", ("labels/train/a.txt line 11",))
    assert found.report.totals == {"image": 1, "annotation": 11}
    assert not found.report.refusals()


def test_what_would_be_repaired_can_be_left_out_or_refused(tmp_path: Path) -> None:
    root = write_one(tmp_path, BOX + "0,0.5,0.5,0.2,0.4")
    assert len(read(root, on_fault="skip").raw.labels) == 1
    assert read(root, on_fault="refuse").report.refusals()


def test_pixels_throughout_are_refused(tmp_path: Path) -> None:
    refusals = read(write_one(tmp_path, "0 50 25 20 20\n" * 3)).report.refusals()
    assert "boxes are in pixels" in refusals[0]
    assert "labels/train/a.txt line 1" in refusals[0]


def write_boxes(root: Path, boxes: np.ndarray) -> Path:
    return write_one(root, "".join(f"0 {a:.6f} {b:.6f} {c:.6f} {d:.6f}\n" for a, b, c, d in boxes))


def corners_within(number: int, seed: int = 0) -> np.ndarray:
    """Random boxes within the image, as two corners in shares of it."""
    generator = np.random.default_rng(seed)
    sizes = generator.uniform(0.03, 0.4, (number, 2))
    low = generator.uniform(0, 1 - sizes)
    return np.concatenate([low, low + sizes], axis=1)


@pytest.mark.parametrize("number", [100, 400])
def test_other_numbers_than_center_and_size_are_refused(tmp_path: Path, number: int) -> None:
    corners = corners_within(number)
    sizes = corners[:, 2:] - corners[:, :2]
    for name, boxes, expected in [
        ("corners", corners, "two corners"),
        ("corner_and_size", np.concatenate([corners[:, :2], sizes], axis=1), "upper left corner and the size"),
    ]:
        (refusal,) = read(write_boxes(tmp_path / name, boxes)).report.refusals()
        assert expected in refusal, name


@pytest.mark.parametrize("kind", ["within", "large", "full", "amodal", "sloppy"])
def test_honest_centers_and_sizes_are_not_refused(tmp_path: Path, kind: str) -> None:
    generator = np.random.default_rng(1)
    corners = corners_within(300, 2)
    centers, sizes = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
    if kind == "large":
        sizes = generator.uniform(0.6, 1, (300, 2))
        centers = generator.uniform(sizes / 2, 1 - sizes / 2)
    elif kind == "full":
        centers, sizes = np.full((300, 2), 0.5), np.ones((300, 2))
    elif kind == "amodal":
        centers = generator.uniform(0, 1, (300, 2))
    elif kind == "sloppy":
        centers = np.clip(centers + generator.normal(0, 0.1, (300, 2)), 0, 1)
    assert read(write_boxes(tmp_path, np.concatenate([centers, sizes], axis=1))).report.refusals() == []


@pytest.mark.parametrize(("numbers", "remedy"), [((1, 2), "count classes from 0"), ((0, 7), "add their names")])
def test_numbers_without_a_name_are_refused(tmp_path: Path, numbers: tuple[int, ...], remedy: str) -> None:
    lines = "\n".join(BOX.replace("0", str(number), 1).strip() for number in numbers)
    refusal = read(write_one(tmp_path, lines)).report.refusals()[0]
    assert f"go up to {numbers[-1]}" in refusal
    assert remedy in refusal
    assert "labels/train/a.txt line 2" in refusal


def test_images_without_labels_have_no_objects_but_none_with_is_refused(tmp_path: Path) -> None:
    root = write_one(tmp_path, "")
    draw(root / "images/train/b.jpg")
    assert read(root).objects == {"images/train/a.jpg": [], "images/train/b.jpg": []}
    assert not read(root).report.findings
    (root / "labels/train/a.txt").unlink()
    refusal = read(root).report.refusals()[0]
    assert "none of the 2 images has a label file; images/train/a.jpg needs its labels" in refusal


def test_labels_without_an_image_are_counted(tmp_path: Path) -> None:
    root = write_one(tmp_path, BOX)
    write(root / "labels/train/gone.txt", BOX)
    write(root / "labels/train/classes.txt", "cat\ndog\n")
    found = read(root)
    assert found.findings["missing_image"].entries == ("labels/train/gone.txt",)
    assert found.report.totals["image"] == 2
    assert len(found.raw.paths) == 1


@pytest.mark.parametrize("orientation", [6, 8, 5, 7])
def test_boxes_are_shares_of_the_upright_image(tmp_path: Path, orientation: int) -> None:
    draw(tmp_path / "images/train/a.jpg", 50, 100, orientation)
    write(tmp_path / "labels/train/a.txt", BOX)
    found = read(tmp_path)
    assert found.raw.sizes_wh.tolist() == [[100, 50]]
    assert found.objects["images/train/a.jpg"] == [("class 0", IN_PIXELS)]


def test_an_unreadable_image_has_no_size(tmp_path: Path) -> None:
    root = write_one(tmp_path, BOX)
    write(root / "images/train/a.jpg", "no image")
    found = read(root)
    assert np.isnan(found.raw.sizes_wh).all()
    assert np.isnan(found.raw.boxes_xywh).all()


def test_an_image_that_a_list_names_need_not_exist(tmp_path: Path) -> None:
    root = write_one(tmp_path, BOX)
    write(root / "train.txt", "images/train/a.jpg\nimages/train/a.jpg\nimages/train/gone.jpg\n")
    write(root / "data.yaml", "train: train.txt\n" + NAMES)
    found = read(root)
    assert [Path(path).exists() for path in found.raw.paths] == [True, False]


@pytest.mark.parametrize(
    "text", ["names: [cat\n", "train: images/train\nnames: {a: b}\n", "[" * 3000, "a: &a [*a]\n- b"]
)
@pytest.mark.slow
def test_a_damaged_yaml_is_named(tmp_path: Path, text: str) -> None:
    write_one(tmp_path, BOX)
    write(tmp_path / "data.yaml", text)
    with pytest.raises(DetrLiteError, match=r"^data\.yaml: .*correct it$"):
        read(tmp_path)


def test_a_yaml_of_something_else_is_passed_over(tmp_path: Path) -> None:
    write_one(tmp_path, BOX)
    write(tmp_path / "config.yaml", "model: large\n")
    write(tmp_path / "broken.yaml", "a: [\n")
    assert boxes_of(tmp_path) == [("cat", IN_PIXELS)]


def test_cached_results_depend_on_labels_lists_and_folders(tmp_path: Path) -> None:
    source = read(write_one(tmp_path, BOX)).source
    files = {path.relative_to(tmp_path).as_posix() for path in source.files("train")}
    assert files == {"data.yaml", "images/train", "labels/train", "labels/train/a.txt"}
