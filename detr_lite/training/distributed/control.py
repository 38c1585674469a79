"""Decisions that all processes of a run must take alike: if one stopped or saved alone, the others would hang."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import lightning as L
import torch
from torch import distributed as dist

PATIENCE = timedelta(days=1)
"""Time that a process waits for one that works alone, as rank 0 does in an evaluation. It is no safeguard: a process
that ends closes its connections, which the others notice at once."""


class ControlGroup:
    """A process group for control messages, such as "stop", beside the one that reduces gradients.

    Its backend is gloo: over NCCL each message would wait for all that is queued on the GPU. Its time-out is long, that
    of the other group is not. A step has one message, which every process waits for: who sends one takes the votes of
    the others along.
    """

    def __init__(self) -> None:
        self._group: Any = None
        self.votes: Callable[[], tuple[float | int, ...]] = tuple
        """What this process votes for at this moment."""
        self._voted: tuple[float | int, ...] = ()

    def init_control_group(self, trainer: L.Trainer) -> None:
        """Create the group; every process must call this before the first `all_reduce_max`."""
        if trainer.world_size > 1:
            self._group = dist.new_group(backend="gloo", timeout=PATIENCE)

    def all_reduce_max(self, trainer: L.Trainer, *numbers: float | int) -> tuple[float | int, ...]:
        """The maximum of each number over all processes; free of cost with a single one."""
        if trainer.world_size == 1:
            return numbers
        reduced = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(reduced, dist.ReduceOp.MAX, group=self._group)
        return tuple(reduced.tolist())

    def exchange(self, trainer: L.Trainer, *numbers: float | int) -> tuple[float | int, ...]:
        """As `all_reduce_max`; the message of a step also carries the votes."""
        agreed = self.all_reduce_max(trainer, *numbers, *self.votes())
        self._voted = agreed[len(numbers) :]
        return agreed[: len(numbers)]

    def take_votes(self, trainer: L.Trainer) -> tuple[float | int, ...]:
        """The maximum of each vote over all processes: those of the last `exchange`, if nobody has taken them."""
        voted = self._voted
        self.discard_votes()
        return voted if voted and trainer.world_size > 1 else self.all_reduce_max(trainer, *self.votes())

    def discard_votes(self) -> None:
        """What they were cast for has been done; to be called by all processes."""
        self._voted = ()

    def wait_for_all(self) -> None:
        """Return when every process has called this."""
        if self._group is not None:
            dist.barrier(group=self._group)
