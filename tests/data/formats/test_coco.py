"""COCO annotation files as arrays: sound ones as pycocotools reads them, and what becomes of every kind of fault."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from detr_lite.structures import DetrLiteError
from tests.helpers.coco_files import Content, actions, changed, read_raw, text_of, two_images, write_coco

Change = Callable[[Content], object]


def test_a_sound_file_is_read_as_by_pycocotools(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    content: Content = {
        "images": [{"id": 3 * n + 1, "file_name": f"{n}.png", "width": 90, "height": 60 + n} for n in range(20)],
        "annotations": [
            {
                "id": n, "image_id": 3 * int(random.integers(20)) + 1, "category_id": int(random.choice([5, 9, 200])),
                "bbox": random.uniform(1, 30, 4).tolist(), "area": float(random.uniform(1, 9)),
                "iscrowd": int(random.random() < 0.2), "segmentation": [[1, 2, 3, 4, 5, 6]],
            }
            for n in range(1, 101)
        ],
        "categories": [{"id": id, "name": f"c{id}"} for id in (200, 5, 9)],
    }  # fmt: skip
    root = write_coco(tmp_path, content, images=[f"train/{n}.png" for n in range(20)])
    raw, report = read_raw(root)
    assert report.findings == []
    assert report.totals == {"image": 20, "annotation": 100}

    coco = COCO(str(root / "annotations/instances_train.json"))
    assert [(category.id, category.name) for category in raw.categories] == [
        (category["id"], category["name"]) for category in coco.loadCats(sorted(coco.getCatIds()))
    ]
    assert raw.image_ids == [image["id"] for image in content["images"]]
    for place in range(100):
        (found,) = coco.loadAnns(place + 1)
        assert raw.image_ids[raw.image_index[place]] == found["image_id"]
        assert raw.categories[raw.labels[place]].id == found["category_id"]
        assert raw.boxes_xywh[place].tolist() == found["bbox"]
        assert raw.areas[place] == found["area"]
        assert raw.is_crowd[place] == bool(found["iscrowd"])
        assert raw.name_of(place) == f"annotation {place + 1}"
    assert raw.paths == [str(root / "train" / f"{n}.png") for n in range(20)]
    assert raw.sizes_wh.tolist() == [[90, 60 + n] for n in range(20)]


def test_area_and_iscrowd_may_be_left_out(tmp_path: Path) -> None:
    raw, report = read_raw(write_coco(tmp_path, two_images()))
    np.testing.assert_array_equal(raw.areas, [9.5, np.nan, np.nan])
    assert raw.is_crowd.tolist() == [False, False, True]
    assert report.findings == []


@pytest.mark.parametrize(
    "ids", [[0, 1, 2], ["a", "b", "c"], [1.0, 2.0, 3.0], [5, 5, 5], [None, [1], {}], [2**70, -4, "x"]]
)
def test_annotation_ids_are_of_no_consequence(tmp_path: Path, ids: list[Any]) -> None:
    def change(content: Content) -> None:
        for entry, id in zip(content["annotations"], ids, strict=True):
            entry["id"] = id

    raw, report = read_raw(changed(tmp_path, change))
    sound, _ = read_raw(write_coco(tmp_path / "sound", two_images()))
    assert report.findings == []
    np.testing.assert_array_equal(raw.boxes_xywh, sound.boxes_xywh)
    np.testing.assert_array_equal(raw.image_index, sound.image_index)


def test_annotations_without_an_id_are_called_by_their_place(tmp_path: Path) -> None:
    raw, _ = read_raw(changed(tmp_path, lambda content: [entry.pop("id") for entry in content["annotations"]]))
    assert raw.name_of(2) == 'entry 2 of "annotations"'


@pytest.mark.parametrize("id", [0, -5, 2**53 + 1, 2**63 + 5, 2**64 - 1, "train_000", "7.5", 7.0])
def test_image_ids_may_be_any_numbers_and_texts(tmp_path: Path, id: Any) -> None:
    def change(content: Content) -> None:
        content["images"][0]["id"] = content["annotations"][1]["image_id"] = content["annotations"][2]["image_id"] = id

    raw, report = read_raw(changed(tmp_path, change))
    assert raw.image_ids == [id, 3]
    assert type(raw.image_ids[0]) is (str if isinstance(id, str) else int)
    assert raw.image_index.tolist() == [1, 0, 0]
    assert actions(report) == ({"text_image_ids": "noted"} if isinstance(id, str) else {})


def test_numbers_in_quotes_are_converted_and_noted_once(tmp_path: Path) -> None:
    def change(content: Content) -> None:
        for entry in content["annotations"]:
            entry |= {key: str(entry[key]) for key in ("image_id", "category_id", "area", "iscrowd") if key in entry}
            entry["bbox"] = [str(number) for number in entry["bbox"]]
        content["annotations"][0]["bbox"] = "[1, 2, 3.0, 4]"
        content["images"][0] |= {"width": "40", "height": "30"}

    raw, report = read_raw(changed(tmp_path, change))
    sound, _ = read_raw(write_coco(tmp_path / "sound", two_images()))
    for field in ("image_index", "labels", "boxes_xywh", "areas", "is_crowd", "sizes_wh"):
        np.testing.assert_array_equal(getattr(raw, field), getattr(sound, field))
    assert actions(report) == {"quoted_sizes": "noted", "quoted_numbers": "noted"}
    assert report.findings[1].entries == ("annotation 16", "annotation 17", "annotation 18")


def test_an_id_in_quotes_is_not_converted_where_both_forms_are_listed(tmp_path: Path) -> None:
    def change(content: Content) -> None:
        content["images"][1]["id"] = "7"
        content["annotations"][0]["image_id"] = "7"

    raw, _ = read_raw(changed(tmp_path, change))
    assert raw.image_index.tolist() == [1, 0, 0]


def test_annotations_of_images_that_are_not_listed_are_left_out_and_cost_nothing(tmp_path: Path) -> None:
    def change(content: Content) -> None:
        content["annotations"] += [
            {"id": 20 + n, "image_id": 99, "category_id": 1, "bbox": [1, 1, 2, 2]} for n in (0, 1)
        ]

    raw, report = read_raw(changed(tmp_path, change))
    assert len(raw.labels) == 3
    assert actions(report) == {"unlisted_image": "noted"}
    assert "left out: 2 (annotation 20 of image 99, annotation 21 of image 99)" in text_of(report)
    assert report.refusals() == []


def test_image_ids_that_never_agree_are_refused(tmp_path: Path) -> None:
    def change(content: Content) -> None:
        for entry in content["annotations"]:
            entry["image_id"] = f"{entry['image_id']}.png"

    _, report = read_raw(changed(tmp_path, change))
    (refusal,) = report.refusals()
    assert refusal.startswith(
        "no annotation is of a listed image: annotations have the image_id '3.png', '7.png' and 1"
    )


@pytest.mark.parametrize("id", [9, None, [2], "bicycle", 2.5, True])
def test_an_unlisted_category_is_refused(tmp_path: Path, id: Any) -> None:
    _, report = read_raw(changed(tmp_path, lambda content: content["annotations"][1].update(category_id=id)))
    (refusal,) = report.refusals()
    assert refusal == (
        f'annotations have category_id {id!r}, which "categories" does not list; add it there, or remove the '
        "annotations: 1 (annotation 17)"
    )


def test_categories_are_listed_under_text_ids(tmp_path: Path) -> None:
    def change(content: Content) -> None:
        for entry in [*content["categories"], *content["annotations"]]:
            key = "id" if "name" in entry else "category_id"
            entry[key] = {90: "zahn", 2: "rad"}[entry[key]]

    raw, report = read_raw(changed(tmp_path, change))
    assert [(category.id, category.name) for category in raw.categories] == [(1, "toothbrush"), (2, "bicycle")]
    assert raw.labels.tolist() == [0, 1, 0]
    assert actions(report) == {"text_category_ids": "noted"}


def test_categories_of_one_name_are_one_class(tmp_path: Path) -> None:
    def change(content: Content) -> None:
        content["categories"] += [{"id": 1, "name": "toothbrush\r\n"}, {"id": 4, "name": 8}, {"id": 5}]
        content["annotations"][0]["category_id"] = 1

    raw, report = read_raw(changed(tmp_path, change))
    assert [category.name for category in raw.categories] == ["toothbrush", "bicycle", "8", "class 5"]
    assert raw.labels.tolist() == [0, 1, 0]
    assert actions(report) == {"category_names": "noted", "repeated_category": "noted"}


def test_lists_as_objects_keyed_by_id(tmp_path: Path) -> None:
    content = two_images()
    keyed: Content = {
        key: {str(entry["id"]): {name: value for name, value in entry.items() if name != "id"} for entry in entries}
        for key, entries in content.items()
    }
    keyed["categories"] = {"90": "toothbrush", "2": "bicycle"}
    raw, report = read_raw(write_coco(tmp_path, keyed))
    assert [(category.id, category.name) for category in raw.categories] == [(2, "bicycle"), (90, "toothbrush")]
    assert (raw.image_index.tolist(), raw.labels.tolist()) == ([1, 0, 0], [1, 0, 1])
    assert set(actions(report).values()) == {"noted"}


def test_an_empty_list_of_annotations_means_no_objects(tmp_path: Path) -> None:
    raw, report = read_raw(changed(tmp_path, lambda content: content.update(annotations=[])))
    assert (len(raw.labels), len(raw.names), report.findings) == (0, 2, [])


def test_a_file_without_annotations_is_refused(tmp_path: Path) -> None:
    raw, report = read_raw(changed(tmp_path, lambda content: content.pop("annotations")))
    assert (len(raw.labels), len(raw.names)) == (0, 2)
    assert actions(report) == {"no_annotations": "refused"}


def test_images_listed_once_for_each_object_are_joined(tmp_path: Path) -> None:
    def change(content: Content) -> None:
        content["images"] = [{"id": n, "file_name": "ab"[n % 2] + ".png", "width": 40, "height": 30} for n in range(6)]
        content["annotations"] = [
            {"id": n, "image_id": n, "category_id": 2, "bbox": [n, 1, 2, 3]} for n in (0, 3, 4, 5)
        ]

    raw, report = read_raw(changed(tmp_path, change))
    assert (raw.names, raw.image_ids) == (["a.png", "b.png"], [0, 1])
    assert (raw.image_index.tolist(), raw.boxes_xywh[:, 0].tolist()) == ([0, 1, 0, 1], [0, 3, 4, 5])
    assert actions(report) == {"repeated_image": "repaired"}


def test_an_image_listed_twice_under_one_id(tmp_path: Path) -> None:
    raw, report = read_raw(changed(tmp_path, lambda content: content["images"].append(content["images"][0])))
    assert (raw.image_ids, actions(report)) == ([7, 3], {"repeated_image_entry": "noted"})
    _, report = read_raw(changed(tmp_path, lambda content: content["images"][1].update(id=7)))
    assert "image ids are listed for several files" in report.refusals()[0]
    assert "7 of 'a.png' and 'b.png'" in report.refusals()[0]


@pytest.mark.parametrize("key", ["images", "annotations"])
def test_entries_that_are_no_objects_are_left_out(tmp_path: Path, key: str) -> None:
    raw, report = read_raw(changed(tmp_path, lambda content: content[key].insert(1, 5)))
    assert (len(raw.names), len(raw.labels)) == (2, 3)
    assert "left out: 1 (entry 1 is 5)" in text_of(report)
    assert report.refusals() != [], "more than 10%"
    assert raw.name_of(2) == "annotation 18"


REFUSED: dict[str, tuple[Change, str]] = {
    "no annotations": (lambda c: c.pop("annotations"), 'it has no "annotations"; add them'),
    "annotations null": (lambda c: c.update(annotations=None), 'it has no "annotations"'),
    "no images": (lambda c: c.update(images=[], annotations=[]), '"images" lists no image'),
    "no categories": (lambda c: c.pop("categories"), 'there are no "categories"; list a name for each id that annot'),
    "empty categories": (lambda c: c.update(categories=[]), "annotations have (90, 2)"),
    "category id of two names": (lambda c: c["categories"][1].update(id=90), "category id 90 is listed for 'toothb"),
    "category without id": (
        lambda c: c["categories"][1].pop("id"),
        "entry 1 of \"categories\", 'bicycle', has id None",
    ),
    "category no object": (lambda c: c["categories"].append("cup"), "entry 2 is 'cup'"),
    "escape in a name": (lambda c: c["categories"][1].update(name="a\x1bb"), "which contains control characters"),
    "long name": (lambda c: c["categories"][1].update(name="a" * 5000), "which is longer than 1,000 characters"),
    "no file": (lambda c: [image.update(file_name="x") for image in c["images"]], "none of the images is in"),
    "in the parent folder": (lambda c: c["images"][0].update(file_name="../../secret.png"), "names that lead out of"),
    "absolute": (lambda c: c["images"][0].update(file_name="/etc/hosts"), "names that lead out of the data folder"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_is_refused(tmp_path: Path, fault: str) -> None:
    change, expected = REFUSED[fault]
    _, report = read_raw(changed(tmp_path, change))
    refusals = " | ".join(report.refusals())
    assert expected in refusals
    assert "\n" not in refusals
    assert len(refusals) < 1000


def test_all_faults_of_a_file_are_said_at_once(tmp_path: Path) -> None:
    def change(content: Content) -> None:
        for fault in ("category id of two names", "in the parent folder"):
            REFUSED[fault][0](content)
        content["annotations"][0]["bbox"].append(1)

    _, report = read_raw(changed(tmp_path, change))
    refused = {finding.kind for finding in report.findings if finding.action == "refused"}
    assert {"repeated_category_id", "image_outside", "oriented_box"} <= refused


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([1, 2], "it looks like a list"),
        ("images", "it looks like a str"),
        ({}, "it looks like an empty object"),
        ({"images": 5}, 'its "images" are not a list'),
        ({"images": [], "annotations": "x"}, "its \"annotations\" are 'x', not a list"),
        (
            [{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5}],
            "a list of detections, without images",
        ),
        ({"type": "FeatureCollection", "features": []}, "it looks like a GeoJSON file"),
        ({"version": "5.0", "shapes": [], "imagePath": "a.png"}, "it looks like a LabelMe file"),
        ([{"data": {"image": "a.png"}, "annotations": []}], "it looks like a Label Studio export"),
        ([{"image": "a.png", "annotations": []}], "it looks like a CreateML file"),
        ({"a.png1": {"filename": "a.png", "regions": []}}, "it looks like a VGG Image Annotator (VIA) project"),
    ],
)
def test_json_that_is_not_coco_is_called_what_it_is(tmp_path: Path, content: Any, expected: str) -> None:
    with pytest.raises(DetrLiteError) as error:
        read_raw(write_coco(tmp_path, json.dumps(content)))
    message = str(error.value)
    assert message.startswith("annotations/instances_train.json: JSON, but not COCO: ")
    assert expected in message
    assert "\n" not in message
