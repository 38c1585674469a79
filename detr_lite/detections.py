"""`Detections`, what a model finds in an image, and the forms in which other programs want it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from detr_lite.errors import DetrLiteError
from detr_lite.text import printable, shorten_list, shorten_middle


@dataclass(frozen=True, repr=False)
class Detections:
    """Detections of one image, in descending order of scores. Boxes are in pixels of the original image.

    len(detections), detections[0], detections[:5], detections[detections.labels == 3], detections.above(0.5)
    for detection in detections:  # each a `Detections` of one
        print(detection)
    """

    boxes_xyxy: Float[Tensor, "detection 4"]
    scores: Float[Tensor, " detection"]
    labels: Int[Tensor, " detection"]
    queries: Int[Tensor, " detection"]
    """The query that predicted each."""
    class_names: tuple[str, ...] = ()
    category_ids: tuple[int, ...] = ()
    """The dataset's id of each class; without any, the labels stand for them."""
    image_size: tuple[int, int] | None = None
    """(height, width) of the image, if it is known."""
    tiles: Int[Tensor, " detection"] | None = None
    """Of a picture that was detected in tiles, the tile whose query is meant, by its place in `tile_grid`; -1 is the
    whole picture. None without tiles."""

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, which: int | slice | Tensor) -> "Detections":
        """The selected detections: an index (which gives one detection), a slice, an index tensor or a boolean mask."""
        if isinstance(which, int):
            which = torch.tensor([which], device=self.scores.device)
        return replace(
            self,
            boxes_xyxy=self.boxes_xyxy[which],
            scores=self.scores[which],
            labels=self.labels[which],
            queries=self.queries[which],
            tiles=None if self.tiles is None else self.tiles[which],
        )

    def __iter__(self) -> Iterator["Detections"]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        """Such as "Detections(2 cat, 1 dog; scores 0.93 to 0.51; image 640 x 480)", of one with its box."""
        names = [shorten_middle(printable(name), 60) for name in self.names]
        parts = [shorten_list([f"{count:,} {name}" for name, count in Counter(names).most_common()]) or "none"]
        if len(self) == 1:
            parts = [
                f"{names[0]} {self.scores.item():.2f} at {[round(side, 1) for side in self.boxes_xyxy[0].tolist()]}"
            ]
        elif names:
            parts.append(f"scores {float(self.scores.max()):.2g} to {float(self.scores.min()):.2g}")
        if self.image_size is not None:
            parts.append(f"image {self.image_size[1]} x {self.image_size[0]}")
        return f"Detections({'; '.join(parts)})"

    @property
    def names(self) -> list[str]:
        """The class of each detection by its name; "class 3" where names are unknown."""
        labels = self.labels.tolist()
        return (
            [self.class_names[label] for label in labels] if self.class_names else [f"class {each}" for each in labels]
        )

    def above(self, threshold: float | Sequence[float]) -> "Detections":
        """The detections whose score is at least `threshold`: one score, or one for each class, by label."""
        if not isinstance(threshold, Sequence):
            return self[self.scores >= threshold]
        if len(self) and len(threshold) <= int(self.labels.max()):
            raise ValueError(f"{len(threshold)} thresholds, but there is a label {int(self.labels.max())}")
        return self[self.scores >= self.scores.new_tensor(threshold)[self.labels]]

    def draw(self, image: Image.Image | np.ndarray) -> Image.Image:
        """A copy of the image with boxes, class names and scores; small images are enlarged so that labels are legible.

        Args:
            image: the one of these detections: a Pillow image, or an array (height width 3) of uint8.

        Errors: an image of another size.
        """
        from detr_lite.drawing.boxes import draw_legibly  # imports matplotlib's fonts, which most programs do not need

        picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
        if self.image_size is not None and (picture.height, picture.width) != self.image_size:
            raise DetrLiteError(
                f"the image is {picture.width} x {picture.height} pixels, the one of these detections was "
                f"{self.image_size[1]} x {self.image_size[0]}; turn a camera's image upright with "
                "PIL.ImageOps.exif_transpose, and draw before resizing"
            )
        return draw_legibly(picture, self.boxes_xyxy.cpu(), self.labels, self.class_names, self.scores)

    def to_coco(self, image_id: int | str) -> list[dict[str, Any]]:
        """Entries of COCO's results format, with the dataset's category ids.

        "bbox" is [x, y, width, height] in pixels, rounded to 1/1000, scores to 6 digits.

            json.dump(detections.above(0.5).to_coco(image_id=42), file)
        """
        boxes_xyxy = self.boxes_xyxy.double().cpu()
        boxes_xywh = torch.cat([boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]], dim=1).numpy().round(3)
        columns = (self.labels.tolist(), boxes_xywh.tolist(), self.scores.double().cpu().numpy().round(6).tolist())
        return [
            {
                "image_id": image_id,
                "category_id": self.category_ids[label] if self.category_ids else label,
                "bbox": box_xywh,
                "score": score,
            }
            for label, box_xywh, score in zip(*columns, strict=True)
        ]

    def to_yolo(self) -> str:
        """The text of a label file of YOLO with scores: a line "class x y width height score" for each detection.

        Classes are labels, counted from 0; the center (x, y) and the size are relative to the image.

        Errors: the size of the image is not known.
        """
        if self.image_size is None:
            raise DetrLiteError(
                "YOLO's boxes are relative to the image, whose size these detections do not have; "
                "give it with dataclasses.replace(detections, image_size=(height, width))"
            )
        height, width = self.image_size
        corners = self.boxes_xyxy.double().cpu() / torch.tensor([width, height] * 2)
        boxes_cxcywh = torch.cat([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], dim=1)
        rows = zip(self.labels.tolist(), boxes_cxcywh.tolist(), self.scores.tolist(), strict=True)
        return "".join(f"{label} {' '.join(f'{each:.6f}' for each in (*box, score))}\n" for label, box, score in rows)

    def to_supervision(self) -> Any:
        """As `supervision.Detections`, with class names, queries and tiles in its `data`.

        Errors: supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise DetrLiteError("supervision is not installed; install it with: pip install supervision") from error
        data = {"class_name": np.array(self.names, dtype=str), "query": self.queries.cpu().numpy()}
        if self.tiles is not None:
            data["tile"] = self.tiles.cpu().numpy()
        return supervision.Detections(
            xyxy=self.boxes_xyxy.float().cpu().numpy(),
            confidence=self.scores.float().cpu().numpy(),
            class_id=self.labels.cpu().numpy().astype(int),
            data=data,
        )
