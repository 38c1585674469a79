"""What an evaluation is of, and how: the options of `detr-lite evaluate`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detr_lite.evaluation.coco_map import check_ious
from detr_lite.evaluation.engines import Engine
from detr_lite.evaluation.tile_grid import check_tiles
from detr_lite.structures import DetrLiteError


@dataclass(frozen=True)
class EvaluationOptions:
    """Every field is an option of that name."""

    root: Path | None = None
    """Folder of the dataset; by default the one that the checkpoint was trained on."""
    split: str = "val"
    batch_size: int | None = None
    """By default that of training, as padding, and with it the last digits, depend on it."""
    num_workers: int | None = None
    attention: bool = False
    """Also measure the attention of matched queries, and write attention.json and attention.png."""
    attribution: int | None = None
    """Also measure on so many objects what their detections depend on: attribution.json and attribution.png."""
    engine: Engine = "hotcoco"
    nms: float | None = None
    """IoU above which of two detections of a class the lower-scoring is removed."""
    iou: Sequence[float] = ()
    """Thresholds of IoU at which AP is computed beside COCO's metrics."""
    tile: int | None = None
    """Pixels of a tile: larger pictures are detected in tiles, too, as by `Detector`."""
    overlap: float = 0.2
    """Share of a tile that its neighbor also shows."""

    def check(self) -> None:
        """Errors: numbers that are out of range."""
        numbers = (
            ("batch_size", self.batch_size, 1),
            ("num_workers", self.num_workers, 0),
            ("attribution", self.attribution, 1),
        )
        for name, value, least in numbers:
            if value is not None and value < least:
                raise DetrLiteError(f"--{name} is {value}; it must be at least {least}")
        check_ious(self.iou)
        check_tiles(self.tile, self.overlap)

    def inference(self) -> dict[str, int | float]:
        """What changes the detections of a model, as metrics.json records it."""
        tiles = {} if self.tile is None else {"tile": self.tile, "overlap": self.overlap}
        return {**({} if self.nms is None else {"nms": self.nms}), **tiles}
