import math

import pytest

from benchmarks.long_run import long_run_table, simulate
from detr_lite.model.position import MAX_BIAS


def test_biases_learn_recorded_attention_and_have_nothing_that_is_cancelled():
    start, end = simulate(1), simulate(24)
    assert start.last_bias == end.last_bias == 0
    assert 0 < end.constant < MAX_BIAS
    assert end.loss < start.loss
    assert simulate(2, has_bias=True).last_bias > 0


def test_table():
    table = long_run_table(1)
    assert "| ordinary MLPs |" in table
    assert "| now | 0.00 |" in table


@pytest.mark.stress
@pytest.mark.timeout(3600)
def test_a_long_run_stays_within_bounds():
    walk = simulate(100_000)
    assert walk.constant < MAX_BIAS  # 11.3, where ordinary MLPs have 17.8 after 20,000 steps
    assert math.isfinite(walk.loss)
