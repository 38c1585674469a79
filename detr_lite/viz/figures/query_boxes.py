"""The boxes that each query predicts on many images (DETR, arXiv 2005.12872, figure 7)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from detr_lite.drawing.fonts import AnyScriptFigure
from detr_lite.structures import DetrLiteError
from detr_lite.viz.figures.figure_layout import LARGE, MAX_WIDTH, MEDIUM, SMALL

SMALL_AREA = 0.04
"""Share of the image's area below which a box is small."""

_COLUMNS = 5
_PANEL = 1.36  # inches
_GAP, _TITLE, _HEADER, _FOOTER = 0.18, 0.2, 0.55, 0.75  # inches


@dataclass(frozen=True)
class BoxKind:
    """Boxes of one color and marker. The colors are of Okabe and Ito's palette for color-blind readers."""

    rule: str
    color: str
    marker: str


BOX_KINDS = (
    BoxKind(f"small: below {SMALL_AREA:.0%} of the image's area", "#009e73", "."),
    BoxKind("large, wide or square (in pixels)", "#d55e00", "_"),
    BoxKind("large, tall", "#0072b2", "|"),
)


class QueryBoxes:
    """Collects the boxes that each query predicts, image by image: 25 bytes for each box."""

    def __init__(self) -> None:
        self._boxes_cxcywh: list[Tensor] = []
        self._kinds: list[Tensor] = []
        self._detecting: list[Tensor] = []

    @property
    def images(self) -> int:
        return len(self._boxes_cxcywh)

    def add(
        self,
        boxes_cxcywh: Float[Tensor, "query 4"],
        image_size: tuple[int, int],
        detecting: Int[Tensor, " detection"],
    ) -> None:
        """Add the last layer's predictions for one image.

        Args:
            boxes_cxcywh: of every query, relative to the image.
            image_size: its (width, height) in pixels.
            detecting: the queries of the detections; one may occur several times.
        """
        boxes_cxcywh = boxes_cxcywh.detach().float().cpu()
        is_detecting = torch.zeros(len(boxes_cxcywh), dtype=torch.bool)
        is_detecting[detecting.cpu()] = True
        self._boxes_cxcywh.append(boxes_cxcywh)
        self._kinds.append(box_kinds(boxes_cxcywh, image_size))
        self._detecting.append(is_detecting)

    def centers(self) -> Float[Tensor, "image query 2"]:
        return torch.stack(self._boxes_cxcywh)[..., :2]

    def kinds(self) -> Int[Tensor, "image query"]:
        """Index in `BOX_KINDS`."""
        return torch.stack(self._kinds)

    def counts(self) -> Int[Tensor, " query"]:
        """The number of images in which each query has a detection."""
        return torch.stack(self._detecting).sum(0)


def box_kinds(boxes_cxcywh: Float[Tensor, "*shape 4"], image_size: tuple[int, int]) -> Int[Tensor, "*shape"]:
    """Index in `BOX_KINDS` of each box; `image_size` is (width, height) in pixels."""
    width, height = boxes_cxcywh[..., 2], boxes_cxcywh[..., 3]
    is_tall = height * image_size[1] > width * image_size[0]
    return torch.where(width * height < SMALL_AREA, 0, torch.where(is_tall, 2, 1))


def query_boxes_figure(
    query_boxes: QueryBoxes, queries: Sequence[int] | None = None, max_queries: int = 20, note: str = ""
) -> Figure:
    """A panel for each query with the centers of all boxes that it predicted, relative to the image.

    Args:
        queries: which, in this order; by default the `max_queries` with detections in the most images.
        note: a line below the figure's title, such as what counts as a detection.

    Errors: no image, a query that does not exist.
    """
    if query_boxes.images == 0:
        raise DetrLiteError("no boxes to draw: no image was added")
    counts = query_boxes.counts()
    which = "selected queries"
    if queries is None:
        queries = counts.argsort(descending=True, stable=True)[:max_queries].tolist()
        which = "sorted by the number of images with a detection"
    for query in queries:
        if not 0 <= query < len(counts):
            raise DetrLiteError(f"there is no query {query}; this model has {len(counts)}, counted from 0")

    images = f"{query_boxes.images:,} image{'s' if query_boxes.images != 1 else ''}"
    title = f"Centers of all boxes of {len(queries)} of {len(counts)} queries on {images}"
    figure, panels = _figure(f"{title}\n{which}{f'; {note}' if note else ''}", len(queries))
    centers, kinds = query_boxes.centers(), query_boxes.kinds()
    for axes, query in zip(panels, queries, strict=True):
        _draw(axes, centers[:, query], kinds[:, query])
        axes.set_title(
            f"query {query}: {int(counts[query]):,} image{'s' if counts[query] != 1 else ''}", fontsize=SMALL, pad=2
        )
    return figure


def _figure(title: str, count: int) -> tuple[Figure, list[Axes]]:
    rows = max(1, -(-count // _COLUMNS))
    width, height = MAX_WIDTH, _HEADER + rows * (_TITLE + _PANEL) + _FOOTER
    figure = AnyScriptFigure(figsize=(width, height))
    left = (width - _COLUMNS * _PANEL - (_COLUMNS - 1) * _GAP) / 2
    panels = []
    for number in range(count):
        row, column = divmod(number, _COLUMNS)
        x, y = left + column * (_PANEL + _GAP), _HEADER + row * (_TITLE + _PANEL) + _TITLE
        panels.append(figure.add_axes((x / width, 1 - (y + _PANEL) / height, _PANEL / width, _PANEL / height)))
    figure.suptitle(title, y=1 - 0.08 / height, va="top", fontsize=LARGE)
    figure.legend(
        handles=[
            Line2D([], [], color=kind.color, marker=kind.marker, linestyle="", markersize=7, label=kind.rule)
            for kind in BOX_KINDS
        ],
        loc="lower center",
        fontsize=MEDIUM,
        frameon=False,
        ncols=1,
        labelspacing=0.2,
    )
    return figure, panels


def _draw(axes: Axes, centers: Float[Tensor, "image 2"], kinds: Int[Tensor, " image"]) -> None:
    # Smaller and more transparent with more images.
    size, opacity = (12.0, 0.9) if len(kinds) < 100 else (6.0, 0.7) if len(kinds) < 1000 else (3.0, 0.4)
    for number in (1, 2, 0):  # small ones on top, where large ones are many
        kind, shown = BOX_KINDS[number], centers[kinds == number]
        axes.scatter(shown[:, 0], shown[:, 1], s=size, c=kind.color, marker=kind.marker, alpha=opacity, linewidths=0.8)
    axes.set(xlim=(0, 1), ylim=(1, 0), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1), xticklabels=(), yticklabels=())
    axes.tick_params(length=2, color="gray")
    axes.grid(alpha=0.2)
