"""TuSimple's format, read and written; what augmentation does to lanes; batches with and without lanes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detr_lite.structures import DetrLiteError
from examples.lanes.data import CROP, INPUT, POINTS, RoadSample, augment, collate, point_rows, points_of
from examples.lanes.prepare import splits_of
from examples.lanes.tusimple import TRAIN, Labeled, read_labels, write_results

ROWS = np.arange(160.0, 720.0, 10.0)
SIZE = (1280, 720)


def tusimple_line(lanes: list[list[float]], name: str = "clips/0313-1/60/20.jpg") -> str:
    return json.dumps({"lanes": lanes, "h_samples": ROWS.astype(int).tolist(), "raw_file": name})


def straight(bottom: float, slope: float) -> list[float]:
    """Integers as in TuSimple's files; -2 above row 300."""
    return [-2 if row < 300 else round(bottom + slope * (710 - row)) for row in ROWS.tolist()]


def labeled(*lanes: list[float]) -> Labeled:
    values = np.array(lanes, dtype=float).reshape(-1, len(ROWS))
    return Labeled(Path("a.jpg"), "a.jpg", np.where(values >= 0, values, np.nan), ROWS)


def test_labels_of_tusimple_are_read_and_results_written(tmp_path: Path) -> None:
    (tmp_path / "label_data_0313.json").write_text(tusimple_line([straight(400, 0.5), straight(900, -0.4)]) + "\n")
    (tmp_path / "label_data_0601.json").write_text("\n" + tusimple_line([], "clips/b.jpg") + "\n")
    first, second = read_labels(tmp_path, TRAIN)
    assert first.path == tmp_path / "clips/0313-1/60/20.jpg"
    assert np.isnan(first.lanes[:, :14]).all()
    assert first.lanes[0, -1] == 400
    assert second.lanes.shape == (0, len(ROWS))
    write_results(tmp_path / "results.json", [(first, list(first.lanes)), (second, [])], run_ms=12.5)
    lines = [json.loads(line) for line in (tmp_path / "results.json").read_text().splitlines()]
    assert lines[0]["lanes"] == [straight(400, 0.5), straight(900, -0.4)]
    assert [line["raw_file"] for line in lines] == ["clips/0313-1/60/20.jpg", "clips/b.jpg"]
    assert all(line["run_time"] == 12.5 for line in lines)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "label_data.json, line 1: no labels of TuSimple"),
        ('{"lanes": [[1, 2]], "h_samples": [1, 2, 3], "raw_file": "a"}', "line 1: no labels"),
        ('{"lanes": [], "h_samples": [1]}', "line 1: no labels of TuSimple"),
    ],
)
def test_faulty_labels_are_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "label_data.json").write_text(line)
    with pytest.raises(DetrLiteError, match=message):
        read_labels(tmp_path, TRAIN)
    with pytest.raises(DetrLiteError, match=r"has no label_data\*\.json, TuSimple's annotations"):
        read_labels(tmp_path / "elsewhere", TRAIN)


def test_where_test_labels_are_missing_the_usual_part_is_unseen(tmp_path: Path) -> None:
    for name in ("0313", "0531"):
        (tmp_path / f"label_data_{name}.json").write_text(tusimple_line([], f"clips/{name}.jpg"))
    train, unseen = splits_of(tmp_path, "middle", 10)
    assert ([each.raw_file for each in train], [each.raw_file for each in unseen]) == (
        ["clips/0313.jpg"],
        ["clips/0531.jpg"],
    )
    (tmp_path / "label_data_0313.json").unlink()
    with pytest.raises(DetrLiteError, match="no labels to train with but those of label_data_0531"):
        splits_of(tmp_path, "middle", 10)


def test_points_by_hand() -> None:
    xs, is_seen = points_of(labeled(straight(400, 0.5)), SIZE)
    pixels = (CROP + point_rows() * (1 - CROP)) * 720
    assert xs.shape == is_seen.shape == (1, POINTS)
    assert is_seen[0].tolist() == [row >= 292 for row in pixels.tolist()]  # half a strip above row 300
    # Beyond its ends the lane goes straight on.
    assert xs[0] * 1280 == pytest.approx(400 + 0.5 * (710 - pixels), abs=1.5)


def test_lanes_of_a_single_point_are_left_out() -> None:
    single = [-2.0] * len(ROWS)
    single[20] = 100
    assert points_of(labeled(single, straight(400, 0.5)), SIZE)[0].shape == (1, POINTS)
    assert points_of(labeled(), SIZE)[0].shape == (0, POINTS)


def sample_with_marks() -> RoadSample:
    """Black, with a white column of pixels where the only lane is."""
    image = np.zeros((INPUT[1], INPUT[0], 3), np.uint8)
    image[:, 200:203] = 255
    return RoadSample(image, np.full((1, POINTS), 201.5 / 320, np.float32), np.ones((1, POINTS), bool))


def test_augmented_lanes_stay_on_their_pixels() -> None:
    places = set()
    for seed in range(30):
        changed = augment(sample_with_marks(), seed)
        bright = changed.image.mean((0, 2))
        middle = np.flatnonzero(bright > bright.min() + 50).mean() + 0.5
        assert changed.xs * 320 == pytest.approx(middle, abs=0.01)
        places.add(round(middle))
        again = augment(sample_with_marks(), seed)
        assert np.array_equal(changed.image, again.image)
    assert min(places) < 120 < 200 < max(places), "some are mirrored"


def test_a_lane_that_is_shifted_out_of_the_picture_is_gone() -> None:
    sample = sample_with_marks()
    edge = RoadSample(sample.image, np.full((1, POINTS), 0.999, np.float32), sample.is_seen)
    assert {len(augment(edge, seed).xs) for seed in range(30)} == {0, 1}


def test_batches_pad_lanes() -> None:
    none = RoadSample(sample_with_marks().image, np.zeros((0, POINTS), np.float32), np.zeros((0, POINTS), bool))
    batch = collate([none, sample_with_marks()])
    assert batch.counts == (0, 1)
    assert batch.is_seen.sum((1, 2)).tolist() == [0, POINTS]
    assert batch.images.images.shape == (2, 3, INPUT[1], INPUT[0])
    assert collate([none]).xs.shape == (1, 1, POINTS)
    assert torch.equal(batch.to("cpu").xs, batch.xs)


def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    from examples.lanes.data import load_picture

    (tmp_path / "a.jpg").write_bytes(b"abc")
    with pytest.raises(DetrLiteError, match=r"a\.jpg: cannot be read"):
        load_picture(tmp_path / "a.jpg")
    Image.new("L", (640, 360), 77).save(tmp_path / "gray.png")
    image, size = load_picture(tmp_path / "gray.png")
    assert size == (640, 360)
    assert image.shape == (INPUT[1], INPUT[0], 3)
    assert (image == 77).all()
