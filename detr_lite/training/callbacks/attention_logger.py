"""How attention forms while a model learns: numbers and pictures of the same few validation images, again and again."""

import csv
import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch import Callback
from lightning.pytorch.utilities import rank_zero_only
from torch import nn
from tqdm import tqdm

from detr_lite.data.coco import CocoDetection, ImageRecord
from detr_lite.data.collate import collate
from detr_lite.data.images import load_image
from detr_lite.evaluation.attention_metrics import MEASURES, AttentionMeter, AttentionMetrics
from detr_lite.io import atomic_write
from detr_lite.loss.matcher import MatchingCost
from detr_lite.structures import Detections
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

MEASURED, DRAWN = 16, 3
"""So many images are measured, and of those so many with objects are drawn: the same ones each time."""

FRAMES, TABLE, ANIMATION = "attention", "attention.csv", "attention.webp"
"""What is written into the run folder: pictures step-000123.png, the numbers, and the pictures as one that moves."""


class AttentionLogger(Callback):
    """Looks at attention before the first step and at evaluations, with the weights that are evaluated.

    Numbers go into `attention.csv` and to the loggers, pictures into `attention/`, which are joined at the end of the
    run. Only rank 0 looks, and nothing that training depends on is touched. A fault here is told, and the run goes on.
    To be called before the callback that averages weights, which changes them back when the evaluation ends, and after
    the clock.

    What is in the folder is all that a resumed run needs: later steps than its own are removed, as they come again.

    Args:
        cost: of the model's loss.
        every_epochs: evaluations that come sooner after the last look are passed over; 0 for none of them.
    """

    def __init__(
        self, folder: Path, images: CocoDetection, cost: MatchingCost, class_names: tuple[str, ...], progress: TrainingProgress,
        every_epochs: float = 0.0,
    ) -> None:  # fmt: skip
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
        self._seen: tuple[AttentionMetrics, list[ImageAttention]] | None = None
        self._said: set[str] = set()

    @rank_zero_only
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        with self._going_on():
            self._enter(trainer.global_step)
            if trainer.global_step == 0:
                self._look(trainer, pl_module)
                self._write(trainer, math.nan)
        self.progress.pause()

    @rank_zero_only
    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._seen = None
        with self._going_on():
            if self._is_due(trainer):
                self._look(trainer, pl_module)

    @rank_zero_only
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        with self._going_on():
            self._write(trainer, float(trainer.callback_metrics.get("AP", math.nan)))

    @rank_zero_only
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        frames = sorted((self.folder / FRAMES).glob("step-*.png"), key=_step_of)
        if frames:
            with self._going_on():
                animate(frames, self.folder / ANIMATION)

    def _is_due(self, trainer: L.Trainer) -> bool:
        earlier = [int(row["step"]) for row in self._rows if int(row["step"]) < trainer.global_step]
        if not earlier:
            return True
        batches = (trainer.global_step - earlier[-1]) * trainer.accumulate_grad_batches
        return batches >= self.every_epochs * trainer.num_training_batches

    def _enter(self, step: int) -> None:
        """Take up what is in the folder of an earlier part of the run, up to this step."""
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
    def _look(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        model = pl_module.model
        assert isinstance(model, nn.Module)
        meter, pictures = AttentionMeter(), []
        # In the precision of the run's evaluations.
        with _evaluating(model), trainer.precision_plugin.val_step_context():
            for index in self.measured:
                batch = collate([self.images[index]])
                seen = match_attention(model, self.cost, batch.to(pl_module.device))
                meter.add(seen.maps, seen.image, seen.query, seen.boxes_cxcywh)
                if index in self.drawn:
                    pictures.append(self._picture(self.images.images[index], seen))
        self._seen = meter.numbers(), pictures

    def _picture(self, record: ImageRecord, seen: MatchedAttention) -> ImageAttention:
        """Of the image's largest objects, the same each time."""
        boxes_xyxy = torch.tensor(record.boxes_xyxy)
        areas = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(1)
        largest = areas.argsort(descending=True, stable=True)[:MAX_OBJECTS]
        labels = torch.tensor(record.labels)[largest]
        truth = Detections(
            boxes_xyxy[largest], torch.ones(len(largest)), labels, torch.zeros_like(labels), self.class_names
        )
        pair_of = {number: pair for pair, number in enumerate(seen.object.tolist())}
        looked = [_seen_object(seen, pair_of[number]) if number in pair_of else None for number in largest.tolist()]
        return ImageAttention(load_image(record.path, (record.height, record.width)), truth, tuple(looked))

    def _write(self, trainer: L.Trainer, average_precision: float) -> None:
        if self._seen is None:
            return
        (numbers, pictures), self._seen = self._seen, None
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
        for logger in trainer.loggers:
            logger.log_metrics({f"attention_{name}": float(value) for name, value in measured.items()}, step)
        if pictures:
            scored = "" if math.isnan(average_precision) else f", AP {average_precision:.3f}"
            title = (
                f"step {step:,}{scored}: {numbers.inside[-1, -1]:.0%} of the attention inside the true boxes "
                f"({numbers.box_area:.0%} of the image)"
            )
            frame = attention_frame(pictures, title)
            path = self.folder / FRAMES / f"step-{step:06}.png"
            atomic_write(path, lambda file: frame.save(file, "PNG"))

    @contextmanager
    def _going_on(self) -> Iterator[None]:
        """A run is worth more than a look at it: what fails is told, once, and left."""
        try:
            yield
        except Exception as error:
            reason = reason_of(error)
            if reason not in self._said:
                self._said.add(reason)
                tqdm.write(f"note       attention is not shown this time: {reason}")


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """In evaluation mode; each module has its own mode back afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _seen_object(seen: MatchedAttention, pair: int) -> ObjectAttention:
    """The last layer's mean of heads."""
    maps, image = seen.maps, int(seen.image[pair])
    weights = maps.cross[-1, image, :, seen.query[pair]].mean(0)
    meter = AttentionMeter()
    meter.add(maps, seen.image[pair : pair + 1], seen.query[pair : pair + 1], seen.boxes_cxcywh[pair : pair + 1])
    heat = token_heatmap(weights, maps, image)
    return ObjectAttention(heat, finest_span(maps, image), float(meter.numbers().inside[-1, -1]))


def _row_of(numbers: AttentionMetrics) -> dict[str, float | int]:
    """Of the last layer's mean of heads, then the shares inside the box layer by layer."""
    last = {name: getattr(numbers, name)[-1, -1].item() for name in MEASURES}
    layers = {f"inside_{layer}": share for layer, share in enumerate(numbers.inside[:, -1].tolist())}
    areas = {"box_area": numbers.box_area, "edges_area": numbers.edges_area}
    return {"objects": numbers.objects, **last, **areas, "queries_apart": numbers.apart[-1].item(), **layers}


def _step_of(frame: Path) -> int:
    number = frame.stem.removeprefix("step-")
    return int(number) if number.isdecimal() else 0
