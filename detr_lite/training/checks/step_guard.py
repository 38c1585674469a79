"""Stops a run of any task before a step whose loss or gradients are not finite is applied."""

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import lightning as L
import torch
from lightning.pytorch import Callback
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor
from torch import distributed as dist

from detr_lite.config import OptimConfig
from detr_lite.loss.criterion import Losses
from detr_lite.structures import DetrLiteError
from detr_lite.text import shorten_list

LISTED = 8
"""Ids in an error message."""


@dataclass(frozen=True)
class StepRecord:
    """The losses of a batch of the current step; the tensors stay on their device."""

    epoch: int
    index: int
    samples: tuple[int, ...]
    """Of the batch, by their numbers in the training data."""
    losses: Losses

    def parts(self) -> dict[str, list[float]]:
        """Losses by layer. Waits for the device."""
        return {name: part.detach().float().cpu().tolist() for name, part in self.losses.parts.items()}

    def is_broken(self) -> bool:
        """Whether this rank's own losses or matching costs are not finite. Waits for the device."""
        return bool(self.losses.not_finite) or not all(
            math.isfinite(value) for layers in self.parts().values() for value in layers
        )


@dataclass(frozen=True)
class Update:
    """An optimizer step that has not been checked yet."""

    step: int
    records: tuple[StepRecord, ...]
    norm: Tensor
    is_broken: Tensor
    """On the CPU, or being copied there."""
    copied: torch.cuda.Event | None

    def read(self) -> bool:
        if self.copied is not None:
            self.copied.synchronize()
        return bool(self.is_broken)


@dataclass(frozen=True)
class RankReport:
    """What one rank reports to the others about the step at which all stop."""

    rank: int
    is_broken: bool
    samples: tuple[str, ...]
    broken_samples: tuple[str, ...]
    """Those whose predictions are not finite."""
    parts: dict[str, list[float]]


class StepGuard(Callback):
    """Skips an update whose loss, matching costs or gradients are not finite, and stops the run.

    The module is constructed with it and calls `record` and `before_update`, since Lightning has no hook for callbacks
    between gradients and update.

    All ranks stop at the same step without further communication: the criterion's all-reduce makes the loss of all
    ranks NaN as soon as one of them is not finite, and gradients are the same on all ranks.

    On the CPU each step is checked at once. On a GPU that would synchronize in each step: there the fused optimizer, or
    the gradient scaler of 16 bits, skips the update, and the result is read one step later, before another update, or
    in `check`.

    Args:
        folder: of the run.
        optim: of the run, whose values the message's remedies start from.
        name_sample: how messages call a sample by its number.
        is_late: whether steps are checked one step later; by default where checking at once would synchronize.
    """

    noun: ClassVar[str] = "sample"
    """What messages call one of the samples of a batch."""

    def __init__(
        self,
        folder: Path,
        optim: OptimConfig,
        name_sample: Callable[[int], str] = str,
        is_late: bool | None = None,
    ) -> None:
        self.folder = folder
        self.optim = optim
        self.name_sample = name_sample
        self.is_late = is_late
        self._records: list[StepRecord] = []
        self._unchecked: Update | None = None

    @abstractmethod
    def examine(self, trainer: L.Trainer, step: int, records: Sequence[StepRecord], name: str) -> str:
        """Find out more about a broken step on this rank, and say what and where in a part of a sentence.

        No error may leave it: other ranks wait for this one's report.

        Args:
            records: of the step's batches.
            name: for a file about them.
        """

    def option(self, setting: str) -> str:
        """What the command line calls a setting."""
        return f"--{setting}"

    def record(self, trainer: L.Trainer, index: int, samples: Sequence[int], losses: Losses) -> None:
        """To be called with a batch's losses, before the backward pass."""
        detached = Losses(
            losses.total.detach(), {name: part.detach() for name, part in losses.parts.items()}, losses.not_finite
        )
        self._records.append(StepRecord(trainer.current_epoch, index, tuple(samples), detached))

    def before_update(self, trainer: L.Trainer, optimizer: torch.optim.Optimizer, norm: Tensor) -> None:
        """To be called when the gradients of a step are complete, before the optimizer applies them.

        Args:
            norm: of all gradients.
        """
        self.check(trainer)  # the previous step: nothing that follows from it may be applied
        if isinstance(optimizer, LightningOptimizer):
            optimizer = optimizer.optimizer
        # Infinite gradients in 16 bits are normal: the scaler skips the step and lowers its scale.
        is_scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        numbers = [record.losses.total for record in self._records] + ([] if is_scaled else [norm])
        is_broken = ~torch.stack(numbers).isfinite().all()
        is_fused = all(group.get("fused") for group in optimizer.param_groups)
        is_cuda = is_broken.device.type == "cuda"
        is_late = is_cuda and (is_fused or is_scaled) if self.is_late is None else self.is_late
        copied = None
        if is_late:
            if not is_scaled:
                optimizer.found_inf = is_broken.float()  # type: ignore[attr-defined]
            is_broken = torch.empty((), dtype=torch.bool, pin_memory=is_cuda).copy_(is_broken, non_blocking=True)
            if is_cuda:
                copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
                copied.record()
        self._unchecked = Update(trainer.global_step + 1, tuple(self._records), norm, is_broken, copied)
        self._records = []
        if not is_late:
            self.check(trainer)

    def check(self, trainer: L.Trainer) -> None:
        """Check the last update now. To be called by all ranks, before each checkpoint.

        Errors: something was not finite.
        """
        update, self._unchecked = self._unchecked, None
        if update is not None and update.read():
            self._stop(trainer, update)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.folder = trainer.strategy.broadcast(self.folder)  # only rank 0 knows which one was free

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.check(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.check(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.check(trainer)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self.check(trainer)

    def _stop(self, trainer: L.Trainer, update: Update) -> NoReturn:
        rank = trainer.global_rank
        broken = next((record for record in update.records if record.is_broken()), None)
        # If no rank's losses are broken, the gradients are, which all batches of all ranks contribute to.
        records = update.records if broken is None else (broken,)
        reports = _all_gather(_report(rank, records, self.name_sample))
        broken_reports = [report for report in reports if report.is_broken] or reports
        found: str | None = None
        if rank in [report.rank for report in broken_reports]:
            name = f"step-{update.step}" + ("" if rank == broken_reports[0].rank else f"-rank-{rank}")
            found = self.examine(trainer, update.step, records, name)
        first = next(text for text in _all_gather(found) if text is not None)
        if rank != 0:  # one error message is enough
            raise SystemExit(2)
        raise DetrLiteError(_describe(update, broken_reports, first, trainer, self.optim, self.noun, self.option))


def _report(rank: int, records: Sequence[StepRecord], name_sample: Callable[[int], str]) -> RankReport:
    return RankReport(
        rank=rank,
        is_broken=any(record.is_broken() for record in records),
        samples=tuple(name_sample(sample) for record in records for sample in record.samples),
        broken_samples=tuple(
            name_sample(record.samples[place]) for record in records for place in record.losses.not_finite
        ),
        parts=records[-1].parts(),
    )


def _all_gather(mine: Any) -> list[Any]:
    if not (dist.is_available() and dist.is_initialized()):
        return [mine]
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, mine)
    return gathered


def _describe(
    update: Update,
    reports: Sequence[RankReport],
    found: str,
    trainer: L.Trainer,
    optim: OptimConfig,
    noun: str,
    option: Callable[[str], str],
) -> str:
    report = reports[0]
    values = {name: _worst(layers) for name, layers in report.parts.items()}
    parts = ", ".join(f"{name} {value:.3g}" for name, value in values.items())
    if not all(map(math.isfinite, values.values())):
        what = f"the loss is not finite ({parts})"
    elif report.is_broken:
        what = f"the matching costs are not finite (the loss is: {parts})"
    else:
        what = f"the gradients are not finite (norm {float(update.norm):.3g}; the loss is: {parts})"
    samples = f"{noun}{'s' if len(report.samples) > 1 else ''} {shorten_list(report.samples, LISTED)}"
    if trainer.world_size > 1:
        others = ", ".join(f"rank {other.rank}" for other in reports[1:])
        samples += f" of rank {report.rank}" + (f" (also {others})" if others else "")
    if report.broken_samples:
        which = "all" if report.broken_samples == report.samples else shorten_list(report.broken_samples, LISTED)
        samples += f", of which the predictions for {which} are not finite"
    # Of a new run: a resumed one keeps its learning rate, and would stop here again.
    remedies = [f"a new run with a lower {option('optim.lr')} than {optim.lr:g}"]
    if not optim.max_grad_norm:
        remedies.append(f"{option('optim.max_grad_norm')} 1")
    if trainer.precision != "32-true":
        remedies.append(f"{option('trainer.precision')} 32-true")
    return (
        f"step {update.step}: {what}; {samples}; the update was not applied; {found}; "
        f"usual remedies: {', '.join(remedies)}"
    )


def _worst(layers: Sequence[float]) -> float:
    """The last layer's value, as in the logs, unless that of another layer is not finite."""
    return next((value for value in reversed(layers) if not math.isfinite(value)), layers[-1])
