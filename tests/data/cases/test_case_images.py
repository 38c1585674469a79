"""Damaged image files, and unusual kinds of pixels."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detr_lite.data.reading import Reading
from detr_lite.data.records import Split
from tests.helpers.case_data import SIZE, CaseData, assert_equal_objects, findings_of
from tests.helpers.case_images import cut, pixels_of, redraw, replace, share_of_boxes_on_their_object

Splits = dict[str, Split]


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


def test_a_split_of_which_no_image_is_left_is_refused_whatever_the_setting(refusals: Callable[..., str]) -> None:
    def validation_is_damaged(data: CaseData) -> None:
        for number in range(1, 5):
            cut(data, number, 0, split="val")

    message = refusals(validation_is_damaged, Reading("skip"))
    assert message.startswith("annotations/instances_val.json: has no image that can be used")


def test_an_image_with_all_its_pixels_is_read_though_its_last_bytes_are_missing(
    read_spoiled: Callable[..., Splits], sound: Splits
) -> None:
    train = read_spoiled(lambda data: cut(data, 6, -7))["train"]
    assert_equal_objects(train, sound["train"])
    assert {finding.action for finding in train.report.findings} <= {"noted"}
    whole, short = pixels_of(sound["train"])[5], pixels_of(train)[5]
    assert np.abs(whole - short)[:-16].max() == 0


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


WIDER: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray], list[str]]] = {
    "12 bits in 16": (".png", lambda gray: gray.astype(np.uint16) * 16, ["noted partial_depth"]),
    "floats 0 .. 255": (".tif", lambda gray: gray.astype(np.float32), []),
    "floats of another range": (".tif", lambda gray: gray.astype(np.float32) * 1e4 - 500, ["noted own_range"]),
}
"""Suffix, pixels made from gray ones of 8 bits, and what is said."""


@pytest.mark.parametrize("kind", WIDER)
def test_few_bits_and_floats_are_stretched_and_noted(
    read_spoiled: Callable[..., Splits], sound: Splits, kind: str
) -> None:
    suffix, widen, said = WIDER[kind]

    def wider_pixels(data: CaseData) -> None:
        redraw(data, lambda image: Image.fromarray(widen(np.asarray(image.convert("L")))), suffix)

    for name, split in read_spoiled(wider_pixels).items():
        assert_equal_objects(split, sound[name])
        assert findings_of(split) == [f"{each} {len(split.images)}" for each in said]
        for pixels, whole in zip(pixels_of(split), pixels_of(sound[name]), strict=True):
            gray = np.asarray(Image.fromarray(whole.astype(np.uint8)).convert("L")).astype(float)
            assert np.corrcoef(pixels[..., 0].ravel(), gray.ravel())[0, 1] > 0.999
            assert pixels.max() - pixels.min() > 30, "not black"
            if kind == "floats 0 .. 255":
                assert np.abs(pixels[..., 0] - gray).max() <= 1


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
