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
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito's, which people with color blindness tell apart; those of lines above linear are thicker."""


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
    """A panel of times for each axis, with a slope of 1 to compare with."""
    from matplotlib.figure import Figure

    panels = [(axis, list(group)) for axis, group in groupby(found, key=lambda growth: growth.case.axis)]
    figure = Figure(figsize=(12, 4.6 * -(-len(panels) // 3)), layout="constrained")
    for place, (axis, group) in enumerate(panels):
        axes = figure.add_subplot(-(-len(panels) // 3), min(3, len(panels)), place + 1)
        for color, growth in zip(COLORS * 3, group, strict=False):
            number = group.index(growth)
            style = {"linestyle": "-" if number < len(COLORS) else "--", "marker": "o", "markersize": 3}
            width = 2.6 if growth.is_above_linear else 1.3
            label = f"{growth.case.name} ({growth.time_exponent:.2f})"
            axes.plot(growth.sizes, growth.seconds, color=color, linewidth=width, label=label, **style)  # type: ignore[arg-type]
        _draw_slope(axes, group)
        axes.set(
            xscale="log", yscale="log", title=_title(axis), ylabel="seconds of a processor" if not place % 3 else ""
        )
        axes.set_xlabel(axis if axis != "objects" else "objects of an image")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=6.5, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=1)
    atomic_write(path, lambda file: figure.savefig(file, format="png", dpi=130), durable=False)


def _title(axis: str) -> str:
    return f"Time by {axis}"


def _draw_slope(axes: object, group: Sequence[Growth]) -> None:
    """A gray line of slope 1 under the lowest curve."""
    lowest = min(group, key=lambda growth: growth.seconds[0] / growth.sizes[0])
    start = lowest.seconds[0] / 2
    sizes = [lowest.sizes[0], lowest.sizes[-1]]
    values = [start, start * sizes[1] / sizes[0]]
    axes.plot(sizes, values, color="0.6", linestyle=":", linewidth=1.2, label="linear")  # type: ignore[attr-defined]


def cases_of(axis: str) -> list[Case]:
    """The parts that are measured on an axis."""
    from benchmarks.growth_data import data_cases
    from benchmarks.growth_model import model_cases

    return [case for case in (*data_cases(), *model_cases()) if case.axis == axis]
