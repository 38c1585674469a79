"""AP over the run, one curve for each model, as a PNG file. Drawn on a `Figure`, as all pictures of ours."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from benchmarks.result import Result
from detr_lite.viz.draw import LITERAL, class_color, display_name

LINES = ("-", "--", "-.", ":")
SIZE = 9  # of the names, in points


@dataclass(frozen=True)
class Curve:
    """The runs of one model, or of one setting."""

    name: str
    outcomes: tuple[Result, ...]
    is_ours: bool = False


def plot_curves(curves: Sequence[Curve], title: str, over: Literal["minutes", "steps"], output: Path) -> None:
    """Mean over a curve's runs, and the range that they span; each name stands at the end of its curve."""
    figure = Figure(figsize=(9, max(5.0, 1.6 + 0.24 * len(curves))), dpi=150, layout="constrained")
    axes = figure.subplots()
    ends, colors, others = [], [], 0
    for curve in curves:
        along, values = _points(curve, over)
        color = "black" if curve.is_ours else [channel / 255 * 0.85 for channel in class_color(others)]
        # With more curves than colours that can be told apart, the kind of line helps.
        style = "-" if curve.is_ours else LINES[others // 8 % len(LINES)]
        others += not curve.is_ours
        mean = values.mean(axis=0)
        axes.plot(along, mean, style, color=color, linewidth=2.5 if curve.is_ours else 1.5, marker="o", markersize=3)
        if len(values) > 1:
            axes.fill_between(along, values.min(axis=0), values.max(axis=0), color=color, alpha=0.12, linewidth=0)
        ends.append((float(along[-1]), float(mean[-1])))
        colors.append(color)
    axes.set(title=title, xlabel="minutes of training" if over == "minutes" else "steps", ylabel="AP", ylim=(0, None))
    axes.title.set(**LITERAL)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.25)

    figure.draw_without_rendering()  # only then is it known how high a line of text is
    low, high = axes.get_ylim()
    line = (high - low) * 1.5 * SIZE / 72 * figure.dpi / axes.get_window_extent().height
    right = axes.get_xlim()[1]
    places = spread_apart(np.array([value for _, value in ends]), line, low + line / 2, high - line / 2)
    for curve, (end, value), place, color in zip(curves, ends, places, colors, strict=True):
        beside: dict[str, Any] = {"color": color, "clip_on": False}
        axes.plot([end, 1.02 * right], [value, place], linewidth=0.6, alpha=0.6, **beside)
        weight = "bold" if curve.is_ours else "normal"
        name = f"{display_name(curve.name)}  {value:.3f}"
        axes.text(1.025 * right, place, name, va="center", fontsize=SIZE, fontweight=weight, **beside, **LITERAL)
    axes.set(xlim=(0, right), ylim=(low, high))
    figure.savefig(output)


def spread_apart(
    wanted: Float[np.ndarray, " name"], least: float, low: float, high: float
) -> Float[np.ndarray, " name"]:
    """Places at least so far apart, in the same order, each as near to where it is wanted as its neighbours allow.

    Names that would touch form a block, which stands where its names are wanted on average; then all are brought
    between `low` and `high`, if there is room.
    """
    order = np.argsort(wanted, kind="stable")
    blocks: list[list[int]] = []
    for index in order:
        blocks.append([int(index)])
        while len(blocks) > 1 and _top(blocks[-2], wanted, least) + least > _bottom(blocks[-1], wanted, least):
            last = blocks.pop()
            blocks[-1] += last
    places = np.concatenate([_bottom(block, wanted, least) + least * np.arange(len(block)) for block in blocks])
    steps = least * np.arange(len(places))
    places = np.minimum(places, high - steps[::-1])
    places = np.maximum(places, low + steps)
    spread = np.empty(len(wanted))
    spread[order] = places
    return spread


def _bottom(block: list[int], wanted: np.ndarray, least: float) -> float:
    return float(wanted[block].mean() - least * (len(block) - 1) / 2)


def _top(block: list[int], wanted: np.ndarray, least: float) -> float:
    return float(wanted[block].mean() + least * (len(block) - 1) / 2)


def _points(curve: Curve, over: Literal["minutes", "steps"]) -> tuple[np.ndarray, np.ndarray]:
    """Where on the axis (point), and AP (run point). Runs are evaluated at the same shares of their length."""
    count = min(len(outcome.curve) for outcome in curve.outcomes)
    runs = [outcome.curve[:count] for outcome in curve.outcomes]
    along = [[point.minutes if over == "minutes" else point.step for point in points] for points in runs]
    values = [[max(0.0, point.numbers["AP"]) for point in points] for points in runs]
    return np.mean(along, axis=0), np.array(values)
