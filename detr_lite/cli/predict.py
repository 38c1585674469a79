"""Detections in a user's own images: one JSON file for programs, pictures for people."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from PIL import Image

from detr_lite.data.image_sources import ImageFile, find_images, read_batches, refuse_unreadable
from detr_lite.detector import Detector, check_threshold
from detr_lite.evaluation.coco_map import coco_results
from detr_lite.io import atomic_write, check_output, drawing_names, refuse_links_out
from detr_lite.structures import Category, Detections, DetrLiteError
from detr_lite.viz.draw import annotate

JPEG = (".jpg", ".jpeg")
"""Images with one of these suffixes are written as JPEG, all others as PNG."""


def predict(
    checkpoint: Path,
    source: Sequence[str],
    output: Path,
    threshold: float = 0.5,
    batch_size: int = 8,
    device: str = "auto",
    overwrite: bool = False,
) -> None:
    """Write `detections.json` and every image with its detections drawn, and print what was found.

    Args:
        source: files, folders and patterns, as in `find_images`.
        output: folder; the pictures lie in it as the images lie in their source.
        threshold: detections of a lower score are left out of both.

    Errors: a wrong argument, before anything is written; images that cannot be read, when all others are done.
    """
    check_threshold(threshold)
    if batch_size < 1:
        raise DetrLiteError(f"--batch_size is {batch_size}; it must be at least 1")
    images = find_images(source, output)
    check_output(output, overwrite)
    names = drawing_names([file.name for file in images], keep=(*JPEG, ".png"))
    refuse_links_out(output, {(output / name).parent for name in names})
    detector = Detector.from_checkpoint(checkpoint, device)

    drawing_of = dict(zip(images, names, strict=True))
    unreadable: list[ImageFile] = []
    found = FoundObjects(detector.categories)
    for batch in read_batches(images, batch_size, unreadable, "predicting"):
        answers = detector([image for _, image in batch], batch_size)
        for (file, image), answer in zip(batch, answers, strict=True):
            kept = answer.above(threshold)
            found.add(file.name, image, kept)
            save_picture(annotate(image, kept), output / drawing_of[file])
    if found.images:
        found.save(output / "detections.json")
        print(f"found      {found.summary()} (score at least {threshold:g})")
        count = len(found.images)
        print(f"written    {output}/detections.json and {count:,} annotated image{'s' if count != 1 else ''} beside it")
    refuse_unreadable(unreadable, len(images), output)


class FoundObjects:
    """What `detections.json` holds: a COCO annotation file whose annotations also have a score and a category name.

    Boxes are [x, y, width, height] in pixels of the upright image, category ids those that were trained on.
    """

    def __init__(self, categories: Sequence[Category]) -> None:
        self.categories = categories
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []

    def add(self, name: PurePath, image: Image.Image, found: Detections) -> None:
        image_id = len(self.images) + 1
        self.images.append({"id": image_id, "file_name": name.as_posix(), "width": image.width, "height": image.height})
        entries = coco_results(found, image_id, [category.id for category in self.categories])
        for entry, label in zip(entries, found.labels.tolist(), strict=True):
            _, _, width, height = entry["bbox"]
            more = {"category_name": self.categories[label].name, "area": round(width * height, 3), "iscrowd": 0}
            self.annotations.append({"id": len(self.annotations) + 1, **entry, **more})

    def summary(self) -> str:
        counts = Counter(annotation["category_name"] for annotation in self.annotations)
        found = ", ".join(f"{count:,} {name}" for name, count in counts.most_common()) or "nothing"
        holding = len({annotation["image_id"] for annotation in self.annotations})
        return f"{found} in {f'{holding:,} of ' if holding else ''}{len(self.images):,} images"

    def save(self, path: Path) -> None:
        categories = [{"id": category.id, "name": category.name} for category in self.categories]
        content = {"images": self.images, "annotations": self.annotations, "categories": categories}
        atomic_write(path, lambda file: file.write(json.dumps(content).encode()))


def save_picture(picture: Image.Image, path: Path) -> None:
    """JPEG or PNG, as its name says."""
    if path.suffix.lower() in JPEG:
        atomic_write(path, lambda file: picture.save(file, "JPEG", quality=92), durable=False)
    else:  # a photograph takes seconds at full compression, and is hardly smaller for it
        atomic_write(path, lambda file: picture.save(file, "PNG", compress_level=3), durable=False)
