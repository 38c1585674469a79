"""Renders the images of the synthetic dataset, each from a random generator of its own, so that any can be redrawn.

Run as a program, it renders every n-th image. `coco_small.py` starts one such process per core: new interpreters that
import neither torch nor the caller's script, so nothing is forked after torch and no `__main__` guard is needed.
"""

import json
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from detr_lite.data.synthetic.painting import add_blur_and_noise, paint
from detr_lite.data.synthetic.scene import Scene, sample_scene

SPLITS = ("train", "val")
JPEG_QUALITY = (60, 95)
EMPTY_EVERY = 20
"""One image in so many has no objects."""


class ObjectRecord(TypedDict):
    category: str
    bbox: tuple[float, float, float, float]
    is_crowd: bool


class DrawnRecord(TypedDict):
    split: str
    id: int
    file_name: str
    width: int
    height: int
    objects: list[ObjectRecord]
    distractors: int


@dataclass(frozen=True)
class DrawnImage:
    scene: Scene
    pixels: UInt8[np.ndarray, "height width 3"]
    jpeg_quality: int


def draw_scene(seed: int, split: str, index: int) -> Scene:
    """The content of image `index` (from 0) of a split, without its pixels."""
    return sample_scene(_generator(seed, split, index), is_empty=_is_empty(index))


def draw_image(seed: int, split: str, index: int) -> DrawnImage:
    rng = _generator(seed, split, index)
    scene = sample_scene(rng, is_empty=_is_empty(index))
    pixels = add_blur_and_noise(paint(scene, rng), rng)
    return DrawnImage(scene, pixels, int(rng.integers(*JPEG_QUALITY, endpoint=True)))


def image_id(split: str, index: int) -> int:
    """Ids are not contiguous, and differ between the splits."""
    return 139 + 17 * (2 * index + SPLITS.index(split))


def draw_files(
    folder: Path, seed: int, train_images: int, val_images: int, first: int = 0, step: int = 1
) -> Generator[DrawnRecord, None, None]:
    """Write image `first` and every `step`-th after it as JPEG, train before val; yields the record of each."""
    jobs = [("train", index) for index in range(train_images)] + [("val", index) for index in range(val_images)]
    for split, index in jobs[first::step]:
        drawn = draw_image(seed, split, index)
        number = image_id(split, index)
        file_name = f"{number:012d}.jpg"
        Image.fromarray(drawn.pixels).save(folder / split / file_name, quality=drawn.jpeg_quality)
        scene = drawn.scene
        yield DrawnRecord(
            split=split,
            id=number,
            file_name=file_name,
            width=scene.width,
            height=scene.height,
            objects=[
                ObjectRecord(category=shape.category, bbox=shape.box_xywh, is_crowd=shape.is_crowd)
                for shape in scene.objects
            ],
            distractors=len(scene.beneath) + len(scene.above),
        )


def _is_empty(index: int) -> bool:
    return index % EMPTY_EVERY == EMPTY_EVERY - 1


def _generator(seed: int, split: str, index: int) -> np.random.Generator:
    return np.random.default_rng([seed, SPLITS.index(split), index])


if __name__ == "__main__":
    for record in draw_files(Path(sys.argv[1]), *(int(argument) for argument in sys.argv[2:])):
        print(json.dumps(record), flush=True)
