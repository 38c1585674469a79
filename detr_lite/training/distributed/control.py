"""Decisions that all processes of a run must take alike: if one stopped or saved alone, the others would hang."""

from typing import Any

import lightning as L
import torch
from torch import distributed as dist


class ControlGroup:
    """A process group for control messages, such as "stop", beside the one that reduces gradients.

    Its backend is gloo: over NCCL each message would wait for all that is queued on the GPU.
    """

    def __init__(self) -> None:
        self._group: Any = None

    def init_control_group(self, trainer: L.Trainer) -> None:
        """Create the group; every process must call this before the first `all_reduce_max`."""
        if trainer.world_size > 1 and dist.get_backend() != "gloo":
            self._group = dist.new_group(backend="gloo")

    def all_reduce_max(self, trainer: L.Trainer, *numbers: float | int) -> tuple[float | int, ...]:
        """The maximum of each number over all processes; free of cost with a single one."""
        if trainer.world_size == 1:
            return numbers
        reduced = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(reduced, dist.ReduceOp.MAX, group=self._group)
        return tuple(reduced.tolist())
