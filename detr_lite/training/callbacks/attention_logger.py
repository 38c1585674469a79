"""Logs how attention develops in training: metrics and pictures of the same few validation images at evaluations."""

import csv
import io
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch import Callback
from lightning.pytorch.utilities import rank_zero_only
from torch import nn

from detr_lite.data.collate import collate
from detr_lite.data.dataset import DetectionDataset
from detr_lite.data.images.load import load_image
from detr_lite.data.records import ImageRecord
from detr_lite.evaluation.attention_metrics import MEASURES, AttentionMeter, AttentionMetrics
from detr_lite.io import atomic_write
from detr_lite.loss.matcher import MatchingCost
from detr_lite.structures import Detections, DetrLiteError
from detr_lite.text import reason_of
from detr_lite.training.matched_attention import MatchedAttention, match_attention
from detr_lite.training.schedule import TrainingProgress
from detr_lite.viz.figures.attention_frames import (
    MAX_OBJECTS,
    ImageAttention,
    ObjectAttention,
    animate,
    attention_frame,
)
from detr_lite.viz.heatmap import finest_span, token_heatmap

logger = logging.getLogger(__name__)

MEASURED, DRAWN = 16, 3
"""Number of images that are measured, and of those with objects that are drawn; the same ones each time."""

FRAMES, TABLE, ANIMATION = "attention", "attention.csv", "attention.webp"
"""Written into the run folder: a folder of pictures step-000123.png, the metrics, and the animated pictures."""

EXPECTED = (OSError, DetrLiteError, torch.OutOfMemoryError)
"""Faults that concern the attention log alone: files that cannot be read or written, and weights of all layers that do
not fit into the device's memory. Whatever else fails, a device for instance, must end the run."""


class AttentionLogger(Callback):
    """Measures attention before the first step and at evaluations, with the weights that are evaluated.

    Metrics go into `attention.csv` and to the loggers, pictures into `attention/`, of which `attention.webp` is made at
    the end of the run. Only rank 0 does so, and training is the same without it. `EXPECTED` faults are logged, and
    training continues.
    To be called after `TrainingProgress`, and before `MovingAverage`, which restores the trained weights when an
    evaluation ends.

    A resumed run reads its state from the folder; what is later than its checkpoint is removed.

    On one CPU core an evaluation's measurement and picture take 1.3 s with configs/coco_small.yaml, as long as one and
    a half training steps: about 1 % of that run.

    Args:
        cost: of the model's criterion.
        every_epochs: evaluations sooner after the last measurement are skipped; 0 to skip none.
    """

    def __init__(
        self,
        folder: Path,
        images: DetectionDataset,
        cost: MatchingCost,
        class_names: tuple[str, ...],
        progress: TrainingProgress,
        every_epochs: float = 0.0,
    ) -> None:
        self.folder = folder
        self.images = images
        self.cost = cost
        self.class_names = class_names
        self.progress = progress
        self.every_epochs = every_epochs
        count = min(MEASURED, len(images))
        self.measured = [index * len(images) // count for index in range(count)]
        with_objects = [index for index in self.measured if len(images.images[index].labels)]
        drawn = min(DRAWN, len(with_objects))
        self.drawn = [with_objects[number * len(with_objects) // drawn] for number in range(drawn)]
        self._rows: list[dict[str, str]] = []
        self._measurement: tuple[AttentionMetrics, list[ImageAttention]] | None = None
        self._reported: set[str] = set()

    @rank_zero_only
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        with self._log_expected():
            self._restore(trainer.global_step)
            if trainer.global_step == 0:
                self._measure(trainer, pl_module)
                self._write(trainer, math.nan)
        self.progress.pause()

    @rank_zero_only
    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._measurement = None
        with self._log_expected():
            if self._is_due(trainer):
                self._measure(trainer, pl_module)

    @rank_zero_only
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        with self._log_expected():
            self._write(trainer, float(trainer.callback_metrics.get("AP", math.nan)))

    @rank_zero_only
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        frames = sorted((self.folder / FRAMES).glob("step-*.png"), key=_step_of)
        if frames:
            with self._log_expected():
                animate(frames, self.folder / ANIMATION)

    def _is_due(self, trainer: L.Trainer) -> bool:
        earlier = [int(row["step"]) for row in self._rows if int(row["step"]) < trainer.global_step]
        if not earlier:
            return True
        batches = (trainer.global_step - earlier[-1]) * trainer.accumulate_grad_batches
        return batches >= self.every_epochs * trainer.num_training_batches

    def _restore(self, step: int) -> None:
        """Read the rows up to this step, and remove what an earlier part of the run wrote after it."""
        table = self.folder / TABLE
        if step and table.is_file():
            with table.open(newline="", encoding="utf-8") as file:
                self._rows = [row for row in csv.DictReader(file) if int(row["step"]) <= step]
        else:
            self._rows = []
            table.unlink(missing_ok=True)
        for frame in (self.folder / FRAMES).glob("step-*.png"):
            if _step_of(frame) > step or not step:
                frame.unlink()

    @torch.inference_mode()
    def _measure(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        model = pl_module.model
        assert isinstance(model, nn.Module)
        meter, pictures = AttentionMeter(), []
        # In the precision of the run's evaluations.
        with _eval_mode(model), trainer.precision_plugin.val_step_context():
            for index in self.measured:
                batch = collate([self.images[index]])
                matched = match_attention(model, self.cost, batch.to(pl_module.device))
                meter.update(matched.maps, matched.image, matched.query, matched.boxes_cxcywh)
                if index in self.drawn:
                    pictures.append(self._picture(self.images.images[index], matched))
        self._measurement = meter.compute(), pictures

    def _picture(self, record: ImageRecord, matched: MatchedAttention) -> ImageAttention:
        """Of the image's largest objects, the same ones each time."""
        boxes_xyxy = torch.tensor(record.boxes_xyxy)
        areas = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(1)
        largest = areas.argsort(descending=True, stable=True)[:MAX_OBJECTS]
        labels = torch.tensor(record.labels)[largest]
        ground_truth = Detections(
            boxes_xyxy[largest], torch.ones(len(largest)), labels, torch.zeros_like(labels), self.class_names
        )
        pair_of = {number: pair for pair, number in enumerate(matched.object.tolist())}
        objects = [_seen_object(matched, pair_of[number]) if number in pair_of else None for number in largest.tolist()]
        image = load_image(record.path, (record.height, record.width), self.images.orientation)
        return ImageAttention(image, ground_truth, tuple(objects))

    def _write(self, trainer: L.Trainer, average_precision: float) -> None:
        if self._measurement is None:
            return
        (numbers, pictures), self._measurement = self._measurement, None
        step = trainer.global_step
        measured = _row_of(numbers)
        row = {
            "step": step,
            "epoch": trainer.current_epoch,
            "minutes": round(self.progress.seconds / 60, 3),
            "AP": "" if math.isnan(average_precision) else average_precision,
            **measured,
        }
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(row))
        self._rows = [old for old in self._rows if int(old["step"]) < step]
        self._rows.append({name: str(value) for name, value in row.items()})
        writer.writeheader()
        writer.writerows(self._rows)
        atomic_write(self.folder / TABLE, lambda file: file.write(text.getvalue().encode()))
        for each in trainer.loggers:
            each.log_metrics({f"attention_{name}": float(value) for name, value in measured.items()}, step)
        if pictures:
            scored = "" if math.isnan(average_precision) else f", AP {average_precision:.3f}"
            title = (
                f"step {step:,}{scored}: {numbers.inside[-1, -1]:.0%} of the attention inside the objects' boxes "
                f"({numbers.box_area:.0%} of the image)"
            )
            frame = attention_frame(pictures, title)
            path = self.folder / FRAMES / f"step-{step:06}.png"
            atomic_write(path, lambda file: frame.save(file, "PNG"), durable=False)

    @contextmanager
    def _log_expected(self) -> Iterator[None]:
        """Log each expected fault once instead of ending the run for it."""
        try:
            yield
        except EXPECTED as error:
            reason = reason_of(error)
            if reason not in self._reported:
                self._reported.add(reason)
                logger.warning(f"attention is not logged at this step: {reason}")


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    """Switch to evaluation mode; afterwards each module is in its own mode again."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _seen_object(matched: MatchedAttention, pair: int) -> ObjectAttention:
    """The last layer's attention, the mean of its heads."""
    maps, image, one = matched.maps, int(matched.image[pair]), slice(pair, pair + 1)
    weights = maps.rows_of(matched.image[one], matched.query[one])[0, -1].mean(0)
    meter = AttentionMeter()
    meter.update(maps, matched.image[one], matched.query[one], matched.boxes_cxcywh[one])
    heat = token_heatmap(weights, maps, image)
    return ObjectAttention(heat, finest_span(maps, image), float(meter.compute().inside[-1, -1]))


def _row_of(numbers: AttentionMetrics) -> dict[str, float | int]:
    """Metrics of the last layer's mean of heads, then the attention inside the box layer by layer."""
    last = {name: getattr(numbers, name)[-1, -1].item() for name in MEASURES}
    layers = {f"inside_{layer}": share for layer, share in enumerate(numbers.inside[:, -1].tolist())}
    areas = {"box_area": numbers.box_area, "edges_area": numbers.edges_area}
    return {"objects": numbers.objects, **last, **areas, "queries_apart": numbers.apart[-1].item(), **layers}


def _step_of(frame: Path) -> int:
    number = frame.stem.removeprefix("step-")
    return int(number) if number.isdecimal() else 0
