"""What all processes of a run must decide alike: when one would stop or save alone, the others would wait for ever."""

from typing import Any

import lightning as L
import torch
from torch import distributed as dist


class ControlGroup:
    """Exchanges of single numbers between processes, beside the exchanges of gradients.

    They go from processor to processor: on the devices' own way each would wait for all that is queued there.
    """

    def __init__(self) -> None:
        self._group: Any = None

    def init_control_group(self, trainer: L.Trainer) -> None:
        """To be called by every process, before the first exchange."""
        if trainer.world_size > 1 and dist.get_backend() != "gloo":
            self._group = dist.new_group(backend="gloo")

    def all_reduce_max(self, trainer: L.Trainer, *numbers: float | int) -> tuple[float | int, ...]:
        """The highest of each number over all processes; costs nothing where there is one."""
        if trainer.world_size == 1:
            return numbers
        shared = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(shared, dist.ReduceOp.MAX, group=self._group)
        return tuple(shared.tolist())
