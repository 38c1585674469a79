"""Before a run: overfit a few of its own images. A model that cannot overfit them cannot learn the dataset."""

import contextlib
import copy
import logging
import math
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm import tqdm

from detr_lite.config import Config
from detr_lite.data.collate import collate
from detr_lite.data.dataset import DetectionDataset
from detr_lite.data.records import ImageRecord, Split
from detr_lite.evaluation.coco_map import BOXES_FIT
from detr_lite.structures import Batch, Detections, DetrLiteError
from detr_lite.text import printable, shorten_list
from detr_lite.training.auto import TOKENS_ACROSS, box_extents
from detr_lite.training.checks.prediction_stats import ClassStats, DetectionStats, best_by_query, detection_stats
from detr_lite.training.datamodule import DetectionData
from detr_lite.training.module import DetectionModule
from detr_lite.training.optim import make_optimizer, parameter_groups

logger = logging.getLogger(__name__)

SECONDS = 40.0
"""Of training; with loading and evaluation it takes less than a minute."""
TARGET_AP50 = 0.95
"""At which it ends early. Not 1: in real data some objects are missing and others annotated twice."""
SUFFICIENT_AP50 = 0.6
"""With which it passes when the time is up: boxes and classes of most objects have been learned. A model that cannot
learn one of the two has less than half of that."""
FEWEST_STEPS = 60
"""With fewer, on a slow machine or with a large model, AP50 may be low although nothing is wrong."""
RATES = {"lite": 1e-3, "detr": 3e-4, "transformers": 3e-4}
"""Not the run's own learning rate: one that suits a long run may be too low for 40 seconds."""
WARMUP_STEPS = 20
EVERY_STEPS = 10
"""Steps between two evaluations."""
MOST_IMAGES = 8
CPU_IMAGES, CPU_OBJECTS = 4, 20
"""On a CPU, where a step's time grows with its images: after the second image none is added beyond so many objects."""
BELOW_TOKEN = 0.3
"""Share of objects smaller than a token from which this is the likely cause: fewer leave AP50 sufficient."""
NOT_FALLEN = 0.95
"""Loss at the end relative to the start from which it counts as not fallen: without learning it varies by 2 %, since
denoising queries are random, and 60 steps of learning bring it below 0.8."""


@dataclass(frozen=True)
class Attempt:
    """The result of the training."""

    totals: tuple[float, ...]
    """Loss of each step."""
    stats: DetectionStats
    right_labels: float
    """Share of the objects whose class is among their image's highest-scoring predictions, wherever their boxes are."""
    seconds: float


def overfit_check(
    module: DetectionModule,
    data: DetectionData,
    config: Config,
    precision: str,
    device: torch.device,
    seconds: float = SECONDS,
) -> None:
    """Overfit a copy of the run's model to some of its training images, without augmentation, and log the result.

    The run's model and torch's random state stay unchanged.

    Args:
        precision: of the run; "16-mixed", which needs a gradient scaler, is replaced by 32 bits.

    Errors: the images were not learned, with the likely cause.
    """
    is_slow = device.type == "cpu"
    records = choose_images(data.train, CPU_IMAGES if is_slow else MOST_IMAGES, CPU_OBJECTS if is_slow else None)
    if not records:
        raise DetrLiteError("overfit check: no training image has an object")
    dataset = DetectionDataset(data.train, data.val_transform)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(config.seed)
        batch = collate([dataset[record.index] for record in records]).to(device)
        attempt = _overfit(module, data.train, batch, config, precision, seconds)
    AP50 = attempt.stats.AP50  # noqa: N806 (COCO's name)
    count = f"{len(records)} of your images" if len(records) > 1 else "1 of your images"
    result = f"AP50 {AP50:.2f} on {count} after {len(attempt.totals)} steps, {attempt.seconds:.0f} s"
    if AP50 >= SUFFICIENT_AP50:
        logger.info(f"overfit check passed: {result}")
        return
    fault = find_fault(attempt, records, data, config)
    if fault is not None:
        raise DetrLiteError(f"overfit check: {result}: {fault}")
    logger.warning(f"overfit check undecided: {result}; no fault was found, but the time was too short")


def choose_images(split: Split, most: int, objects: int | None = None) -> list[ImageRecord]:
    """Images with objects, with as many classes as possible.

    Args:
        most: images.
        objects: no further images are added when two or more have so many.
    """
    left = [record for record in split.images if len(record.labels)]
    chosen: list[ImageRecord] = []
    seen: Counter[int] = Counter()
    while left and len(chosen) < most and (objects is None or len(chosen) < 2 or seen.total() < objects):
        # Classes that are there already count less.
        best = max(left, key=lambda record: sum(1 / (1 + seen[label]) for label in {*record.labels.tolist()}))
        left = [record for record in left if record.index != best.index]
        chosen.append(best)
        seen.update(best.labels.tolist())
    return chosen


def find_fault(attempt: Attempt, records: Sequence[ImageRecord], data: DetectionData, config: Config) -> str | None:
    """Why the images were not learned, and the remedy; None where the time was too short."""
    stats, totals = attempt.stats, attempt.totals
    first, last = np.mean(totals[:3]), np.mean(totals[-5:])
    if len(totals) > WARMUP_STEPS and last > NOT_FALLEN * first:
        return (
            f"the loss does not fall ({first:.3g} at first, {last:.3g} at the end): are all weights frozen, or are the "
            "weights of --model.init_from damaged?"
        )
    queries = config.model.num_queries
    crowded = [record for record in records if queries is not None and len(record.labels) > queries]
    if crowded:
        most = max(len(record.labels) for record in crowded)
        return (
            f"{_named(crowded)} up to {most} objects, but there are {queries} queries and each can find one; "
            f"set --model.num_queries {2 * most} or more"
        )
    if len(totals) < FEWEST_STEPS:
        return None
    # Always predicting the most frequent class needs no learning; of the other objects a model that learns soon has
    # nearly all right.
    right, by_chance, found = stats.classes.right, stats.classes.most_frequent, stats.classes.found
    if stats.boxes_AP50 >= BOXES_FIT and by_chance <= 0.8 * found and right - by_chance <= 0.5 * (found - by_chance):
        return (
            f"the boxes are learned (AP50 {stats.boxes_AP50:.2f} regardless of class) but the classes are not "
            f"({right} of {found} right): objects that look alike have different classes; look at the "
            f"category_id of the objects in {_files(records)}"
        )
    extents = {record.index: _extents(record, data) for record in records}
    stride, objects = config.model.strides[0], sum(map(len, extents.values()))
    small = sum(int((extent < stride).sum()) for extent in extents.values())
    if small >= BELOW_TOKEN * objects:
        where = [record for record in records if (extents[record.index] < stride).any()]
        return (
            f"{small} of {objects} objects are smaller than a token of {stride} pixels ({_files(where)}); "
            f"{_resize_advice(np.concatenate(list(extents.values())), records, data, config)}"
        )
    quarter = len(totals) // 4
    if np.mean(totals[-quarter:]) < 0.98 * np.mean(totals[-2 * quarter : -quarter]):
        return None
    classes = len({label for record in records for label in record.labels.tolist()})
    contrast = "the classes are learned but " if classes > 1 and attempt.right_labels >= 0.8 else ""
    return (
        f"{contrast}the boxes are not learned (AP50 {stats.boxes_AP50:.2f} regardless of class), and the loss no "
        f"longer falls: do they lie on the objects, as [x, y, width, height] in pixels? look at {_files(records)}"
    )


def _overfit(
    module: DetectionModule, split: Split, batch: Batch, config: Config, precision: str, seconds: float
) -> Attempt:
    """Train on the one batch until it is overfitted or the time is up."""
    assert batch.targets is not None
    device = batch.images.device
    model = _without_dropout(copy.deepcopy(module.model)).to(device)
    lr, factor = RATES[config.model.name], config.optim.backbone_lr_factor
    groups = parameter_groups(model, lr, 1.0 if factor is None else factor, weight_decay=0.0, decay_all=False)
    if not groups:
        raise DetrLiteError("overfit check: all weights of the model are frozen, so that nothing can be learned")
    _refuse_broken(model, batch, split)
    optimizer = make_optimizer(groups, fused=False)
    half = torch.autocast(device.type, torch.bfloat16) if precision == "bf16-mixed" else contextlib.nullcontext()
    totals: list[float] = []
    stats, labels, start = DetectionStats(-1.0, -1.0, ClassStats(0, 0, 0)), 0.0, time.monotonic()
    spent = 0.0
    with tqdm(total=round(seconds), desc="overfit check", leave=False, disable=not sys.stderr.isatty()) as bar:
        while spent < seconds and stats.AP50 < TARGET_AP50:
            # It falls towards the end: with a learning rate this high the predictions do not settle.
            schedule = min(1.0, (len(totals) + 1) / WARMUP_STEPS, 2.05 - 2 * spent / seconds)
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * schedule
            with half:
                losses = module.criterion(model.train()(batch), batch.targets)
            totals.append(float(losses.total.detach()))
            if not math.isfinite(totals[-1]):
                _refuse_loss(batch, split, losses.not_finite, len(totals))
            optimizer.zero_grad()
            losses.total.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            spent = time.monotonic() - start
            if len(totals) % EVERY_STEPS == 0 or spent >= seconds:
                stats, labels = _evaluate(module, model, split, batch, half)
            bar.n = round(min(seconds, spent))
            bar.set_postfix_str(f"step {len(totals)}, loss {totals[-1]:.2f}, AP50 {max(0.0, stats.AP50):.2f}")
    return Attempt(tuple(totals), stats, labels, spent)


@torch.no_grad()
def _evaluate(
    module: DetectionModule,
    model: nn.Module,
    split: Split,
    batch: Batch,
    half: contextlib.AbstractContextManager[object],
) -> tuple[DetectionStats, float]:
    """The statistics of the detections, and the share of right labels."""
    assert batch.targets is not None
    with half:
        output = model.eval()(batch)
    detections = module.postprocess(output, [target.original_size for target in batch.targets])
    found = {target.image_id: each for target, each in zip(batch.targets, detections, strict=True)}
    right = sum(_right_labels(target.labels.cpu(), found[target.image_id]) for target in batch.targets)
    return detection_stats(found, split), right / sum(len(target.labels) for target in batch.targets)


def _right_labels(labels: Int[Tensor, " object"], detections: Detections) -> int:
    """How many of the true labels are among those of as many highest-scoring predictions."""
    best = best_by_query(detections)
    highest = best.labels[best.scores.argsort(descending=True)[: len(labels)]]
    return (Counter(labels.tolist()) & Counter(highest.tolist())).total()


def _without_dropout(model: nn.Module) -> nn.Module:
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        elif isinstance(getattr(part, "dropout", None), float):  # of attention weights
            part.dropout = 0.0  # type: ignore[assignment]
    return model


def _refuse_broken(model: nn.Module, batch: Batch, split: Split) -> None:
    """Errors: weights or pixels are not finite before the first step."""
    assert batch.targets is not None
    broken = [name for name, value in model.state_dict().items() if not value.isfinite().all()]
    if broken:
        raise DetrLiteError(
            f"overfit check: the model's weights are not finite before the first step ({broken[0]}, ...)"
        )
    for image, target in zip(batch.images, batch.targets, strict=True):
        if not image.isfinite().all():
            file = split.file_name(target.image_id)
            raise DetrLiteError(f"overfit check: pixels of {file} are not finite; replace the file")


def _refuse_loss(batch: Batch, split: Split, not_finite: Sequence[int], step: int) -> None:
    """Errors: always."""
    assert batch.targets is not None
    files = [split.file_name(batch.targets[place].image_id) for place in not_finite or range(len(batch.targets))]
    raise DetrLiteError(
        f"overfit check: the loss is not finite in step {step}, with image{'s' * (len(files) > 1)} "
        f"{shorten_list(files)}; try --trainer.precision 32-true, and look at these images"
    )


def _extents(record: ImageRecord, data: DetectionData) -> Float[np.ndarray, " object"]:
    """In pixels of the model's input."""
    height, _ = data.resize.target_size(record.height, record.width)
    return box_extents(record.boxes_xyxy) * (height / record.height)


def _resize_advice(
    extents: Float[np.ndarray, " object"], records: Sequence[ImageRecord], data: DetectionData, config: Config
) -> str:
    """Settings with which the median object spans `TOKENS_ACROSS` tokens or more."""
    stride = config.model.strides[0]
    finer = f"--model.strides '[{stride // 2},{stride}]'" if stride > 4 else "cut the images into parts"
    size = 32 * math.ceil(data.resize.size * TOKENS_ACROSS * stride / float(np.median(extents)) / 32)
    is_small = data.resize.kind == "longest" and max(max(record.height, record.width) for record in records) < size
    return f"set --data.image_size {size}{' --data.resize fit' if is_small else ''} or {finer}"


def _named(records: Sequence[ImageRecord]) -> str:
    """Subject and verb of a sentence about what these images hold."""
    return f"images {_files(records)} hold" if len(records) > 1 else f"image {_files(records)} holds"


def _files(records: Sequence[ImageRecord]) -> str:
    return shorten_list([printable(record.path.name) for record in records], 3)
