"""Draws pictures of any size with objects of a few pixels and a few large ones, and the small ones to train on."""

import json
from collections.abc import Sequence
from colorsys import hsv_to_rgb
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from detr_lite.data.synthetic.rendering import SPLITS
from detr_lite.data.synthetic.shapes import silhouette, tight_box_xywh
from detr_lite.io import atomic_write

CLASSES = {"disc": 0.0, "square": 1 / 3, "cross": 2 / 3}
"""Shape -> hue."""
SMALL = (11, 14)
"""Longest side in pixels, without the end: about 12."""
LEAST_VISIBLE = 0.25
"""Share of a large object from which on it is annotated in a picture that cuts it."""
MAX_ATTEMPTS = 50


@dataclass(frozen=True)
class PictureSpec:
    """What a picture holds."""

    width: int
    height: int
    small: tuple[int, int]
    """Least and most objects of `SMALL` pixels."""
    large: tuple[int, int]
    """Least and most large objects."""
    large_extent: tuple[int, int]
    """Their longest side in pixels, without the end."""
    may_cut: bool
    """Whether the edge of the picture cuts large objects."""


def write_pictures(root: Path, specs: Sequence[PictureSpec], images: Sequence[int], seed: int = 0) -> None:
    """Write a dataset in COCO format with so many images in training and validation; deterministic for a seed.

    Image i of a split has the spec `specs[i % len(specs)]`.
    """
    for number, (split, count) in enumerate(zip(SPLITS, images, strict=True)):
        (root / split).mkdir(parents=True, exist_ok=True)
        content: dict[str, list[dict[str, Any]]] = {
            "images": [],
            "annotations": [],
            "categories": [{"id": 1 + label, "name": name} for label, name in enumerate(CLASSES)],
        }
        for index in tqdm(range(count), desc=f"drawing {root / split}", unit=" images", disable=None):
            spec, name = specs[index % len(specs)], f"{index:06d}.jpg"
            image, objects = draw_picture(spec, np.random.default_rng((seed, number, index)))
            image.save(root / split / name, quality=92)
            content["images"].append({"id": index + 1, "file_name": name, "width": spec.width, "height": spec.height})
            content["annotations"] += [
                {"image_id": index + 1, "category_id": label + 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
                for label, box in objects
            ]
        for number_of, annotation in enumerate(content["annotations"], 1):
            annotation["id"] = number_of
        file, text = root / "annotations" / f"instances_{split}.json", json.dumps(content).encode()
        atomic_write(file, lambda out, text=text: out.write(text))  # type: ignore[misc]


def draw_picture(spec: PictureSpec, rng: np.random.Generator) -> tuple[Image.Image, list[tuple[int, list[float]]]]:
    """A picture, and (label, box as x, y, width, height) of each object; objects do not touch."""
    clouds = Image.fromarray(rng.integers(70, 190, (6, 8), np.uint8))
    gray = np.asarray(clouds.resize((spec.width, spec.height), Image.Resampling.BICUBIC), np.int16)
    gray = gray + rng.integers(-12, 13, gray.shape, np.int16)
    image = Image.fromarray(np.clip(gray, 0, 255).astype(np.uint8)).convert("RGB")
    taken, objects = np.zeros((spec.height, spec.width), bool), []
    extents = [
        int(rng.integers(*spec.large_extent)) for _ in range(int(rng.integers(spec.large[0], spec.large[1] + 1)))
    ]
    extents += [int(rng.integers(*SMALL)) for _ in range(int(rng.integers(spec.small[0], spec.small[1] + 1)))]
    for extent in extents:
        label = int(rng.integers(len(CLASSES)))
        name, hue = list(CLASSES.items())[label]
        alpha = silhouette(name, extent, rng.uniform(0, 2 * np.pi))
        reach = extent // 2 if spec.may_cut and extent >= SMALL[1] else 0
        for _ in range(MAX_ATTEMPTS):
            left = int(rng.integers(-reach, max(spec.width - alpha.shape[1] + reach, 1 - reach)))
            top = int(rng.integers(-reach, max(spec.height - alpha.shape[0] + reach, 1 - reach)))
            rows = slice(max(top - 2, 0), max(top, 0) + alpha.shape[0] + 2)
            columns = slice(max(left - 2, 0), max(left, 0) + alpha.shape[1] + 2)
            if taken[rows, columns].any():
                continue
            taken[rows, columns] = True
            rgb = hsv_to_rgb((hue + rng.uniform(-0.08, 0.08)) % 1, rng.uniform(0.7, 1), rng.uniform(0.7, 1))
            image.paste(tuple(round(255 * part) for part in rgb), (left, top), Image.fromarray(alpha))
            visible = (alpha >= 128)[max(-top, 0) : spec.height - top, max(-left, 0) : spec.width - left]
            if visible.any() and visible.sum() >= LEAST_VISIBLE * (alpha >= 128).sum():
                x, y, *size = tight_box_xywh(visible)
                objects.append((label, [float(x + max(left, 0)), float(y + max(top, 0)), *map(float, size)]))
            break
    return image, objects
