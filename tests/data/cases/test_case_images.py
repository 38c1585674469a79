"""Image files: damaged ones, sizes that the annotations have wrong, turned photographs, unusual kinds of pixels."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detr_lite.data.dataset import DetectionDataset
from detr_lite.data.reading import Reading
from detr_lite.data.records import Split
from tests.helpers.case_data import BOX, SIZE, CaseData, assert_equal_objects, draw_dataset, findings_of

Splits = dict[str, Split]


def replace(path: Path, content: bytes) -> None:
    path.unlink()  # the sound dataset has the same file
    path.write_bytes(content)


def cut(data: CaseData, number: int, keep: float | int, split: str = "train") -> None:
    """Keep a share of an image's file, or all but some bytes (a negative number)."""
    content = data.file(number, split).read_bytes()
    replace(data.file(number, split), content[: keep if isinstance(keep, int) else int(keep * len(content))])


def redraw(data: CaseData, change: Callable[[Image.Image], Image.Image], suffix: str = ".jpg", **options: Any) -> None:
    """Save every image anew, changed, under a name that ends in `suffix`."""
    for split, content in (("train", data.train), ("val", data.val)):
        for image in content["images"]:
            path = data.root / split / image["file_name"]
            with Image.open(path) as opened:
                changed = change(opened.convert("RGB"))
            path.unlink()
            image["file_name"] = Path(image["file_name"]).stem + suffix
            changed.save(path.with_suffix(suffix), **options)


def pixels_of(split: Split) -> list[np.ndarray]:
    """The images as training sees them, before any transform: height, width, channel."""
    dataset = DetectionDataset(split, lambda image, boxes, labels: (_to_tensor(image), boxes, labels))
    return [image.permute(1, 2, 0).numpy() for image, _ in (dataset[index] for index in range(len(dataset)))]


def _to_tensor(image: Image.Image) -> Any:
    from torchvision.transforms.functional import pil_to_tensor

    return pil_to_tensor(image).float()


def share_of_boxes_on_their_object(split: Split) -> float:
    """Of the class that fills its box with one color."""
    hits = []
    for record, pixels in zip(split.images, pixels_of(split), strict=True):
        for (left, top, right, bottom), label in zip(record.boxes_xyxy.astype(int), record.labels, strict=True):
            if split.categories[label].name == "box":
                inside = pixels[top:bottom, left:right].reshape(-1, 3).mean(axis=0)
                hits.append(np.abs(inside - BOX).max() < 20)
    return float(np.mean(hits))


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (lambda data: cut(data, 6, 0.6), "truncated"),
        (lambda data: cut(data, 6, 0), "empty"),
        (lambda data: replace(data.file(6), b"<html>404</html>"), "not an image"),
    ],
)
def test_unreadable_images_are_told_before_training(
    read_spoiled: Callable[..., Splits],
    larger_data: Path,
    fault: Callable[[CaseData], None],
    kind: str,
) -> None:
    train = read_spoiled(fault, source=larger_data)["train"]
    assert [finding.action for finding in train.report.findings] == ["skipped"]
    assert "train_005.jpg" in train.report.lines()[0]
    assert len(train.images) == 39


def test_all_unreadable_images_are_named_at_once(refusals: Callable[..., str]) -> None:
    def three_files_are_damaged(data: CaseData) -> None:
        cut(data, 6, 0.6)
        cut(data, 7, 0)
        cut(data, 3, 0, split="val")

    message = refusals(three_files_are_damaged)
    for name in ("train_005.jpg", "train_006.jpg", "val_002.jpg"):
        assert name in message
    assert "2 of 8 images would be left out" in message
    assert "1 of 4 images would be left out" in message


def test_an_image_with_all_its_pixels_is_read_though_its_last_bytes_are_missing(
    read_spoiled: Callable[..., Splits], sound: Splits
) -> None:
    train = read_spoiled(lambda data: cut(data, 6, -7))["train"]
    assert_equal_objects(train, sound["train"])
    assert {finding.action for finding in train.report.findings} <= {"noted"}
    whole, short = pixels_of(sound["train"])[5], pixels_of(train)[5]
    assert np.abs(whole - short)[:-16].max() == 0


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
        (there_are_no_sizes, ["noted image_size 8"], ["noted image_size 4"]),
        (sizes_are(width=0, height=0), ["noted image_size 8"], ["noted image_size 4"]),
        (sizes_are(width=96.0, height=72.0), [], []),
        (sizes_are(width=None), ["noted image_size 8"], ["noted image_size 4"]),
        (sizes_are(width="96", height="72"), ["repaired numbers_in_quotes 8"], ["repaired numbers_in_quotes 4"]),
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


def test_sizes_that_are_swapped_throughout_are_refused_for_all_images(refusals: Callable[..., str]) -> None:
    message = refusals(sizes_are(width=72, height=96))
    assert "swapped" in message or "exchanged" in message
    assert "instances_train.json" in message
    assert "instances_val.json" in message


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


def test_one_image_each_of_many_kinds(read_spoiled: Callable[..., Splits], sound: Splits) -> None:
    def eight_kinds(data: CaseData) -> None:
        for number, (suffix, save) in enumerate(KINDS, start=1):
            with Image.open(data.file(number)) as opened:
                image = opened.convert("RGB")
            data.file(number).unlink()
            path = data.file(number).with_suffix(suffix)
            save(image, path)
            data.train["images"][number - 1]["file_name"] = path.name

    train = read_spoiled(eight_kinds)["train"]
    assert_equal_objects(train, sound["train"])
    assert share_of_boxes_on_their_object(train) >= 7 / 8  # the one of 16 bits is gray
    assert {finding.action for finding in train.report.findings} <= {"noted"}


def _save_16_bits(image: Image.Image, path: Path) -> None:
    Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(path)


KINDS: tuple[tuple[str, Callable[[Image.Image, Path], object]], ...] = (
    (".png", _save_16_bits),
    (".jpg", lambda image, path: image.convert("CMYK").save(path, quality=95)),
    (".png", lambda image, path: image.convert("RGBA").save(path)),
    (".png", lambda image, path: image.quantize(32).save(path, transparency=0)),
    (".gif", lambda image, path: image.save(path, save_all=True, append_images=[Image.new("RGB", SIZE)] * 2)),
    (".webp", lambda image, path: image.save(path, save_all=True, append_images=[Image.new("RGB", SIZE)], quality=95)),
    (".tif", lambda image, path: image.save(path, save_all=True, append_images=[Image.new("RGB", SIZE)] * 2)),
    (".jpg", lambda image, path: image.save(path, format="PNG")),
)


@pytest.mark.parametrize("kind", ["12 bits in 16", "float 0 .. 255"])
def test_few_bits_and_floats_are_stretched_and_noted(
    read_spoiled: Callable[..., Splits], sound: Splits, kind: str
) -> None:
    def wider_pixels(data: CaseData) -> None:
        if kind == "12 bits in 16":
            redraw(data, lambda i: Image.fromarray(np.asarray(i.convert("L")).astype(np.uint16) * 16), ".png")
        else:
            redraw(data, lambda i: Image.fromarray(np.asarray(i.convert("L")).astype(np.float32)), ".tif")

    splits = read_spoiled(wider_pixels)
    for name, split in splits.items():
        assert_equal_objects(split, sound[name])
        (finding,) = split.report.findings
        assert (finding.action, finding.count) == ("noted", len(split.images))
        for pixels in pixels_of(split):
            assert pixels.max() - pixels.min() > 30, "not black"
            assert pixels.max() > 80


def test_images_of_few_pixels_are_read(read_spoiled: Callable[..., Splits]) -> None:
    def three_thin_images(data: CaseData) -> None:
        for number, size in ((1, (1, 1)), (4, (1, 300)), (6, (3000, 4))):
            data.file(number).unlink()
            Image.new("RGB", size).save(data.file(number))
            data.train["images"][number - 1].update(width=size[0], height=size[1])
            for annotation in data.train["annotations"]:
                if annotation["image_id"] == number:
                    annotation.update(
                        bbox=[0, 0, min(size[0], 9), min(size[1], 9) - annotation["category_id"] // 2 / 2]
                    )

    train = read_spoiled(three_thin_images)["train"]
    assert train.images.sizes_wh[[0, 3, 5]].tolist() == [[1, 1], [1, 300], [3000, 4]]
    assert len(train.images.labels) == 16
    assert {finding.action for finding in train.report.findings} <= {"noted"}


def test_an_image_of_too_many_pixels_is_told_before_training(
    read_spoiled: Callable[..., Splits], larger_data: Path
) -> None:
    def a_mosaic(data: CaseData) -> None:
        """14,000 x 14,000 black pixels, as a PNG of 30 KB."""
        rows = zlib.compress(bytes(1 + 14_000 // 8) * 14_000, 9)
        header = struct.pack(">IIBBBBB", 14_000, 14_000, 1, 0, 0, 0, 0)
        chunks = ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
        content = b"".join(
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
            for kind, body in chunks
        )
        replace(data.file(2), b"\x89PNG\r\n\x1a\n" + content)
        data.train["images"][1].update(width=14_000, height=14_000)

    train = read_spoiled(a_mosaic, source=larger_data)["train"]
    assert [finding.action for finding in train.report.findings] == ["skipped"]
    assert "train_001.jpg" in train.report.lines()[0]
    assert "pixels" in train.report.lines()[0]
    assert len(train.images) == 39
