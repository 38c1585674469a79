"""Generated datasets of colored shapes: any number of images, classes, objects per image and pixels."""

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
MAX_ATTEMPTS = 20
"""A shape that overlaps others at this many random positions is left out."""


@dataclass(frozen=True)
class DatasetSpec:
    """Size of a generated dataset."""

    images: int
    """In the training split."""
    classes: int
    """A class is a shape, and with more classes than shapes a shape in a range of hues."""
    objects: int
    """Maximum per image; the minimum is one."""
    pixels: int
    """Height and width of the images."""

    def __str__(self) -> str:
        return f"{self.images:,} images, {self.classes} classes, up to {self.objects} objects, {self.pixels} pixels"


def generate_dataset(root: Path, spec: DatasetSpec, val_images: int = 100, seed: int = 0) -> None:
    """Write the dataset to `root` in COCO format, unless it exists; deterministic for a given spec and seed.

    As in `coco_small`, `area` is the area of the box.
    """
    if is_generated(root):
        return
    for number, split in enumerate(SPLITS):
        file = _annotations(root, split)
        (root / split).mkdir(parents=True, exist_ok=True)
        file.parent.mkdir(exist_ok=True)
        count = spec.images if split == "train" else val_images
        content = _write_split(root / split, spec, count, np.random.SeedSequence((seed, number)))
        # The annotations come last, so that a split that has them is complete.
        atomic_write(file, lambda out, content=content: out.write(json.dumps(content).encode()))  # type: ignore[misc]


def is_generated(root: Path) -> bool:
    return all(_annotations(root, split).exists() for split in SPLITS)


def _annotations(root: Path, split: str) -> Path:
    return root / "annotations" / f"instances_{split}.json"


def _write_split(folder: Path, spec: DatasetSpec, count: int, seeds: np.random.SeedSequence) -> dict[str, Any]:
    images, annotations = [], []
    for number, seed in enumerate(
        tqdm(seeds.spawn(count), desc=f"generating {folder}", unit=" images", disable=None), 1
    ):
        pixels, objects = _draw(spec, np.random.default_rng(seed))
        name = f"{number:06d}.jpg"
        Image.fromarray(pixels).save(folder / name, quality=92)
        images.append({"id": number, "file_name": name, "width": spec.pixels, "height": spec.pixels})
        annotations += [
            {"image_id": number, "category_id": label + 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for label, box in objects
        ]
    return {
        "images": images,
        "annotations": [{"id": number, **annotation} for number, annotation in enumerate(annotations, 1)],
        "categories": [{"id": label + 1, "name": f"class {label + 1}"} for label in range(spec.classes)],
    }


def _draw(
    spec: DatasetSpec, rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "side side 3"], list[tuple[int, list[float]]]]:
    """An image, and (label, box as x, y, width, height) of each object. Boxes do not overlap."""
    side = spec.pixels
    clouds = Image.fromarray(rng.integers(60, 200, (6, 6, 1), np.uint8).repeat(3, axis=2))
    image = clouds.resize((side, side), Image.Resampling.BICUBIC)
    taken, objects = np.zeros((side, side), bool), []
    cell = side / spec.objects**0.5  # side of each object's share of the image when it is full
    smallest, largest = max(SMALLEST_EXTENT, cell / 4), max(1.5 * SMALLEST_EXTENT, min(side / 2, cell * 0.75))
    for _ in range(int(rng.integers(1, spec.objects + 1))):
        label = int(rng.integers(spec.classes))
        extent = round(smallest * (largest / smallest) ** rng.random())
        alpha = silhouette(SHAPES[label % len(SHAPES)], extent, rng.uniform(0, 2 * np.pi))
        height, width = alpha.shape
        for _ in range(MAX_ATTEMPTS):
            top, left = int(rng.integers(0, side - height + 1)), int(rng.integers(0, side - width + 1))
            region = taken[top : top + height, left : left + width]
            if region.any():
                continue
            region[:] = True
            image.paste(_color(label, spec.classes, rng), (left, top), Image.fromarray(alpha))
            x, y, *size = tight_box_xywh(alpha >= 128)
            objects.append((label, [float(x + left), float(y + top), *map(float, size)]))
            break
    noise = rng.normal(0, 6, (side, side, 3))
    return np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8), objects


def _color(label: int, classes: int, rng: np.random.Generator) -> tuple[int, int, int]:
    """A saturated color, unlike the grey background; from the range of hues of the class, if it has one."""
    hues = -(-classes // len(SHAPES))
    hue = rng.random() if hues == 1 else (label // len(SHAPES) + rng.uniform(-0.2, 0.2)) / hues
    red, green, blue = (round(255 * part) for part in hsv_to_rgb(hue % 1, rng.uniform(0.8, 1), rng.uniform(0.7, 1)))
    return red, green, blue
