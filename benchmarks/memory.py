"""Peak memory of a training step, worked out without a GPU, and what fits into which card."""

from collections.abc import Callable
from dataclasses import replace

from benchmarks.study import markdown
from detr_lite.build import build_criterion, build_model, require
from detr_lite.config import Config
from detr_lite.training.memory.fitting import required_bytes
from detr_lite.training.memory.peak import FakeStep, Peak, StepSize

CLASSES = 80
KINDS = ("parameters", "gradients", "optimizer", "activations")
QUERIES = (300, 900)
SIZES = ((640, 640), (800, 1333))
"""(height, width)."""
IMAGES = (1, 2, 4, 8, 16)
CARDS = (8, 16, 24, 80)
"""GiB."""


def memory_table(config: Config, height: int, width: int) -> str:
    """Markdown: GiB at the peak of a step, of each kind of tensor, with bf16 autocast."""
    images = require("data.batch_size", config.data.batch_size)
    peak = peak_bytes(config, height, width, images)
    cells = [f"{size / 2**30:.1f}" for size in (*(getattr(peak, kind) for kind in KINDS), peak.total)]
    return markdown(["pixels", "images", *KINDS, "total, GiB"], [[f"{width} x {height}", str(images), *cells]])


def cards_table(config: Config, show: Callable[[str], object] = print) -> str:
    """Markdown: GiB at the peak for 1 to 16 images, and how many of these fit into cards of each size.

    Args:
        show: gets each row as soon as it is there.
    """
    heading = ["pixels", "queries", "checkpointing", *map(str, IMAGES), *(f"fit {card} GB" for card in CARDS)]
    rows = []
    for queries in QUERIES:
        step = fake_step(replace(config, model=replace(config.model, num_queries=queries)))
        for height, width in SIZES:
            for is_on in (False, True):
                peaks = [step.peak(StepSize(images, height, width, gradient_checkpointing=is_on)) for images in IMAGES]
                cells = [f"{peak.total / 2**30:.1f}" for peak in peaks]
                rows.append([f"{width} x {height}", str(queries), "yes" if is_on else "no", *cells, *_fitting(peaks)])
                show(" | ".join(rows[-1]))
    return markdown(heading, rows)


def _fitting(peaks: list[Peak]) -> list[str]:
    return [
        str(
            max(
                (images for images, peak in zip(IMAGES, peaks, strict=True) if required_bytes(peak) <= card * 2**30),
                default="-",
            )
        )
        for card in CARDS
    ]


def fake_step(config: Config, is_fake: bool = True, as_on_gpu: bool = True) -> FakeStep:
    model = build_model(config.model, CLASSES, for_checkpoint=True)
    return FakeStep(model, build_criterion(config, CLASSES), config, is_fake, as_on_gpu)


def peak_bytes(config: Config, height: int, width: int, images: int, is_fake: bool = True) -> Peak:
    """With bf16 autocast; `is_fake` False computes the step, on a processor."""
    return fake_step(config, is_fake).peak(StepSize(images, height, width))
