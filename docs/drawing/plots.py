"""Figures of docs/attention.md that show curves, points and diagrams, drawn from the variables of its snippets."""

from typing import Any

import torch
from drawing.style import BLUE, FAINT, INK, ORANGE, RED, SOFT_INK, bare, canvas, draw_grid
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch


def draw_scale(lesson: dict[str, Any]) -> Figure:
    """Softmax weights of one random query over 16 random keys, sorted, without and with the scale."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    rows = ((lesson["without_scale"], RED, r"$q \cdot k$"), (lesson["with_scale"], BLUE, r"$q \cdot k\,/\sqrt{d}$"))
    panels = figure.subplots(2, 3, sharex=True, sharey=True)
    for line, (weights_of, color, name) in zip(panels, rows, strict=True):
        for axes, (channels, weights) in zip(line, weights_of.items(), strict=True):
            heights = weights.sort(descending=True).values.tolist()
            axes.bar(range(1, 17), heights, color=color, width=0.75)
            axes.text(
                0.97, 0.85, f"{name},  $d = {channels}$", transform=axes.transAxes, ha="right", fontsize=11, color=INK
            )
            bare(axes)
            axes.set_ylim(0, 1.05)
            axes.set_xticks([1, 4, 8, 12, 16])
            axes.set_yticks([0, 0.5, 1])
    return figure


def draw_hiker(lesson: dict[str, Any]) -> Figure:
    """The hiker's estimate over the positions, with marks scaled by their weight; below, the weights and the kernel."""
    estimate, marks, heights = lesson["estimate"], lesson["marks"].tolist(), lesson["heights"].tolist()
    here = 3.0
    weights, height = estimate(here)
    positions = torch.linspace(0.4, 7.6, 200)
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2.2, 1))

    above.plot(
        positions, [float(estimate(position)[1]) for position in positions], color=FAINT, linewidth=2.5, zorder=1
    )
    above.scatter(
        marks, heights, s=[25 + 900 * weight for weight in weights.tolist()], color=BLUE, alpha=0.85, zorder=2
    )
    above.scatter([here], [height], marker="D", s=80, color=RED, edgecolor="white", zorder=3)
    for mark, level, weight in zip(marks, heights, weights.tolist(), strict=True):
        below_it = 8 + (25 + 900 * weight) ** 0.5 / 2
        above.annotate(f"{weight:.2f} · {level:.0f} m", (mark, level), (0, -below_it), textcoords="offset points",
                       ha="center", va="top", fontsize=10, color=BLUE)  # fmt: skip
    above.annotate(f"{height:.0f} m", (here, float(height)), (-10, 6), textcoords="offset points", ha="right",
                   va="bottom", fontsize=12, color=RED, weight="bold")  # fmt: skip
    above.set_ylim(150, 1050)
    above.set_yticks([200, 400, 600, 800, 1000])
    above.set_ylabel("m", rotation=0, labelpad=10)

    curve = torch.exp(-((positions - here) ** 2) / 2)
    total = float(torch.exp(-((here - lesson["marks"]) ** 2) / 2).sum())
    below.fill_between(positions, curve / total, color=ORANGE, alpha=0.25, linewidth=0)
    below.plot(positions, curve / total, color=ORANGE, linewidth=1.5)
    below.bar(marks, weights.tolist(), width=0.12, color=BLUE)
    below.set_ylim(0, 0.85)
    below.set_yticks([0, 0.5])
    below.set_xlim(0.4, 7.6)
    below.set_xlabel("km")
    for axes in (above, below):
        axes.axvline(here, color=RED, linewidth=1, linestyle=":", zorder=0)
        bare(axes)
    return figure


def draw_heads(lesson: dict[str, Any]) -> Figure:
    """For each head: the beads in its two channels, and its attention weights."""
    beads, weights = lesson["beads"][0].tolist(), lesson["bead_weights"][0]
    names, colors = "ABCD", [RED if bead[2] else BLUE for bead in beads]
    figure = Figure(figsize=(8, 5.2))

    table = figure.add_axes((0.02, 0.3, 0.25, 0.4))
    canvas(table, 4, 3.9)
    table.add_patch(FancyBboxPatch((0.2, 0.2), 3.6, 3.5, boxstyle="round,pad=0,rounding_size=0.25", facecolor="#F6F4EE",
                                   edgecolor=FAINT))  # fmt: skip
    table.plot([2, 2], [0.35, 3.55], color=FAINT, linestyle="--")
    for name, bead, color in zip(names, beads, colors, strict=True):
        place = (1.1 if bead[0] else 2.9, 1.1 if bead[2] else 2.8)
        table.scatter(*place, s=520, color=color, edgecolor="white")
        table.text(*place, name, ha="center", va="center_baseline", color="white", fontsize=13, weight="bold")

    for head in range(2):
        bottom = 0.57 - 0.5 * head
        plane = figure.add_axes((0.37, bottom + 0.02, 0.21, 0.35))
        spots: dict[tuple[float, float], list[int]] = {}
        for index, bead in enumerate(beads):
            spots.setdefault((bead[2 * head], bead[2 * head + 1]), []).append(index)
        for (first, second), here in spots.items():
            for place, index in enumerate(here):
                shift = 0.19 * (2 * place - 1)
                plane.scatter(first + shift, second + shift * 0.3, s=330, color=colors[index], edgecolor="white")
                plane.text(first + shift, second + shift * 0.3, names[index], ha="center", va="center_baseline",
                           color="white", fontsize=11, weight="bold")  # fmt: skip
        plane.set_xlim(-0.6, 2.7)
        plane.set_ylim(-0.6, 2.7)
        plane.set_xticks([0, 2])
        plane.set_yticks([0, 2])
        plane.set_xlabel(f"channel {2 * head}", fontsize=10)
        plane.set_ylabel(f"channel {2 * head + 1}", fontsize=10)
        plane.set_title(f"head {head}", fontsize=12)
        bare(plane)
        grid = figure.add_axes((0.66, bottom - 0.03, 0.33, 0.47))
        canvas(grid, 5.2, 5.0)
        draw_grid(grid, weights[head].tolist(), 0.6, 1.0, (1.1, 0.92), digits=2, row_names=names, column_names=names,
                  fontsize=10)  # fmt: skip
    return figure


def draw_layer(lesson: dict[str, Any]) -> Figure:
    """Diagram of an encoder layer: attention and feed-forward, each with its residual connection and norm."""
    widen = lesson["layer"].feedforward[0]
    figure = Figure(figsize=(8, 2.0))
    axes = figure.add_axes((0.005, 0.02, 0.99, 0.96))
    canvas(axes, 16, 3.9)
    middle = 2.75
    _arrow(axes, (0.55, middle), (1.6, middle))
    axes.text(0.5, middle, "$x$", ha="right", va="center", fontsize=13)
    for offset, name in ((-0.55, "$Q$"), (0.0, "$K$"), (0.55, "$V$")):
        _arrow(axes, (1.6, middle + offset), (2.45, middle + offset))
        axes.text(1.95, middle + offset - 0.06, name, ha="center", va="bottom", fontsize=9, color=SOFT_INK)
    axes.plot([1.6, 1.6], [middle - 0.55, middle + 0.55], color=INK, linewidth=1.2)
    _box(axes, 2.45, 2.5, middle, 2.0, "attention", BLUE)
    _box(axes, 6.35, 1.8, middle, 1.0, "LayerNorm", SOFT_INK)
    widths = f"{widen.in_features} → {widen.out_features} → {widen.in_features}"
    _box(axes, 8.95, 2.6, middle, 2.0, f"feed-forward\n{widths}", ORANGE)
    _box(axes, 12.95, 1.8, middle, 1.0, "LayerNorm", SOFT_INK)
    for start, end in ((4.95, 5.42), (5.88, 6.35), (8.15, 8.95), (11.55, 12.02), (12.48, 12.95), (14.75, 15.8)):
        _arrow(axes, (start, middle), (end, middle))
    for start, plus in ((1.05, 5.65), (8.5, 12.25)):
        axes.text(plus, middle, "+", ha="center", va="center_baseline", fontsize=14,
                  bbox={"boxstyle": "circle,pad=0.12", "facecolor": "white", "edgecolor": RED})  # fmt: skip
        axes.plot([start, start, plus], [middle, 0.7, 0.7], color=RED, linewidth=1.6)
        _arrow(axes, (plus, 0.7), (plus, middle - 0.38), RED)
        axes.text((start + plus) / 2, 0.6, "residual", ha="center", va="bottom", fontsize=10, color=RED)
    return figure


def _box(axes: Axes, left: float, width: float, middle: float, height: float, text: str, color: str) -> None:
    axes.add_patch(FancyBboxPatch((left, middle - height / 2), width, height, facecolor="white", edgecolor=color,
                                  boxstyle="round,pad=0,rounding_size=0.2", linewidth=1.8))  # fmt: skip
    axes.text(left + width / 2, middle, text, ha="center", va="center", fontsize=10.5, color=INK, linespacing=1.5)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], color: str = INK) -> None:
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=10, color=color, shrinkA=0, shrinkB=0))
