"""Curves of a training run and of an evaluation, as PNG files.

Drawn on `Figure` objects, not with pyplot, which has global state and keeps every figure in memory.
"""

import csv
import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.legend import Legend

from detr_lite.drawing.boxes import class_color, display_name, drawn_class_name
from detr_lite.drawing.fonts import LITERAL, AnyScriptFigure
from detr_lite.evaluation.coco_map import CocoEvaluation
from detr_lite.io import atomic_write

_DPI = 150
_MAX_NAMED_CLASSES = 12
METRIC_COLORS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown")
Columns = Mapping[str, np.ndarray]


def plot_training_curves(
    metrics_csv: Path,
    output: Path,
    metrics: Sequence[str] = ("AP", "AP50"),
    mode: Literal["max", "min"] = "max",
) -> None:
    """Losses, metrics and learning rate over the steps. Columns and values may be missing (an interrupted run).

    Args:
        mode: whether the highest or the lowest value of a metric is the best.
    """
    main = metrics[0]
    columns = read_columns(metrics_csv)
    figure = AnyScriptFigure(figsize=(10, 5.2), layout="constrained")
    panels: dict[str, Axes] = figure.subplot_mosaic([["loss", main], ["lr", main]], height_ratios=(3, 1))
    figure.suptitle(_describe_length(columns), fontsize=11)
    _plot_losses(panels["loss"], columns)
    _plot_metrics(panels[main], columns, metrics, mode)
    _plot_learning_rates(panels["lr"], columns)
    for name, axes in panels.items():
        axes.grid(alpha=0.25)
        axes.set_xlabel("step")
        axes.set_xlim(_limits(columns["step"]))
        if not axes.lines:
            axes.text(0.5, 0.5, f"no {name} logged", ha="center", va="center", transform=axes.transAxes, color="gray")
            axes.set(xticks=(), yticks=())
    atomic_write(output, functools.partial(figure.savefig, format="png", dpi=_DPI), durable=False)


def plot_pr_curves(evaluation: CocoEvaluation, output: Path) -> None:
    """Precision over recall: the mean over classes at IoU 0.50, 0.75 and 0.50-0.95, and each class at IoU 0.50.

    The curves of a few classes lie on the means, so that they are seen where both are equal; those of many lie below.
    With objects of a single class, its curves are the means, and are called by its name.
    """
    figure = AnyScriptFigure(figsize=(10, 5.6), layout="constrained")
    axes = figure.subplots()
    recall, precision = evaluation.recall_thresholds, evaluation.precision

    has_objects = np.array([result.AP50 >= 0 for result in evaluation.per_class], dtype=bool)
    ranked = sorted(enumerate(evaluation.per_class), key=lambda entry: entry[1].AP50, reverse=True)
    count = int(has_objects.sum())
    are_named = count <= _MAX_NAMED_CLASSES
    names = [drawn_class_name(index, [each.category.name for each in evaluation.per_class]) for index, _ in ranked]
    line_style: dict[str, Any] = {"linewidth": 1.3, "zorder": 4} if are_named else {"linewidth": 1, "alpha": 0.6}
    for (index, result), name in zip(ranked[: count if count > 1 else 0], names, strict=False):
        label = f"{name}:  AP50 {result.AP50:.3f}" if are_named else "each class, IoU 0.50"
        color = [channel / 255 for channel in class_color(index)]
        axes.plot(recall, precision[0, :, index], color=color, label=label, **line_style)

    if count:
        whose = "all classes" if count > 1 else names[0]
        present = precision[:, :, has_objects].mean(axis=2)
        means = (("IoU 0.50", "AP50", present[0], "-"), ("IoU 0.75", "AP75", present[5], "--"))
        for title, metric, curve, style in (*means, ("mean of IoU 0.50-0.95", "AP", present.mean(axis=0), ":")):
            label = f"{whose}, {title}:  {metric} {evaluation.metrics[metric]:.3f}"
            axes.plot(recall, curve, "black", linestyle=style, linewidth=2.5, label=label)
        # The means are listed first. Texts are set afterwards, as matplotlib leaves out labels that begin with an
        # underscore.
        lines = [*axes.lines[-3:], *axes.lines[:-3][: count if are_named else 1]]
        legend = figure.legend(lines, [""] * len(lines), loc="outside right upper", fontsize=9, frameon=False)
        for text, line in zip(legend.get_texts(), lines, strict=True):
            text.set(text=line.get_label(), **LITERAL)
    else:
        axes.text(0.5, 0.5, "no objects in the ground truth", ha="center", va="center", color="gray")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision", title="Precision and recall (COCO)")
    axes.grid(alpha=0.25)
    atomic_write(output, functools.partial(figure.savefig, format="png", dpi=_DPI), durable=False)


def read_columns(metrics_csv: Path) -> Columns:
    """Every column as floats, NaN where a row has no number there (text, or an incomplete line)."""
    with metrics_csv.open(newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
        names = list(reader.fieldnames or ())
    columns = {name: np.array([_to_float(row.get(name)) for row in rows]) for name in names}
    if "step" not in columns:
        columns["step"] = np.arange(len(rows), dtype=float)
    return columns


def _to_float(text: str | None) -> float:
    try:
        value = float(text or "nan")
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def _series(columns: Columns, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of the rows that have both."""
    steps, values = columns["step"], columns.get(name, np.full(len(columns["step"]), math.nan))
    present = ~np.isnan(steps) & ~np.isnan(values)
    return steps[present], values[present]


def _plot_losses(axes: Axes, columns: Columns) -> None:
    parts = sorted(name for name in columns if name.startswith("loss_"))
    all_values = []
    for index, name in enumerate(["loss", *parts]):
        steps, values = _series(columns, name)
        if not len(values):
            continue
        is_total = name == "loss"
        color = "black" if is_total else [channel / 255 for channel in class_color(index - 1)]
        axes.plot(steps, values, color=color, alpha=0.2, linewidth=0.8)
        label = "total" if is_total else display_name(name.removeprefix("loss_").replace("_", " "))
        axes.plot(
            steps, _smooth(values), color=color, linewidth=2 if is_total else 1.2, label=label, marker=_marker(values)
        )
        all_values.append(values)
    if not all_values:
        return
    # Parts differ by orders of magnitude, and the total falls by as much.
    if np.concatenate(all_values).min() > 0:
        axes.set_yscale("log")
    axes.set_title("training loss")
    _set_literal(axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False))


def _plot_metrics(axes: Axes, columns: Columns, metrics: Sequence[str], mode: Literal["max", "min"]) -> None:
    for name, color in zip(metrics, METRIC_COLORS, strict=False):
        steps, values = _series(columns, name)
        steps, values = steps[values >= 0], values[values >= 0]  # pycocotools' -1: no ground truth
        if not len(values):
            continue
        best = int(values.argmax() if mode == "max" else values.argmin())
        label = f"{name}:  last {values[-1]:.3f},  best {values[best]:.3f} (step {steps[best]:.0f})"
        axes.plot(steps, values, color=color, marker="o", markersize=3.5, label=label)
        axes.plot(steps[best], values[best], color=color, marker="*", markersize=13)
    if axes.lines:
        axes.set_ylim(bottom=0)
        axes.set_title("validation")
        axes.legend(fontsize=9, loc="upper left")
        _reserve_top(axes, 0.16)


def _plot_learning_rates(axes: Axes, columns: Columns) -> None:
    names = [name for name in columns if name.startswith("lr")]
    for name in names:
        steps, values = _series(columns, name)
        if len(values):
            axes.plot(steps, values, linewidth=1.2, label=display_name(name), marker=_marker(values))
    if axes.lines:
        axes.set_title("learning rate")
        axes.set_ylim(bottom=0)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    if len(axes.lines) > 1:
        _set_literal(axes.legend(fontsize=8))


def _set_literal(legend: Legend) -> None:
    """Column names come from the file."""
    for text in legend.get_texts():
        text.set(**LITERAL)


def _limits(steps: np.ndarray) -> tuple[float, float]:
    """The same for all panels, although losses and evaluations have different first and last steps."""
    steps = steps[~np.isnan(steps)]
    low, high = (steps.min(), steps.max()) if len(steps) else (0.0, 0.0)
    margin = 0.02 * (high - low) or 1.0
    return low - margin, high + margin


def _reserve_top(axes: Axes, share: float) -> None:
    """Raise the upper limit so that this share of the panel is free for the legend."""
    transform = axes.yaxis.get_transform()
    low, high = transform.transform(np.array(axes.get_ylim()))
    axes.set_ylim(top=transform.inverted().transform(np.array([low + (high - low) / (1 - share)]))[0])


def _smooth(values: np.ndarray) -> np.ndarray:
    """Moving average over a fiftieth of the run; the window is shorter at both ends."""
    window = min(len(values), 2 * (len(values) // 100) + 1)
    kernel = np.ones(window)
    return np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same")


def _marker(values: np.ndarray) -> str:
    return "o" if len(values) == 1 else ""  # a line needs two points


def _describe_length(columns: Columns) -> str:
    parts = []
    for name, form in (("step", "{:,.0f} steps"), ("epoch", "epoch {:g}"), ("minutes", "{:.1f} minutes")):
        values = columns.get(name, np.array([]))
        values = values[~np.isnan(values)]
        if len(values):
            parts.append(form.format(values.max()))
    return ", ".join(parts)
