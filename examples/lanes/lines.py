"""A lane as numbers: start, angle, length, and x at fixed heights; and how well two of them agree."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from examples.lanes.data import INPUT, POINTS, point_rows

STEEPEST = 0.46
"""Largest angle from the vertical, in units of 180 degrees; at 0.5 a lane would lie flat."""


WAVES = 10
"""Numbers of which a query makes the offsets of its points."""

RADIUS = 0.02
"""Half the width of a lane in its line IoU, relative to the picture."""


@dataclass(frozen=True)
class Lines:
    """Lanes as the network writes them, relative to the picture; y is 1 at the bottom."""

    shape: Float[Tensor, "*lane 4"]
    """x and y of the start (the lower end), its angle from the vertical / 180 degrees, and the length along y."""
    offsets: Float[Tensor, "*lane point"]
    """x of each point beside the straight line through the start."""

    @property
    def xs(self) -> Float[Tensor, "*lane point"]:
        """x at each point's row, beyond the lane's ends too."""
        x, y, angle, _ = self.shape[..., None].unbind(-2)
        slope = (torch.pi * angle.clamp(-STEEPEST, STEEPEST)).tan() * INPUT[1] / INPUT[0]
        return x + slope * (y - rows_of(self.shape)) + self.offsets

    @property
    def is_seen(self) -> Bool[Tensor, "*lane point"]:
        rows, half = rows_of(self.shape), 0.5 / POINTS
        start, length = self.shape[..., 1:2], self.shape[..., 3:]
        return (rows <= start + half) & (rows >= start - length - half)

    def __getitem__(self, index: Any) -> "Lines":
        """Some of the lanes, as tensors are indexed."""
        return Lines(self.shape[index], self.offsets[index])

    def detach(self) -> "Lines":
        return Lines(self.shape.detach(), self.offsets.detach())


def lines_of(xs: Float[Tensor, "*lane point"], is_seen: Bool[Tensor, "*lane point"]) -> Lines:
    """Start, angle, length and offsets of lanes whose points are known; the angle is the mean of those to all points.

    Lanes that are seen nowhere have any.
    """
    rows = rows_of(xs)
    start = torch.where(is_seen, rows, -1).max(-1, keepdim=True)
    y = start.values.clamp(min=0)
    x, top = xs.gather(-1, start.indices), torch.where(is_seen, rows, 2).amin(-1, keepdim=True).clamp(max=1)
    is_above = is_seen & (rows < y)
    angles = torch.atan2((xs - x) * INPUT[0], (y - rows) * INPUT[1]) / torch.pi
    angle = (angles * is_above).sum(-1, keepdim=True) / is_above.sum(-1, keepdim=True).clamp(min=1)
    lines = Lines(torch.cat([x, y, angle.clamp(-STEEPEST, STEEPEST), y - top], -1), torch.zeros_like(xs))
    return Lines(lines.shape, xs - lines.xs)


def at_height(xs: Float[Tensor, "*lane point"], y: Float[Tensor, " height"]) -> Float[Tensor, "*lane height"]:
    """x of lanes at other rows than those of their points."""
    place = (y * POINTS - 0.5).clamp(0, POINTS - 1)
    above = place.floor().long().clamp(max=POINTS - 2)
    return torch.lerp(xs[..., above], xs[..., above + 1], place - above)


def cosines() -> Float[Tensor, "wave point"]:
    """The shapes of which offsets are sums, slow ones first and largest: lanes are smooth."""
    wave = torch.arange(WAVES)[:, None]
    return torch.cos(torch.pi * wave * torch.from_numpy(point_rows()).float()) / (1 + 0.5 * wave)


def rows_of(like: Tensor) -> Float[Tensor, " point"]:
    return torch.from_numpy(point_rows()).to(like)


def line_iou(
    xs: Float[Tensor, "*#shape point"], true_xs: Float[Tensor, "*#shape point"], is_seen: Bool[Tensor, "*#shape point"]
) -> Float[Tensor, "*lane"]:
    """Overlap of two lines that are widened to both sides, row by row where the true one is seen (CLRNet, eq. 3 to 5).

    Negative for lines that are farther apart than their width.
    """
    apart = (xs - true_xs).abs()
    overlap, union = ((2 * RADIUS + sign * apart) * is_seen for sign in (-1, 1))
    return overlap.sum(-1) / union.sum(-1).clamp(min=1e-6)
