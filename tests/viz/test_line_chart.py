"""Line charts are to scale, readable without color, and survive what runs log."""

import itertools
import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from detr_lite.viz.pages.charts import Marker
from detr_lite.viz.pages.line_chart import Line, line_chart, ticks


def parse(markup: str) -> ElementTree.Element:
    return ElementTree.fromstring(markup)


def points(chart: ElementTree.Element, number: int = 0) -> list[tuple[float, float]]:
    line = next(each for each in chart.iter("polyline") if each.get("class") == f"line-{number}")
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in str(line.get("points")).split())]


def test_values_are_to_scale() -> None:
    chart = parse(line_chart("L", [Line("a", np.array([0.0, 1, 2]), np.array([0.0, 0.5, 1.0]))], "step"))
    (x0, y0), (x1, y1), (x2, y2) = points(chart)
    assert x1 == pytest.approx((x0 + x2) / 2, abs=0.1)
    assert y1 == pytest.approx((y0 + y2) / 2, abs=0.1)
    assert x2 > x0
    assert y2 < y0


def test_a_logarithmic_axis() -> None:
    line = Line("a", np.array([0.0, 1, 2, 3]), np.array([1.0, 10, 100, -5]))
    kept = points(parse(line_chart("L", [line], "step", is_log=True)))
    assert len(kept) == 3
    assert kept[1][1] == pytest.approx((kept[0][1] + kept[2][1]) / 2, abs=0.1)


def test_gaps_and_single_values() -> None:
    gaps = Line("a", np.array([0.0, 1, 2]), np.array([1.0, math.nan, 3.0]))
    assert len(points(parse(line_chart("L", [gaps], "step")))) == 2
    alone = parse(line_chart("L", [Line("a", np.array([7.0]), np.array([0.4]))], "step"))
    assert not [*alone.iter("polyline")]
    assert len([*alone.iter("circle")]) == 1
    assert parse(line_chart("L", [Line("a", np.zeros(0), np.zeros(0))], "step")) is not None
    constant = parse(line_chart("L", [Line("a", np.array([0.0, 1]), np.array([3.0, 3.0]))], "step", is_log=True))
    assert all(0 <= y <= 240 for _, y in points(constant))


def test_long_runs_take_little_room() -> None:
    steps = np.arange(200_000.0)
    text = line_chart("L", [Line("a", steps, np.sin(steps / 1e4))], "step")
    assert len(text) < 20_000


def test_lines_differ_without_color() -> None:
    lines = [Line(name, np.array([0.0, 1]), np.array([0.0, 1])) for name in "ab"]
    chart = parse(line_chart("L", lines, "step", markers=[Marker(0.2, "low"), Marker(0.3, "high")]))
    assert {each.get("class") for each in chart.iter("polyline")} == {"line-0", "line-1"}
    texts = [each for each in chart.iter("text") if each.get("class") == "marker-text"]
    assert [each.get("text-anchor") for each in texts] == ["end", "start"]


def test_names_are_escaped() -> None:
    text = line_chart("<b>", [Line("<i>&", np.array([0.0, 1]), np.array([0.0, 1]))] * 2, "<u>")
    assert not re.search(r"<(b|i|u)>", text)
    parse(text)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (3.2, 977.0), (0.0, 1e-4), (-1.0, 1.0), (0.61, 0.62)])
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    values = ticks(low, high, 5)
    assert 1 <= len(values) <= 11
    assert all(low - 1e-9 <= value <= high + 1e-9 for value in values)
    steps = {round(after - before, 10) for before, after in itertools.pairwise(values)}
    assert len(steps) == 1
    assert f"{steps.pop():e}"[0] in "125"
