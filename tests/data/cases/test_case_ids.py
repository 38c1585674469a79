"""Ids of any kind cost nothing: the objects are those of the sound dataset, and the ids that go out are the file's."""

import hashlib
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detr_lite.data.records import Split
from tests.helpers.case_data import CaseData, assert_equal_objects

Splits = dict[str, Split]


def number_images(data: CaseData, id_of: Callable[[dict[str, Any]], object]) -> None:
    for content in data.both:
        ids = {image["id"]: id_of(image) for image in content["images"]}
        for image in content["images"]:
            image["id"] = ids[image["id"]]
        for annotation in content["annotations"]:
            annotation["image_id"] = ids[annotation["image_id"]]


def stem(image: dict[str, Any]) -> str:
    return Path(image["file_name"]).stem


def hashed(image: dict[str, Any]) -> int:
    """64 bits, half of them above 2**63."""
    return int.from_bytes(hashlib.sha256(image["file_name"].encode()).digest()[:8])


def image_ids_are_names(data: CaseData) -> None:
    number_images(data, stem)


def image_ids_are_64_bit_hashes(data: CaseData) -> None:
    number_images(data, hashed)


def image_ids_begin_at_0(data: CaseData) -> None:
    number_images(data, lambda image: image["id"] - 1)


def all_ids_are_floats(data: CaseData) -> None:
    for content in data.both:
        for entry in (*content["images"], *content["annotations"], *content["categories"]):
            entry.update({key: float(entry[key]) for key in ("id", "image_id", "category_id") if key in entry})


def annotation_ids_are_uuids(data: CaseData) -> None:
    for number, annotation in enumerate(data.annotations()):
        annotation.update(id=str(uuid.UUID(int=number)), segmentation=None)


def annotations_have_no_ids(data: CaseData) -> None:
    for annotation in data.annotations():
        del annotation["id"]


def an_annotation_id_is_repeated(data: CaseData) -> None:
    for content in data.both:
        content["annotations"][3]["id"] = content["annotations"][2]["id"]


def annotation_ids_begin_at_0(data: CaseData) -> None:
    for annotation in data.annotations():
        annotation["id"] -= 1


KINDS_OF_IDS = (
    image_ids_are_names,
    image_ids_are_64_bit_hashes,
    image_ids_begin_at_0,
    all_ids_are_floats,
    annotation_ids_are_uuids,
    annotations_have_no_ids,
    an_annotation_id_is_repeated,
    annotation_ids_begin_at_0,
)


@pytest.mark.parametrize("fault", KINDS_OF_IDS)
def test_ids_of_any_kind_leave_every_object(
    read_spoiled: Callable[..., Splits], sound: Splits, fault: Callable[[CaseData], None]
) -> None:
    splits = read_spoiled(fault)
    for name, split in splits.items():
        assert_equal_objects(split, sound[name])
        assert {finding.action for finding in split.report.findings} <= {"noted"}


@pytest.mark.parametrize(
    ("fault", "id_of"),
    [
        (image_ids_are_names, stem),
        (image_ids_are_64_bit_hashes, hashed),
        (image_ids_begin_at_0, lambda image: image["id"] - 1),
        (all_ids_are_floats, lambda image: image["id"]),
        (annotation_ids_are_uuids, lambda image: image["id"]),
    ],
)
def test_the_ids_of_images_that_go_out_are_those_of_the_file(
    read_spoiled: Callable[..., Splits], fault: Callable[[CaseData], None], id_of: Callable[[dict[str, Any]], Any]
) -> None:
    ids = read_spoiled(fault)["val"].image_ids
    expected = [id_of({"id": number, "file_name": f"val_{number - 1:03}.jpg"}) for number in range(1, 5)]
    assert list(ids) == expected
    assert [type(id) for id in ids] == [type(id) for id in expected]
