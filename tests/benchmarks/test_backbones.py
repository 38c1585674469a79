"""The time of backbones."""

import pytest

from benchmarks.backbones import backbones_table


@pytest.mark.slow
def test_a_row_for_each_backbone_with_five_times() -> None:
    rows = backbones_table(("resnet10t",), repeats=1).splitlines()
    assert len(rows) == 3
    name, *times = [cell.strip() for cell in rows[2].strip("|").split("|")]
    assert name == "resnet10t"
    assert len(times) == 5
    assert all(float(value) > 0 for value in times)
