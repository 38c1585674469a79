"""Lists of classes as people have them: numbers for names, line ends, repeated names, other orders, gaps."""

from collections.abc import Callable
from typing import Any

import pytest

from detr_lite.data.records import Split
from tests.helpers.case_data import CaseData, assert_equal_objects, findings_of, true_objects

Splits = dict[str, Split]


def names_of(split: Split) -> list[str]:
    return [category.name for category in split.categories]


def rename(data: CaseData, *names: object) -> None:
    for content in data.both:
        content["categories"] = [
            {**category, "name": name} for category, name in zip(content["categories"], names, strict=True)
        ]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ((1, 2), ["1", "2"]),
        (("box", "disc\r\n"), ["box", "disc"]),
        ((" box", "disc\t"), ["box", "disc"]),
        (("box/crate", "圆盘 🥏"), ["box/crate", "圆盘 🥏"]),
    ],
)
def test_names_become_text_without_space_around_it(
    read_spoiled: Callable[..., Splits], sound: Splits, written: tuple[Any, ...], read: list[str]
) -> None:
    splits = read_spoiled(lambda data: rename(data, *written))
    for name, split in splits.items():
        assert names_of(split) == read
        assert split.ground_truth.labels.tolist() == sound[name].ground_truth.labels.tolist()
        assert {finding.action for finding in split.report.findings} <= {"noted", "repaired"}


def test_two_ids_of_one_name_are_one_class(read_spoiled: Callable[..., Splits], sound: Splits) -> None:
    def a_name_is_listed_twice(data: CaseData) -> None:
        for content in data.both:
            content["categories"] = [*content["categories"], {"id": 3, "name": "box", "supercategory": "other"}]
            content["annotations"][0]["category_id"] = 3

    splits = read_spoiled(a_name_is_listed_twice)
    for name, split in splits.items():
        assert names_of(split) == ["box", "disc"]
        assert_equal_objects(split, sound[name])
        assert [finding.action for finding in split.report.findings] == ["noted"]


def test_roboflows_entry_for_the_project_is_no_class(read_spoiled: Callable[..., Splits], sound: Splits) -> None:
    """An export of one class, of the same name as the project; annotation ids from 0, no test split."""

    def export_of_one_class(data: CaseData) -> None:
        for content in data.both:
            content["categories"] = [
                {"id": 0, "name": "box", "supercategory": "none"},
                {"id": 1, "name": "box", "supercategory": "box"},
            ]
            content["annotations"] = [each for each in content["annotations"] if each["category_id"] == 1]
            for number, annotation in enumerate(content["annotations"]):
                annotation["id"] = number
        (data.root / "val").rename(data.root / "valid")
        data.names = {"train": "train/_annotations.coco.json", "val": "valid/_annotations.coco.json"}

    for name, split in read_spoiled(export_of_one_class).items():
        assert names_of(split) == ["box"]
        assert true_objects(split) == [each for each in true_objects(sound[name]) if each[1] == "box"]


def test_validation_need_not_list_every_class(read_spoiled: Callable[..., Splits], sound: Splits) -> None:
    def training_has_a_class_more(data: CaseData) -> None:
        data.train["categories"] = [*data.train["categories"], {"id": 3, "name": "ring"}]
        data.train["annotations"][0]["category_id"] = 3

    splits = read_spoiled(training_has_a_class_more)
    assert splits["train"].categories == splits["val"].categories
    assert names_of(splits["val"]) == ["box", "disc", "ring"]
    assert_equal_objects(splits["val"], sound["val"])


def test_validation_may_list_a_class_without_objects(read_spoiled: Callable[..., Splits], sound: Splits) -> None:
    def validation_lists_a_class_more(data: CaseData) -> None:
        data.val["categories"] = [{"id": 0, "name": "ring"}, *data.val["categories"]]

    splits = read_spoiled(validation_lists_a_class_more)
    assert names_of(splits["val"]) == ["box", "disc"]
    assert_equal_objects(splits["val"], sound["val"])


def test_classes_of_two_files_are_joined_by_name(read_spoiled: Callable[..., Splits], sound: Splits) -> None:
    def validation_has_other_ids_in_another_order(data: CaseData) -> None:
        data.val["categories"] = [{"id": 1, "name": "disc"}, {"id": 2, "name": "box"}]
        for annotation in data.val["annotations"]:
            annotation["category_id"] = 3 - annotation["category_id"]

    splits = read_spoiled(validation_has_other_ids_in_another_order)
    assert splits["val"].categories == splits["train"].categories
    assert_equal_objects(splits["val"], sound["val"])
    assert splits["val"].images.labels.tolist() == sound["val"].images.labels.tolist()


def test_objects_of_a_class_that_training_lacks_are_refused(refusals: Callable[..., str]) -> None:
    def validation_has_an_object_more(data: CaseData) -> None:
        data.val["categories"] = [*data.val["categories"], {"id": 7, "name": "ring"}]
        data.val["annotations"][0]["category_id"] = 7

    message = refusals(validation_has_an_object_more)
    assert message.startswith("annotations/instances_val.json: ")
    assert "ring" in message


def test_a_category_that_the_file_does_not_list_is_refused(refusals: Callable[..., str]) -> None:
    def an_object_of_category_0(data: CaseData) -> None:
        data.train["annotations"][4]["category_id"] = 0

    message = refusals(an_object_of_category_0)
    assert message.startswith("annotations/instances_train.json: ")
    assert "annotation 5" in message
    assert '"categories" does not list' in message or "not listed" in message


def test_a_file_without_categories_is_refused(refusals: Callable[..., str]) -> None:
    def there_are_no_categories(data: CaseData) -> None:
        for content in data.both:
            del content["categories"]

    message = refusals(there_are_no_categories)
    for split in ("train", "val"):
        assert f'annotations/instances_{split}.json: there are no "categories"' in message


def test_many_classes_with_gaps_in_their_ids_are_kept(read_spoiled: Callable[..., Splits], sound: Splits) -> None:
    def there_are_1203_classes(data: CaseData) -> None:
        others = [{"id": 10 + 3 * number, "name": f"thing {number}"} for number in range(1201)]
        for content in data.both:
            content["categories"] = [*content["categories"], *others]

    splits = read_spoiled(there_are_1203_classes)
    for name, split in splits.items():
        assert len(split.categories) == 1203
        assert_equal_objects(split, sound[name])
        assert {action.split()[0] for action in findings_of(split)} <= {"noted"}
