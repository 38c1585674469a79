"""COCO's archives from a server of the test's own: what arrives can be read, and nothing is fetched twice."""

import io
import logging
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from detr_lite.data.download import files as module
from detr_lite.data.download.coco import download_coco
from detr_lite.data.reading import read_dataset
from detr_lite.structures import DetrLiteError
from tests.helpers.range_server import RangeServer


def zipped(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


@pytest.fixture
def server(tiny_data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RangeServer]:
    """`tiny_data` under the names of COCO's server."""
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.001)
    monkeypatch.setenv("no_proxy", "*")
    annotations = {f"annotations/captions_{split}2017.json": b"{}" for split in ("train", "val")}
    files = {}
    for year in (2014, 2017):
        for split in ("train", "val"):
            content = (tiny_data / "annotations" / f"instances_{split}.json").read_bytes()
            annotations[f"annotations/instances_{split}{year}.json"] = content
            images = {f"{split}{year}/{path.name}": path.read_bytes() for path in (tiny_data / split).iterdir()}
            files[f"/zips/{split}{year}.zip"] = zipped(images)
        files[f"/annotations/annotations_trainval{year}.zip"] = zipped(annotations)
    with RangeServer(files) as started:
        yield started


def fetched(server: RangeServer) -> list[str]:
    return [request.path for request in server.requests if request.method == "GET"]


@pytest.mark.parametrize("year", [2014, 2017])
def test_what_arrives_is_the_dataset(
    server: RangeServer, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], year: int
) -> None:
    server.break_after = [500, 700]
    download_coco(tmp_path / "coco", year=year, server=server.url)
    out = capsys.readouterr().out
    assert f"train{year}.zip: " in out
    assert " to download" in out
    assert f"train{year}.zip: 8 files unpacked and compared with their checksums" in out
    assert not list((tmp_path / "coco").rglob("captions*"))
    arrived, expected = read_dataset(tmp_path / "coco"), read_dataset(tiny_data)
    for split in ("train", "val"):
        assert arrived[split].image_ids == expected[split].image_ids
        assert (arrived[split].ground_truth.boxes_xywh == expected[split].ground_truth.boxes_xywh).all()


def test_a_second_call_fetches_nothing(server: RangeServer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    download_coco(tmp_path, ["val"], server=server.url, keep=False)
    assert not list(tmp_path.glob("*.zip"))
    server.close()
    with caplog.at_level(logging.INFO, "detr_lite"):
        download_coco(tmp_path, ["val"], server=server.url, keep=False)
    assert "has all of it already" in caplog.text


def test_another_split_comes_to_what_is_there(server: RangeServer, tmp_path: Path) -> None:
    download_coco(tmp_path, ["val"], server=server.url)
    server.requests.clear()
    download_coco(tmp_path, ["train", "val"], server=server.url)
    assert fetched(server) == ["/zips/train2017.zip"]  # the annotations' archive is still there
    assert {*read_dataset(tmp_path)} == {"train", "val"}


def test_images_that_were_removed_come_again(server: RangeServer, tmp_path: Path) -> None:
    download_coco(tmp_path, ["val"], server=server.url, keep=False)
    server.requests.clear()
    (tmp_path / "val2017" / "000.png").unlink()
    download_coco(tmp_path, ["val"], server=server.url, keep=False)
    assert fetched(server) == ["/zips/val2017.zip"]
    assert (tmp_path / "val2017" / "000.png").is_file()


def test_disk_space_is_checked_before_the_first_byte(
    server: RangeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {path: len(content) for path, content in server.files.items()}
    annotations = sizes["/annotations/annotations_trainval2017.zip"]
    images = sizes["/zips/train2017.zip"] + sizes["/zips/val2017.zip"]
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=3 * annotations + 2 * images - 1))
    with pytest.raises(DetrLiteError, match="of disk space"):
        download_coco(tmp_path / "coco", server=server.url)
    assert fetched(server) == []
    assert not (tmp_path / "coco").exists()
    download_coco(tmp_path / "coco", server=server.url, keep=False)  # needs less


def test_offline(server: RangeServer, tmp_path: Path) -> None:
    server.close()
    with pytest.raises(DetrLiteError, match="cannot be reached"):
        download_coco(tmp_path / "coco", server=server.url)
    assert not (tmp_path / "coco").exists()
