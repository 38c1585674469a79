"""`--trainer.compile`: backbone, encoder and decoder compiled by torch.compile for training, where that pays."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import ceil
from typing import Any

import lightning as L
import torch
from lightning.pytorch import Callback
from torch import Tensor, nn
from torch._dynamo.utils import counters

from detr_lite.data.collate import pad_to_multiple
from detr_lite.model.detr import Detr
from detr_lite.model.queries import AnchorQueries
from detr_lite.structures import Batch, DetrOutput
from detr_lite.text import reason_of
from detr_lite.training.datamodule import DetectionData
from detr_lite.training.lightning_internals import epoch_and_batch
from detr_lite.training.module import DetectionModule
from detr_lite.training.schedule import TrainingProgress

logger = logging.getLogger(__name__)

SIDES = 4
"""Lengths to which a side of the images is padded: multiples of a quarter of the longest."""
MAX_SHAPES = 12
"""Shapes that a part is compiled for; it computes further ones without compilation."""
TRIAL_BATCHES = 2
REPEATS = 3
"""Of each step of the trial, of which the fastest counts."""


class CompileTrial(Callback):
    """Compiles the model for training, times the run's first batches with and without, and keeps what is faster.

    Matching, losses and denoising queries, whose shapes depend on the objects, stay outside. Weights keep their names;
    evaluations compute the same model without compilation.

    Args:
        backend: of torch.compile.
        clock: seconds; in tests another.
    """

    def __init__(
        self, progress: TrainingProgress, backend: str = "inductor", clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.progress = progress
        self.backend = backend
        self.clock = clock
        self.is_compiled = False
        self._is_eager = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, DetectionModule)
        model, data = pl_module.model, trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, DetectionData)
        if not isinstance(model, Detr):
            logger.info("torch.compile: models of transformers are not compiled; the run goes on without")
            return
        if model.backbone.recompute:
            logger.info("torch.compile: not together with gradient checkpointing; the run goes on without")
            return
        multiple = side_multiple(data)
        batches = [batch.to(pl_module.device) for batch in first_batches(trainer, data)]
        plain = compiled = 0.0
        failure: str | None = None
        with unchanged(model), trainer.precision_plugin.train_step_context():
            plain = self._seconds(model, batches)
            start = self.clock()
            counters.clear()
            try:
                compile_parts(model, self.backend)
                padded = [pad_to_multiple(batch, multiple) for batch in batches]
                compiled = self._seconds(model, padded)
            except Exception as error:  # of the compiler, which has no common error type
                failure = reason_of(error)
        took = self.clock() - start
        self.progress.pause()  # what compilation takes is no time of training
        breaks = sum(counters["graph_break"].values())
        is_worse = failure is not None or compiled >= plain
        # One rank that goes on without is waited for by all others at every step.
        (is_worse_anywhere,) = self.progress.control_group.all_reduce_max(trainer, int(is_worse))
        if not is_worse_anywhere:
            self.is_compiled, pl_module.pad_multiple = True, multiple
            logger.info(
                f"torch.compile: steps take {compiled / plain:.2f} of the time without, {took:.0f} s to compile, "
                f"{breaks} graph breaks; images are padded to multiples of {multiple} pixels"
            )
            return
        undo_compilation(model)
        why = "it is no faster on another process"
        if failure is not None:
            why = f"it failed ({failure})"
        elif is_worse:
            why = f"steps take {compiled / plain:.2f} of the time without"
        logger.info(f"torch.compile: {why}; the run goes on without")

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.is_compiled:
            torch.compiler.set_stance("force_eager")
            self._is_eager = True

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._compile_again()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._compile_again()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._compile_again()
        if self.is_compiled and isinstance(pl_module.model, Detr):
            undo_compilation(pl_module.model)

    def _compile_again(self) -> None:
        if self._is_eager:
            torch.compiler.set_stance("default")
            self._is_eager = False

    def _seconds(self, model: Detr, batches: Sequence[Batch]) -> float:
        """Of forward and backward passes, each of which has been done once before."""
        seconds = 0.0
        for batch in batches:
            times = []
            for _ in range(1 + REPEATS):
                start = self.clock()
                # Not the run's loss, in which processes wait for each other: on one of them compilation may fail.
                torch.autograd.backward(_sum_of_predictions(model(batch)))
                if batch.images.is_cuda:
                    torch.cuda.synchronize(batch.images.device)
                times.append(self.clock() - start)
            seconds += min(times[1:])
        return seconds


def _sum_of_predictions(output: DetrOutput) -> Tensor:
    parts = [output.logits, output.boxes_cxcywh]
    if output.tokens is not None:
        parts += [output.tokens.logits, output.tokens.boxes_cxcywh]
    if output.denoising is not None:
        parts += [output.denoising.logits, output.denoising.boxes_cxcywh]
    if output.edges is not None:
        parts.append(output.edges.logits)
    return torch.stack([part.float().sum() for part in parts]).sum()


def compile_parts(model: Detr, backend: str = "inductor", fullgraph: bool = False) -> None:
    """Compile what has static shapes, once for each; denoising queries are padded to a fixed number."""
    torch._dynamo.config.recompile_limit = MAX_SHAPES
    if isinstance(model.queries, AnchorQueries):
        model.queries.is_padded = True
    for part in _parts(model):
        part.compile(backend=backend, dynamic=False, fullgraph=fullgraph)


def undo_compilation(model: Detr) -> None:
    if isinstance(model.queries, AnchorQueries):
        model.queries.is_padded = False
    for part in _parts(model):
        part._compiled_call_impl = None


def _parts(model: Detr) -> tuple[nn.Module, ...]:
    return model.backbone, model.encoder, model.decoder


def side_multiple(data: DetectionData) -> int:
    """A quarter of the longest side of the training images, rounded up to a multiple of 32."""
    sizes = [data.resize.target_size(height, width) for width, height in data.train.images.sizes_wh.tolist()]
    return 32 * ceil(max(map(max, sizes)) / SIDES / 32)


def first_batches(trainer: L.Trainer, data: DetectionData) -> Iterator[Batch]:
    """This rank's next training batches."""
    epoch, index = epoch_and_batch(trainer)
    last = max(0, int(trainer.num_training_batches) - 1)
    for number in range(TRIAL_BATCHES):
        yield data.training_batch(epoch, min(index + number, last), trainer.global_rank, trainer.world_size)


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Buffers and random numbers are afterwards what they were before, and there are no gradients."""
    buffers = [buffer.clone() for buffer in model.buffers()]
    devices = {parameter.device for parameter in model.parameters() if parameter.is_cuda}
    try:
        with torch.random.fork_rng(devices=list(devices)):
            yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(model.buffers(), buffers, strict=True):
                buffer.copy_(value)
        for parameter in model.parameters():
            parameter.grad = None
