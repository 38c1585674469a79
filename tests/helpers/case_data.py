"""A small sound dataset in COCO format, copies of it for tests to spoil, and what was read of them."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from detr_lite.data.records import Split

COUNTS = {"train": 8, "val": 4}
SIZE = (96, 72)
CATEGORIES = [
    {"id": 1, "name": "box", "supercategory": "shape"},
    {"id": 2, "name": "disc", "supercategory": "shape"},
]
BACKGROUND, BOX, DISC = (60, 60, 60), (200, 60, 40), (40, 90, 207)


@dataclass
class CaseData:
    """A dataset whose annotations are still objects of Python; a fault changes them, or the files below `root`."""

    root: Path
    train: dict[str, Any]
    val: dict[str, Any]
    names: dict[str, str] = field(
        default_factory=lambda: {split: f"annotations/instances_{split}.json" for split in COUNTS}
    )
    """The annotation files, relative to `root`."""

    @property
    def both(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.train, self.val

    def images(self) -> Iterator[dict[str, Any]]:
        """Of both splits."""
        for content in self.both:
            yield from content["images"]

    def annotations(self) -> Iterator[dict[str, Any]]:
        """Of both splits."""
        for content in self.both:
            yield from content["annotations"]

    def file(self, number: int, split: str = "train") -> Path:
        """The file of an image of the sound dataset, numbered from 1."""
        return self.root / split / f"{split}_{number - 1:03}.jpg"

    def annotation_file(self, split: str = "train") -> Path:
        return self.root / self.names[split]

    def save(self) -> None:
        """Write the annotations, if the fault has not written them itself."""
        for split, content in (("train", self.train), ("val", self.val)):
            file = self.annotation_file(split)
            if content and not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(json.dumps(content))


def copy_dataset(source: Path, root: Path) -> CaseData:
    """A copy whose images are the same files under another name: replace one, but never write into it."""
    shutil.copytree(source, root, copy_function=os.link)
    contents = {}
    for split in COUNTS:
        file = root / "annotations" / f"instances_{split}.json"
        contents[split] = json.loads(file.read_text())
        file.unlink()
    return CaseData(root, **contents)


def draw_dataset(
    root: Path, counts: dict[str, int] | None = None, size: tuple[int, int] = SIZE, largest: int = 24
) -> None:
    """A box and a disc in each image, which is `size` pixels wide and high; all ids count from 1."""
    generator = np.random.default_rng(0)
    for split, count in (counts or COUNTS).items():
        (root / split).mkdir(parents=True)
        content: dict[str, Any] = {"info": {}, "licenses": [], "images": [], "annotations": []}
        content["categories"] = CATEGORIES
        for number in range(1, count + 1):
            image = Image.new("RGB", size, BACKGROUND)
            draw = ImageDraw.Draw(image)
            for category in (1, 2):
                side = int(generator.integers(largest * 6 // 10, largest))
                x = int(generator.integers(0, size[0] // 2 - side)) + (category - 1) * size[0] // 2
                y = int(generator.integers(0, size[1] - side))
                shape = draw.rectangle if category == 1 else draw.ellipse
                shape((x, y, x + side - 1, y + side - 1), fill=BOX if category == 1 else DISC)
                content["annotations"].append(
                    {
                        "id": len(content["annotations"]) + 1,
                        "image_id": number,
                        "category_id": category,
                        "bbox": [float(x), float(y), float(side), float(side)],
                        "area": float(side * side),
                        "iscrowd": 0,
                        "segmentation": [],
                    }
                )
            name = f"{split}_{number - 1:03}.jpg"
            image.save(root / split / name, quality=92)
            content["images"].append({"id": number, "file_name": name, "width": size[0], "height": size[1]})
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


def findings_of(split: Split) -> list[str]:
    """Each kind of fault as "repaired inverted_box 1": what was done, the kind, and how many."""
    return sorted(f"{each.action} {each.kind} {each.count}" for each in split.report.findings)


def true_objects(split: Split) -> list[tuple[Any, ...]]:
    """What is evaluated on: (image, class, box, area, crowd) of each object."""
    truth = split.ground_truth
    return [
        (image, split.categories[label].name, box, area, crowd)
        for image, label, box, area, crowd in zip(
            truth.image_index.tolist(),
            truth.labels.tolist(),
            truth.boxes_xywh.round(3).tolist(),
            truth.areas.round(3).tolist(),
            truth.is_crowd.tolist(),
            strict=True,
        )
    ]


def training_objects(split: Split) -> list[tuple[Any, ...]]:
    """What is trained on: (image, class, corners of the box) of each object."""
    return [
        (record.index, split.categories[label].name, box)
        for record in split.images
        for label, box in zip(record.labels.tolist(), record.boxes_xyxy.tolist(), strict=True)
    ]


def assert_equal_objects(split: Split, sound: Split, left_out: tuple[int, ...] = ()) -> None:
    """The split is the sound one without some of its annotations, numbered from 1."""
    kept = [number not in left_out for number in range(1, len(sound.ground_truth.labels) + 1)]
    assert true_objects(split) == [each for each, is_kept in zip(true_objects(sound), kept, strict=True) if is_kept]
    assert training_objects(split) == [
        each for each, is_kept in zip(training_objects(sound), kept, strict=True) if is_kept
    ]
    assert split.images.sizes_wh.tolist() == sound.images.sizes_wh.tolist()
