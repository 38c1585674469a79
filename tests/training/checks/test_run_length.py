"""Whether AP was still rising at the end, on curves of known shape, and what is read of a run's log."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from detr_lite.training.checks.run_length import Rise, RunLog, find_rise, read_log
from tests.helpers.fake_runs import write_log


def rise_of(*AP: float) -> Rise | None:  # noqa: N803 (COCO's name)
    return find_rise([100 * number for number in range(1, len(AP) + 1)], AP)


def test_a_straight_rise() -> None:
    rise = rise_of(0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    assert rise is not None
    assert (rise.start, rise.end) == pytest.approx((0.4, 0.6))


@pytest.mark.parametrize(
    "AP",
    [
        (0.5,),
        (0.1, 0.3),
        (0.1, 0.2, 0.3),  # too few to tell
        (0.5, 0.51, 0.53, 0.54),  # by chance, as there are few
        (0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
        (0.1, 0.3, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6),  # flat
        (0.1, 0.3, 0.5, 0.58, 0.59, 0.595, 0.598, 0.599, 0.6),  # nearly flat
        (0.1, 0.3, 0.6, 0.7, 0.6, 0.5, 0.4, 0.3),  # fell after its peak
        (0.1, 0.4, 0.6, 0.7, 0.7, 0.5, 0.52, 0.54, 0.56),  # rising again, far below its peak
        (0.1, 0.2, 0.3, 0.4, 0.5, 0.3),  # fell at the end
    ],
)
def test_what_is_no_rise(AP: tuple[float, ...]) -> None:  # noqa: N803 (COCO's name)
    assert rise_of(*AP) is None


def share(curve: Callable[[np.ndarray], np.ndarray], noise: float, count: int) -> float:
    """Of 500 runs with this curve and noise, how many are called rising."""
    rng = np.random.default_rng(0)
    x = np.linspace(1 / count, 1, count)
    return float(np.mean([rise_of(*(curve(x) + rng.normal(0, noise, count)).tolist()) is not None for _ in range(500)]))


@pytest.mark.parametrize("count", [4, 5, 6, 10, 20])
@pytest.mark.parametrize("noise", [0.005, 0.02])
def test_noise_is_hardly_ever_a_rise(count: int, noise: float) -> None:
    assert share(lambda x: np.full_like(x, 0.5), noise, count) < 0.05
    assert share(lambda x: 0.6 * (1 - np.exp(-20 * x)), noise, count) < 0.05


@pytest.mark.parametrize("count", [5, 6, 10, 20])
def test_a_noisy_rise_is_found(count: int) -> None:
    assert share(lambda x: 0.6 * x, 0.005, count) > 0.9
    assert share(lambda x: 0.7 * x**2, 0.01, count) > 0.8


def test_evaluations_at_uneven_steps() -> None:
    """Of a run that was resumed for longer: the last third of the steps counts, not that of the evaluations."""
    AP = [0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.5, 0.5]  # noqa: N806 (COCO's name)
    assert find_rise([10, 20, 30, 40, 50, 400, 700, 1000], AP) is None
    assert find_rise([10, 20, 30, 40, 50, 60], [*AP[:5], 0.6]) is not None


def test_the_log_of_a_run(tmp_path: Path) -> None:
    assert read_log(tmp_path / "metrics.csv") == RunLog(0, (), ())
    write_log(tmp_path, [0.25, -1.0, 0.5])
    assert read_log(tmp_path / "metrics.csv") == RunLog(300, (100, 300), (0.25, 0.5))
    (tmp_path / "metrics.csv").write_text("no,table\n1,2\n")
    assert read_log(tmp_path / "metrics.csv") == RunLog(0, (), ())
