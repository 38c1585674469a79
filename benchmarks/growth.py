"""How time and memory grow with images, objects, queries, classes, pixels and ranks: exponents and a figure."""

import json
import os
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.growth_measure import Case, Growth, measure_growth
from benchmarks.study import markdown
from detr_lite.io import atomic_write
from detr_lite.structures import DetrLiteError

AXES = ("images", "objects", "queries", "classes", "pixels", "ranks")
ABOVE, LINEAR = "#d55e00", "0.55"
"""Colors of lines that are steeper than linear, and of the others."""
XLABELS = {"images": "images of a dataset", "objects": "objects of an image", "pixels": "pixels of an image"}


def growth_table(
    axes: Sequence[str] = AXES, shrink: int = 1, plot: Path | None = None, output: Path | None = None
) -> str:
    """Markdown: exponents of time and memory of each part. On one core.

    Args:
        shrink: 1 for all sizes; 2 leaves out the largest, and so on.
        plot: also draw the measurements there.
        output: JSON of what has been measured, after each part; parts that are in it already are not measured again.

    Errors: an axis that does not exist.
    """
    if unknown := [axis for axis in axes if axis not in AXES]:
        raise DetrLiteError(f"--axes: {unknown[0]} is not one of {', '.join(AXES)}")
    if not sys.platform.startswith("linux"):
        raise DetrLiteError("growth reads /proc, which only Linux has")
    os.environ["RAYON_NUM_THREADS"] = "1"  # of hotcoco, which reads it at its first evaluation
    import torch

    from benchmarks.growth_data import data_cases
    from benchmarks.growth_model import model_cases, warm_up

    torch.set_num_threads(1)
    cases = [case for case in (*data_cases(), *model_cases()) if case.axis in axes]
    cases.sort(key=lambda case: AXES.index(case.axis))
    warm_up(Path())
    bar = tqdm(cases, "measuring", leave=False, disable=None)
    known = _Measured(output)
    found = [known.get(case, case.sizes(shrink)) for case in bar]
    if plot is not None:
        plot_growth(found, plot)
    columns = ["grows with", "part", "from", "to", "time", "at most", "exponent", "memory", "exponent", "why"]
    return markdown(columns, list(map(_row, found)))


class _Measured:
    """What has been measured, kept in a file if there is one."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._rows: list[dict[str, Any]] = json.loads(file.read_text()) if file is not None and file.exists() else []

    def get(self, case: Case, sizes: list[int]) -> Growth:
        for row in self._rows:
            if (row["axis"], row["name"], row["sizes"]) == (case.axis, case.name, sizes):
                return Growth(case, sizes, row["seconds"], row["bytes"])
        growth = measure_growth(case, sizes)
        row = {"sizes": sizes, "seconds": growth.seconds, "bytes": growth.bytes}
        self._rows.append({"axis": case.axis, "name": case.name, **row})
        if self._file is not None:
            atomic_write(self._file, lambda file: file.write(f"{json.dumps(self._rows, indent=1)}\n".encode()))
        return growth


def _row(growth: Growth) -> list[str]:
    case, memory = growth.case, growth.memory_exponent
    is_known = memory is not None
    return [
        case.axis,
        f"**{case.name}**" if growth.is_above_linear else case.name,
        f"{growth.sizes[0]:,}",
        f"{growth.sizes[-1]:,}",
        _duration(growth.seconds[0]),
        _duration(growth.seconds[-1]),
        f"{growth.time_exponent:.2f}",
        f"{growth.bytes[-1] / 1e6:,.0f} MB" if is_known else "",
        f"{memory:.2f}" if memory is not None else "",
        (case.reason or "?") if growth.is_above_linear else "",
    ]


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"


def plot_growth(found: Sequence[Growth], path: Path) -> None:
    """A panel of times for each axis; lines in gray are no steeper than the dotted one, which is linear."""
    from matplotlib.figure import Figure

    panels = [(axis, list(group)) for axis, group in groupby(found, key=lambda growth: growth.case.axis)]
    rows, columns = -(-len(panels) // 2), min(2, len(panels))
    figure = Figure(figsize=(6.4 * columns, 3.6 * rows), layout="constrained")
    for place, (axis, group) in enumerate(panels):
        axes = figure.add_subplot(rows, columns, place + 1)
        for growth in group:
            color, width, order = (ABOVE, 2.2, 3) if growth.is_above_linear else (LINEAR, 1.3, 2)
            axes.plot(growth.sizes, growth.seconds, ".-", color=color, linewidth=width, zorder=order)
        _draw_slope(axes, group)
        axes.set(xscale="log", yscale="log", xlabel=XLABELS.get(axis, axis), ylabel="seconds of a processor")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        _label_ends(axes, group)
    atomic_write(path, lambda file: figure.savefig(file, format="png", dpi=110), durable=False)


def _draw_slope(axes: Any, group: Sequence[Growth]) -> None:
    """A dotted line of slope 1 from the lowest left corner of the measurements."""
    left, right = min(growth.sizes[0] for growth in group), max(growth.sizes[-1] for growth in group)
    lowest = min(min(growth.seconds) for growth in group)
    axes.plot([left, right], [lowest, lowest * right / left], color="0.75", linestyle=":", linewidth=1.5, zorder=1)


def _label_ends(axes: Any, group: Sequence[Growth]) -> None:
    """Names and exponents in a column to the right, in the order of the ends of their lines and joined to them."""
    step = min(0.085, 1.0 / max(1, len(group) - 1))
    to_axes = axes.transLimits
    ends = [(to_axes.transform(axes.transScale.transform((g.sizes[-1], g.seconds[-1])))[1], g) for g in group]
    ends.sort(key=lambda end: float(end[0]))
    heights: list[float] = []
    for number, (height, _) in enumerate(ends):
        least = heights[-1] + step if heights else 0.0
        heights.append(min(max(float(height), least), 1.0 - step * (len(ends) - 1 - number)))
    for height, (_, growth) in zip(heights, ends, strict=True):
        color = ABOVE if growth.is_above_linear else "0.25"
        axes.annotate(
            f"{growth.case.name}  {growth.time_exponent:.2f}",
            xy=(growth.sizes[-1], growth.seconds[-1]),
            xytext=(1.04, height),
            textcoords="axes fraction",
            fontsize=7.5,
            color=color,
            va="center",
            arrowprops={"arrowstyle": "-", "color": "0.8", "linewidth": 0.6, "shrinkA": 1, "shrinkB": 3},
        )


def cases_of(axis: str) -> list[Case]:
    """The parts that are measured on an axis."""
    from benchmarks.growth_data import data_cases
    from benchmarks.growth_model import model_cases

    return [case for case in (*data_cases(), *model_cases()) if case.axis == axis]
