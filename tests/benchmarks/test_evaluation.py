"""The table of evaluation times: its rows, and that all engines agree. How long one takes is not tested."""

import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from benchmarks import evaluation


@pytest.fixture(autouse=True)
def _all_cores_again(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The tests after these may use all cores that these could."""
    monkeypatch.delenv("RAYON_NUM_THREADS", raising=False)
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    yield
    os.environ.pop("RAYON_NUM_THREADS", None)
    if cores is not None:
        os.sched_setaffinity(0, cores)


def rows_of(table: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("| ")
    ]


@pytest.mark.slow
def test_all_engines_give_the_same_numbers(run_tool: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "MOST_FOR_PYCOCOTOOLS", 20)
    ended = run_tool("benchmark", "evaluation", "--images", 20, 40)
    assert ended.code == 0, ended.err
    _, _, first, second = rows_of(ended.out)
    assert first[:2] == ["20", "2,000"]
    assert second[:2] == ["40", "4,000"]
    assert all(re.fullmatch(r"\d+\.\d\d \(\d+ x\)", cell) for cell in (first[3], first[4], second[3]))
    assert second[4] == "-"
    assert float(first[5]) == 0
    assert float(second[5]) < 1e-12


@pytest.mark.slow
def test_a_wrong_number_would_show(monkeypatch: pytest.MonkeyPatch) -> None:
    compute = evaluation._faster_coco_eval

    def wrong(*arguments: Any) -> tuple[float, list[float]]:
        seconds, numbers = compute(*arguments)
        assert 0 < numbers[0] < 1
        return seconds, [numbers[0] + 1e-3, *numbers[1:]]

    monkeypatch.setattr(evaluation, "_faster_coco_eval", wrong)
    assert rows_of(evaluation.evaluation_table([10]))[-1][5] == "1e-03"


@pytest.mark.slow
def test_without_faster_coco_eval_a_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation.importlib.util, "find_spec", lambda name: None)
    table = evaluation.evaluation_table([10])
    assert rows_of(table)[-1][3] == "-"
    assert table.splitlines()[-1] == "faster-coco-eval is not installed (pip install -e '.[dev]')."


def test_no_images_are_refused(refusal: Callable[..., str]) -> None:
    assert refusal("benchmark", "evaluation", "--images", 5, 0) == "--images is 0; it must be at least 1"
