"""Animations of attention frames: memory, order and number of frames."""

import weakref
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from detr_lite.viz.figures import attention_frames
from detr_lite.viz.figures.attention_frames import MAX_FRAMES, animate, thin_out


def color_of(number):
    return (61 * number % 256, 255 - 61 * number % 256, 40)


@pytest.fixture
def make_frames(tmp_path):
    def make(count):
        paths = [tmp_path / f"step-{number:06}.png" for number in range(count)]
        for number, path in enumerate(paths):
            Image.new("RGB", (16, 8), color_of(number)).save(path)
        return paths

    return make


def test_frames_are_decoded_one_at_a_time(make_frames, tmp_path, monkeypatch):
    """300 decoded frames of a run took 0.7 GB; here the first frame, the current one and the next may be in memory."""
    decoded, most = [], 0
    convert = Image.Image.convert

    def record(image, *args, **options):
        nonlocal most
        result = convert(image, *args, **options)
        decoded.append(weakref.ref(result))
        most = max(most, sum(reference() is not None for reference in decoded))
        return result

    monkeypatch.setattr(Image.Image, "convert", record)
    opened, open_image = [], Image.open
    monkeypatch.setattr(Image, "open", lambda path: opened.append(open_image(path)) or opened[-1])
    animate(make_frames(40), tmp_path / "all.webp")
    assert len(opened) == len(decoded) == 40
    assert most <= 3
    assert all(image.fp is None or image.fp.closed for image in opened)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_every_frame_is_shown_in_its_order_and_the_last_one_longer(make_frames, tmp_path, count):
    animate(make_frames(count), tmp_path / "all.webp")
    with Image.open(tmp_path / "all.webp") as animation:
        assert animation.n_frames == count
        durations = []
        for number in range(count):
            animation.seek(number)
            assert animation.convert("RGB").getpixel((4, 4)) == pytest.approx(color_of(number), abs=12)
            durations.append(animation.info.get("duration"))
    if count > 1:
        assert durations == [700] * (count - 1) + [3000]


@pytest.mark.parametrize("count", [2, 119, 120, 121, 300, 1001])
def test_long_runs_are_thinned_out_evenly(count):
    frames = [Path(str(number)) for number in range(count)]
    numbers = [int(frame.name) for frame in thin_out(frames, 120)]
    assert len(numbers) == min(count, 120)
    assert (numbers[0], numbers[-1]) == (0, count - 1)
    steps = {after - before for before, after in pairwise(numbers)}
    assert max(steps) - min(steps) <= 1
    assert min(steps) >= 1


def test_an_animation_has_a_limited_number_of_frames(make_frames, tmp_path, monkeypatch):
    monkeypatch.setattr(attention_frames, "MAX_FRAMES", 5)
    animate(make_frames(30), tmp_path / "all.webp")
    with Image.open(tmp_path / "all.webp") as animation:
        assert animation.n_frames == 5
        animation.seek(4)
        assert animation.convert("RGB").getpixel((4, 4)) == pytest.approx(color_of(29), abs=12)
    assert MAX_FRAMES == 120
