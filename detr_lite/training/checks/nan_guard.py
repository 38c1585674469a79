"""Numbers that are not finite: the update is not applied, all ranks stop together, and the batch is put aside."""

import math
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
import torch
from lightning.pytorch import Callback
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor
from torch import distributed as dist

from detr_lite.loss.criterion import Losses
from detr_lite.structures import Batch, DetrLiteError, Target
from detr_lite.text import command_line, reason_of
from detr_lite.training.checks.nan_capture import FOLDER, CapturedBatch, NaNCapture
from detr_lite.training.schedule import step_seed
from detr_lite.weights.checkpoint import Description

Rebuild = Callable[[int, int, int, int], Batch]
"""(epoch, index, rank, world size) -> that batch of training, as it was."""


@dataclass(frozen=True)
class StepRecord:
    """What a batch of the present step came to; the numbers still lie on the device."""

    epoch: int
    index: int
    image_ids: tuple[int, ...]
    losses: Losses

    def parts(self) -> dict[str, list[float]]:
        """Each part's layers. Waits for the device."""
        return {name: part.detach().float().cpu().tolist() for name, part in self.losses.parts.items()}

    def is_broken(self) -> bool:
        """Whether this rank's own numbers are to blame. Waits for the device."""
        return bool(self.losses.not_finite) or not all(
            math.isfinite(value) for layers in self.parts().values() for value in layers
        )


@dataclass(frozen=True)
class Update:
    """A step of the optimiser whose verdict nobody has read yet."""

    step: int
    seen: tuple[StepRecord, ...]
    norm: Tensor
    is_bad: Tensor
    """On the processor, or on its way there."""
    arrival: torch.cuda.Event | None

    def read(self) -> bool:
        if self.arrival is not None:
            self.arrival.synchronize()
        return bool(self.is_bad)


@dataclass(frozen=True)
class RankReport:
    """What one rank tells the others of the step at which all stop."""

    rank: int
    is_broken: bool
    image_ids: tuple[int, ...]
    broken_ids: tuple[int, ...]
    parts: dict[str, list[float]]


class NaNGuard(Callback):
    """Lets no update be applied whose loss, matching costs or gradients are not finite, and stops the run for it.

    All ranks stop at the same step without asking each other: the criterion's one exchange makes the loss of all
    ranks NaN as soon as one of them has something that is not finite, and gradients are the same everywhere.

    On the processor the verdict is read at once. On a GPU that would be a wait in each step, so it stays there:
    the fused optimiser, or the gradient scaler of 16 bits, leaves weights and momentum as they are, and the verdict is
    read one step later, before anything else is applied, or when `check` asks for it.

    Args:
        folder: of the run.
        rebuild: batches are not kept for this; the one to be put aside is made again.
        is_late: whether the verdict is read one step later; by default where reading it at once would be a wait.
    """

    def __init__(self, folder: Path, description: Description, rebuild: Rebuild, is_late: bool | None = None) -> None:
        self.folder = folder
        self.description = description
        self.rebuild = rebuild
        self.is_late = is_late
        self._seen: list[StepRecord] = []
        self._unread: Update | None = None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # It has to be asked between gradients and update, where Lightning asks no callback.
        pl_module.guard = self  # type: ignore[assignment]

    def note(self, trainer: L.Trainer, index: int, targets: Sequence[Target], losses: Losses) -> None:
        """A batch's loss, before its gradients."""
        ids = tuple(target.image_id for target in targets)
        detached = Losses(
            losses.total.detach(), {name: part.detach() for name, part in losses.parts.items()}, losses.not_finite
        )
        self._seen.append(StepRecord(trainer.current_epoch, index, ids, detached))

    def before_update(self, trainer: L.Trainer, optimizer: torch.optim.Optimizer, norm: Tensor) -> None:
        """To be called when the gradients of a step are complete, before the optimiser applies them.

        Args:
            norm: of all gradients.
        """
        self.check(trainer)  # the step before: nothing that follows from it may be applied
        if isinstance(optimizer, LightningOptimizer):
            optimizer = optimizer.optimizer
        # To find infinite gradients in 16 bits and to scale them less is the scaler's daily work.
        is_scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        numbers = [seen.losses.total for seen in self._seen] + ([] if is_scaled else [norm])
        is_bad = ~torch.stack(numbers).isfinite().all()
        is_fused = all(group.get("fused") for group in optimizer.param_groups)
        is_cuda = is_bad.device.type == "cuda"
        is_late = is_cuda and (is_fused or is_scaled) if self.is_late is None else self.is_late
        arrival = None
        if is_late:
            if not is_scaled:
                optimizer.found_inf = is_bad.float()  # type: ignore[attr-defined]
            is_bad = torch.empty((), dtype=torch.bool, pin_memory=is_cuda).copy_(is_bad, non_blocking=True)
            if is_cuda:
                arrival = torch.cuda.Event()  # type: ignore[no-untyped-call]
                arrival.record()
        self._unread = Update(trainer.global_step + 1, tuple(self._seen), norm, is_bad, arrival)
        self._seen = []
        if not is_late:
            self.check(trainer)

    def check(self, trainer: L.Trainer) -> None:
        """Read the verdict on the last update now. To be called by all ranks, before each checkpoint.

        Errors: something was not finite.
        """
        update, self._unread = self._unread, None
        if update is not None and update.read():
            self._stop(trainer, update)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.folder = trainer.strategy.broadcast(self.folder)  # rank 0 has chosen it

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
        broken = next((seen for seen in update.seen if seen.is_broken()), None)
        # If no rank's loss is to blame it is the gradients, which are those of all batches on every rank.
        guilty = update.seen if broken is None else (broken,)
        accounts = _from_all_ranks(_account(rank, guilty))
        blamed = [account for account in accounts if account.is_broken] or accounts
        kept: Path | str | None = None
        if rank in [account.rank for account in blamed]:
            name = f"step-{update.step}" + ("" if rank == blamed[0].rank else f"-rank-{rank}")
            kept = self._put_aside(trainer, update.step, guilty, self.folder / FOLDER / f"{name}.pt")
        first = next(where for where in _from_all_ranks(kept) if where is not None)
        if rank != 0:  # one line is enough
            raise SystemExit(2)
        raise DetrLiteError(_describe(update, blamed, first, trainer, self.description))

    def _put_aside(self, trainer: L.Trainer, step: int, guilty: Sequence[StepRecord], path: Path) -> Path | str:
        """Write all that `--replay` needs, or return why it could not be written."""
        rank, world_size = trainer.global_rank, trainer.world_size
        try:
            batches = []
            for seen in guilty:
                batch = self.rebuild(seen.epoch, seen.index, rank, world_size)
                if tuple(target.image_id for target in batch.targets or ()) != seen.image_ids:
                    return "its images could not be found again"
                seed = step_seed(self.description.config.seed, seen.epoch, seen.index, rank)
                batches.append(CapturedBatch(seen.epoch, seen.index, seed, seen.parts(), batch))
            device = trainer.strategy.root_device.type
            kept = NaNCapture(step, rank, world_size, str(trainer.precision), device, tuple(batches))
            # Running statistics among the weights have seen the batch; in training nothing asks for them.
            kept.write(path, self.description, trainer.lightning_module.state_dict())
        except Exception as error:  # whatever it is, the others wait to be told, and to stop
            return reason_of(error)
        return path


def _account(rank: int, guilty: Sequence[StepRecord]) -> RankReport:
    return RankReport(
        rank=rank,
        is_broken=any(seen.is_broken() for seen in guilty),
        image_ids=tuple(image for seen in guilty for image in seen.image_ids),
        broken_ids=tuple(seen.image_ids[place] for seen in guilty for place in seen.losses.not_finite),
        parts=guilty[-1].parts(),
    )


def _from_all_ranks(mine: Any) -> list[Any]:
    if not (dist.is_available() and dist.is_initialized()):
        return [mine]
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, mine)
    return gathered


def _describe(
    update: Update,
    blamed: Sequence[RankReport],
    kept: Path | str,
    trainer: L.Trainer,
    description: Description,
) -> str:
    account = blamed[0]
    values = {name: _worst(layers) for name, layers in account.parts.items()}
    parts = ", ".join(f"{name} {value:.3g}" for name, value in values.items())
    if not all(map(math.isfinite, values.values())):
        what = f"the loss is not finite ({parts})"
    elif account.is_broken:
        what = f"the matching costs are not finite (the loss is: {parts})"
    else:
        what = f"the gradients are not finite (norm {float(update.norm):.3g}; the loss is: {parts})"
    images = f"image{'s' if len(account.image_ids) > 1 else ''} {_listed(account.image_ids)}"
    if trainer.world_size > 1:
        others = ", ".join(f"rank {other.rank}" for other in blamed[1:])
        images += f" of rank {account.rank}" + (f" (also {others})" if others else "")
    if account.broken_ids:
        which = "all" if account.broken_ids == account.image_ids else _listed(account.broken_ids)
        images += f", of which the answers for {which} are not finite"
    if isinstance(kept, Path):
        again = f"{command_line('train')} --replay {shlex.quote(str(kept))}"
        where = f"the batch is in {kept}, look at it with: {again}"
    else:
        where = f"the batch could not be put aside: {kept}"
    # A resumed run keeps its rate, and would stop here again.
    remedies = [f"a new run with a lower --optim.lr than {description.config.optim.lr:g}"]
    if not description.config.optim.max_grad_norm:
        remedies.append("--optim.max_grad_norm 1")
    if trainer.precision != "32-true":
        remedies.append("--trainer.precision 32-true")
    return (
        f"step {update.step}: {what}; {images}; the update was not applied; {where}; "
        f"usual remedies: {', '.join(remedies)}"
    )


def _worst(layers: Sequence[float]) -> float:
    """The value of the last layer, which is the one in the logs, unless another's is not finite."""
    return next((value for value in reversed(layers) if not math.isfinite(value)), layers[-1])


def _listed(ids: Sequence[int], most: int = 8) -> str:
    rest = len(ids) - most
    return ", ".join(map(str, ids[:most])) + (f" and {rest} more" if rest > 0 else "")
