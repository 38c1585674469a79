"""Atomic writing: complete files or none, temporary names that never collide, and no needless flushing."""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import filelock
import pytest
from PIL import Image

from detr_lite import io
from detr_lite.cli.detections_file import save_image
from detr_lite.io import PART, atomic_write, backup_file, remove_parts
from detr_lite.structures import DetrLiteError

NEW, OLD = "0123456789abcdef", "fedcba9876543210"
"""Names of temporary files."""


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_is_written_completely_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fill_disk(file: Any) -> None:
        file.write(b"ne")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(DetrLiteError, match=r"file: cannot be written \(No space left on device\); make room"):
        atomic_write(path, fill_disk)
    assert names_in(tmp_path) == {"file"}
    assert path.read_text() == "old"


def test_two_hosts_with_the_same_process_id_write_into_one_folder(tmp_path: Path) -> None:
    """The second write happens in the midst of the first."""

    def write_both(file: IO[bytes]) -> None:
        file.write(b"one")
        atomic_write(tmp_path / "b", lambda other: other.write(b"two"))
        file.write(b" and more")

    atomic_write(tmp_path / "a", write_both)
    assert (tmp_path / "a").read_text() == "one and more"
    assert (tmp_path / "b").read_text() == "two"
    assert names_in(tmp_path) == {"a", "b"}


def test_hidden_files_of_other_programs_stay(tmp_path: Path) -> None:
    (tmp_path / f".download{PART}").write_text("half")
    remove_parts(tmp_path)
    assert names_in(tmp_path) == {f".download{PART}"}


def test_leftovers_are_removed_but_no_file_that_is_being_written(tmp_path: Path) -> None:
    (tmp_path / f".{OLD}{PART}").write_text("half")
    (tmp_path / f".{NEW}{PART}").symlink_to(tmp_path / "nowhere")

    def clean_up(file: IO[bytes]) -> None:
        file.write(b"content")
        remove_parts(tmp_path)
        (own,) = names_in(tmp_path)
        assert own.endswith(PART)

    atomic_write(tmp_path / "a", clean_up)
    assert names_in(tmp_path) == {"a"}


def test_without_locks_only_old_leftovers_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int, blocking: bool) -> bool:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(io, "lock_descriptor", fail)
    for name in (NEW, OLD):
        (tmp_path / f".{name}{PART}").write_text("half")
    hours_ago = time.time() - 2 * io.ABANDONED_SECONDS
    os.utime(tmp_path / f".{OLD}{PART}", (hours_ago, hours_ago))
    remove_parts(tmp_path)
    assert names_in(tmp_path) == {f".{NEW}{PART}"}
    atomic_write(tmp_path / "a", lambda file: file.write(b"content"))
    assert (tmp_path / "a").read_text() == "content"


def test_a_temporary_file_is_locked_for_other_processes(tmp_path: Path) -> None:
    """By the lock that `filelock` takes, which holds across hosts where the file system supports it."""

    def try_to_lock(file: IO[bytes]) -> None:
        (part,) = tmp_path.iterdir()
        with part.open("rb+") as other:
            assert not filelock.lock_descriptor(other.fileno(), blocking=False)

    atomic_write(tmp_path / "a", try_to_lock)
    assert names_in(tmp_path) == {"a"}


@pytest.mark.parametrize("has_links", [True, False])
def test_a_backup_keeps_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool) -> None:
    if not has_links:
        monkeypatch.setattr(os, "link", lambda *_, **__: (_ for _ in ()).throw(PermissionError(1, "no links here")))
    last, previous = tmp_path / "last", tmp_path / "previous"
    backup_file(last, previous)
    assert names_in(tmp_path) == set()
    for number in range(3):
        backup_file(last, previous)
        atomic_write(last, lambda file, number=number: file.write(f"{number}".encode()))
    assert (previous.read_text(), last.read_text()) == ("1", "2")
    assert names_in(tmp_path) == {"last", "previous"}


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Descriptors that were flushed to the disk."""
    descriptors: list[int] = []
    monkeypatch.setattr(os, "fsync", descriptors.append)
    return descriptors


@pytest.mark.parametrize(
    ("write", "count"),
    [
        (lambda path: atomic_write(path, lambda file: file.write(b"content")), 2),  # the file and its folder
        (lambda path: atomic_write(path, lambda file: file.write(b"content"), durable=False), 0),
        (lambda path: save_image(Image.new("RGB", (8, 8)), path.with_suffix(".png")), 0),
        (lambda path: save_image(Image.new("RGB", (8, 8)), path.with_suffix(".jpg")), 0),
    ],
    ids=["checkpoint", "not durable", "PNG", "JPEG"],
)
def test_only_what_cannot_be_computed_again_is_flushed_to_the_disk(
    tmp_path: Path, flushed: list[int], write: Callable[[Path], object], count: int
) -> None:
    write(tmp_path / "a")
    assert len(list(tmp_path.iterdir())) == 1
    assert len(flushed) == count
