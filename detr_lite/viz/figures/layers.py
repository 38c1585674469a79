"""The cross-attention of one query in each decoder layer, head by head."""

from jaxtyping import Float
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from detr_lite.box_ops import cxcywh_to_xyxy
from detr_lite.structures import AttentionMaps, Detections, DetrLiteError
from detr_lite.viz.close_up import views_of
from detr_lite.viz.figures.attention import Heads, color_bar_label, query_heatmaps, select_heads
from detr_lite.viz.figures.attention_panels import (
    QueryView,
    boxes_of_last,
    draw_heatmap_panels,
    draw_image_panel,
    title_lines,
)
from detr_lite.viz.figures.figure_layout import LARGE, arrange_blocks, class_and_score, layout_panels, single_panel
from detr_lite.viz.heatmap import reduced

_HEADS_PER_ROW = 8
_TITLE_WIDTH = 400.0  # points


def layers_figure(
    image: Image.Image,
    detections: Detections,
    maps: AttentionMaps,
    number: int = 0,
    index: int = 0,
    heads: Heads = "all",
    boxes_cxcywh: Float[Tensor, "layer batch query 4"] | None = None,
    note: str = "",
    below: float | None = None,
) -> Figure:
    """Cross-attention of one detection's query: a row for each decoder layer, with the mean of heads and each head.

    Every heatmap is scaled to its own peak, as in `attention_figure`. If the detection is small, a second row of panels
    for each layer shows the part of the image around it.

    Args:
        number: of the detection, counted from 0.
        index: of the image in the batch.
        heads: "all" with their mean, "mean" alone, or indices of heads, counted from 0.
        boxes_cxcywh: `DetrOutput.boxes_cxcywh`. With it each row shows the box that the query predicted after that
            layer, and its label gives its edges in pixels; without it all rows show the final box.
        note: a line below the figure's title.
        below: the detection is one of the best guesses, none of which reaches this threshold.

    Errors: a detection or head that does not exist.
    """
    selected = select_heads(heads, maps.cross.shape[2])
    picture = reduced(image)
    if len(detections) == 0:
        return single_panel("no detections", image, picture)
    if not 0 <= number < len(detections):
        raise DetrLiteError(f"there is no detection {number}; there are {len(detections)}, counted from 0")

    layers, aspect = maps.cross.shape[0], image.height / image.width
    query, label = int(detections.queries[number]), int(detections.labels[number])
    boxes_xyxy = detections.boxes_xyxy[number].repeat(layers, 1)
    if boxes_cxcywh is not None:
        size = (image.width, image.height, image.width, image.height)
        boxes_xyxy = cxcywh_to_xyxy(boxes_cxcywh[:, index, query].detach().float().cpu())
        boxes_xyxy = boxes_xyxy * boxes_xyxy.new_tensor(size)

    views = views_of(detections.boxes_xyxy[number].tolist(), image.size)
    blocks = arrange_blocks(
        layers * len(views), isinstance(heads, str), 0 if heads == "mean" else len(selected), aspect, _HEADS_PER_ROW
    )
    labels = [""] * (1 + blocks[-1][-1][0])
    for layer, (block, box_xyxy) in enumerate(
        zip(blocks[:: len(views)], boxes_xyxy.round().int().tolist(), strict=True)
    ):
        x0, y0, x1, y1 = box_xyxy
        edges = "" if boxes_cxcywh is None else f"\nbox (pixels)\nx {x0} to {x1}\ny {y0} to {y1}"
        labels[block[0][0]] = f"layer {layer}{edges}"
    name = class_and_score(label, float(detections.scores[number]), detections.class_names, LARGE, _TITLE_WIDTH)
    boxes = boxes_of_last(layers) if boxes_cxcywh is None else "boxes: the query's prediction after each layer"
    layout = layout_panels(
        title_lines(f"Cross-attention of query {query}, layer by layer\n{name}", boxes, below, note),
        [cell for block in blocks for cell in block],
        aspect,
        color_bar_label(maps, len(views) > 1),
        labels,
    )
    panels = iter(layout.panels)
    for layer, box_xyxy in enumerate(boxes_xyxy.tolist()):
        heatmaps = [
            # "mean of heads" is too long beside eight heads.
            heatmap._replace(title=heatmap.title.removesuffix(" of heads"))
            for heatmap in query_heatmaps(maps, index, layer, query, heads)
        ]
        for part in views:
            view = QueryView(image, picture, box_xyxy, label, below is not None, part)
            title = "image\n" if boxes_cxcywh is None else f"box after\nlayer {layer}"
            title = title if part is None else "part of\nthe image"
            draw_image_panel(next(panels), title, view, views[-1] if part is None else None)
            draw_heatmap_panels(panels, view, heatmaps, maps, index, layer, query)
    return layout.figure
