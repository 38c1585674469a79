"""Drawn data sets of any size: so many images, classes, objects in an image and pixels, to try the defaults on."""

import json
from colorsys import hsv_to_rgb
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from tqdm import tqdm

from detr_lite.data.synthetic.rendering import SPLITS
from detr_lite.data.synthetic.shapes import CATEGORY_IDS, silhouette, tight_box_xywh
from detr_lite.io import atomic_write

SHAPES = tuple(CATEGORY_IDS)
SMALLEST_EXTENT = 8
PLACES = 20
"""So many places are tried for a shape before it is left out."""


@dataclass(frozen=True)
class Kind:
    """Of a data set."""

    images: int
    """To learn from."""
    classes: int
    """Each is a shape in a colour; up to as many classes as there are shapes, the colour says nothing."""
    objects: int
    """The most in an image; the least is one."""
    pixels: int
    """Of each side."""

    def __str__(self) -> str:
        return f"{self.images:,} images, {self.classes} classes, up to {self.objects} objects, {self.pixels} pixels"


def draw_data_set(root: Path, kind: Kind, val_images: int = 100, seed: int = 0) -> None:
    """Draw it into `root` in COCO's format; a set that is there already stays. Same kind and seed, same images.

    As in `coco_small`, `area` is that of the box.
    """
    if is_drawn(root):
        return
    for number, split in enumerate(SPLITS):
        file = _annotations(root, split)
        (root / split).mkdir(parents=True, exist_ok=True)
        file.parent.mkdir(exist_ok=True)
        count = kind.images if split == "train" else val_images
        content = _draw_split(root / split, kind, count, np.random.SeedSequence((seed, number)))
        # Last: the images of a split that has annotations are complete.
        atomic_write(file, lambda out, content=content: out.write(json.dumps(content).encode()))  # type: ignore[misc]


def is_drawn(root: Path) -> bool:
    return all(_annotations(root, split).exists() for split in SPLITS)


def _annotations(root: Path, split: str) -> Path:
    return root / "annotations" / f"instances_{split}.json"


def _draw_split(folder: Path, kind: Kind, count: int, seeds: np.random.SeedSequence) -> dict[str, Any]:
    images, annotations = [], []
    for number, seed in enumerate(tqdm(seeds.spawn(count), desc=f"drawing {folder}", unit=" images", disable=None), 1):
        pixels, objects = _draw(kind, np.random.default_rng(seed))
        name = f"{number:06d}.jpg"
        Image.fromarray(pixels).save(folder / name, quality=92)
        images.append({"id": number, "file_name": name, "width": kind.pixels, "height": kind.pixels})
        annotations += [
            {"image_id": number, "category_id": label + 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for label, box in objects
        ]
    return {
        "images": images,
        "annotations": [{"id": number, **annotation} for number, annotation in enumerate(annotations, 1)],
        "categories": [{"id": label + 1, "name": f"class {label + 1}"} for label in range(kind.classes)],
    }


def _draw(
    kind: Kind, rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "side side 3"], list[tuple[int, list[float]]]]:
    """An image, and (label, box as x, y, width, height) of each object; no two boxes overlap."""
    side = kind.pixels
    clouds = Image.fromarray(rng.integers(60, 200, (6, 6, 1), np.uint8).repeat(3, axis=2))
    image = clouds.resize((side, side), Image.Resampling.BICUBIC)
    taken, objects = np.zeros((side, side), bool), []
    cell = side / kind.objects**0.5  # what each would have in a full image
    smallest, largest = max(SMALLEST_EXTENT, cell / 4), max(1.5 * SMALLEST_EXTENT, min(side / 2, cell * 0.75))
    for _ in range(int(rng.integers(1, kind.objects + 1))):
        label = int(rng.integers(kind.classes))
        extent = round(smallest * (largest / smallest) ** rng.random())
        alpha = silhouette(SHAPES[label % len(SHAPES)], extent, rng.uniform(0, 2 * np.pi))
        height, width = alpha.shape
        for _ in range(PLACES):
            top, left = int(rng.integers(0, side - height + 1)), int(rng.integers(0, side - width + 1))
            place = taken[top : top + height, left : left + width]
            if place.any():
                continue
            place[:] = True
            image.paste(_color(label, kind.classes, rng), (left, top), Image.fromarray(alpha))
            x, y, *size = tight_box_xywh(alpha >= 128)
            objects.append((label, [float(x + left), float(y + top), *map(float, size)]))
            break
    noise = rng.normal(0, 6, (side, side, 3))
    return np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8), objects


def _color(label: int, classes: int, rng: np.random.Generator) -> tuple[int, int, int]:
    """Strong beside the grey of the background; of the hue that the class has, if it has one."""
    hues = -(-classes // len(SHAPES))
    hue = rng.random() if hues == 1 else (label // len(SHAPES) + rng.uniform(-0.2, 0.2)) / hues
    red, green, blue = (round(255 * part) for part in hsv_to_rgb(hue % 1, rng.uniform(0.8, 1), rng.uniform(0.7, 1)))
    return red, green, blue
