"""What the check of a split's images repairs, leaves out and says, and that training reads what it accepts."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detr_lite.data.checks.images import check_images
from detr_lite.data.images.files import PROBLEMS
from detr_lite.data.images.load import load_image
from detr_lite.data.records import RawSplit
from detr_lite.data.report import SplitReport
from tests.helpers.image_splits import save_image, split_of_files
from tests.helpers.raw_splits import report_of

Size = tuple[int, int]


def checked(raw: RawSplit, on_fault: Any = "repair", orientation: Any = None) -> tuple[RawSplit, SplitReport]:
    """The checked split, whose images training can read at the sizes it says."""
    report = report_of(raw)
    report.on_fault = on_fault
    result = check_images(raw, report, orientation)
    for path, (width, height) in zip(result.paths, result.sizes_wh.tolist(), strict=True):
        assert load_image(Path(path), (int(height), int(width))).size == (width, height)
    return result, report


def actions(report: SplitReport) -> dict[str, tuple[str, int]]:
    return {finding.kind: (finding.action, finding.count) for finding in report.findings}


def test_sound_images_are_not_worth_a_word(tmp_path: Path) -> None:
    paths = [save_image(tmp_path / f"{index}.png", (60 + index, 40)) for index in range(3)]
    raw = split_of_files(paths, [(60, 40), (61, 40), (62, 40)])
    result, report = checked(raw)
    assert report.findings == []
    np.testing.assert_array_equal(result.sizes_wh, raw.sizes_wh)
    np.testing.assert_array_equal(result.boxes_xywh, raw.boxes_xywh)


def test_each_kind_of_unreadable_file_is_left_out_and_named_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)
    whole = save_image(tmp_path / "whole.jpg")
    contents = {
        "cut.jpg": whole.read_bytes()[: whole.stat().st_size * 2 // 3],
        "empty.png": b"",
        "page.jpg": b"<html>404</html>",
        "pointer.jpg": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "eps.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\n%%EndComments\nshowpage\n",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    save_image(tmp_path / "large.png", (200, 100))
    (tmp_path / "folder.jpg").mkdir()
    names = [*contents, "large.png", "folder.jpg", "missing.jpg", "whole.jpg"]
    raw = split_of_files([tmp_path / name for name in names], [(64, 48)] * len(names))
    result, report = checked(raw)
    assert result.names == ["whole.jpg"]
    assert result.image_index.tolist() == [0]
    assert actions(report) == dict.fromkeys(PROBLEMS, ("skipped", 1))
    assert report.skipped["image"] == 8
    assert "images of more than 10,000 pixels (the environment variable DETR_LITE_MAX_PIXELS" in str(report.lines())
    assert "folder.jpg (not a file)" in str(report.lines())


def test_a_jpeg_without_its_last_bytes_is_read_with_a_note(tmp_path: Path) -> None:
    path = save_image(tmp_path / "short.jpg", (160, 120))
    path.write_bytes(path.read_bytes()[:-4])
    result, report = checked(split_of_files([path], [(160, 120)]))
    assert result.names == ["short.jpg"]
    assert actions(report) == {"incomplete_jpeg": ("noted", 1)}


@pytest.mark.parametrize("size", [(np.nan, np.nan), (0, 0), (-1, 48), (np.inf, 48), (64, np.nan)])
def test_a_size_that_is_none_comes_from_the_file(tmp_path: Path, size: tuple[float, float]) -> None:
    for on_fault in ("repair", "skip", "refuse"):
        result, report = checked(split_of_files([save_image(tmp_path / "a.png")], [size]), on_fault)
        assert result.sizes_wh.tolist() == [[64, 48]]
        assert actions(report) == {"no_size": ("noted", 1)}, "it costs nothing, and no format without sizes is faulty"


@pytest.mark.parametrize("size", [(63, 48), (64, 49), (62, 50), (63.6, 48.2)])
def test_a_size_off_by_a_pixel_is_the_files(tmp_path: Path, size: tuple[float, float]) -> None:
    result, report = checked(split_of_files([save_image(tmp_path / "a.png")], [size]))
    assert result.sizes_wh.tolist() == [[64, 48]]
    assert actions(report) == {"rounded_size": ("noted", 1)}
    assert f"a.png ({size[0]:g} x {size[1]:g}, the file 64 x 48)" in report.lines()[0]


def test_exchanged_sizes_are_exchanged_back_if_the_boxes_fit_the_file(tmp_path: Path) -> None:
    paths = [save_image(tmp_path / f"{index}.png") for index in range(3)]
    rows = [(0, 0, 50, 3, 13, 40), (1, 0, 2, 2, 5, 5), (2, 0, 2, 2, 5, 5)]  # the first does not fit 48 x 64
    raw = split_of_files(paths, [(48, 64)] * 3, rows)
    result, report = checked(raw)
    assert result.sizes_wh.tolist() == [[64, 48]] * 3
    np.testing.assert_array_equal(result.boxes_xywh, raw.boxes_xywh)
    assert actions(report) == {"swapped_size": ("repaired", 3)}
    assert checked(raw, "skip")[0].names == []


def test_images_that_were_turned_after_they_were_annotated_have_no_meaning(tmp_path: Path) -> None:
    """Boxes that fit the annotated size alone show it, also for the images whose boxes fit both."""
    paths = [save_image(tmp_path / f"{index}.png") for index in range(4)]
    rows = [(0, 0, 3, 50, 40, 13), (1, 0, 2, 2, 5, 5), (2, 0, 2, 2, 5, 5), (3, 0, 2, 2, 5, 5)]
    result, report = checked(split_of_files(paths, [(48, 64)] * 3 + [(64, 48)], rows))
    assert result.names == ["3.png"]
    assert actions(report) == {"turned_image": ("skipped", 3)}


def test_a_single_faulty_box_decides_nothing_for_the_others(tmp_path: Path) -> None:
    paths = [save_image(tmp_path / f"{index}.png") for index in range(30)]
    rows = [(index, 0, 50, 3, 13, 40) for index in range(29)] + [(29, 0, 3, 50, 40, 13)]
    result, report = checked(split_of_files(paths, [(48, 64)] * 30, rows))
    assert len(result.names) == 30
    assert actions(report) == {"swapped_size": ("repaired", 30)}


def test_exchanged_sizes_that_mean_both(tmp_path: Path) -> None:
    paths = [save_image(tmp_path / f"{index}.png") for index in range(3)]
    rows = [(0, 0, 50, 3, 13, 40), (1, 0, 3, 50, 40, 13), (2, 0, 2, 2, 5, 5)]
    result, report = checked(split_of_files(paths, [(48, 64)] * 3, rows))
    assert result.names == ["0.png"]
    assert actions(report) == {"turned_image": ("skipped", 2), "swapped_size": ("repaired", 1)}


@pytest.mark.parametrize("scale", [0.5, 3])
def test_boxes_of_another_scale_are_scaled_with_their_areas(tmp_path: Path, scale: float) -> None:
    """Boxes that leave the file but not the annotated size; where the file is larger nothing shows it."""
    annotated = (round(64 / scale), round(48 / scale))
    paths = [save_image(tmp_path / f"{index}.png") for index in range(2)]
    low, extent = 0.6 * annotated[0], 0.3 * annotated[1]
    raw = split_of_files(paths, [annotated] * 2, [(0, 0, low, 3, extent, extent), (1, 0, 1, 1, 4, 6)])
    result, report = checked(raw)
    if scale > 1:
        assert actions(report) == {"unsettled_size": ("skipped", 2)}
        assert result.names == []
        return
    assert actions(report) == {"resized_image": ("repaired", 2)}
    np.testing.assert_allclose(result.boxes_xywh, raw.boxes_xywh * scale)
    np.testing.assert_allclose(result.areas, result.boxes_xywh[:, 2:].prod(axis=1))
    assert result.sizes_wh.tolist() == [[64, 48]] * 2


def test_boxes_beyond_the_annotated_size_belong_to_the_file(tmp_path: Path) -> None:
    raw = split_of_files([save_image(tmp_path / "a.png")], [(32, 24)], [(0, 0, 40, 3, 20, 40)])
    result, report = checked(raw)
    np.testing.assert_array_equal(result.boxes_xywh, raw.boxes_xywh)
    assert actions(report) == {"wrong_size": ("repaired", 1)}


def test_another_size_and_shape_has_no_meaning(tmp_path: Path) -> None:
    paths = [save_image(tmp_path / f"{index}.png") for index in range(2)]
    result, report = checked(split_of_files(paths, [(100, 100), (64, 48)]))
    assert result.names == ["1.png"]
    assert actions(report) == {"other_size": ("skipped", 1)}
    assert "0.png (100 x 100, the file 64 x 48)" in report.lines()[0]


@pytest.mark.parametrize("tag", [5, 6, 7, 8])
@pytest.mark.parametrize(("size", "name"), [((64, 48), "stored"), ((48, 64), "upright"), ((47, 64), "upright")])
@pytest.mark.parametrize("orientation", [None, "upright", "stored"])
def test_sizes_settle_the_orientation(tmp_path: Path, tag: int, size: Size, name: str, orientation: str | None) -> None:
    path = save_image(tmp_path / "a.jpg", (64, 48), tag)
    result, report = checked(split_of_files([path], [size]), orientation=orientation)
    assert result.sizes_wh.tolist() == [[64, 48] if name == "stored" else [48, 64]]
    assert result.orientation.default == (orientation or name)
    assert (result.orientation.stored, result.orientation.upright) == ((1, 0) if name == "stored" else (0, 1))
    assert "unsettled_orientation" not in actions(report)


@pytest.mark.parametrize(("tag", "size"), [(6, (64, 64)), (3, (64, 48)), (2, (64, 48)), (4, (64, 48))])
def test_orientations_that_sizes_do_not_settle_are_counted(tmp_path: Path, tag: int, size: Size) -> None:
    paths = [save_image(tmp_path / "a.jpg", size, tag), save_image(tmp_path / "plain.jpg", size)]
    result, report = checked(split_of_files(paths, [size] * 2))
    assert result.orientation.default == "upright"
    assert result.orientation.unsettled == 1
    (line,) = report.lines()
    assert "are read upright" in line
    assert "--data.orientation stored): 1 (a.jpg)" in line
    stored, report = checked(split_of_files(paths, [size] * 2), orientation="stored")
    assert stored.orientation.default == "stored"
    assert "are read as they are stored" in report.lines()[0]


def test_the_images_that_sizes_settle_speak_for_the_others(tmp_path: Path) -> None:
    square = save_image(tmp_path / "square.jpg", (64, 64), 6)
    wide = save_image(tmp_path / "wide.jpg", (64, 48), 6)
    other = save_image(tmp_path / "other.jpg", (64, 48), 6)
    stored, _ = checked(split_of_files([square, wide], [(64, 64), (64, 48)]))
    assert stored.orientation.default == "stored"
    both, _ = checked(split_of_files([square, wide, other], [(64, 64), (64, 48), (48, 64)]))
    assert both.orientation.default == "upright", "they disagree"


def test_boxes_settle_the_orientation_where_there_is_no_size(tmp_path: Path) -> None:
    path = save_image(tmp_path / "a.jpg", (64, 48), 6)
    none = [(np.nan, np.nan)]
    stored, _ = checked(split_of_files([path], none, [(0, 0, 50, 3, 13, 40)]))
    assert stored.sizes_wh.tolist() == [[64, 48]]
    upright, _ = checked(split_of_files([path], none, [(0, 0, 3, 50, 40, 13)]))
    assert upright.sizes_wh.tolist() == [[48, 64]]
    for orientation, expected in (("upright", [48, 64]), ("stored", [64, 48])):
        unsettled, report = checked(split_of_files([path], none), orientation=orientation)
        assert unsettled.sizes_wh.tolist() == [expected]
        assert "unsettled_orientation" in actions(report)


def test_unusual_depths_are_noted(tmp_path: Path) -> None:
    ramp = np.linspace(0, 1, 64 * 48).reshape(48, 64)
    arrays = [
        (ramp * 4095).astype(np.uint16),
        (ramp * 1023).astype(np.uint16),
        (ramp * 3000 - 1000).astype(np.float32),
        ramp.astype(np.float32),
        (ramp * 255).astype(np.float32),
        (ramp * 65535).astype(np.uint16),
    ]
    paths = []
    for index, array in enumerate(arrays):
        paths.append(tmp_path / f"{index}.tif")
        Image.fromarray(array).save(paths[-1])
    result, report = checked(split_of_files(paths, [(64, 48)] * len(paths)))
    assert len(result.names) == len(paths)
    assert [(finding.kind, finding.entries) for finding in report.findings] == [
        ("partial_depth", ("1.tif",)), ("partial_depth", ("0.tif",)), ("own_range", ("2.tif",))
    ]  # fmt: skip


@pytest.mark.parametrize(("largest", "kinds"), [(4095, ["dark_color"]), (65535, [])])
def test_color_of_12_bits_in_16_is_almost_black(tmp_path: Path, largest: int, kinds: list[str]) -> None:
    """Pillow reads the upper 8 bits, and writes no such files."""
    path, pixels = tmp_path / "a.png", np.linspace(0, largest, 64 * 48 * 3).reshape(48, 64 * 3).astype(">u2")
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 64, 48, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels))),
        (b"IEND", b""),
    ]
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )
    )
    _, report = checked(split_of_files([path], [(64, 48)]))
    assert [finding.kind for finding in report.findings] == kinds
    assert (np.asarray(load_image(path)).max() < 20) == bool(kinds)


def test_an_empty_split() -> None:
    result, report = checked(split_of_files([], []))
    assert len(result.paths) == 0
    assert report.findings == []


@pytest.mark.parametrize("seed", range(3))
def test_what_the_check_accepts_training_reads(tmp_path: Path, seed: int) -> None:
    """Files with random bytes changed, cut or added, in every format."""
    rng = np.random.default_rng(seed)
    paths = []
    for index in range(60):
        format, mode = [
            ("JPEG", "RGB"),
            ("PNG", "RGBA"),
            ("GIF", "P"),
            ("TIFF", "I;16"),
            ("WEBP", "RGB"),
            ("BMP", "L"),
        ][index % 6]
        pixels = rng.integers(0, 256, (24, 32, 3), np.uint8)
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 9) if mode == "I;16" else Image.fromarray(pixels)
        buffer = io.BytesIO()
        (image if mode == "I;16" else image.convert(mode)).save(buffer, format)
        content = bytearray(buffer.getvalue())
        for _ in range(int(rng.integers(0, 4))):
            content[int(rng.integers(len(content)))] = int(rng.integers(256))
        content = content[: int(rng.integers(1, len(content) + 1))] if rng.random() < 0.3 else content
        paths.append(tmp_path / f"{index}.img")
        paths[-1].write_bytes(content + rng.bytes(int(rng.integers(0, 9))))
    raw = split_of_files(paths, [(np.nan, np.nan)] * len(paths))
    result, report = checked(raw, "skip")
    assert len(result.names) + report.skipped["image"] == len(paths)
    assert 10 < len(result.names) < 60
