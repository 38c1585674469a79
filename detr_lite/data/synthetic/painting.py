"""Renders a scene to pixels: colors and textures that do not depend on the category, then blur and noise."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageFilter

from detr_lite.data.synthetic.scene import RGB, Scene, Stamp

Pattern = Float[np.ndarray, "height width"]
Canvas = Float[np.ndarray, "height width 3"]

LEAST_CONTRAST = 100.0
"""Least distance in RGB (0 to 255 each) between an object's color and four fifths of the pixels around it."""
LEAST_DISTRACTOR_CONTRAST = 24.0
MAX_TEXTURE = 18.0
"""Amplitude of a stamp's texture: about a sixth of the least contrast, or stripes would break up the shape."""


def paint(scene: Scene, rng: np.random.Generator) -> Canvas:
    """RGB, 0 to 255. Every stamp has a random generator of its own, so that the others do not depend on it."""
    canvas = _background(scene.height, scene.width, scene.background, rng)
    distractors = {id(stamp) for stamp in (*scene.beneath, *scene.above)}
    stamps = (*scene.beneath, *(drawn.stamp for drawn in scene.objects), *scene.above)
    for stamp, own_rng in zip(stamps, rng.spawn(len(stamps)), strict=True):
        _paint_stamp(canvas, stamp, LEAST_DISTRACTOR_CONTRAST if id(stamp) in distractors else LEAST_CONTRAST, own_rng)
    return canvas


def add_blur_and_noise(canvas: Canvas, rng: np.random.Generator) -> UInt8[np.ndarray, "height width 3"]:
    """Gaussian blur (up to 1 pixel) and noise (standard deviation up to 6 of 255)."""
    sharp = Image.fromarray(np.clip(canvas, 0, 255).round().astype(np.uint8))
    blurred = np.asarray(sharp.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1))), dtype=np.float32)
    noise = rng.standard_normal(blurred.shape, dtype=np.float32) * np.float32(rng.uniform(0, 6))
    return np.clip(blurred + noise, 0, 255).round().astype(np.uint8)


def _background(height: int, width: int, given: RGB | None, rng: np.random.Generator) -> Canvas:
    color = rng.uniform(30, 225, 3) if given is None else np.array(given)
    canvas = np.broadcast_to(color.astype(np.float32), (height, width, 3)).copy()
    layers = [(_gradient, 40.0), (_clouds, 25.0), (_PATTERNS[rng.integers(len(_PATTERNS))], 14.0)]
    for pattern, max_amplitude in layers:
        canvas += _tinted(pattern(height, width, rng), rng.uniform(0.1, 1) * max_amplitude, rng)
    return canvas


def _paint_stamp(canvas: Canvas, stamp: Stamp, least_contrast: float, rng: np.random.Generator) -> None:
    height, width = stamp.alpha.shape
    if stamp.color is None:
        color = _contrasting_color(_surroundings(canvas, stamp), least_contrast, rng)
    else:
        color = np.array(stamp.color, np.float32)
    pattern = _PATTERNS[rng.integers(len(_PATTERNS))]
    texture = _tinted(pattern(height, width, rng), rng.uniform(0.2, 1) * MAX_TEXTURE, rng)
    opacity = stamp.alpha[..., None] / np.float32(255)
    canvas[stamp.region] += opacity * (color + texture - canvas[stamp.region])


def _surroundings(canvas: Canvas, stamp: Stamp) -> Float[np.ndarray, "pixel 3"]:
    """About 96 of the pixels just outside a stamp."""
    reach = 4
    rows, columns = stamp.region
    top, left = max(rows.start - reach, 0), max(columns.start - reach, 0)
    crop = canvas[top : rows.stop + reach, left : columns.stop + reach]
    is_outside = np.ones(crop.shape[:2], bool)
    is_outside[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = stamp.alpha == 0
    pixels: Float[np.ndarray, "pixel 3"] = crop[is_outside]
    return pixels[:: max(1, len(pixels) // 96)]


def _contrasting_color(
    pixels: Float[np.ndarray, "pixel 3"], least_contrast: float, rng: np.random.Generator
) -> Float[np.ndarray, " 3"]:
    """A random color that differs enough from the surrounding pixels; for one stamp in ten only just enough."""
    is_faint = rng.random() < 0.1
    candidates = rng.uniform(0, 255, (24, 3))
    if is_faint:
        steps = rng.standard_normal((24, 3))
        distances = least_contrast * rng.uniform(1, 1.5, (24, 1))
        faint = np.median(pixels, axis=0) + steps / np.linalg.norm(steps, axis=1, keepdims=True) * distances
        candidates = np.concatenate([np.clip(faint, 0, 255), candidates])
    contrast = np.quantile(np.linalg.norm(candidates[:, None] - pixels, axis=2), 0.2, axis=1)
    first_good = int(np.argmax(contrast >= least_contrast))
    best = first_good if contrast[first_good] >= least_contrast else int(np.argmax(contrast))
    color: Float[np.ndarray, " 3"] = candidates[best].astype(np.float32)
    return color


def _tinted(pattern: Pattern, amplitude: float, rng: np.random.Generator) -> Canvas:
    """An RGB offset of at most `amplitude` in a random direction, modulated by the pattern."""
    tint = rng.standard_normal(3) + rng.choice([-1, 1])
    tinted: Canvas = pattern[..., None] * (amplitude * tint / np.linalg.norm(tint)).astype(np.float32)
    return tinted


def _plain(height: int, width: int, rng: np.random.Generator) -> Pattern:
    return np.zeros((height, width), np.float32)


def _gradient(height: int, width: int, rng: np.random.Generator) -> Pattern:
    ramp = _ramp(height, width, rng.uniform(0, 2 * np.pi))
    centered: Pattern = (2 * ramp - ramp.min() - ramp.max()) / max(float(np.ptp(ramp)), 1.0)
    return centered


def _stripes(height: int, width: int, rng: np.random.Generator) -> Pattern:
    waves = np.sin(_ramp(height, width, rng.uniform(0, 2 * np.pi)) * (2 * np.pi / _period(height, width, rng)))
    hardness = rng.choice([1, 4])
    stripes: Pattern = np.clip(hardness * waves, -1, 1).astype(np.float32)
    return stripes


def _checks(height: int, width: int, rng: np.random.Generator) -> Pattern:
    angle, frequency = rng.uniform(0, 2 * np.pi), 2 * np.pi / _period(height, width, rng)
    across, along = (np.sin(_ramp(height, width, angle + turn) * frequency) for turn in (0, np.pi / 2))
    checks: Pattern = np.clip(6 * across * along, -1, 1).astype(np.float32)
    return checks


def _speckle(height: int, width: int, rng: np.random.Generator) -> Pattern:
    grain = int(rng.integers(1, 4))
    coarse = rng.uniform(-1, 1, (height // grain + 1, width // grain + 1)).astype(np.float32)
    return coarse.repeat(grain, 0).repeat(grain, 1)[:height, :width]


def _clouds(height: int, width: int, rng: np.random.Generator) -> Pattern:
    cells = rng.integers(3, 12, 2)
    coarse = Image.fromarray(rng.uniform(-1, 1, cells).astype(np.float32))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


def _ramp(height: int, width: int, angle: float) -> Pattern:
    rows = np.arange(height, dtype=np.float32)[:, None] * np.float32(np.sin(angle))
    ramp: Pattern = rows + np.arange(width, dtype=np.float32) * np.float32(np.cos(angle))
    return ramp


def _period(height: int, width: int, rng: np.random.Generator) -> float:
    """From 4 pixels to half the size, so that the texture does not depend on the size of a shape."""
    return float(4 * (max(height, width, 16) / 8) ** rng.random())


_PATTERNS: list[Callable[[int, int, np.random.Generator], Pattern]] = [
    _plain,
    _gradient,
    _stripes,
    _checks,
    _speckle,
    _clouds,
]
