"""Before a run: a few of its own images, learned by heart. What cannot be learned by heart cannot be learned."""

import contextlib
import copy
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
from detr_lite.data.coco import CocoDetection, CocoSplit, ImageRecord
from detr_lite.data.collate import collate
from detr_lite.evaluation.coco_map import BOXES_FIT
from detr_lite.structures import Batch, Detections, DetrLiteError
from detr_lite.text import printable
from detr_lite.training.auto import TOKENS_ACROSS
from detr_lite.training.checks.prediction_stats import ClassStats, DetectionStats, best_by_query, detection_stats
from detr_lite.training.datamodule import DetectionData
from detr_lite.training.module import DetectionModule
from detr_lite.training.optim import make_optimizer, parameter_groups

SECONDS = 40.0
"""Of learning; with loading and measuring it stays under a minute."""
GOAL = 0.95
"""AP50 at which it ends early. Not 1: in real data an object is missing here and named twice there."""
ENOUGH = 0.6
"""AP50 with which it passes when the time is up: boxes and classes have been learned for most objects, and a model that
cannot learn one of both has less than half of that."""
FEWEST_STEPS = 60
"""With fewer, on a slow machine or with a large model, AP50 may be low although nothing is wrong."""
RATES = {"lite": 1e-3, "detr": 3e-4}
"""Whatever the run's own: a good rate for a long run may be too slow for 40 seconds."""
WARMUP_STEPS = 20
EVERY_STEPS = 10
"""AP50 is measured so often."""
MOST_IMAGES = 8
ON_PROCESSOR, OBJECTS = 4, 20
"""There a step takes time by the image: from the second image on no more than give so many objects, at most so many."""
BELOW_TOKEN = 0.3
"""Share of the objects that must be smaller than a token to be the likely cause: fewer leave AP50 above `ENOUGH`."""
STILL = 0.95
"""Loss at the end, as a share of what it was at first, from which it counts as not having fallen: without learning it
varies by 2 % (noisy queries are drawn anew), and 60 steps of learning bring it to less than 0.8."""


@dataclass(frozen=True)
class Attempt:
    """How the learning went."""

    totals: tuple[float, ...]
    """Loss of every step."""
    fit: DetectionStats
    right_labels: float
    """Share of the objects whose class is among their image's surest answers, wherever those answers' boxes lie."""
    seconds: float


def overfit_check(
    module: DetectionModule,
    data: DetectionData,
    config: Config,
    precision: str,
    device: torch.device,
    seconds: float = SECONDS,
) -> None:
    """Train a copy of the run's model on some of its training images, without augmentation, and say how it went.

    The run's model, and what torch draws afterwards, are as if nothing had been done.

    Args:
        precision: the run's; "16-mixed", which needs its gradients scaled, is tested in 32 bits.

    Errors: the images were not learned, with the likely cause.
    """
    is_slow = device.type == "cpu"
    records = choose_images(data.train, ON_PROCESSOR if is_slow else MOST_IMAGES, OBJECTS if is_slow else None)
    if not records:
        raise DetrLiteError("self test: no training image has an object")
    places = {record.id: place for place, record in enumerate(data.train.images)}
    dataset = CocoDetection(data.train, data.val_transform)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(config.seed)
        batch = collate([dataset[places[record.id]] for record in records]).to(device)
        attempt = _learn(module, data.train, batch, config, precision, seconds)
    fit = attempt.fit
    count = f"{len(records)} of your images" if len(records) > 1 else "1 of your images"
    result = f"AP50 {fit.AP50:.2f} on {count} after {len(attempt.totals)} steps, {attempt.seconds:.0f} s"
    if fit.AP50 >= ENOUGH:
        print(f"self test  passed: {result}", flush=True)
        return
    fault = find_fault(attempt, records, data, config)
    if fault is not None:
        raise DetrLiteError(f"self test: {result}: {fault}")
    print(f"self test  undecided: {result}; nothing seems wrong, but that was too little time", flush=True)


def choose_images(split: CocoSplit, most: int, objects: int | None = None) -> list[ImageRecord]:
    """Images with objects, with as many classes as possible.

    Args:
        most: images.
        objects: when two images or more have so many, no further ones are taken.
    """
    left = [record for record in split.images if len(record.labels)]
    require: list[ImageRecord] = []
    seen: Counter[int] = Counter()
    while left and len(require) < most and (objects is None or len(require) < 2 or seen.total() < objects):
        # What is there already counts less, so that the images go on to differ.
        best = max(left, key=lambda record: sum(1 / (1 + seen[label]) for label in {*record.labels.tolist()}))
        left = [record for record in left if record is not best]
        require.append(best)
        seen.update(best.labels.tolist())
    return require


def find_fault(attempt: Attempt, records: Sequence[ImageRecord], data: DetectionData, config: Config) -> str | None:
    """Why the images were not learned, and the remedy; None where only time was lacking."""
    fit, totals = attempt.fit, attempt.totals
    first, last = np.mean(totals[:3]), np.mean(totals[-5:])
    if len(totals) > WARMUP_STEPS and last > STILL * first:
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
    # What is right by always saying the same class is not learned. Of the rest, if there is much, a model that learns
    # soon has nearly all.
    right, by_chance, found = fit.classes.right, fit.classes.most_frequent, fit.classes.found
    if fit.boxes_AP50 >= BOXES_FIT and by_chance <= 0.8 * found and right - by_chance <= 0.5 * (found - by_chance):
        return (
            f"the boxes are learned (AP50 {fit.boxes_AP50:.2f} regardless of class) but the classes are not "
            f"({right} of {found} right): objects that look alike have different classes; look at the "
            f"category_id of the objects in {_files(records)}"
        )
    extents = {record.id: _extents(record, data) for record in records}
    stride, objects = config.model.strides[0], sum(map(len, extents.values()))
    small = sum(int((extent < stride).sum()) for extent in extents.values())
    if small >= BELOW_TOKEN * objects:
        where = [record for record in records if (extents[record.id] < stride).any()]
        return (
            f"{small} of {objects} objects are smaller than a token of {stride} pixels ({_files(where)}); "
            f"{_magnify(np.concatenate(list(extents.values())), records, data, config)}"
        )
    quarter = len(totals) // 4
    if np.mean(totals[-quarter:]) < 0.98 * np.mean(totals[-2 * quarter : -quarter]):
        return None
    classes = len({label for record in records for label in record.labels.tolist()})
    though = "the classes are learned but " if classes > 1 and attempt.right_labels >= 0.8 else ""
    return (
        f"{though}the boxes are not learned (AP50 {fit.boxes_AP50:.2f} regardless of class), and the loss has stopped "
        f"falling: do they lie on the objects, as [x, y, width, height] in pixels? look at {_files(records)}"
    )


def _learn(
    module: DetectionModule, split: CocoSplit, batch: Batch, config: Config, precision: str, seconds: float
) -> Attempt:
    """Steps on the one batch, until it is known by heart or the time is up."""
    assert batch.targets is not None
    device = batch.images.device
    model = _without_dropout(copy.deepcopy(module.model)).to(device)
    rate, share = RATES[config.model.name], config.optim.backbone_lr_factor
    groups = parameter_groups(model, rate, 1.0 if share is None else share, weight_decay=0.0, decay_all=False)
    if not groups:
        raise DetrLiteError("self test: all weights of the model are frozen, so that nothing can be learned")
    _refuse_broken(model, batch)
    optimizer = make_optimizer(groups, fused=False)
    half = torch.autocast(device.type, torch.bfloat16) if precision == "bf16-mixed" else contextlib.nullcontext()
    totals: list[float] = []
    fit, labels, start = DetectionStats(-1.0, -1.0, ClassStats(0, 0, 0)), 0.0, time.monotonic()
    spent = 0.0
    with tqdm(total=round(seconds), desc="self test", leave=False, disable=not sys.stderr.isatty()) as bar:
        while spent < seconds and fit.AP50 < GOAL:
            # Towards the end it fades, as with a rate this high the answers go on to change.
            factor = min(1.0, (len(totals) + 1) / WARMUP_STEPS, 2.05 - 2 * spent / seconds)
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
            with half:
                losses = module.criterion(model.train()(batch), batch.targets)
            totals.append(float(losses.total.detach()))
            if not math.isfinite(totals[-1]):
                _refuse_loss(batch, losses.not_finite, len(totals))
            optimizer.zero_grad()
            losses.total.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            spent = time.monotonic() - start
            if len(totals) % EVERY_STEPS == 0 or spent >= seconds:
                fit, labels = _measure(module, model, split, batch, half)
            bar.n = round(min(seconds, spent))
            bar.set_postfix_str(f"step {len(totals)}, loss {totals[-1]:.2f}, AP50 {max(0.0, fit.AP50):.2f}")
    return Attempt(tuple(totals), fit, labels, spent)


@torch.no_grad()
def _measure(
    module: DetectionModule,
    model: nn.Module,
    split: CocoSplit,
    batch: Batch,
    half: contextlib.AbstractContextManager[object],
) -> tuple[DetectionStats, float]:
    """How well the images are known now, and the share of right labels."""
    assert batch.targets is not None
    with half:
        output = model.eval()(batch)
    answers = module.postprocess(output, [target.original_size for target in batch.targets])
    found = {target.image_id: detections for target, detections in zip(batch.targets, answers, strict=True)}
    right = sum(_right_labels(target.labels.cpu(), found[target.image_id]) for target in batch.targets)
    return detection_stats(found, split), right / sum(len(target.labels) for target in batch.targets)


def _right_labels(labels: Int[Tensor, " object"], detections: Detections) -> int:
    """How many of the true labels the surest answers have, of which there are as many."""
    best = best_by_query(detections)
    surest = best.labels[best.scores.argsort(descending=True)[: len(labels)]]
    return (Counter(labels.tolist()) & Counter(surest.tolist())).total()


def _without_dropout(model: nn.Module) -> nn.Module:
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        elif isinstance(getattr(part, "dropout", None), float):  # of attention weights
            part.dropout = 0.0  # type: ignore[assignment]
    return model


def _refuse_broken(model: nn.Module, batch: Batch) -> None:
    """Errors: weights or pixels are not finite before anything is learned."""
    assert batch.targets is not None
    broken = [name for name, value in model.state_dict().items() if not value.isfinite().all()]
    if broken:
        raise DetrLiteError(f"self test: the model's weights are not finite before the first step ({broken[0]}, ...)")
    for image, target in zip(batch.images, batch.targets, strict=True):
        if not image.isfinite().all():
            raise DetrLiteError(f"self test: pixels of image {target.image_id} are not finite; replace the file")


def _refuse_loss(batch: Batch, not_finite: Sequence[int], step: int) -> None:
    """Errors: always."""
    assert batch.targets is not None
    ids = [batch.targets[place].image_id for place in not_finite or range(len(batch.targets))]
    raise DetrLiteError(
        f"self test: the loss is not finite in step {step}, with image{'s' * (len(ids) > 1)} "
        f"{', '.join(map(str, ids))}; try --trainer.precision 32-true, and look at these images"
    )


def _extents(record: ImageRecord, data: DetectionData) -> Float[np.ndarray, " object"]:
    """Side of the square of the same area as each object, in pixels as the model sees them."""
    height, _ = data.resize.target_size(record.height, record.width)
    sides = (record.boxes_xyxy[:, 2:] - record.boxes_xyxy[:, :2]) * (height / record.height)
    extents: np.ndarray = np.sqrt(sides.prod(axis=1))
    return extents


def _magnify(
    extents: Float[np.ndarray, " object"], records: Sequence[ImageRecord], data: DetectionData, config: Config
) -> str:
    """Settings with which the typical object spans as many tokens as where sizes are chosen, or more."""
    stride = config.model.strides[0]
    finer = f"--model.strides '[{stride // 2},{stride}]'" if stride > 4 else "cut the images into parts"
    size = 32 * math.ceil(data.resize.size * TOKENS_ACROSS * stride / float(np.median(extents)) / 32)
    is_small = data.resize.kind == "longest" and max(max(record.height, record.width) for record in records) < size
    return f"set --data.image_size {size}{' --data.resize fit' if is_small else ''} or {finer}"


def _named(records: Sequence[ImageRecord]) -> str:
    """Subject and verb of a sentence on what these images hold."""
    ids = ", ".join(str(record.id) for record in records)
    return f"images {ids} hold" if len(records) > 1 else f"image {ids} holds"


def _files(records: Sequence[ImageRecord], most: int = 3) -> str:
    names = ", ".join(printable(record.path.name) for record in records[:most])
    return names + (f" and {len(records) - most} more" if len(records) > most else "")
