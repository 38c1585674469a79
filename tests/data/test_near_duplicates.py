"""Copies and near copies of images are found, and nothing else; in blocks as by comparing each with each."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detr_lite.data.analysis import near_duplicates
from detr_lite.data.analysis.near_duplicates import COARSE, near_pairs, same_files, series_of
from detr_lite.data.images.thumbnails import read_thumbnails


def scene(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """A smooth random picture, with details."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 255, (6, 8, 3), dtype=np.uint8)).resize(
        size, Image.Resampling.BICUBIC
    )
    noise = generator.normal(0, 10, (size[1], size[0], 3))
    return Image.fromarray((np.asarray(coarse) + noise).clip(0, 255).astype(np.uint8))


def thumbnails_of(folder: Path, images: list[Image.Image], suffix: str = ".png") -> np.ndarray:
    paths = []
    for number, image in enumerate(images):
        paths.append(str(folder / f"{len(list(folder.iterdir()))}-{number}{suffix}"))
        image.save(paths[-1])
    return read_thumbnails(paths)


def found(pairs) -> list[tuple[int, int]]:
    return sorted(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))


def test_changes_that_leave_the_scene(tmp_path: Path) -> None:
    """Compressed, made smaller, brightened, moved by a few pixels, turned by a tag: the same; other scenes are not."""
    original = scene(0, (320, 240))
    brighter = Image.fromarray((np.asarray(original) * 0.7 + 60).astype(np.uint8))
    moved = original.crop((6, 4, 320, 240))
    changed = [original.resize((200, 150)), brighter, moved, *map(scene, range(1, 30))]
    pngs = thumbnails_of(tmp_path, [original])
    assert found(near_pairs(pngs, thumbnails_of(tmp_path, changed))) == [(0, 0), (0, 1), (0, 2)]
    jpeg, turned = tmp_path / "compressed.jpg", tmp_path / "turned.jpg"
    original.save(jpeg, quality=20)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn to the right
    original.transpose(Image.Transpose.ROTATE_90).save(turned, quality=60, exif=exif)
    pairs = near_pairs(pngs, read_thumbnails([str(jpeg), str(turned)]))
    assert found(pairs) == [(0, 0), (0, 1)]
    assert (pairs.correlation > 0.95).all()


def test_the_most_alike_come_first(tmp_path: Path) -> None:
    original = scene(5)
    blended = [Image.blend(original, scene(9), share) for share in (0.2, 0.0, 0.1)]
    pairs = near_pairs(thumbnails_of(tmp_path, [original]), thumbnails_of(tmp_path, blended))
    assert pairs.second.tolist()[:2] == [1, 2]
    assert pairs.correlation[0] == pytest.approx(1, abs=1e-6)
    assert (np.diff(pairs.correlation) <= 0).all()
    assert pairs.best_of_first().second.tolist() == [1]


def test_flat_images_are_alike_to_none() -> None:
    """Two black frames, and two of little noise, say nothing about a film."""
    flat = np.zeros((4, 16, 16, 3), dtype=np.uint8)
    flat[2:] = np.random.default_rng(0).integers(100, 104, flat[2:].shape)
    assert len(near_pairs(flat)) == len(near_pairs(flat, flat)) == 0


@pytest.mark.stress
def test_blocks_find_what_comparing_each_with_each_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of few kinds, so that many are alike; numpy's own correlation is the reference."""
    generator = np.random.default_rng(3)
    kinds = generator.integers(30, 220, (12, 16, 16, 3))
    images = (kinds[generator.integers(0, 12, 100)] + generator.integers(-25, 25, (100, 16, 16, 3))).astype(np.uint8)

    def differences(image: np.ndarray, side: int) -> np.ndarray:
        factor = 16 // side
        pixels = np.sqrt(image.astype(float))
        small = np.array(
            [
                [pixels[factor * y : factor * (y + 1), factor * x : factor * (x + 1)].mean((0, 1)) for x in range(side)]
                for y in range(side)
            ]
        )
        return np.concatenate([(small[1:] - small[:-1]).ravel(), (small[:, 1:] - small[:, :-1]).ravel()])

    def correlation(one: np.ndarray, other: np.ndarray, side: int) -> float:
        a, b = differences(one, side), differences(other, side)
        return float(a @ b / np.sqrt((a @ a) * (b @ b)))

    expected = [
        (one, other)
        for one in range(100)
        for other in range(one + 1, 100)
        if correlation(images[one], images[other], 8) >= COARSE
        and correlation(images[one], images[other], 16) >= near_duplicates.FINE
    ]
    assert 200 < len(expected) < 1000
    monkeypatch.setattr(near_duplicates, "_BLOCK", 17)
    assert found(near_pairs(images)) == expected
    crossing = [(one, other - 60) for one, other in expected if one < 60 <= other]
    assert found(near_pairs(images[:60], images[60:])) == crossing


def test_no_images() -> None:
    nothing = np.zeros((0, 16, 16, 3), dtype=np.uint8)
    some = np.random.default_rng(0).integers(0, 255, (3, 16, 16, 3), dtype=np.uint8)
    assert len(near_pairs(nothing)) == len(near_pairs(nothing, some)) == len(near_pairs(some, nothing)) == 0
    assert len(near_pairs(nothing).best_of_first()) == 0
    assert read_thumbnails([]).shape == (0, 16, 16, 3)
    assert same_files([]) == []


def test_files_that_cannot_be_read_are_alike_to_none(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "empty.png").write_bytes(b"")
    paths = [str(tmp_path / name) for name in ("text.jpg", "empty.png", "missing.png")]
    assert not read_thumbnails(paths).any()
    assert len(near_pairs(read_thumbnails(paths))) == 0


def test_thumbnails_are_kept_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "image.png"
    scene(1).save(path)
    first = read_thumbnails([str(path)])
    with monkeypatch.context() as patched:
        patched.setattr("detr_lite.data.images.thumbnails._thumbnail", lambda _: pytest.fail("read again"))
        np.testing.assert_array_equal(read_thumbnails([str(path)]), first)
    scene(2).save(path)
    assert (read_thumbnails([str(path)]) != first).any()


def test_copies_of_files(tmp_path: Path) -> None:
    for seed, name in ((1, "a.png"), (2, "b.png"), (3, "c.png")):
        scene(seed).save(tmp_path / name)
    shutil.copy(tmp_path / "a.png", tmp_path / "d.png")
    (tmp_path / "e.png").write_bytes((tmp_path / "b.png").read_bytes()[::-1])  # of the same size
    paths = [str(tmp_path / name) for name in ("a.png", "b.png", "c.png", "d.png", "e.png", "missing.png", "a.png")]
    assert same_files(paths) == [[0, 3, 6]]


@pytest.mark.parametrize(
    ("name", "series"),
    [
        ("ride_017.jpg", "ride_"),
        ("sub/night2_frame00123_left.png", "night2_frame"),
        ("12.jpg", ""),
        ("cat.jpg", "cat"),
        ("ride_017_jpg.rf.0a1b2c3d4e5f.jpg", "ride_"),
    ],
)
def test_series_of_names(name: str, series: str) -> None:
    assert series_of(name) == series
