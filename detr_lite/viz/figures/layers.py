"""How one query's attention moves from layer to layer of the decoder, head by head."""

from jaxtyping import Float
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from detr_lite.box_ops import cxcywh_to_xyxy
from detr_lite.structures import AttentionMaps, Detections, DetrLiteError
from detr_lite.viz.draw import class_color
from detr_lite.viz.figures.attention import CROSS_UNIT, Heads, chosen_heads, finest_span, query_heats
from detr_lite.viz.figures.figure_layout import (
    LARGE,
    block_places,
    draw_box,
    draw_panel,
    empty_sheet,
    scored_name,
    sheet_of,
)
from detr_lite.viz.heatmap import overlay, reduced

_HEADS_IN_LINE = 8
_TITLE_ROOM = 400.0  # points


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
        heads: "all" with their mean, "mean" alone, or the heads of these numbers, counted from 0.
        boxes_cxcywh: `DetrOutput.boxes_cxcywh`. With it each row shows the box that the query answered with after that
            layer, and its label gives its edges in pixels; without it all rows show the final box.
        note: a line below the figure's title.

    Errors: a detection or head that is not there.
    """
    needed = chosen_heads(heads, maps.cross.shape[2])
    picture = reduced(image)
    if len(detections) == 0:
        return empty_sheet("no detections", image, picture)
    if not 0 <= number < len(detections):
        raise DetrLiteError(f"there is no detection {number}; there are {len(detections)}, counted from 0")

    layers, aspect = maps.cross.shape[0], image.height / image.width
    query, label = int(detections.queries[number]), int(detections.labels[number])
    boxes_xyxy = detections.boxes_xyxy[number].repeat(layers, 1)
    if boxes_cxcywh is not None:
        size = (image.width, image.height, image.width, image.height)
        boxes_xyxy = cxcywh_to_xyxy(boxes_cxcywh[:, index, query].detach().float().cpu())
        boxes_xyxy = boxes_xyxy * boxes_xyxy.new_tensor(size)

    blocks = block_places(layers, isinstance(heads, str), 0 if heads == "mean" else len(needed), aspect, _HEADS_IN_LINE)
    labels = [""] * (1 + blocks[-1][-1][0])
    for layer, (block, box_xyxy) in enumerate(zip(blocks, boxes_xyxy.round().int().tolist(), strict=True)):
        x0, y0, x1, y1 = box_xyxy
        edges = "" if boxes_cxcywh is None else f"\nbox (pixels)\nx {x0} to {x1}\ny {y0} to {y1}"
        labels[block[0][0]] = f"layer {layer}{edges}"
    name = scored_name(label, float(detections.scores[number]), detections.class_names, LARGE, _TITLE_ROOM)
    boxes = "the final box" if boxes_cxcywh is None else "boxes: the query's answer after each layer"
    sheet = sheet_of(
        f"Cross-attention of query {query}, layer by layer\n{name} ({boxes})" + (f"\n{note}" if note else ""),
        [place for block in blocks for place in block],
        aspect,
        CROSS_UNIT,
        labels,
    )
    panels = iter(sheet.panels)
    for layer, box_xyxy in enumerate(boxes_xyxy.tolist()):
        axes = next(panels)
        draw_panel(axes, f"box after\nlayer {layer}" if boxes_cxcywh is not None else "image\n", image, picture)
        draw_box(axes, box_xyxy, [channel / 255 for channel in class_color(label)], rim="white")
        for title, heat in query_heats(maps, index, layer, query, heads):
            axes = next(panels)
            title = title.removesuffix(" of heads")  # eight heads leave no room for more
            draw_panel(axes, f"{title}\npeak {heat.max():.1%}", image, overlay(picture, heat, finest_span(maps, index)))
            draw_box(axes, box_xyxy, "white", rim="black")
    return sheet.figure
