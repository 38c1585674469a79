"""Where lane queries look: how much of a query's attention lies along its lane, beside how much room that is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from detr_lite.drawing.boxes import class_color
from detr_lite.drawing.fonts import draw_text
from detr_lite.structures import AttentionMaps
from detr_lite.viz.heatmap import finest_span, overlay, token_heatmap
from examples.lanes.data import INPUT, point_rows
from examples.lanes.metrics import Lane

REACH = 20
"""Pixels from a lane, in the picture that the network sees, that count as along it."""
SCALE = 2
"""Enlargement of that picture in figures."""


@dataclass(frozen=True)
class Along:
    """Of one query's attention in the last layer, the mean of its heads."""

    share: float
    """Within `REACH` of its lane."""
    area: float
    """The share of the picture that this is: what even attention would have."""


def along_lane(maps: AttentionMaps, image: int, query: int, lane: Lane) -> Along:
    """Args:
    lane: as `FoundLanes.seen_lane` gives it.
    """
    mask = Image.new("L", INPUT)
    points = lane_points(lane)
    draw = ImageDraw.Draw(mask)
    draw.line(points, fill=1, width=2 * REACH + 1, joint="curve")
    for x, y in (points[0], points[-1]):
        draw.ellipse((x - REACH, y - REACH, x + REACH, y + REACH), fill=1)
    inside = torch.from_numpy(np.array(mask, dtype=np.float32))
    covered = torch.cat([_share_of_tokens(inside, grid).flatten() for grid in maps.grids])
    weights = maps.cross[-1, image, :, query].float().mean(0)
    return Along(float((weights.cpu() * covered).sum()), float(inside.mean()))


def lane_points(lane: Lane) -> list[tuple[float, float]]:
    """(x, y) of a lane's points in pixels of the picture that the network sees."""
    seen = np.isfinite(lane)
    return list(zip(lane[seen].tolist(), (point_rows()[seen] * INPUT[1]).tolist(), strict=True))


def draw_lanes(picture: Image.Image, lanes: Sequence[Lane]) -> Image.Image:
    """The picture that the network sees, enlarged, with a line for each lane."""
    drawn = picture.resize((picture.width * SCALE, picture.height * SCALE), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(drawn)
    for number, lane in enumerate(lanes):
        points = [(x * SCALE, y * SCALE) for x, y in lane_points(lane)]
        draw.line(points, fill=class_color(number), width=2 * SCALE, joint="curve")
    return drawn


def attention_panels(
    picture: Image.Image, lanes: Sequence[tuple[int, Lane]], maps: AttentionMaps, image: int = 0
) -> list[Image.Image]:
    """For each (query, lane) the last layer's attention over the picture, the lane beside it, and its numbers."""
    panels = []
    large = picture.resize((picture.width * SCALE, picture.height * SCALE), Image.Resampling.BICUBIC)
    for number, (query, lane) in enumerate(lanes):
        weights: Tensor = maps.cross[-1, image, :, query].float().mean(0)
        heat = overlay(picture, token_heatmap(weights, maps, image), finest_span(maps, image)).resize(large.size)
        draw = ImageDraw.Draw(heat)
        points = [(x * SCALE, y * SCALE) for x, y in lane_points(lane)]
        draw.line(points, fill=class_color(number), width=2, joint="curve")
        along = along_lane(maps, image, query, lane)
        text = f"{along.share:.0%} within {REACH} px of the lane ({along.area:.0%} of the picture)"
        draw.rectangle((0, 0, heat.width, 22), fill=(20, 20, 20))
        draw_text(draw, (6, 3), text, 14, (240, 240, 240))
        panels.append(heat)
    return panels


def _share_of_tokens(mask: Float[Tensor, "height width"], grid: tuple[int, int]) -> Float[Tensor, "rows columns"]:
    """How much of each token's patch lies inside."""
    return torch.nn.functional.adaptive_avg_pool2d(mask[None, None], grid)[0, 0]
