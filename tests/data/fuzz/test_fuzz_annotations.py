"""Thousands of faulty annotation files of every format: each is refused in one line, or read as something sound."""

import logging
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from benchmarks.dataset_formats import WRITERS, draw
from detr_lite.data.reading import Reading, read_dataset
from detr_lite.structures import DetrLiteError
from tests.helpers.isolation import run_isolated
from tests.helpers.mutations import mutate_file
from tests.helpers.soundness import assert_one_line, assert_sound

INPUTS = 1500
"""Of each format."""

DRAWN = draw(counts={"train": 3, "val": 2})

pytestmark = [pytest.mark.stress, pytest.mark.timeout(1600)]


@pytest.fixture(autouse=True)
def without_cache(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is kept: files that change within a tick of the clock would look unchanged."""
    monkeypatch.setenv("DETR_LITE_CACHE", "/dev/null/none")
    level = logging.getLogger("detr_lite").level
    logging.getLogger("detr_lite").setLevel(logging.ERROR)
    yield
    logging.getLogger("detr_lite").setLevel(level)


@pytest.mark.parametrize("name", WRITERS)
def test_faulty_annotation_files(tmp_path: Path, name: str) -> None:
    root = tmp_path / "data"
    WRITERS[name](root, DRAWN)
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.suffix != ".png")
    contents = {path: path.read_bytes() for path in files}
    assert read_dataset(root)

    def read(number: int) -> None:
        random = Random(f"{name} {number}")
        changed = random.sample(files, min(len(files), random.choice((1, 1, 2))))
        try:
            for path in changed:
                path.write_bytes(mutate_file(path.name, contents[path], random))
            for split in read_dataset(root, reading=Reading(random.choice(("repair", "skip", "refuse")))).values():
                assert_sound(split, load=number % 10 == 0)
        except DetrLiteError as error:
            assert_one_line(str(error))
        finally:
            for path in changed:
                path.write_bytes(contents[path])

    faults = run_isolated(read, range(INPUTS), tmp_path)
    assert not faults, "\n".join(faults)
