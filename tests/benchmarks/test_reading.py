"""The measurement of opening a dataset, on a small one."""

from pathlib import Path

import pytest

from benchmarks.reading import reading_table, write_dataset
from tests.helpers.coco_files import read_raw


def test_the_dataset_is_sound_coco(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", images=5, annotations=40)
    raw, report = read_raw(tmp_path / "data")
    assert (len(raw.names), len(raw.labels), report.findings) == (5, 40, [])


@pytest.mark.slow
def test_the_table_has_both_openings() -> None:
    *_, first, cached = reading_table(images=5, annotations=40).splitlines()
    assert first.startswith("| first | ")
    assert cached.startswith("| from the cache | ")
    for line in (first, cached):
        seconds, cpu_seconds, peak, _ = (float(cell.replace(",", "")) for cell in line.split("|")[2:6])
        assert cpu_seconds >= 0
        assert 0 <= seconds < 60
        assert peak > 50
