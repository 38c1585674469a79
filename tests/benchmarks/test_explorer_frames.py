"""The longest task of each kind of use: of a trace made by hand, and of a page in Chromium."""

import shutil

import pytest

from benchmarks.explorer_frames import frames_table, longest_tasks
from benchmarks.explorer_uses import USES
from detr_lite.structures import DetrLiteError

PAGE = {"pid": 1, "tid": 7}


def mark(name, at):
    return {"name": f"use: {name}", "ts": at, **PAGE}


def task(at, microseconds, **thread):
    return {"name": "ThreadControllerImpl::RunTask", "ts": at, "dur": microseconds, **PAGE, **thread}


def test_tasks_belong_to_the_use_that_they_follow():
    events = [
        task(10, 90_000),  # before the first use
        mark("click", 100_000),
        task(110_000, 4_000),
        task(120_000, 30_500),
        mark("key", 200_000),
        task(210_000, 7_000),
        task(220_000, 99_000, tid=8),  # of another thread
        {"name": "Paint", "ts": 230_000, "dur": 80_000, **PAGE},
        mark("nothing", 300_000),
    ]
    assert longest_tasks(reversed(events)) == {"click": 30.5, "key": 7.0, "nothing": 0.0}


@pytest.mark.parametrize("numbers", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_a_page_has_at_least_one_of_each(numbers):
    with pytest.raises(DetrLiteError, match="is 0; it must be at least 1"):
        frames_table(None, *numbers)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="no Chromium: apt-get install chromium")
def test_a_page_is_used_in_every_way():
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'")
    table = frames_table(None, images=2, queries=20, classes=5)
    cells = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")][2:]
    assert {name for name, _ in cells} == set(USES)
    milliseconds = {name: float(number) for name, number in cells}
    assert [*milliseconds.values()] == sorted(milliseconds.values(), reverse=True)
    assert milliseconds["next image"] > 0
    assert "The page has" in table
