"""What another task than detection has to write to be trained with the same engine, and its checkpoints."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from detr_lite.config import OptimConfig
from detr_lite.structures import DetrLiteError
from detr_lite.tensor_files import is_state, read_torch
from detr_lite.text import reason_of, shown
from detr_lite.training.callbacks.metrics import LoggedMetrics
from detr_lite.weights.checkpoint import TASK_KEY, load_weights

FORMAT = 1


@runtime_checkable
class Samples(Protocol):
    """The samples of a split: a list, or any object with a length whose entries can be read again and again."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


@dataclass(frozen=True)
class TaskSpec:
    """A task: its data, its network, and what its answers are worth. All else of a training is the engine's.

    A network's parameters are those of the `nn.Module` that `build_network` makes; `losses` and `predict` call it.
    """

    name: str
    """Of the task, and by default of its run folder."""
    settings: Mapping[str, Any]
    """Plain types that describe data and network. They are kept in checkpoints, and a resumed run must have the
    same."""
    build_network: Callable[[Mapping[str, Any]], nn.Module]
    """A network with random weights from the settings."""
    train: Samples
    val: Samples
    collate: Callable[[Sequence[Any]], Any]
    """A batch of samples, whose tensors move with `.to`: tensors, lists, dicts, dataclasses of them, or a `Batch`."""
    losses: Callable[[Any, Any], Mapping[str, Tensor]]
    """(network, batch) -> the weighted parts of the loss by name, whose sum is minimized."""
    predict: Callable[[Any, Any], Sequence[Any]]
    """(network, batch) -> what is predicted for each sample, to be kept in memory until the end of an evaluation."""
    score: Callable[[Sequence[Any]], Mapping[str, float]]
    """Predictions for all samples of `val`, in its order -> the metrics."""
    metrics: LoggedMetrics
    """What they are called. The first of `shown` decides which checkpoint is the best."""
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(optimizer="muon", lr=1e-3))
    batch_size: int = 32
    augment: Callable[[Any, int], Any] | None = None
    """(sample, seed) -> the sample as it is trained with; the seed is another one in each epoch."""
    sizes: Sequence[tuple[int, int]] | None = None
    """(height, width) of each training sample, such as (1, length), of which similar ones come into a batch."""
    finish: Callable[[Any, Path], None] | None = None
    """(the trained network, run folder), after training, for pictures."""

    def description(self) -> dict[str, Any]:
        """As in a checkpoint."""
        return {"format": FORMAT, "name": self.name, "settings": dict(self.settings)}


def read_task_checkpoint(path: Path, name: str) -> dict[str, Any]:
    """The content of a checkpoint of the task of this name.

    Errors: a missing or truncated file, and a checkpoint of something else.
    """
    content = read_torch(path)
    if not isinstance(content, dict) or not is_state(content.get("state_dict")):
        raise DetrLiteError(f"{path}: not a checkpoint of detr_lite")
    described = content.get(TASK_KEY)
    if not isinstance(described, dict) or described.get("name") != name:
        of = described.get("name") if isinstance(described, dict) else "a detector"
        raise DetrLiteError(f"{path}: is not of the task {name}, but of {shown(of)}")
    if described.get("format") != FORMAT or not isinstance(described.get("settings"), dict):
        raise DetrLiteError(f"{path}: written by another version of detr_lite; train again")
    return content


def load_network(
    path: Path, name: str, build_network: Callable[[Mapping[str, Any]], nn.Module]
) -> tuple[nn.Module, dict[str, Any]]:
    """The network of a checkpoint, in evaluation mode, and its settings.

    Errors: those of `read_task_checkpoint`, and weights that do not match the settings.
    """
    content = read_task_checkpoint(path, name)
    settings = content[TASK_KEY]["settings"]
    try:
        network = build_network(settings)
    except (KeyError, TypeError, ValueError) as error:
        raise DetrLiteError(f"{path}: its settings are incomplete ({reason_of(error)})") from error
    load_weights(network, content["state_dict"], path)
    return network.eval(), settings
