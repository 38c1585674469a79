"""Sizes that the annotations have wrong or not at all, and turned photographs."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from detr_lite.data.reading import Reading
from detr_lite.data.records import Split
from tests.helpers.case_data import SIZE, CaseData, assert_equal_objects, draw_dataset, findings_of
from tests.helpers.case_images import redraw, share_of_boxes_on_their_object

Splits = dict[str, Split]


def sizes_are(**sizes: object) -> Callable[[CaseData], None]:
    def change(data: CaseData) -> None:
        for image in data.images():
            image.update(sizes)

    return change


def there_are_no_sizes(data: CaseData) -> None:
    for image in data.images():
        del image["width"], image["height"]


@pytest.mark.parametrize(
    ("fault", "train", "val"),
    [
        (there_are_no_sizes, ["noted no_size 8"], ["noted no_size 4"]),
        (sizes_are(width=0, height=0), ["noted no_size 8"], ["noted no_size 4"]),
        (sizes_are(width=96.0, height=72.0), [], []),
        (sizes_are(width=None), ["noted no_size 8"], ["noted no_size 4"]),
        (sizes_are(width=72, height=96), ["repaired swapped_size 8"], ["repaired swapped_size 4"]),
        (sizes_are(width="96", height="72"), ["noted quoted_sizes 8"], ["noted quoted_sizes 4"]),
    ],
)
def test_sizes_are_read_from_the_files(
    read_spoiled: Callable[..., Splits],
    sound: Splits,
    fault: Callable[[CaseData], None],
    train: list[str],
    val: list[str],
) -> None:
    splits = read_spoiled(fault)
    for name, split in splits.items():
        assert_equal_objects(split, sound[name])
    assert {name: findings_of(split) for name, split in splits.items()} == {"train": train, "val": val}


def test_an_image_that_is_one_pixel_narrower_is_a_note(read_spoiled: Callable[..., Splits]) -> None:
    def one_column_is_missing(data: CaseData) -> None:
        with Image.open(data.file(7)) as image:
            narrower = image.crop((0, 0, 95, 72))
        data.file(7).unlink()
        narrower.save(data.file(7), quality=92)

    train = read_spoiled(one_column_is_missing)["train"]
    assert [finding.action for finding in train.report.findings] == ["noted"]
    assert "train_006.jpg" in train.report.lines()[0]
    assert train.images.sizes_wh.tolist() == [[96, 72]] * 6 + [[95, 72]] + [[96, 72]]
    assert len(train.images.labels) == 16


def turned(orientation: int, as_shown: bool = True) -> Callable[[CaseData], None]:
    """Every image is stored turned, with the tag that makes viewers show it upright again."""
    back = {6: Image.Transpose.ROTATE_90, 3: Image.Transpose.ROTATE_180}[orientation]

    def turn(data: CaseData) -> None:
        exif = Image.Exif()
        exif[274] = orientation
        redraw(data, lambda image: image.transpose(back), quality=92, exif=exif)

    return turn


def test_sizes_as_viewers_show_them_settle_the_orientation(read_spoiled: Callable[..., Splits], sound: Splits) -> None:
    for name, split in read_spoiled(turned(6)).items():
        assert_equal_objects(split, sound[name])
        assert share_of_boxes_on_their_object(split) == 1.0


@pytest.mark.parametrize(("orientation", "size"), [(6, (80, 80)), (3, SIZE)])
def test_an_orientation_that_sizes_cannot_settle_is_noted_and_set(
    read_spoiled: Callable[..., Splits], tmp_path: Path, orientation: int, size: tuple[int, int]
) -> None:
    draw_dataset(tmp_path / "drawn", {"train": 12, "val": 4}, size)
    splits = read_spoiled(turned(orientation), source=tmp_path / "drawn")
    for split in splits.values():
        assert share_of_boxes_on_their_object(split) == 1.0
        (finding,) = split.report.findings
        assert finding.action == "noted"
        assert finding.count == len(split.images)
        assert "--data.orientation" in finding.text


@pytest.mark.parametrize(("orientation", "size"), [(6, (80, 80)), (3, SIZE)])
def test_pixels_are_used_as_stored_if_the_user_says_so(
    read_spoiled: Callable[..., Splits], tmp_path: Path, orientation: int, size: tuple[int, int]
) -> None:
    draw_dataset(tmp_path / "drawn", {"train": 12, "val": 4}, size)
    splits = read_spoiled(turned(orientation), Reading(orientation="stored"), source=tmp_path / "drawn")
    assert share_of_boxes_on_their_object(splits["train"]) < 0.5
