"""One small drawn dataset, and a writer for each format in which annotation tools and archives hand out datasets."""

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from jaxtyping import UInt8
from PIL import Image

SIZE = (128, 64)
"""(width, height) of every image; powers of two, so that boxes in shares of them are exact."""

COLORS = {"box": (200, 60, 40), "cup": (40, 90, 207), "jar": (60, 180, 70)}
COUNTS = {"train": 24, "val": 12}


@dataclass(frozen=True)
class DrawnObject:
    name: str
    """Of its class."""
    x: int
    """Of the left edge, in pixels."""
    y: int
    width: int
    height: int

    @property
    def corners(self) -> dict[str, int]:
        return {"xmin": self.x, "ymin": self.y, "xmax": self.x + self.width, "ymax": self.y + self.height}


@dataclass(frozen=True)
class DrawnImage:
    """An image with one to three objects: some formats cannot list one without."""

    file_name: str
    objects: tuple[DrawnObject, ...]
    pixels: UInt8[np.ndarray, "height width 3"]


Drawn = dict[str, Sequence[DrawnImage]]
"""Images by split."""


def draw(seed: int = 0, counts: dict[str, int] = COUNTS) -> Drawn:
    """The same images and objects for a given seed."""
    generator = np.random.default_rng(seed)
    return {
        split: [_draw_image(generator, f"{split}_{number:03}.png") for number in range(count)]
        for split, count in counts.items()
    }


def _draw_image(generator: np.random.Generator, file_name: str) -> DrawnImage:
    pixels = np.full((SIZE[1], SIZE[0], 3), 60, dtype=np.uint8)
    names = generator.permutation(list(COLORS))[: int(generator.integers(1, 4))]
    objects = []
    for place, name in enumerate(names):
        width, height = generator.integers(12, 36, size=2).tolist()
        x = place * SIZE[0] // 3 + int(generator.integers(0, SIZE[0] // 3 - width + 1))
        y = int(generator.integers(0, SIZE[1] - height + 1))
        pixels[y : y + height, x : x + width] = COLORS[str(name)]
        objects.append(DrawnObject(str(name), x, y, width, height))
    return DrawnImage(file_name, tuple(objects), pixels)


def write_coco(root: Path, drawn: Drawn) -> None:
    ids = {name: number for number, name in enumerate(COLORS, 1)}
    for split, images in drawn.items():
        _save_images(root / split, images)
        content: dict[str, Any] = {
            "images": [
                {"id": number, "file_name": image.file_name, "width": SIZE[0], "height": SIZE[1]}
                for number, image in enumerate(images, 1)
            ],
            "annotations": [
                {"image_id": number, "category_id": ids[each.name], "bbox": [each.x, each.y, each.width, each.height]}
                for number, image in enumerate(images, 1)
                for each in image.objects
            ],
            "categories": [{"id": id, "name": name} for name, id in ids.items()],
        }
        for number, annotation in enumerate(content["annotations"], 1):
            annotation.update(id=number, area=annotation["bbox"][2] * annotation["bbox"][3], iscrowd=0)
        _write(root / "annotations" / f"instances_{split}.json", json.dumps(content))


def write_yolo(root: Path, drawn: Drawn) -> None:
    for split, images in drawn.items():
        _save_images(root / "images" / split, images)
        for image in images:
            lines = []
            for each in image.objects:
                center = (each.x + each.width / 2) / SIZE[0], (each.y + each.height / 2) / SIZE[1]
                extent = each.width / SIZE[0], each.height / SIZE[1]
                lines.append(" ".join(map(str, (list(COLORS).index(each.name), *center, *extent))))
            _write(root / "labels" / split / f"{Path(image.file_name).stem}.txt", "\n".join(lines) + "\n")
    names = "\n".join(f"  {number}: {name}" for number, name in enumerate(COLORS))
    _write(root / "data.yaml", f"path: .\ntrain: images/train\nval: images/val\nnames:\n{names}\n")


def write_voc(root: Path, drawn: Drawn) -> None:
    for split, images in drawn.items():
        _save_images(root / "JPEGImages", images)
        for image in images:
            file = ElementTree.Element("annotation")
            _add(file, "filename", image.file_name)
            size = ElementTree.SubElement(file, "size")
            for tag, value in zip(("width", "height", "depth"), (*SIZE, 3), strict=True):
                _add(size, tag, value)
            for each in image.objects:
                element = ElementTree.SubElement(file, "object")
                _add(element, "name", each.name)
                _add(element, "difficult", 0)
                box = ElementTree.SubElement(element, "bndbox")
                for tag, value in each.corners.items():
                    _add(box, tag, value)
            _write(root / "Annotations" / f"{Path(image.file_name).stem}.xml", ElementTree.tostring(file, "unicode"))
        stems = [Path(image.file_name).stem for image in images]
        _write(root / "ImageSets" / "Main" / f"{split}.txt", "\n".join(stems) + "\n")


def write_cvat(root: Path, drawn: Drawn) -> None:
    for split, images in drawn.items():
        _save_images(root / split / "images", images)
        file = ElementTree.Element("annotations")
        _add(file, "version", "1.1")
        for number, image in enumerate(images):
            attributes = {"id": number, "name": image.file_name, "width": SIZE[0], "height": SIZE[1]}
            element = ElementTree.SubElement(file, "image", {key: str(value) for key, value in attributes.items()})
            for each in image.objects:
                corners = zip(("xtl", "ytl", "xbr", "ybr"), each.corners.values(), strict=True)
                shape = {"label": each.name, "occluded": "0", **{key: f"{value:.2f}" for key, value in corners}}
                ElementTree.SubElement(element, "box", shape)
        _write(root / split / "annotations.xml", ElementTree.tostring(file, "unicode"))


def write_labelme(root: Path, drawn: Drawn) -> None:
    for split, images in drawn.items():
        _save_images(root / split, images)
        for image in images:
            shapes: list[dict[str, Any]] = [
                {
                    "label": each.name,
                    "points": [[each.x, each.y], [each.x + each.width, each.y + each.height]],
                    "shape_type": "rectangle",
                    "flags": {},
                    "group_id": None,
                }
                for each in image.objects
            ]
            content: dict[str, Any] = {
                "version": "5.5.0",
                "flags": {},
                "shapes": shapes,
                "imagePath": image.file_name,
                "imageData": None,
                "imageHeight": SIZE[1],
                "imageWidth": SIZE[0],
            }
            _write(root / split / f"{Path(image.file_name).stem}.json", json.dumps(content))


def write_label_studio(root: Path, drawn: Drawn) -> None:
    """Boxes are in percent of the image."""
    for split, images in drawn.items():
        _save_images(root / split / "images", images)
        tasks = [
            {
                "id": number,
                "data": {"image": f"/data/upload/1/{image.file_name}"},
                "annotations": [{"id": number, "result": [_label_studio_result(each) for each in image.objects]}],
            }
            for number, image in enumerate(images, 1)
        ]
        _write(root / split / "export.json", json.dumps(tasks))


def _label_studio_result(each: DrawnObject) -> dict[str, Any]:
    value = {
        "x": 100 * each.x / SIZE[0],
        "y": 100 * each.y / SIZE[1],
        "width": 100 * each.width / SIZE[0],
        "height": 100 * each.height / SIZE[1],
        "rotation": 0,
        "rectanglelabels": [each.name],
    }
    return {
        "original_width": SIZE[0],
        "original_height": SIZE[1],
        "type": "rectanglelabels",
        "from_name": "label",
        "to_name": "image",
        "value": value,
    }


def write_createml(root: Path, drawn: Drawn) -> None:
    """Boxes have their center."""
    for split, images in drawn.items():
        _save_images(root / split, images)
        content = [
            {
                "image": image.file_name,
                "annotations": [
                    {
                        "label": each.name,
                        "coordinates": {
                            "x": each.x + each.width / 2,
                            "y": each.y + each.height / 2,
                            "width": each.width,
                            "height": each.height,
                        },
                    }
                    for each in image.objects
                ],
            }
            for image in images
        ]
        _write(root / split / "_annotations.createml.json", json.dumps(content))


def write_csv(root: Path, drawn: Drawn) -> None:
    """The columns of TensorFlow's examples, as Roboflow and many scripts write them."""
    for split, images in drawn.items():
        _save_images(root / split, images)
        with (root / split / "_annotations.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"])
            for image in images:
                writer.writerows([image.file_name, *SIZE, each.name, *each.corners.values()] for each in image.objects)


WRITERS: dict[str, Callable[[Path, Drawn], None]] = {
    "COCO": write_coco,
    "YOLO": write_yolo,
    "Pascal VOC": write_voc,
    "CVAT": write_cvat,
    "LabelMe": write_labelme,
    "Label Studio": write_label_studio,
    "Create ML": write_createml,
    "CSV": write_csv,
}
"""Format -> writes the dataset below a folder, which need not exist."""


def _save_images(folder: Path, images: Sequence[DrawnImage]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for image in images:
        Image.fromarray(image.pixels).save(folder / image.file_name)


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def _add(parent: ElementTree.Element, tag: str, text: object) -> None:
    ElementTree.SubElement(parent, tag).text = str(text)
