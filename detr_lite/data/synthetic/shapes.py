"""Outlines of the categories and of distractors, and their rasterised alpha masks.

Nothing here imports torch, so that the rendering processes start in a fraction of a second.
"""

import math

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw, ImageFilter

Points = Float[np.ndarray, "_point 2"]
Alpha = UInt8[np.ndarray, "_height _width"]
"""Coverage of each pixel, 0 to 255. From 128 on the pixel belongs to the shape."""

CATEGORY_IDS = {
    "disc": 1,
    "ring": 3,
    "triangle": 4,
    "square": 9,
    "pentagon": 13,
    "star": 27,
    "cross": 44,
    "heart": 90,
}
"""Not contiguous, as in COCO, so that code that confuses ids with labels fails."""

SUPERSAMPLING = 4
RING_HOLE = 0.55
"""Radius of a ring's hole relative to its outer radius."""


def outline(category: str) -> Points:
    """Closed outline of a category's silhouette around the origin, in any unit; y points down."""
    match category:
        case "disc" | "ring":
            return _regular(72)
        case "triangle":
            return _regular(3)
        case "square":
            return _regular(4)
        case "pentagon":
            return _regular(5)
        case "star":
            return _regular(10) * np.where(np.arange(10) % 2 == 0, 1.0, 0.42)[:, None]
        case "cross":
            arm = 0.34
            corner = [(-1, -arm), (-1, arm), (-arm, arm)]
            return np.array(
                [point for turn in range(4) for point in rotate(np.array(corner, float), -turn * np.pi / 2)]
            )
        case "heart":
            t = np.linspace(0, 2 * np.pi, 72, endpoint=False)
            x = 16 * np.sin(t) ** 3
            y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
            return np.stack([x, -y], axis=1)
    raise ValueError(f"no such category: {category}")


def rotate(points: Points, angle: float) -> Points:
    cos, sin = math.cos(angle), math.sin(angle)
    turned: Points = points @ np.array([[cos, sin], [-sin, cos]])
    return turned


def silhouette(category: str, extent: int, rotation: float, offset: tuple[float, float] = (0.0, 0.0)) -> Alpha:
    """Alpha mask of a shape whose box around its pixels (alpha >= 128) is `extent` pixels on the longer side.

    `offset` shifts the shape by a fraction of a pixel. The mask is cropped to the pixels that are covered at all.
    """
    points = rotate(outline(category), rotation)
    points = (points - (points.min(0) + points.max(0)) / 2) / np.ptp(points, axis=0).max()
    hole = RING_HOLE if category == "ring" else None
    size, shift = float(extent), np.array(offset)
    for attempt in range(16):
        alpha = _fill(points * size, shift, hole)
        error = extent - max(tight_box_xywh(alpha >= 128)[2:])
        if error == 0:
            break
        # The tip of a star covers less than half of its last pixel, so the outline must be a little larger. Both ends
        # of a symmetric shape could gain a pixel at the same size, which the shift prevents.
        size += error * 0.8**attempt
        shift = shift + 0.06
    return _tight(alpha)


def tight_box_xywh(mask: Bool[np.ndarray, "height width"]) -> tuple[int, int, int, int]:
    """(first column, first row, columns, rows) of the box around the True pixels; zeros if there are none."""
    columns, rows = (np.flatnonzero(mask.any(axis)) for axis in (0, 1))
    if not len(columns):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1


def line(extent: int, rng: np.random.Generator) -> Alpha:
    """A straight or curved stroke between two points."""
    is_bent = rng.random() < 0.5
    t = np.linspace(0, 1, 12 if is_bent else 2)
    bend = rng.uniform(-0.3, 0.3)
    points = np.stack([t - 0.5, bend * 4 * t * (1 - t)], axis=1)
    return _stroke(rotate(points, rng.uniform(0, 2 * np.pi)), extent, rng)


def fragment(extent: int, rng: np.random.Generator) -> Alpha:
    """A stroke along 20 % to 40 % of a category's outline: an arc or a corner, too little to be recognised."""
    closed = outline(str(rng.choice(list(CATEGORY_IDS))))
    closed = np.concatenate([closed, closed[:1]])
    length = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
    start, share = rng.uniform(0, 1), rng.uniform(0.2, 0.4)
    at = np.linspace(start, start + share, 24) % 1 * length[-1]
    points = np.stack([np.interp(at, length, closed[:, side]) for side in (0, 1)], axis=1)
    return _stroke(rotate(points, rng.uniform(0, 2 * np.pi)), extent, rng)


def blob(extent: int, rng: np.random.Generator) -> Alpha:
    """An irregular spot, at least 1.5 times as long as wide, with a sharp or a soft edge."""
    t = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    radius = np.ones(len(t))
    for lobes in (2, 3, 5):
        radius += rng.uniform(0.05, 0.2) * np.cos(lobes * t + rng.uniform(0, 2 * np.pi))
    points = radius[:, None] * np.stack([np.cos(t), np.sin(t)], axis=1)
    points /= np.ptp(points, axis=0)
    points[:, 1] /= rng.uniform(1.5, 3.0)
    points = rotate(points, rng.uniform(0, 2 * np.pi))
    points -= (points.min(0) + points.max(0)) / 2
    softness = float(rng.choice([0.0, 0.08])) * extent
    alpha = _fill(points * (extent - 2 * softness), margin=2 + math.ceil(softness))
    if softness:
        alpha = np.asarray(Image.fromarray(alpha).filter(ImageFilter.GaussianBlur(softness)))
    return _tight(alpha)


def sliver(extent: int, rng: np.random.Generator) -> Alpha:
    """A filled bar or spike, at least four times as long as wide."""
    width, taper = rng.uniform(0.1, 0.25), rng.uniform(0, 1)
    points = np.array([(-0.5, -width / 2), (0.5, -width * taper / 2), (0.5, width * taper / 2), (-0.5, width / 2)])
    points = rotate(points, rng.uniform(0, 2 * np.pi))
    points -= (points.min(0) + points.max(0)) / 2
    return _tight(_fill(points * extent))


def _regular(corners: int) -> Points:
    angle = np.arange(corners) * 2 * np.pi / corners - np.pi / 2
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _fill(
    points: Points, shift: Float[np.ndarray, " 2"] | None = None, hole: float | None = None, margin: int = 2
) -> Alpha:
    """A filled polygon, given in pixels around the origin, at the center of a new canvas."""
    half = np.ceil(np.abs(points).max(0)).astype(int) + margin
    canvas = Image.new("L", tuple((2 * half * SUPERSAMPLING).tolist()))
    brush = ImageDraw.Draw(canvas)
    center = half if shift is None else half + shift
    brush.polygon(((points + center) * SUPERSAMPLING).ravel().tolist(), fill=255)
    if hole is not None:
        brush.polygon(((points * hole + center) * SUPERSAMPLING).ravel().tolist(), fill=0)
    return np.asarray(canvas.reduce(SUPERSAMPLING))


def _stroke(points: Points, extent: int, rng: np.random.Generator) -> Alpha:
    thickness = rng.uniform(1.2, 2 + 0.04 * extent)
    points = (points - points.min(0)) / np.ptp(points, axis=0).max() * max(extent - thickness, 4)
    margin = math.ceil(thickness) + 1
    width, height = (math.ceil(side) + 2 * margin for side in points.max(0))
    canvas = Image.new("L", (width * SUPERSAMPLING, height * SUPERSAMPLING))
    corners = ((points + margin) * SUPERSAMPLING).ravel().tolist()
    ImageDraw.Draw(canvas).line(corners, fill=255, width=round(thickness * SUPERSAMPLING), joint="curve")
    return _tight(np.asarray(canvas.reduce(SUPERSAMPLING)))


def _tight(alpha: Alpha) -> Alpha:
    x, y, width, height = tight_box_xywh(alpha > 0)
    return alpha[y : y + height, x : x + width]
