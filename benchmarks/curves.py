"""Plot AP over training time, one curve for each model, as a PNG file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from benchmarks.result import Result
from detr_lite.drawing.boxes import class_color, display_name
from detr_lite.drawing.fonts import LITERAL, AnyScriptFigure

LINES = ("-", "--", "-.", ":")
FONT_SIZE = 9


@dataclass(frozen=True)
class Curve:
    """The runs of one row of the table."""

    name: str
    results: tuple[Result, ...]
    is_highlighted: bool = False
    """Drawn in black and bold."""


def plot_curves(curves: Sequence[Curve], title: str, x_axis: Literal["minutes", "steps"], output: Path) -> None:
    """Plot each curve's mean over its runs and their range (min to max), with its name at the right end."""
    figure = AnyScriptFigure(figsize=(9, max(5.0, 1.6 + 0.24 * len(curves))), dpi=150, layout="constrained")
    axes = figure.subplots()
    ends, colors, others = [], [], 0
    for curve in curves:
        x, values = _points(curve, x_axis)
        color = "black" if curve.is_highlighted else [channel / 255 * 0.85 for channel in class_color(others)]
        # There are eight distinct colors; more curves need different line styles.
        linestyle = "-" if curve.is_highlighted else LINES[others // 8 % len(LINES)]
        others += not curve.is_highlighted
        mean = values.mean(axis=0)
        axes.plot(
            x, mean, linestyle, color=color, linewidth=2.5 if curve.is_highlighted else 1.5, marker="o", markersize=3
        )
        if len(values) > 1:
            axes.fill_between(x, values.min(axis=0), values.max(axis=0), color=color, alpha=0.12, linewidth=0)
        ends.append((float(x[-1]), float(mean[-1])))
        colors.append(color)
    axes.set(title=title, xlabel="minutes of training" if x_axis == "minutes" else "steps", ylabel="AP", ylim=(0, None))
    axes.title.set(**LITERAL)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.25)

    figure.draw_without_rendering()  # the height of the axes is known only after the layout
    low, high = axes.get_ylim()
    line_height = (high - low) * 1.5 * FONT_SIZE / 72 * figure.dpi / axes.get_window_extent().height
    right = axes.get_xlim()[1]
    positions = spread_apart(
        np.array([value for _, value in ends]), line_height, low + line_height / 2, high - line_height / 2
    )
    for curve, (end, value), position, color in zip(curves, ends, positions, colors, strict=True):
        outside: dict[str, Any] = {"color": color, "clip_on": False}
        axes.plot([end, 1.02 * right], [value, position], linewidth=0.6, alpha=0.6, **outside)
        weight = "bold" if curve.is_highlighted else "normal"
        name = f"{display_name(curve.name)}  {value:.3f}"
        axes.text(
            1.025 * right, position, name, va="center", fontsize=FONT_SIZE, fontweight=weight, **outside, **LITERAL
        )
    axes.set(xlim=(0, right), ylim=(low, high))
    figure.savefig(output)


def spread_apart(
    wanted: Float[np.ndarray, " name"], spacing: float, low: float, high: float
) -> Float[np.ndarray, " name"]:
    """Positions near the wanted ones, in the same order, at least `spacing` apart, and within `low` and `high`.

    Names that would overlap form a block, centerd on the mean of their wanted positions.
    """
    order = np.argsort(wanted, kind="stable")
    blocks: list[list[int]] = []
    for index in order:
        blocks.append([int(index)])
        while len(blocks) > 1 and _top(blocks[-2], wanted, spacing) + spacing > _bottom(blocks[-1], wanted, spacing):
            last = blocks.pop()
            blocks[-1] += last
    positions = np.concatenate([_bottom(block, wanted, spacing) + spacing * np.arange(len(block)) for block in blocks])
    steps = spacing * np.arange(len(positions))
    positions = np.minimum(positions, high - steps[::-1])
    positions = np.maximum(positions, low + steps)
    spread = np.empty(len(wanted))
    spread[order] = positions
    return spread


def _bottom(block: list[int], wanted: np.ndarray, spacing: float) -> float:
    return float(wanted[block].mean() - spacing * (len(block) - 1) / 2)


def _top(block: list[int], wanted: np.ndarray, spacing: float) -> float:
    return float(wanted[block].mean() + spacing * (len(block) - 1) / 2)


def _points(curve: Curve, x_axis: Literal["minutes", "steps"]) -> tuple[np.ndarray, np.ndarray]:
    """x (point) and AP (run, point). All runs are evaluated at the same fractions of their length."""
    count = min(len(result.curve) for result in curve.results)
    runs = [result.curve[:count] for result in curve.results]
    x = [[point.minutes if x_axis == "minutes" else point.step for point in points] for points in runs]
    values = [[max(0.0, point.metrics["AP"]) for point in points] for points in runs]
    return np.mean(x, axis=0), np.array(values)
