"""Which part of the image each query looked at, as heatmaps over the image."""

from collections.abc import Sequence
from math import ceil, log2
from typing import Literal

import matplotlib
import numpy as np
import torch
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from PIL import Image
from torch import Tensor

from detr_lite.structures import AttentionMaps, Detections, DetrLiteError
from detr_lite.viz.draw import LITERAL, class_color, class_name

_COLORMAP = matplotlib.colormaps["inferno"]  # perceptually uniform, and dark where nothing is
_LONGEST_SIDE = 384  # of a panel's picture, in pixels: more than a page shows of it
_PANEL_AREA = 2.6  # square inches, so that upright and wide images get equal room
_MOST_ASPECT = 4.0  # of a panel; a longer image is shown within
_TITLE, _HEADER, _FOOTER, _GAP = 0.45, 0.3, 0.65, 0.08  # inches; the header is of one line
_LEAST_WIDTH = 4.8  # inches that the title needs
_HEADS_IN_LINE = 4

Heads = Literal["all", "mean"] | Sequence[int]


def token_heatmap(
    weights: Float[Tensor, " token"], grids: Sequence[tuple[int, int]], is_padding: Bool[Tensor, " token"]
) -> Float[np.ndarray, "height width"]:
    """Tokens' weights as a picture of the unpadded image, one value for each token of the finest level.

    Coarser levels are enlarged and added, a token's weight spread over the cells it covers, so that the sum over the
    picture is the sum over the tokens that are not padding.
    """
    shares = torch.split(weights.detach().float().cpu(), [height * width for height, width in grids])
    paddings = torch.split(is_padding.cpu(), [height * width for height, width in grids])
    levels = []
    for share, padding, grid in zip(shares, paddings, grids, strict=True):
        # Padding lies at the right and at the bottom, so what is left of the grid is a rectangle.
        is_image = ~padding.view(grid)
        levels.append(share.view(grid)[is_image.any(dim=1)][:, is_image.any(dim=0)])
    finest = max(levels, key=Tensor.numel)
    heat = torch.zeros_like(finest)
    for level in levels:
        # Enlarged by the strides' ratio, then cut: a coarse grid reaches beyond the fine one where a side does not
        # divide. The ratio is a power of two, and the grids' sizes tell it, as one is less than a token too large.
        ratio = max(2 ** ceil(log2(fine / coarse)) for fine, coarse in zip(finest.shape, level.shape, strict=True))
        resized = torch.nn.functional.interpolate(level[None, None], scale_factor=ratio, mode="bilinear")[0, 0]
        resized = resized[: finest.shape[0], : finest.shape[1]]
        heat += resized * (level.sum() / resized.sum().clamp(min=1e-12))
    return heat.numpy()


def overlay(
    image: Image.Image, heat: Float[np.ndarray, "height width"], span: tuple[float, float] | None = None
) -> Image.Image:
    """The heat, scaled to its peak, over the dimmed grey image.

    `span` is the image's (width, height) in tokens, where the last tokens reach beyond it; by default they do not.
    """
    gray = np.asarray(_reduced(image).convert("L"), dtype=np.float32)[..., None] / 255
    tokens = torch.from_numpy(heat / max(float(heat.max()), 1e-12))[None, None]
    # Bicubic undershoots beside a peak; a weight is never negative.
    height, width = gray.shape[:2]
    span_width, span_height = span or heat.shape[::-1]
    # The tokens' own rectangle, of which the image is the upper left part.
    size = (
        max(height, round(height * heat.shape[0] / span_height)),
        max(width, round(width * heat.shape[1] / span_width)),
    )
    spread = torch.nn.functional.interpolate(tokens, size, mode="bicubic")[0, 0]
    smooth = spread[:height, :width].clamp(0, 1).numpy()
    opacity = 0.9 * np.sqrt(smooth)[..., None]  # weak attention stays visible, no attention leaves the image
    picture = (1 - opacity) * 0.55 * gray + opacity * _COLORMAP(smooth)[..., :3]
    return Image.fromarray((255 * picture).round().astype(np.uint8))


def attention_figure(
    image: Image.Image,
    detections: Detections,
    maps: AttentionMaps,
    index: int = 0,
    most: int | None = 6,
    layer: int | None = None,
    heads: Heads = "all",
    note: str = "",
) -> Figure:
    """A decoder layer's cross-attention for the best detections of image `index` of the batch.

    For each detection the image with its box, the mean over heads, and each head. Every heatmap is scaled to its own
    peak, which its title gives as a share of the query's whole attention, so that a head that looks at many places is
    as readable as one that looks at a single one.

    Args:
        most: so many detections are shown; None for all.
        layer: counted from 0; by default the last.
        heads: "all" with their mean, "mean" alone, or the heads of these numbers, counted from 0.
        note: a line below the figure's title.

    Errors: a layer or head that the model does not have.
    """
    layers, head_count = maps.cross.shape[0], maps.cross.shape[2]
    layer = layers - 1 if layer is None else layer
    has_mean = isinstance(heads, str)
    needed = range(head_count) if isinstance(heads, str) else heads
    _check_exists("decoder layer", [layer], layers)
    _check_exists("head", needed, head_count)
    shown = len(detections) if most is None else min(most, len(detections))
    if shown == 0:
        figure = Figure(figsize=(4, 4), layout="constrained")
        _draw_panel(figure.subplots(), "no detections", image, _reduced(image))
        return figure

    picture = _reduced(image)  # once: of a large photograph it takes longer than all the rest
    finest = max(range(len(maps.grids)), key=lambda level: maps.grids[level][0] * maps.grids[level][1])
    span = None if maps.spans is None else tuple(maps.spans[index, finest].tolist())
    which = "the last decoder layer" if layer == layers - 1 else f"decoder layer {layer} (of 0 to {layers - 1})"
    figure, rows = _figure(
        title=f"Cross-attention of {which}" + (f"\n{note}" if note else ""),
        aspect=image.height / image.width,
        detections=shown,
        mean=has_mean,
        heads=0 if heads == "mean" else len(needed),
    )
    for panels, number in zip(rows, range(shown), strict=True):
        query, label = int(detections.queries[number]), int(detections.labels[number])
        weights = maps.cross[layer, index, :, query]
        by_head = [token_heatmap(weights[head], maps.grids, maps.is_padding[index]) for head in needed]
        heats = [("mean of heads", np.mean(by_head, axis=0))] if has_mean else []
        if heads != "mean":
            heats += [(f"head {head}", heat) for head, heat in zip(needed, by_head, strict=True)]

        title = f"{class_name(label, detections.class_names)} {float(detections.scores[number]):.2f}\nquery {query}"
        _draw_panel(panels[0], title, image, picture)
        for axes, (title, heat) in zip(panels[1:], heats, strict=True):
            _draw_panel(axes, f"{title}\npeak {heat.max():.1%}", image, overlay(picture, heat, span))
        box_xyxy = detections.boxes_xyxy[number].tolist()
        _draw_box(panels[0], box_xyxy, [channel / 255 for channel in class_color(label)], rim="white")
        for axes in panels[1:]:  # a class's colour may be one of the heatmap's, where this is none
            _draw_box(axes, box_xyxy, "white", rim="black")
    return figure


def _check_exists(what: str, numbers: Sequence[int], count: int) -> None:
    for number in numbers:
        if not 0 <= number < count:
            there = ", ".join(map(str, range(count)))
            raise DetrLiteError(f"there is no {what} {number}; this model has {there}")


def _figure(title: str, aspect: float, detections: int, mean: bool, heads: int) -> tuple[Figure, list[list[Axes]]]:
    """Panels for each detection: image, mean, heads. Laid out in inches, so that they fit the image's aspect.

    With more heads than fit beside each other, they go on in further lines, and the mean stands below the image.
    """
    aspect = min(max(aspect, 1 / _MOST_ASPECT), _MOST_ASPECT)
    width, height = (_PANEL_AREA / aspect) ** 0.5, (_PANEL_AREA * aspect) ** 0.5
    lines = max(1, -(-heads // _HEADS_IN_LINE))
    first = 2 if mean and lines == 1 else 1  # column of the first head
    columns = first + min(heads, _HEADS_IN_LINE)
    places = [(0, 0)]
    if mean:
        places.append((0, 1) if lines == 1 else (1, 0))
    places += [(head // _HEADS_IN_LINE, first + head % _HEADS_IN_LINE) for head in range(heads)]

    header = _HEADER * len(title.splitlines())
    line_height = height + _TITLE
    panels_width = columns * (width + _GAP) + _GAP
    size = np.array([max(panels_width, _LEAST_WIDTH), header + detections * lines * line_height + _FOOTER])
    left = (size[0] - panels_width) / 2 + _GAP
    figure = Figure(figsize=tuple(size))

    def add_axes(left: float, from_top: float, width: float, height: float) -> Axes:
        return figure.add_axes((left / size[0], 1 - (from_top + height) / size[1], width / size[0], height / size[1]))

    panels = [
        [
            add_axes(
                left + column * (width + _GAP), header + (number * lines + line) * line_height + _TITLE, width, height
            )
            for line, column in places
        ]
        for number in range(detections)
    ]
    figure.suptitle(title, y=1 - 0.1 / size[1], va="top", fontsize=12)
    bar = add_axes(0.3 * size[0], size[1] - _FOOTER + 0.3, 0.4 * size[0], 0.1)
    figure.colorbar(ScalarMappable(cmap=_COLORMAP), cax=bar, orientation="horizontal")
    bar.set_title("attention, relative to the peak of each panel", fontsize=9)
    bar.tick_params(labelsize=8)
    return figure, panels


def _draw_panel(axes: Axes, title: str, image: Image.Image, picture: Image.Image) -> None:
    """`picture` may be smaller than the image; the axes count the image's own pixels."""
    axes.imshow(picture, extent=(0, image.width, image.height, 0))
    axes.set_title(title, fontsize=9, pad=3, **LITERAL)
    axes.axis("off")


def _draw_box(axes: Axes, box_xyxy: Sequence[float], color: str | list[float], rim: str) -> None:
    x0, y0, x1, y1 = box_xyxy
    stroke = withStroke(linewidth=2.4, foreground=rim)
    axes.add_patch(
        Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=color, linewidth=1.2, path_effects=[stroke])
    )


def _reduced(image: Image.Image) -> Image.Image:
    picture = image.convert("RGB")
    picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    return picture
