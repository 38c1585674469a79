"""Ground-truth objects by the name of the image file, from a COCO annotation file."""

from pathlib import Path, PurePath

import torch

from detr_lite.data.annotations import check_images, read_categories, read_content, read_objects
from detr_lite.structures import Detections
from detr_lite.text import printable


class GroundTruth:
    """The objects of a COCO annotation file by image file. The image files need not exist.

    Raises `DetrLiteError` for a file that is not valid COCO.
    """

    def __init__(self, file: Path) -> None:
        name = printable(file)
        content = read_content(file, name)
        self._categories = read_categories(content, name)
        check_images(content, name)
        self._objects = read_objects(content, name, self._categories)
        self._images: dict[str, list[tuple[int, PurePath]]] = {}
        """(index in "images", `file_name`) by the last part of `file_name`."""
        for index, image in enumerate(content["images"]):
            path = PurePath(image["file_name"])
            self._images.setdefault(path.name, []).append((index, path))

    def of(self, path: Path) -> Detections | None:
        """The objects of an image, with score 1 and the file's class names; None for an image that is not listed.

        Of several images with this name, the one whose `file_name` is the end of `path`; None if that is ambiguous.
        """
        candidates = self._images.get(path.name, [])
        if len(candidates) > 1:
            candidates = [(index, name) for index, name in candidates if path.parts[-len(name.parts) :] == name.parts]
        if len(candidates) != 1:
            return None
        ((index, _),) = candidates
        objects = self._objects
        is_selected = (objects.image_index == index) & ~objects.is_crowd & (objects.boxes_xywh[:, 2:] > 0).all(axis=1)
        boxes_xywh = torch.from_numpy(objects.boxes_xywh[is_selected]).float()
        labels = torch.from_numpy(objects.labels[is_selected])
        return Detections(
            torch.cat([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], dim=1),
            torch.ones(len(labels)),
            labels,
            torch.arange(len(labels)),
            tuple(category.name for category in self._categories),
        )
