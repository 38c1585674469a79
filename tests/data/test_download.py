"""Downloads from a server of the test's own: sizes, interruptions, continuing, and wrong answers."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from detr_lite.data.download import files as module
from detr_lite.data.download.files import RemoteFile, check_space, download, format_bytes, look_up, missing_bytes
from detr_lite.structures import DetrLiteError
from tests.helpers.range_server import RangeServer

CONTENT = bytes(range(256)) * 4000


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[RangeServer]:
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.001)
    monkeypatch.setenv("no_proxy", "*")
    with RangeServer({"/some/file.bin": CONTENT}) as started:
        yield started


@pytest.fixture
def remote(server: RangeServer) -> RemoteFile:
    return look_up(f"{server.url}/some/file.bin")


def test_a_file_with_its_size_known_before(server: RangeServer, remote: RemoteFile, tmp_path: Path) -> None:
    assert (remote.size, remote.name) == (len(CONTENT), "file.bin")
    assert missing_bytes(remote, tmp_path / "new") == len(CONTENT)
    assert download(remote, tmp_path / "new").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file.bin"]
    assert missing_bytes(remote, tmp_path / "new") == 0
    server.requests.clear()
    download(remote, tmp_path / "new")
    assert server.requests == []


@pytest.mark.parametrize("has_ranges", [True, False])
def test_an_interrupted_download_goes_on(
    server: RangeServer, remote: RemoteFile, tmp_path: Path, has_ranges: bool
) -> None:
    server.has_ranges = has_ranges
    server.break_after = [1000, 200_000]
    server.requests.clear()
    assert download(remote, tmp_path).read_bytes() == CONTENT
    starts = [request.start for request in server.requests]
    assert starts[0] is None
    assert len(starts) == 3
    assert starts[1] == 1000
    assert starts[2] == (201_000 if has_ranges else 200_000)


def test_an_interrupted_command_goes_on(server: RangeServer, remote: RemoteFile, tmp_path: Path) -> None:
    server.break_after = [300_000, *[0] * 10]
    with pytest.raises(DetrLiteError, match=r"file.bin: interrupted at 300 kB of 1.02 MB \(.*the same command") as told:
        download(remote, tmp_path)
    assert len(str(told.value).splitlines()) == 1
    assert not (tmp_path / "file.bin").exists()
    assert missing_bytes(remote, tmp_path) == len(CONTENT) - 300_000
    server.break_after = []
    server.requests.clear()
    assert download(remote, tmp_path).read_bytes() == CONTENT
    assert [request.start for request in server.requests] == [300_000]
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin"]


def test_progress_between_interruptions_is_no_reason_to_give_up(
    server: RangeServer, remote: RemoteFile, tmp_path: Path
) -> None:
    server.break_after = [50_000] * 12
    assert download(remote, tmp_path).read_bytes() == CONTENT


def test_another_version_of_the_file_is_not_joined_to_the_first(
    server: RangeServer, remote: RemoteFile, tmp_path: Path
) -> None:
    server.break_after = [300_000, *[0] * 10]
    with pytest.raises(DetrLiteError):
        download(remote, tmp_path)
    server.break_after = []
    server.files["/some/file.bin"] = newer = CONTENT[::-1]
    assert download(look_up(remote.url), tmp_path).read_bytes() == newer


def test_a_file_that_changes_during_the_download_is_not_joined_either(
    server: RangeServer, remote: RemoteFile, tmp_path: Path
) -> None:
    server.break_after = [300_000]
    newer = CONTENT[::-1]
    server.after_break = lambda: server.files.update({"/some/file.bin": newer})
    assert download(remote, tmp_path).read_bytes() == newer


def test_more_than_was_announced(server: RangeServer, remote: RemoteFile, tmp_path: Path) -> None:
    server.files["/some/file.bin"] = CONTENT + b"more"
    with pytest.raises(DetrLiteError, match=r"sent more than the 1,024,000 bytes it announced"):
        download(remote, tmp_path)
    assert not (tmp_path / "file.bin").exists()


def test_less_than_was_announced(server: RangeServer, remote: RemoteFile, tmp_path: Path) -> None:
    server.files["/some/file.bin"] = CONTENT[:-5]
    with pytest.raises(DetrLiteError, match=r"interrupted at 1\.02 MB of 1\.02 MB"):
        download(remote, tmp_path)
    assert not (tmp_path / "file.bin").exists()


def test_a_server_that_is_overloaded_for_a_while(server: RangeServer, remote: RemoteFile, tmp_path: Path) -> None:
    server.overloaded = 3
    assert download(remote, tmp_path).read_bytes() == CONTENT


def test_a_file_that_the_server_does_not_have(server: RangeServer) -> None:
    with pytest.raises(DetrLiteError, match=r"/none\.zip: the server answers 404"):
        look_up(f"{server.url}/none.zip")


def test_without_a_connection(server: RangeServer) -> None:
    url = server.url
    server.close()
    with pytest.raises(DetrLiteError, match=r"^127\.0\.0\.1 cannot be reached \(.*refused.*\); check the connection"):
        look_up(f"{url}/some/file.bin")


def test_a_server_without_a_size(server: RangeServer) -> None:
    server.has_size = False
    with pytest.raises(DetrLiteError, match="does not say how large the file is"):
        look_up(f"{server.url}/some/file.bin")


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/x", "/etc/hostname", "x"])
def test_only_web_servers(url: str) -> None:
    with pytest.raises(DetrLiteError, match="is not the address of a web server"):
        look_up(url)


def test_disk_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: usage._replace(free=1_500_000) if path == tmp_path else usage
    )
    check_space(tmp_path / "not" / "there", 1_500_000)
    with pytest.raises(DetrLiteError, match=r"there: needs 20\.1 GB of disk space, 1\.5 MB are free; make room"):
        check_space(tmp_path / "not" / "there", 20_100_000_000)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (787_900, "788 kB"),
        (999_900, "1 MB"),
        (19_336_861_798, "19.3 GB"),
    ],
)
def test_sizes_for_people(count: int, text: str) -> None:
    assert format_bytes(count) == text
