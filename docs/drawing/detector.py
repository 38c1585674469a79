"""Figures of docs/attention.md that show the attention of a trained detector."""

from collections.abc import Sequence
from pathlib import Path

from drawing.style import BLUE
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from PIL import Image

from detr_lite import Detector
from detr_lite.viz.figures.figure_layout import draw_box
from detr_lite.viz.heatmap import COLORMAP, overlay, token_heatmap

NUM_DETECTIONS = 6
"""Detections in the figure of the queries."""


def draw_heads_of_detector(checkpoint: Path, image: Path) -> Figure:
    """Cross-attention of the best detection's query: a row per decoder layer, a column for the mean and each head."""
    scene = Image.open(image).convert("RGB")
    explained = Detector.from_checkpoint(checkpoint, device="cpu").explain(scene)
    detections, maps = explained.detections, explained.attention
    query, box_xyxy = int(detections.queries[0]), detections.boxes_xyxy[0].tolist()
    layers, heads = maps.cross.shape[0], maps.cross.shape[2]
    figure = Figure(figsize=(8, 0.55 + layers * 8 / (heads + 2)))
    panels = figure.subplots(layers, heads + 2, squeeze=False)
    figure.subplots_adjust(left=0.035, right=0.995, top=0.93, bottom=0.1, wspace=0.05, hspace=0.05)
    for layer, line in enumerate(panels):
        by_head = maps.cross[layer, 0, :, query]
        weights = [("mean", by_head.mean(dim=0)), *((f"head {head}", by_head[head]) for head in range(heads))]
        _show(line[0], scene, box_xyxy, BLUE, "white")
        for axes, (name, tokens) in zip(line[1:], weights, strict=True):
            _show(axes, overlay(scene, token_heatmap(tokens, maps)), box_xyxy, "white", "black")
            if layer == 0:
                axes.set_title(name, fontsize=10, pad=3)
        line[0].text(-0.06, 0.5, f"layer {layer}", rotation=90, ha="right", va="center", fontsize=10,
                     transform=line[0].transAxes)  # fmt: skip
        for axes in line:
            _zoom(axes, scene, box_xyxy)
    _add_colorbar(figure)
    return figure


def draw_queries_of_detector(checkpoint: Path, image: Path) -> Figure:
    """A column for each detection: its box, and below it the cross-attention of its query in the last layer."""
    scene = Image.open(image).convert("RGB")
    explained = Detector.from_checkpoint(checkpoint, device="cpu").explain(scene)
    detections, maps = explained.detections, explained.attention
    figure = Figure(figsize=(8, 3.4))
    panels = figure.subplots(2, NUM_DETECTIONS, squeeze=False)
    figure.subplots_adjust(left=0.005, right=0.995, top=0.9, bottom=0.17, wspace=0.05, hspace=0.05)
    for number in range(min(NUM_DETECTIONS, len(detections))):
        box_xyxy, query = detections.boxes_xyxy[number].tolist(), int(detections.queries[number])
        heat = token_heatmap(maps.cross[-1, 0, :, query].mean(dim=0), maps)
        _show(panels[0, number], scene, box_xyxy, BLUE, "white")
        _show(panels[1, number], overlay(scene, heat), box_xyxy, "white", "black")
        name = detections.class_names[int(detections.labels[number])]
        panels[0, number].set_title(f"{name} {float(detections.scores[number]):.2f}", fontsize=10, pad=3)
    _add_colorbar(figure)
    return figure


def _show(axes: Axes, image: Image.Image, box_xyxy: Sequence[float], color: str, outline: str) -> None:
    axes.imshow(image)
    axes.axis("off")
    draw_box(axes, box_xyxy, color, outline)


def _zoom(axes: Axes, scene: Image.Image, box_xyxy: Sequence[float]) -> None:
    """Show a square of twice the box's size, within the image."""
    x0, y0, x1, y1 = box_xyxy
    side = min(2 * max(x1 - x0, y1 - y0), *scene.size)
    left = min(max((x0 + x1 - side) / 2, 0), scene.width - side)
    top = min(max((y0 + y1 - side) / 2, 0), scene.height - side)
    axes.set_xlim(left, left + side)
    axes.set_ylim(top + side, top)


def _add_colorbar(figure: Figure) -> None:
    height = figure.get_figheight()
    bar = figure.add_axes((0.35, 0.27 / height, 0.3, 0.09 / height))
    figure.colorbar(ScalarMappable(cmap=COLORMAP), cax=bar, orientation="horizontal")
    bar.set_xticks([0, 1], ["0", "peak"])
    bar.tick_params(labelsize=9, length=2)
