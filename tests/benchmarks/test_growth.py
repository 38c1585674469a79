"""Exponents of growth: known ones are found, and every part is measured at small sizes."""

import json
import sys
import time
from pathlib import Path

import pytest

from benchmarks.growth import AXES, cases_of, growth_table, plot_growth
from benchmarks.growth_measure import Case, Growth, exponent, measure_growth
from benchmarks.million import million_table
from detr_lite.allocator import keep_freed_memory
from detr_lite.structures import DetrLiteError

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_the_exponent_of_a_power(power: float) -> None:
    """Of the upper half alone: a constant start does not hide it."""
    sizes = [2**step for step in range(8)]
    assert exponent(sizes, [3 * size**power for size in sizes]) == pytest.approx(power)
    with_start = [max(1e3, size**2) for size in (10, 20, 40, 80, 160)]
    assert exponent([10, 20, 40, 80, 160], with_start) == pytest.approx(2.0)
    assert exponent([1, 2], [1, 4]) == pytest.approx(2.0)


def test_sizes_double() -> None:
    case = Case("", "images", (4, 32), lambda size, folder: lambda: None)
    assert case.sizes() == [4, 8, 16, 32]
    assert case.sizes(shrink=2) == [4, 8, 16]
    assert case.sizes(shrink=9) == [4, 8]


def test_what_is_above_linear() -> None:
    case = Case("", "images", (4, 8), lambda size, folder: lambda: None)
    sizes = [4, 8]
    assert not Growth(case, sizes, [1.0, 2.1], [0, 0]).is_above_linear
    assert Growth(case, sizes, [1.0, 4.0], [0, 0]).is_above_linear
    assert Growth(case, sizes, [1.0, 2.0], [10**8, 4 * 10**8]).is_above_linear
    assert Growth(case, sizes, [1.0, 2.0], [1000, 4000]).memory_exponent is None


def _memory(size: int, folder: Path):
    return lambda: bytearray(size * 2**20)


@linux
@pytest.mark.parametrize("keeps", [False, True], ids=["as it is", "after training, which keeps freed memory"])
def test_memory_is_that_of_the_call(keeps: bool) -> None:
    def measured(size: int, folder: Path):
        if keeps:
            keep_freed_memory()
            bytearray(100 * 2**20)  # freed at once
        return _memory(size, folder)

    growth = measure_growth(Case("bytes", "objects", (32, 64), measured), [32, 64])
    assert growth.bytes == [pytest.approx(size * 2**20, rel=0.1, abs=2**21) for size in (32, 64)]
    assert growth.memory_exponent == pytest.approx(1.0, abs=0.15)


def _slow(size: int, folder: Path):
    """Long enough at its smallest size (a few milliseconds) that a hiccup of the machine is a small part of it."""
    return lambda: [sum(range(20_000)) for _ in range(size**2)]


@linux
@pytest.mark.slow
def test_a_quadratic_part_is_told_from_a_linear_one() -> None:
    start = time.process_time()
    growth = measure_growth(Case("loop", "objects", (2, 16), _slow), [4, 8, 16])
    assert growth.time_exponent > 1.5
    assert time.process_time() - start < 60


def _fails(size: int, folder: Path):
    raise ValueError("no such size")


@linux
def test_a_part_that_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)broken, 2 objects.*no such size"):
        measure_growth(Case("broken", "objects", (2, 4), _fails), [2, 4])


@linux
@pytest.mark.parametrize("axis", AXES)
@pytest.mark.stress
def test_every_part_runs_at_its_smallest_size(axis: str, tmp_path: Path) -> None:
    cases = cases_of(axis)
    assert cases
    assert len({case.name for case in cases}) == len(cases)
    for number, case in enumerate(cases):
        folder = tmp_path / str(number)
        folder.mkdir()
        case.prepare(case.ends[0] // 4 or 1 if axis != "pixels" else case.ends[0], folder)()


@linux
@pytest.mark.stress
def test_the_table_and_the_figure(tmp_path: Path) -> None:
    lines = growth_table(("ranks",), shrink=9, plot=tmp_path / "growth.png").splitlines()
    assert lines[0].startswith("| grows with | part | from | to | time | at most | exponent |")
    assert len(lines) == 2 + len(cases_of("ranks"))
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_a_panel_for_each_axis(tmp_path: Path) -> None:
    found = [
        Growth(Case(axis, axis, (1, 4), _memory), [1, 2, 4], [1.0, 2.0, 4.0], [0, 0, 0]) for axis in ("images", "ranks")
    ]
    plot_growth(found, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").stat().st_size > 1000


def test_an_unknown_axis_is_refused() -> None:
    with pytest.raises(DetrLiteError, match=r"--axes: imagse is not one of images, objects"):
        growth_table(("imagse",))


@linux
@pytest.mark.stress
def test_opening_from_the_cache_is_measured() -> None:
    lines = million_table(200, 1000).splitlines()
    assert lines[0].startswith("| 200 images, 1,000 objects, cache of ")
    assert len(lines) == 2 + 4 + 4
    assert json.dumps(lines).count("MB") >= 8
