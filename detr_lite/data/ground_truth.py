"""The true objects of images that are given by their files: a COCO annotation file, looked up by file name."""

from pathlib import Path, PurePath

import torch

from detr_lite.data.annotations import check_images, read_categories, read_content, read_objects
from detr_lite.structures import Detections
from detr_lite.text import printable


class GroundTruth:
    """Objects of a COCO file by the names of its images.

    Errors: a file that is not COCO's, with its entry and the remedy. The images themselves are not looked for.
    """

    def __init__(self, file: Path) -> None:
        name = printable(file)
        content = read_content(file, name)
        self._categories = read_categories(content, name)
        check_images(content, name)
        self._objects = read_objects(content, name, self._categories)
        self._images: dict[str, list[tuple[int, PurePath]]] = {}
        """By last part of the name: position in the file, and the whole name."""
        for index, image in enumerate(content["images"]):
            path = PurePath(image["file_name"])
            self._images.setdefault(path.name, []).append((index, path))

    def of(self, path: Path) -> Detections | None:
        """The objects of an image, with score 1 and the file's own class names; None for one that is not listed.

        Of several that are called alike, it is the one whose folders are the path's last; none if that leaves several.
        """
        alike = self._images.get(path.name, [])
        if len(alike) > 1:
            alike = [(index, name) for index, name in alike if path.parts[-len(name.parts) :] == name.parts]
        if len(alike) != 1:
            return None
        ((index, _),) = alike
        objects = self._objects
        is_here = (objects.image_index == index) & ~objects.is_crowd & (objects.boxes_xywh[:, 2:] > 0).all(axis=1)
        boxes_xywh = torch.from_numpy(objects.boxes_xywh[is_here]).float()
        labels = torch.from_numpy(objects.labels[is_here])
        return Detections(
            torch.cat([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], dim=1),
            torch.ones(len(labels)),
            labels,
            torch.arange(len(labels)),
            tuple(category.name for category in self._categories),
        )
