"""Any task as Lightning sees it: batches that can be resumed, a training step with its guard, and an evaluation."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import lightning as L
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.utils.data import DataLoader, Dataset

from detr_lite.data.sampler import BucketedBatchSampler, SeededBatchSampler, SeededIndex
from detr_lite.loss.criterion import Losses
from detr_lite.structures import DetrLiteError
from detr_lite.text import reason_of
from detr_lite.training.checks.nan_capture import record_activations
from detr_lite.training.checks.step_guard import StepGuard, StepRecord
from detr_lite.training.datamodule import loader_of
from detr_lite.training.distributed.control import ControlGroup
from detr_lite.training.in_32_bits import in_32_bits
from detr_lite.training.lightning_internals import epoch_and_batch
from detr_lite.training.optim import clip_gradients
from detr_lite.training.schedule import step_seed
from detr_lite.training.task import Samples, TaskSpec


class NumberedBatch(NamedTuple):
    """A batch, and which samples of the split it holds."""

    samples: tuple[int, ...]
    content: Any


class TaskSamples(Dataset[tuple[int, Any]]):
    """Samples with their numbers, augmented where they are drawn for training."""

    def __init__(self, samples: Samples, augment: Callable[[Any, int], Any] | None) -> None:
        self.samples = samples
        self.augment = augment

    def __getitem__(self, draw: SeededIndex | int) -> tuple[int, Any]:
        if isinstance(draw, int):
            return draw, self.samples[draw]
        sample = self.samples[draw.image]
        return draw.image, sample if self.augment is None else self.augment(sample, draw.seed)


class TaskData(L.LightningDataModule):
    """The batches of a task: which samples a batch holds depends on seed and epoch alone."""

    def __init__(self, spec: TaskSpec, batch_size: int, num_workers: int, seed: int) -> None:
        super().__init__()
        self.spec, self.batch_size, self.num_workers, self.seed = spec, batch_size, num_workers, seed

    def train_dataloader(self) -> DataLoader[NumberedBatch]:
        loader = self._loader(self.spec.train, shuffle=True)
        if self.trainer:
            assert isinstance(loader.batch_sampler, SeededBatchSampler)
            loader.batch_sampler.start_at(*epoch_and_batch(self.trainer))
        return loader

    def val_dataloader(self) -> DataLoader[NumberedBatch]:
        return self._loader(self.spec.val, shuffle=False)

    def training_batch(self, epoch: int, index: int, rank: int, world_size: int) -> NumberedBatch:
        """One batch of one rank, exactly as in training."""
        loader = self._loader(self.spec.train, shuffle=True, ranks=(rank, world_size), num_workers=0)
        assert isinstance(loader.batch_sampler, SeededBatchSampler)
        loader.batch_sampler.start_at(epoch, index)
        batch: NumberedBatch = next(iter(loader))
        return batch

    def _loader(
        self,
        samples: Samples,
        shuffle: bool,
        ranks: tuple[int, int] | None = None,
        num_workers: int | None = None,
    ) -> DataLoader[NumberedBatch]:
        if ranks is None:
            ranks = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        sizes = self.spec.sizes if shuffle and self.spec.sizes is not None else [(1, 1)] * len(samples)
        batches = BucketedBatchSampler(sizes, self.batch_size, shuffle, self.seed, *ranks)
        dataset = TaskSamples(samples, self.spec.augment if shuffle else None)
        workers = self.num_workers if num_workers is None else num_workers
        return loader_of(dataset, batches, self._collate, workers)

    def _collate(self, numbered: Sequence[tuple[int, Any]]) -> NumberedBatch:
        return NumberedBatch(tuple(number for number, _ in numbered), self.spec.collate([each for _, each in numbered]))


class TaskGuard(StepGuard):
    """Computes a step that was not finite again, and says in which module the first such number arises."""

    module: "TaskModule"
    """To be set when it exists."""

    def __init__(self, *arguments: Any, rebuild: Callable[[int, int, int, int], NumberedBatch], seed: int) -> None:
        super().__init__(*arguments)
        self.rebuild = rebuild
        self.seed = seed

    def option(self, setting: str) -> str:
        return f"--{setting.split('.')[-1]}"

    def examine(self, trainer: L.Trainer, step: int, records: Sequence[StepRecord], name: str) -> str:
        rank, module = trainer.global_rank, self.module
        record = records[0]
        try:
            batch = self.rebuild(record.epoch, record.index, rank, trainer.world_size)
            content = module.transfer_batch_to_device(batch.content, module.device, 0)
            torch.manual_seed(step_seed(self.seed, record.epoch, record.index, rank))
            in_precision = trainer.precision_plugin.train_step_context()
            with torch.no_grad(), in_precision, record_activations(module.model) as activations:
                module.spec.losses(module.model, content)
        except Exception as error:  # of whatever kind: the other ranks wait for this one's report
            return f"computing it again failed ({reason_of(error)})"
        return f"computed again, the outputs of modules: {activations.summary()}"


class TaskModule(L.LightningModule):
    """Logs the parts of a task's loss in training and its metrics in validation.

    Args:
        max_grad_norm: largest norm of the gradients; 0 for no clipping.
        guard: checks each step before it is applied.
        control_group: in which the other processes wait for the metrics of rank 0, however long they take.
    """

    def __init__(
        self,
        spec: TaskSpec,
        network: nn.Module,
        make_optimizer: Callable[[nn.Module], torch.optim.Optimizer],
        max_grad_norm: float,
        guard: TaskGuard,
        control_group: ControlGroup,
    ) -> None:
        super().__init__()
        self.spec, self.model = spec, network
        self.make_optimizer = make_optimizer
        self.max_grad_norm = max_grad_norm
        self.guard = guard
        self.control_group = control_group
        self.predictions: dict[int, Any] = {}
        """Of this rank in the current evaluation, by the sample's number."""
        guard.module = self

    def training_step(self, batch: NumberedBatch, index: int) -> Tensor:
        parts = self.spec.losses(self.model, batch.content)
        total = torch.stack([part.float() for part in parts.values()]).sum()
        # NaN on every rank if it is not finite on one, so that all stop at the same step.
        checked = _all_reduce_sum(total.detach())
        losses = Losses(checked, {name: part.detach().float().reshape(1) for name, part in parts.items()})
        self.guard.record(self.trainer, index, batch.samples, losses)
        values = {f"loss_{name}": part.detach() for name, part in parts.items()}
        self.log_dict({"loss": total.detach(), **values}, batch_size=len(batch.samples), logger=False)
        return total

    def validation_step(self, batch: NumberedBatch, index: int) -> None:
        with in_32_bits(self.device):
            predicted = self.spec.predict(self.model, batch.content)
        # By number: the sampler repeats samples on some ranks, so that all ranks have as many batches.
        self.predictions.update(zip(batch.samples, predicted, strict=True))

    def on_validation_epoch_end(self) -> None:
        self.log_dict({name: float(value) for name, value in self._score_on_rank_0().items()}, logger=False)
        self.predictions = {}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.make_optimizer(self.model)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        self.guard.before_update(self.trainer, optimizer, clip_gradients(self.model, self.max_grad_norm))

    def _score_on_rank_0(self) -> dict[str, float]:
        if not (dist.is_available() and dist.is_initialized()):
            return self._score([self.predictions])
        gathered: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(gathered, self.predictions)
        result: list[Any] = [None]
        if dist.get_rank() == 0:
            try:
                result = [self._score(gathered)]
            except DetrLiteError as error:  # broadcast, since the other ranks wait for a result
                result = [error]
        self.control_group.wait_for_all()
        dist.broadcast_object_list(result)
        if isinstance(result[0], DetrLiteError):
            raise result[0]
        scores: dict[str, float] = result[0]
        return scores

    def _score(self, parts: Sequence[dict[int, Any]]) -> dict[str, float]:
        merged = {number: prediction for part in parts for number, prediction in part.items()}
        scores = self.spec.score([merged[number] for number in range(len(self.spec.val))])
        return {name: scores[name] for name in self.spec.metrics.columns}


def _all_reduce_sum(value: Tensor) -> Tensor:
    if dist.is_available() and dist.is_initialized():
        value = value.clone()
        dist.all_reduce(value)
    return value
