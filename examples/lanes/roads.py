"""Draws what a camera in a car sees: roads at three levels of difficulty, with the lines of their lanes."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from examples.lanes.geometry import FAR, NEAR, Camera, Road, at_rows, distances, in_sight
from examples.lanes.weather import cast_shadows, light

WIDTH, HEIGHT = 320, 180
ROWS = tuple(range(42, HEIGHT, 2))
"""Rows at which lines are annotated (`h_samples`)."""
SCALE = 2
"""Pixels are drawn so many times smaller, and averaged."""
MIN_ROWS = 6
"""A line that is visible in fewer rows is not annotated."""

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Level:
    """How difficult roads are. Shares are probabilities from 0 to 1."""

    curvature: float
    """Standard deviation of 1 / radius, per meter."""
    hill: float
    """Standard deviation of the hills' height, in meters."""
    dashed: float
    worn: float
    """Up to which paint is gone."""
    cars: int
    """At most."""
    shadows: float
    distractors: float
    night: float
    rain: float
    unmarked: float
    """Share of roads without lines."""
    noise: float
    """Standard deviation, of 255."""


LEVELS = {
    "easy": Level(0.0006, 0.0, 0.3, 0.1, 0, 0.0, 0.0, 0.0, 0.0, 0.02, 3.0),
    "middle": Level(0.0015, 0.5, 0.5, 0.45, 3, 0.4, 0.35, 0.1, 0.1, 0.04, 5.0),
    "hard": Level(0.003, 1.2, 0.6, 0.75, 7, 0.6, 0.7, 0.35, 0.35, 0.06, 8.0),
}


@dataclass(frozen=True)
class DrawnRoad:
    """A picture and its lines, from left to right."""

    image: UInt8[np.ndarray, "height width 3"]
    lanes: tuple[Float[np.ndarray, " row"], ...]
    """x at each of `ROWS`; NaN where the line is not in the picture."""


def draw_road(level: Level, random: np.random.Generator) -> DrawnRoad:
    """A road of this level; the same random numbers draw the same picture."""
    camera = Camera(
        WIDTH,
        HEIGHT,
        focal=WIDTH * random.uniform(0.75, 1.15),
        above=random.uniform(1.2, 2.2),
        pitch=random.uniform(-0.02, 0.13),
        yaw=random.normal(0, 0.045),
    )
    lane_width = random.uniform(2.6, 4.4)
    count = int(random.integers(2, 6))
    beside = int(random.integers(0, count - 1))  # lines to the left of the lane that the car is in
    road = Road(
        offset=random.uniform(-0.42, 0.42) * lane_width,
        heading=random.normal(0, 0.025),
        curvature=random.normal(0, level.curvature),
        clothoid=random.normal(0, level.curvature / 60),
        hill=abs(random.normal(0, level.hill)) if level.hill else 0.0,
        hill_length=random.uniform(80, 200),
        hill_phase=random.uniform(0, 2 * np.pi),
    )
    lateral = (np.arange(count) - beside - 0.5) * lane_width
    view = View(camera, road)
    canvas = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE))
    painter = Painter(ImageDraw.Draw(canvas), view, random)
    tarmac = painter.ground(lateral[0], lateral[-1])
    if random.random() < level.distractors:
        painter.distractors(lateral, tarmac)
    is_marked = random.random() >= level.unmarked
    if is_marked:
        for place, x in enumerate(lateral):
            is_outer = place in (0, count - 1)
            is_dashed = random.random() < (level.dashed * 0.4 if is_outer else min(1.0, level.dashed * 1.6))
            painter.line(float(x), tarmac, is_dashed, random.uniform(0, level.worn))
    cars = random.uniform(7, 60, int(random.integers(0, level.cars + 1)))
    for distance in np.sort(cars)[::-1].tolist():  # nearer ones hide those behind them
        painter.car(distance, lateral, lane_width)
    pixels = np.asarray(canvas.reduce(SCALE), dtype=np.float32)
    if random.random() < level.shadows:
        pixels = cast_shadows(pixels, view.horizon, random)
    pixels = light(pixels, view.horizon, random.random() < level.night, random.random() < level.rain, random)
    pixels = pixels + random.uniform(0.3, 1.0) * level.noise * random.standard_normal(pixels.shape, dtype=np.float32)
    lanes = [at_rows(view.line(float(x)), np.array(ROWS, dtype=float), WIDTH) for x in lateral] if is_marked else []
    kept = tuple(lane for lane in lanes if np.isfinite(lane).sum() >= MIN_ROWS)
    return DrawnRoad(pixels.clip(0, 255).astype(np.uint8), kept)


class View:
    """A road as a camera sees it."""

    def __init__(self, camera: Camera, road: Road) -> None:
        self.camera, self.road = camera, road
        z = distances()
        middle = self.points(0.0, z)
        self.z = z[in_sight(middle[:, 1])]
        """Distances in sight, from near to far."""
        self.horizon = float(self.points(0.0, self.z)[-1, 1])
        """Row at which the road ends."""

    def points(self, lateral: float, z: Float[np.ndarray, " z"], above: float = 0.0) -> Float[np.ndarray, "z 2"]:
        """Pixels of a line beside the road's middle."""
        x = self.road.middle(z) + lateral
        return self.camera.project(x, self.road.elevation(z) + above, z)

    def line(self, lateral: float) -> Float[np.ndarray, "z 2"]:
        return self.points(lateral, self.z)

    def strip(self, left: float, right: float, near: float, far: float) -> list[tuple[float, float]]:
        """A part of the road's surface as a polygon in pixels of the canvas; empty if it is not in sight."""
        z = self.z[(self.z > near) & (self.z < far)]
        ends = [end for end in (near, far) if self.z[0] <= end <= self.z[-1]]
        z = np.sort(np.concatenate([z, ends]))
        if len(z) < 2:
            return []
        outline = np.concatenate([self.points(left, z), self.points(right, z)[::-1]]) * SCALE
        return [(float(x), float(y)) for x, y in outline.clip(-8000, 8000)]


class Painter:
    """Draws the parts of a scene, each over what was drawn before."""

    def __init__(self, draw: ImageDraw.ImageDraw, view: View, random: np.random.Generator) -> None:
        self.draw, self.view, self.random = draw, view, random

    def ground(self, left: float, right: float) -> Color:
        """Sky, land and the road between its outer lines; returns the road's color."""
        random, draw, view = self.random, self.draw, self.view
        width, height = WIDTH * SCALE, HEIGHT * SCALE
        horizon = view.horizon * SCALE
        green = random.uniform(150, 225)
        sky = np.array([green - random.uniform(0, 60), green, green + random.uniform(0, 50)])
        draw.rectangle((0, 0, width, height), fill=color(sky))
        for _ in range(int(random.integers(2, 7))):  # hills, trees or houses at the horizon
            x, size = random.uniform(-0.1, 1.1) * width, random.uniform(0.05, 0.3) * width
            top = horizon - random.uniform(0.02, 0.25) * height
            shade = color(random.uniform(30, 170) * np.array([random.uniform(0.7, 1), 1, random.uniform(0.6, 1)]))
            form = draw.ellipse if random.random() < 0.6 else draw.rectangle
            form((x - size, top, x + size, horizon + 0.3 * size), fill=shade)
        land = random.choice(np.array([[70, 110, 55], [150, 135, 95], [110, 110, 105], [190, 190, 190], [95, 85, 60]]))
        draw.rectangle((0, horizon - 1, width, height), fill=color(land * random.uniform(0.7, 1.2)))
        gray = random.uniform(55, 150)
        tarmac = color(gray + random.uniform(-8, 8, 3))
        shoulders = random.uniform(0.3, 3.0, 2)
        self.polygon(left - shoulders[0], right + shoulders[1], NEAR, FAR, tarmac)
        if random.random() < 0.5:  # patches of other tarmac
            a, b = np.sort(random.uniform(left - 1, right + 1, 2))
            near = random.uniform(NEAR, 40)
            self.polygon(a, b, near, near + random.uniform(3, 60), color(np.array(tarmac) * random.uniform(0.85, 1.15)))
        if random.random() < 0.4:  # a guard rail
            side = left - shoulders[0] - 0.4 if random.random() < 0.5 else right + shoulders[1] + 0.4
            rail = view.points(side, view.z, above=random.uniform(0.5, 0.9)) * SCALE
            draw.line([(float(x), float(y)) for x, y in rail], fill=color(random.uniform(90, 200, 3)), width=3)
        return tarmac

    def polygon(self, left: float, right: float, near: float, far: float, fill: Color) -> None:
        outline = self.view.strip(left, right, near, far)
        if outline:
            self.draw.polygon(outline, fill=fill)

    def line(self, lateral: float, tarmac: Color, is_dashed: bool, wear: float) -> None:
        """A line of paint; worn paint is paler, and has gaps."""
        random = self.random
        paint = np.array([250, 250, 245] if random.random() < 0.75 else [235, 190, 60]) * random.uniform(0.8, 1.0)
        mixed = color((1 - wear) * paint + wear * np.array(tarmac))
        half = random.uniform(0.06, 0.11)
        places = [lateral]
        if not is_dashed and random.random() < 0.15:
            places = [lateral - 2 * half, lateral + 2 * half]
        dash, gap = (random.uniform(2, 6), random.uniform(3, 9)) if is_dashed else (random.uniform(8, 30), 0.0)
        start = NEAR - random.uniform(0, dash + gap)
        while start < FAR:
            if is_dashed or random.random() >= 0.5 * wear:
                for place in places:
                    near, far = max(start, NEAR), min(start + dash, FAR)
                    self.polygon(place - half, place + half, near, far, mixed)
            start += dash + gap

    def distractors(self, lateral: Float[np.ndarray, " line"], tarmac: Color) -> None:
        """Seams, arrows and stop lines, which are no lanes."""
        random = self.random
        for _ in range(int(random.integers(1, 4))):
            kind, near = random.integers(3), random.uniform(5, 35)
            x = random.uniform(lateral[0], lateral[-1])
            if kind == 0:
                shade = color(np.array(tarmac) * random.uniform(0.6, 0.8))
                self.polygon(x - 0.04, x + 0.04, near, near + random.uniform(10, 60), shade)
            elif kind == 1:
                place = int(random.integers(len(lateral) - 1))
                middle = lateral[place : place + 2].mean()
                self.polygon(middle - 0.1, middle + 0.1, near, near + 3, (225, 225, 220))
                self.polygon(middle - 0.4, middle + 0.4, near + 3, near + 4, (225, 225, 220))
            else:
                self.polygon(lateral[0], lateral[-1], near, near + 0.4, (215, 215, 210))

    def car(self, distance: float, lateral: Float[np.ndarray, " line"], lane_width: float) -> None:
        """The back of a car or truck in some lane."""
        random, draw = self.random, self.draw
        if distance > self.view.z[-1]:  # behind a crest
            return
        z = np.array([distance])
        place = int(random.integers(len(lateral) - 1))
        x = lateral[place] + lane_width * random.uniform(0.35, 0.65)
        is_truck = random.random() < 0.25
        width, height = (2.4, random.uniform(2.6, 3.6)) if is_truck else (1.8, random.uniform(1.4, 1.8))
        (left, bottom), (right, _) = (self.view.points(x + side * width / 2, z)[0] * SCALE for side in (-1, 1))
        size = right - left
        top = bottom - size * height / width
        draw.ellipse((left - 0.1 * size, bottom - 0.12 * size, right + 0.1 * size, bottom + 0.1 * size), (25, 25, 28))
        body = color(random.choice([30, 90, 160, 230]) + random.uniform(-30, 30, 3))
        draw.rectangle((left, top + 0.3 * (bottom - top) * (not is_truck), right, bottom - 0.08 * size), fill=body)
        if not is_truck:
            draw.polygon(
                [
                    (left + 0.12 * size, top),
                    (right - 0.12 * size, top),
                    (right, bottom - 0.6 * size),
                    (left, bottom - 0.6 * size),
                ],
                fill=color(np.array(body) * 0.8),
            )
            glass = (left + 0.2 * size, top + 0.08 * size, right - 0.2 * size, top + 0.3 * size)
            draw.rectangle(glass, fill=color(random.uniform(40, 90, 3)))
        for x0, x1 in ((left, left + 0.18 * size), (right - 0.18 * size, right)):
            draw.rectangle((x0, bottom - 0.45 * size, x1, bottom - 0.35 * size), fill=(200, 30, 25))
        for x0 in (left + 0.04 * size, right - 0.22 * size):
            draw.rectangle((x0, bottom - 0.14 * size, x0 + 0.18 * size, bottom), fill=(18, 18, 18))


def color(channels: Float[np.ndarray, " 3"]) -> Color:
    red, green, blue = np.clip(channels, 0, 255).astype(int).tolist()
    return red, green, blue
