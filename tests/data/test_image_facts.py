"""Every file is opened once, and again only when it has changed."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detr_lite.data.cache import cache_folder
from detr_lite.data.images import facts as image_facts
from detr_lite.data.images.facts import inspect_images
from detr_lite.data.images.files import StoredImage
from tests.helpers.image_splits import save_image


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETR_LITE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are decoded."""
    names: list[str] = []
    read_stored = image_facts.read_stored

    def read(path: str, as_thumbnail: bool) -> StoredImage:
        names.append(Path(path).name)
        return read_stored(path, as_thumbnail)

    monkeypatch.setattr(image_facts, "read_stored", read)
    return names


def photographs(folder: Path, count: int) -> list[str]:
    return [str(save_image(folder / f"{index:02}.jpg", (20 + index, 15))) for index in range(count)]


def test_facts_in_the_order_of_the_paths(tmp_path: Path) -> None:
    paths = photographs(tmp_path, 40)  # more than one task of a thread
    save_image(tmp_path / "05.jpg", (30, 20), orientation=6)
    Image.fromarray(np.full((3, 4), 900, np.uint16)).save(tmp_path / "depth.png")
    Path(paths[7]).write_bytes(b"text")
    Path(paths[9]).unlink()
    for _ in range(2):  # read, and from the cache
        facts = inspect_images([*paths, str(tmp_path / "depth.png"), paths[0]])
        assert facts.sizes_wh[[0, 4, 5, 40, 41]].tolist() == [[20, 15], [24, 15], [30, 20], [4, 3], [20, 15]]
        assert facts.orientations.tolist() == [6 if index == 5 else 1 for index in range(42)]
        problems = {7: "not_an_image", 9: "missing_image"}
        assert facts.problems.tolist() == [problems.get(index, "") for index in range(42)]
        assert facts.depths.tolist() == ["10 bits" if index == 40 else "" for index in range(42)]
        assert facts.reasons == {7: "no known image format", 9: "No such file or directory"}
        assert not facts.is_incomplete.any()


def test_a_part_of_the_facts(tmp_path: Path) -> None:
    paths = photographs(tmp_path, 3)
    Path(paths[2]).write_bytes(b"text")
    facts = inspect_images(paths).keep(np.array([False, True, True]))
    assert facts.sizes_wh.tolist() == [[21, 15], [0, 0]]
    assert facts.reasons == {1: "no known image format"}


def test_no_images() -> None:
    facts = inspect_images([])
    assert facts.sizes_wh.shape == (0, 2)
    assert len(facts.problems) == 0


def test_only_what_has_changed_is_opened_again(tmp_path: Path, opened: list[str]) -> None:
    paths = photographs(tmp_path / "images", 5)
    inspect_images([*paths, paths[0]])
    assert sorted(opened) == ["00.jpg", "01.jpg", "02.jpg", "03.jpg", "04.jpg"], (
        "a path that is repeated is opened once"
    )
    opened.clear()
    inspect_images(paths)
    assert opened == []
    save_image(Path(paths[3]), (50, 40))
    assert inspect_images(paths).sizes_wh[3].tolist() == [50, 40]
    assert opened == ["03.jpg"]
    status = os.stat(paths[1])  # noqa: PTH116
    os.utime(paths[1], ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    inspect_images(paths)
    assert opened == ["03.jpg", "01.jpg"]


def test_a_part_of_the_files_keeps_what_is_known_of_the_others(tmp_path: Path, opened: list[str]) -> None:
    """As of a folder that is divided into training and validation."""
    paths = photographs(tmp_path / "images", 6)
    inspect_images(paths[:3])
    inspect_images(paths[3:])
    opened.clear()
    inspect_images(paths)
    assert opened == []


def test_a_file_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    paths = photographs(tmp_path / "images", 3)
    inspect_images(paths)
    Path(paths[0]).unlink()
    save_image(Path(paths[2]), (50, 40))
    inspect_images(paths[1:])
    (file,) = cache_folder().glob("images-*.npz")
    assert set(image_facts._load(file)) == set(paths[1:])


def test_another_limit_on_pixels_opens_the_files_again(
    tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = photographs(tmp_path / "images", 2)
    inspect_images(paths)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    assert inspect_images(paths).problems.tolist() == ["too_many_pixels"] * 2
    assert len(opened) == 4


def test_an_interruption_keeps_what_has_been_found(
    tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = photographs(tmp_path / "images", 60)
    monkeypatch.setattr(image_facts, "usable_cores", lambda: 1)
    look = image_facts._look

    def interrupted(path: str, large: object) -> object:
        if path == paths[40]:
            raise KeyboardInterrupt
        return look(path, large)

    with monkeypatch.context() as patch:
        patch.setattr(image_facts, "_look", interrupted)
        with pytest.raises(KeyboardInterrupt):
            inspect_images(paths)
    opened.clear()
    inspect_images(paths)
    assert sorted(opened) == [Path(path).name for path in paths[32:]]


def test_a_cache_that_cannot_be_read_or_written_costs_time_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = photographs(tmp_path / "images", 2)
    expected = inspect_images(paths)
    (file,) = cache_folder().glob("images-*.npz")
    file.write_bytes(file.read_bytes()[:200])
    np.testing.assert_array_equal(inspect_images(paths).sizes_wh, expected.sizes_wh)
    monkeypatch.setenv("DETR_LITE_CACHE", str(Path(paths[0]) / "no folder"))
    np.testing.assert_array_equal(inspect_images(paths).sizes_wh, expected.sizes_wh)


def test_large_images_are_decoded_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = []
    for index in range(64):
        paths.append(str(tmp_path / f"{index}.png"))
        Image.new("L", (64, 64)).save(paths[-1])
    monkeypatch.setattr(image_facts, "LARGE_IMAGE", 1000)
    monkeypatch.setattr(image_facts, "usable_cores", lambda: 4)
    monkeypatch.setattr(image_facts, "FILES_PER_TASK", 1)
    running, most = [0], [0]
    read_stored = image_facts.read_stored

    def read(path: str, as_thumbnail: bool) -> StoredImage:
        running[0] += 1
        most[0] = max(most[0], running[0])
        try:
            return read_stored(path, as_thumbnail)
        finally:
            running[0] -= 1

    monkeypatch.setattr(image_facts, "read_stored", read)
    inspect_images(paths)
    assert most == [1]
