"""What `detr-lite predict` writes: detections.json, and annotated images."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from PIL import Image

from detr_lite.evaluation.packing import pack_detections
from detr_lite.io import atomic_write
from detr_lite.structures import Category, Detections


class DetectionsFile:
    """A COCO annotation file whose annotations also have a score and a category name.

    Boxes are [x, y, width, height] in pixels of the upright image; category ids are those of the training data. `info`
    is COCO's place for what concerns the whole file.
    """

    def __init__(self, categories: Sequence[Category], info: Mapping[str, Any] | None = None) -> None:
        self.categories = categories
        self.info = info or {}
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []

    def add(self, name: PurePath, image: Image.Image, detections: Detections) -> None:
        image_id = len(self.images) + 1
        self.images.append({"id": image_id, "file_name": name.as_posix(), "width": image.width, "height": image.height})
        packed = pack_detections({image_id: detections})
        columns = (packed.labels.tolist(), packed.boxes_xywh.tolist(), packed.scores.tolist())
        for label, box_xywh, score in zip(*columns, strict=True):
            category, (_, _, width, height) = self.categories[label], box_xywh
            self.annotations.append(
                {
                    "id": len(self.annotations) + 1,
                    "image_id": image_id,
                    "category_id": category.id,
                    "bbox": box_xywh,
                    "score": score,
                    "category_name": category.name,
                    "area": round(width * height, 3),
                    "iscrowd": 0,
                }
            )

    def summary(self) -> str:
        """Such as "3 cat, 1 dog in 2 of 5 images"."""
        counts = Counter(annotation["category_name"] for annotation in self.annotations)
        objects = ", ".join(f"{count:,} {name}" for name, count in counts.most_common()) or "nothing"
        images = len({annotation["image_id"] for annotation in self.annotations})
        return f"{objects} in {f'{images:,} of ' if images else ''}{len(self.images):,} images"

    def save(self, path: Path) -> None:
        categories = [{"id": category.id, "name": category.name} for category in self.categories]
        content = {"info": self.info, "images": self.images, "annotations": self.annotations, "categories": categories}
        atomic_write(path, lambda file: file.write(json.dumps(content).encode()))


def save_image(image: Image.Image, path: Path) -> None:
    """As JPEG if the name ends in .jpg or .jpeg, else as PNG."""
    if path.suffix.lower() in (".jpg", ".jpeg"):
        atomic_write(path, lambda file: image.save(file, "JPEG", quality=92), durable=False)
    else:  # full compression takes seconds for a photograph, which is hardly smaller for it
        atomic_write(path, lambda file: image.save(file, "PNG", compress_level=3), durable=False)
