"""Light on a drawn road: shadows, night with headlights, rain and glare."""

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFilter

Pixels = Float[np.ndarray, "height width 3"]


def cast_shadows(pixels: Pixels, horizon: float, random: np.random.Generator) -> Pixels:
    """Shadows of trees, bridges and houses across the road."""
    height, width = pixels.shape[:2]
    mask = Image.new("L", (width, height))
    draw = ImageDraw.Draw(mask)
    for _ in range(int(random.integers(1, 7))):
        y = random.uniform(horizon, height)
        thick = (y - horizon) * random.uniform(0.05, 0.5) + 2  # nearer shadows are larger
        if random.random() < 0.6:
            slope = random.normal(0, 0.15)
            corners = [(0, y), (width, y + slope * width), (width, y + slope * width + thick), (0, y + thick)]
            draw.polygon(corners, fill=255)
        else:
            x, wide = random.uniform(0, width), thick * random.uniform(1, 5)
            draw.ellipse((x - wide, y - thick / 2, x + wide, y + thick / 2), fill=255)
    soft = mask.filter(ImageFilter.GaussianBlur(random.uniform(0.5, 2.5)))
    share = np.asarray(soft, dtype=np.float32)[..., None] / 255
    darkened: Pixels = pixels * (1 - random.uniform(0.3, 0.65) * share)
    return darkened


def light(pixels: Pixels, horizon: float, is_night: bool, is_rain: bool, random: np.random.Generator) -> Pixels:
    """The picture at another time of day or in other weather."""
    height, width = pixels.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    if is_night:
        middle = width * random.uniform(0.4, 0.6)
        reach = (y - horizon).clip(0) / (height - horizon)
        cone = np.exp(-(((x - middle) / (width * (0.15 + 0.35 * reach))) ** 2)) * np.sqrt(reach)
        lit = random.uniform(0.08, 0.2) + random.uniform(0.5, 0.9) * cone
        pixels = pixels * lit[..., None] * np.array([1.0, 0.97, 0.88], np.float32)
        for _ in range(int(random.integers(0, 5))):  # lamps and oncoming cars
            at_x, at_y, size = random.uniform(0, width), horizon + random.normal(0, 8), random.uniform(1, 4)
            glow = np.exp(-((x - at_x) ** 2 + (y - at_y) ** 2) / (2 * size**2))
            pixels = pixels + 220 * glow[..., None]
    else:
        pixels = pixels * random.uniform(0.55, 1.2)
        if random.random() < 0.25:  # the sun
            at_x, at_y, size = random.uniform(0, width), random.uniform(0, horizon + 10), random.uniform(20, 70)
            glow = np.exp(-((x - at_x) ** 2 + (y - at_y) ** 2) / (2 * size**2))
            pixels = pixels + random.uniform(40, 160) * glow[..., None]
    if is_rain:
        gray = pixels.mean(axis=2, keepdims=True)
        pixels = 0.6 * pixels + 0.25 * gray + 0.15 * gray.mean()
        streaks = Image.fromarray((255 * (random.random((height, width)) < 0.006)).astype(np.uint8))
        smeared = streaks.resize((width, height // 6), Image.Resampling.BOX).resize((width, height))
        pixels = pixels + np.asarray(smeared, dtype=np.float32)[..., None] * random.uniform(0.5, 1.5)
        soft = Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.7))
        pixels = np.asarray(soft, dtype=np.float32)
    tint = random.uniform(0.92, 1.08, 3).astype(np.float32)
    tinted: Pixels = pixels * tint
    return tinted
