"""The cross-attention of one query in each decoder layer, head by head."""

from jaxtyping import Float
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from detr_lite.box_ops import cxcywh_to_xyxy
from detr_lite.structures import AttentionMaps, Detections, DetrLiteError
from detr_lite.viz.draw import class_color
from detr_lite.viz.figures.attention import Heads, color_bar_label, query_heatmaps, select_heads
from detr_lite.viz.figures.figure_layout import (
    LARGE,
    arrange_blocks,
    class_and_score,
    draw_box,
    draw_panel,
    layout_panels,
    single_panel,
)
from detr_lite.viz.figures.sampled_points import draw_sampled_points
from detr_lite.viz.heatmap import finest_span, overlay, reduced

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
) -> Figure:
    """Cross-attention of one detection's query: a row for each decoder layer, with the mean of heads and each head.

    Every heatmap is scaled to its own peak, as in `attention_figure`.

    Args:
        number: of the detection, counted from 0.
        index: of the image in the batch.
        heads: "all" with their mean, "mean" alone, or indices of heads, counted from 0.
        boxes_cxcywh: `DetrOutput.boxes_cxcywh`. With it each row shows the box that the query predicted after that
            layer, and its label gives its edges in pixels; without it all rows show the final box.
        note: a line below the figure's title.

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

    blocks = arrange_blocks(
        layers, isinstance(heads, str), 0 if heads == "mean" else len(selected), aspect, _HEADS_PER_ROW
    )
    labels = [""] * (1 + blocks[-1][-1][0])
    for layer, (block, box_xyxy) in enumerate(zip(blocks, boxes_xyxy.round().int().tolist(), strict=True)):
        x0, y0, x1, y1 = box_xyxy
        edges = "" if boxes_cxcywh is None else f"\nbox (pixels)\nx {x0} to {x1}\ny {y0} to {y1}"
        labels[block[0][0]] = f"layer {layer}{edges}"
    name = class_and_score(label, float(detections.scores[number]), detections.class_names, LARGE, _TITLE_WIDTH)
    boxes = "the final box" if boxes_cxcywh is None else "boxes: the query's prediction after each layer"
    layout = layout_panels(
        f"Cross-attention of query {query}, layer by layer\n{name} ({boxes})" + (f"\n{note}" if note else ""),
        [cell for block in blocks for cell in block],
        aspect,
        color_bar_label(maps),
        labels,
    )
    panels = iter(layout.panels)
    for layer, box_xyxy in enumerate(boxes_xyxy.tolist()):
        axes = next(panels)
        draw_panel(axes, f"box after\nlayer {layer}" if boxes_cxcywh is not None else "image\n", image, picture)
        draw_box(axes, box_xyxy, [channel / 255 for channel in class_color(label)], outline="white")
        for title, heatmap, head in query_heatmaps(maps, index, layer, query, heads):
            axes = next(panels)
            title = title.removesuffix(" of heads")  # too long beside eight heads
            draw_panel(
                axes, f"{title}\npeak {heatmap.max():.1%}", image, overlay(picture, heatmap, finest_span(maps, index))
            )
            if head is not None:
                draw_sampled_points(axes, maps, index, layer, query, head)
            draw_box(axes, box_xyxy, "white", outline="black")
    return layout.figure
