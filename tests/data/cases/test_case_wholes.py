"""Datasets that are wrong or unusual as a whole: what would teach something false is refused, the rest is said."""

from collections.abc import Callable
from pathlib import Path

import pytest

from detr_lite.data.reading import Reading, read_split
from detr_lite.data.records import Split
from detr_lite.structures import DetrLiteError
from tests.helpers.case_data import SIZE, CaseData, assert_equal_objects, findings_of

Splits = dict[str, Split]


NOTHING = "no image has an object that can be learned"


def corners_for_sizes(data: CaseData) -> None:
    for annotation in data.annotations():
        x, y, width, height = annotation["bbox"]
        annotation["bbox"] = [x, y, x + width, y + height]


def boxes_between_0_and_1(data: CaseData) -> None:
    for annotation in data.annotations():
        x, y, width, height = annotation["bbox"]
        annotation["bbox"] = [x / SIZE[0], y / SIZE[1], width / SIZE[0], height / SIZE[1]]
        del annotation["area"]


def nothing_is_annotated(data: CaseData) -> None:
    data.train["annotations"] = []


def everything_is_a_crowd(data: CaseData) -> None:
    for annotation in data.train["annotations"]:
        annotation["iscrowd"] = 1


def every_object_is_a_click(data: CaseData) -> None:
    for annotation in data.train["annotations"]:
        annotation["bbox"][2:] = [0, 0]


def every_box_is_alike(data: CaseData) -> None:
    for annotation in data.annotations():
        annotation.update(bbox=[10.0, 10.0, 30.0, 30.0], category_id=1)


def every_image_is_listed_once_per_object(data: CaseData) -> None:
    for content in data.both:
        names = {image["id"]: image for image in content["images"]}
        content["images"] = [
            {**names[annotation["image_id"]], "id": annotation["id"]} for annotation in content["annotations"]
        ]
        for annotation in content["annotations"]:
            annotation["image_id"] = annotation["id"]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (corners_for_sizes, ["corners"]),
        (boxes_between_0_and_1, ["between 0 and 1"]),
        (nothing_is_annotated, [NOTHING, "no annotations"]),
        (everything_is_a_crowd, [NOTHING, "crowd"]),
        (every_object_is_a_click, [NOTHING, "without area"]),
        (every_box_is_alike, ["annotated alike"]),
    ],
)
def test_what_would_teach_something_false_is_refused(
    refusals: Callable[..., str], larger_data: Path, fault: Callable[[CaseData], None], words: list[str]
) -> None:
    message = refusals(fault, source=larger_data)
    assert message.startswith("annotations/instances_train.json: ")
    for word in words:
        assert word in message


def test_images_that_are_listed_once_per_object_are_joined(read_spoiled: Callable[..., Splits], sound: Splits) -> None:
    splits = read_spoiled(every_image_is_listed_once_per_object)
    for name, count in (("train", 16), ("val", 8)):
        assert_equal_objects(splits[name], sound[name])
        assert findings_of(splits[name]) == [f"repaired repeated_image {count}"]


def test_validation_without_objects_is_accepted_and_known(read_spoiled: Callable[..., Splits], sound: Splits) -> None:
    splits = read_spoiled(lambda data: data.val.update(annotations=[]))
    assert_equal_objects(splits["train"], sound["train"])
    assert splits["train"].has_objects
    assert not splits["val"].has_objects
    assert len(splits["val"].images) == 4


def test_one_image_for_both_is_learned_by_heart(read_spoiled: Callable[..., Splits]) -> None:
    def one_image_of_one_class(data: CaseData) -> None:
        for content in data.both:
            content["categories"] = content["categories"][:1]
            content["images"] = content["images"][:1]
            content["annotations"] = content["annotations"][:1]

    for split in read_spoiled(one_image_of_one_class).values():
        assert (len(split.images), len(split.images.labels), len(split.categories)) == (1, 1, 1)
        assert findings_of(split) == []


def test_images_without_objects_may_be_most(read_spoiled: Callable[..., Splits]) -> None:
    def only_the_last_has_objects(data: CaseData) -> None:
        data.train["annotations"] = data.train["annotations"][-2:]

    train = read_spoiled(only_the_last_has_objects)["train"]
    assert train.images.counts.tolist() == [0] * 7 + [2]
    assert {finding.action for finding in train.report.findings} <= {"noted"}


def a_grid_of_400(data: CaseData) -> None:
    for content in data.both:
        content["annotations"] = [
            {
                "id": number + 1,
                "image_id": 1,
                "category_id": 1,
                "bbox": [4 + 4.4 * (number % 20), 2 + 3.4 * (number // 20), 3, 2],
            }
            for number in range(400)
        ]


def test_dense_images_are_kept(read_spoiled: Callable[..., Splits]) -> None:
    for split in read_spoiled(a_grid_of_400).values():
        assert len(split.ground_truth.labels) == 400
        assert split.images.counts[0] == 400
        assert {finding.action for finding in split.report.findings} <= {"noted"}


def test_refusing_any_fault_is_a_setting(spoil: Callable[..., Path]) -> None:
    def one_box_is_inverted(data: CaseData) -> None:
        data.train["annotations"][6]["bbox"][2:] = [-5.0, -5.0]

    root = spoil(one_box_is_inverted)
    assert len(read_split(root, "train", Reading("skip")).images.labels) == 15
    assert len(read_split(root, "train", Reading("repair")).images.labels) == 16
    with pytest.raises(DetrLiteError, match="annotation 7"):
        read_split(root, "train", Reading("refuse"))
