"""Time of `detr` and `lite` beside the detectors of transformers that do equal work, side by side on a CPU."""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.hf_reference import random_batch
from benchmarks.parity_models import Sizes
from benchmarks.peer_models import Contender, detr_pair, lite_and_peers
from benchmarks.study import markdown
from detr_lite.config import Config, read_config
from detr_lite.structures import Batch, DetrLiteError

OBJECTS = 7
"""Of each image; COCO's mean."""
TRAINING_BATCH = 2
INFERENCE_BATCHES = (1, 8)
GROUPS = {
    "convolutions": ("conv", "mkldnn_reorder"),
    "batch norm": ("batch_norm",),
    "matrix products": ("addmm", "aten::mm", "bmm", "linear"),
    "attention": ("scaled_dot_product", "softmax", "_flash_attention"),
    "layer norm": ("layer_norm",),
    "sampling": ("grid_sampler", "aten::index", "gather", "scatter"),
    "optimizer": ("_fused_adamw",),
    "dropout": ("dropout", "bernoulli"),
    "copies": ("aten::copy_", "aten::cat", "aten::clone"),
}
"""Rows of the profile -> parts of operators' names; the first that fits counts."""


@dataclass(frozen=True)
class Race:
    """Contenders for the same work."""

    title: str
    make: Callable[[], list[Contender]]
    image_size: tuple[int, int]
    """(height, width)"""
    classes: int


def races(models: Sequence[str], backbone: str, image_size: tuple[int, int], side: int) -> list[Race]:
    """Of `detr`, with trained and with frozen batch norm, and of `lite`, at the published sizes.

    Args:
        image_size: (height, width) of `detr`'s images; `side` that of `lite`'s.

    Errors: other models, a backbone other than a ResNet, and sides that RT-DETRv2 does not accept.
    """
    if unknown := set(models) - {"detr", "lite"}:
        raise DetrLiteError(f"--models: {min(unknown)!r} is not detr or lite")
    if not re.fullmatch(r"resnet\d+", backbone):
        raise DetrLiteError(f"--backbone: {backbone!r} is not a ResNet; give a name such as resnet50")
    if side < 32 or side % 32 or min(image_size) < 32:
        raise DetrLiteError("--size must be at least 32, and --side a multiple of 32")
    chosen = detr_races(Sizes(backbone, dropout=0.1), image_size) if "detr" in models else []
    return [*chosen, lite_race(lite_settings(backbone), 80, side)] if "lite" in models else chosen


def detr_races(sizes: Sizes, image_size: tuple[int, int]) -> list[Race]:
    """With trained and with frozen batch norm."""
    return [
        Race(f"detr, {name} batch norm", partial(detr_pair, sizes, is_frozen), image_size, sizes.classes)
        for name, is_frozen in (("trained", False), ("frozen", True))
    ]


def lite_race(config: Config, classes: int, side: int) -> Race:
    return Race("lite", lambda: lite_and_peers(config, classes), (side, side), classes)


def lite_settings(backbone: str) -> Config:
    """Those of coco_lite_r50.yaml, all from random weights."""
    random = ["--model.pretrained", "false", "--model.freeze_first_stage", "false"]
    return read_config(["--config", "coco_lite_r50.yaml", "--model.backbone", backbone, *random]).config


def peers_table(races: Sequence[Race], threads: Sequence[int], repeats: int, with_profile: bool = False) -> str:
    """Markdown: milliseconds of a training step and of inference, the fastest of some that alternate.

    A training step is forward pass, loss, backward pass and AdamW. A ratio above 1: detr_lite is faster.

    Args:
        with_profile: also tables of where the time of each contender goes, with one thread.

    Errors: no threads or repeats.
    """
    for option, values in (("--threads", threads), ("--repeats", (repeats,))):
        if not values or min(values) < 1:
            raise DetrLiteError(f"{option} must be at least 1")
    tables = [_race_table(race, threads, repeats, with_profile) for race in races]
    return "\n\n".join([*tables, f"torch {torch.__version__}, float32 on the CPU."])


def _race_table(race: Race, threads: Sequence[int], repeats: int, with_profile: bool) -> str:
    torch.manual_seed(0)
    contenders = race.make()
    ours, *others = (contender.name for contender in contenders)
    height, width = race.image_size
    rows, profiles = [], []
    for title, batch_size, runs in _works(race, contenders):
        for count in threads:
            with torch_threads(count):
                seconds = fastest(runs, repeats)
            cells = [f"{1e3 * seconds[ours]:.0f}"]
            cells += [f"{1e3 * seconds[name]:.0f} ({seconds[name] / seconds[ours]:.2f})" for name in others]
            rows.append([title, str(batch_size), str(count), *cells])
        if with_profile:
            with torch_threads(1):
                profiles.append(f"{race.title}, {title}, batch {batch_size}:\n\n{profile_table(runs)}")
    head = [
        f"{race.title}, {width} x {height}",
        "batch",
        "threads",
        f"{ours}, ms",
        *(f"{name} (ratio)" for name in others),
    ]
    return "\n\n".join([markdown(head, rows), *profiles])


def _works(race: Race, contenders: Sequence[Contender]) -> Iterator[tuple[str, int, dict[str, Callable[[], object]]]]:
    """Title, batch size and what to call, of a training step and of inference."""
    for contender in contenders:
        contender.model.train()
    batch = _batch(race, TRAINING_BATCH)
    yield "training step", TRAINING_BATCH, {each.name: _training_step(each, batch) for each in contenders}
    for contender in contenders:
        contender.model.eval().zero_grad()
    for size in INFERENCE_BATCHES:
        batch = _batch(race, size)
        yield "inference", size, {each.name: partial(_infer, each, batch) for each in contenders}


def _batch(race: Race, size: int) -> Batch:
    return random_batch([race.image_size] * size, [OBJECTS] * size, race.classes, torch.Generator().manual_seed(0))


def _training_step(contender: Contender, batch: Batch) -> Callable[[], object]:
    parameters = [parameter for parameter in contender.model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-6, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        torch.autograd.backward(contender.loss(batch))
        optimizer.step()

    return step


@torch.no_grad()
def _infer(contender: Contender, batch: Batch) -> None:
    contender.predict(batch)


def fastest(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Seconds of the fastest call of each; the calls alternate, so that other programs slow all of them alike.

    With one thread they are seconds of its core, which other programs change least.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    for run in runs.values():
        run()  # allocates memory and selects kernels
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(repeats):
        for name, run in runs.items():
            start = clock()
            run()
            best[name] = min(best[name], clock() - start)
    return best


def profile_table(runs: dict[str, Callable[[], object]]) -> str:
    """Markdown: milliseconds of one call of each by kind of operator."""
    kinds: dict[str, dict[str, float]] = {}
    for name, run in runs.items():
        with profile(activities=[ProfilerActivity.CPU]) as recorded:
            run()
        for operator in recorded.key_averages():
            of_kind = kinds.setdefault(_kind(operator.key), {})
            of_kind[name] = of_kind.get(name, 0.0) + operator.self_cpu_time_total / 1e3
    order = [*GROUPS, "other"]
    rows = [[kind, *(f"{kinds[kind].get(name, 0.0):.0f}" for name in runs)] for kind in sorted(kinds, key=order.index)]
    return markdown(["ms", *runs], rows)


def _kind(operator: str) -> str:
    return next((kind for kind, parts in GROUPS.items() if any(part in operator for part in parts)), "other")


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
