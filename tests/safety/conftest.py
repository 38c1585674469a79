"""Checkpoints from others, and every command that opens one."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.payloads import WORDS


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """The folder that every payload would make."""
    return tmp_path / "made_by_payload"


@pytest.fixture(scope="module")
def checkpoint(finished_run: Path) -> Path:
    return finished_run / "checkpoints" / "best.ckpt"


@pytest.fixture
def untrusted(finished_run: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write a changed checkpoint, in a run folder of its own."""

    def write(change: Callable[[dict[str, Any]], object], source: str = "best") -> Path:
        content = torch.load(finished_run / "checkpoints" / f"{source}.ckpt", weights_only=True)
        change(content)
        path = tmp_path / "untrusted" / "checkpoints" / f"{source}.ckpt"
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, path)
        return path

    return write


@pytest.fixture
def unchanged_home(tmp_path: Path) -> Iterator[None]:
    """A folder outside, which must be the same after the test."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "mine.json").write_text("mine")
    yield
    assert [(path.name, path.read_text()) for path in home.iterdir()] == [("mine.json", "mine")]


@pytest.fixture
def words(tiny_file: Path, tiny_data: Path, tmp_path: Path) -> Callable[[str, Path], list[str]]:
    def fill(way: str, path: Path) -> list[str]:
        places = {"PHOTOS": tiny_data / "val", "OUT": tmp_path / "out", "CONFIG": tiny_file}
        filled = [str(places.get(word, word)) for word in WORDS[way]]
        return [*filled, str(path), *([str(tmp_path / "out.ckpt")] if way == "import" else [])]

    return fill
