"""Our checkpoints: tensors and plain types only, with all that is needed to use the model anywhere."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detr_lite.build import build_model
from detr_lite.config import Config, config_from_dict, config_to_dict
from detr_lite.data.annotations import check_name
from detr_lite.data.transforms import ResizeRule
from detr_lite.io import atomic_write
from detr_lite.model.detr import Detr
from detr_lite.structures import Category, DetrLiteError
from detr_lite.text import command_line, reason_of, shown
from detr_lite.weights.files import is_state, read_json, read_safetensors, read_torch

KEY = "detr_lite"
"""Where our description stands in a checkpoint of Lightning's."""

FORMAT = 5
"""Goes up when an older reader would misread a newer file."""


@dataclass(frozen=True)
class Description:
    """What has to be known beside the weights to use a model."""

    config: Config
    categories: tuple[Category, ...]
    """The category of each label, under the data set's own id."""
    resize: ResizeRule
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        for category in self.categories:
            if type(category.id) is not int:
                raise DetrLiteError(f"category id {shown(category.id)} is not a whole number")
            check_name(category.id, category.name)

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for the checkpoint."""
        return {
            "format": FORMAT,
            "config": config_to_dict(self.config),
            "categories": [{"id": category.id, "name": category.name} for category in self.categories],
            "resize": self.resize.to_dict(),
            "mean": list(self.mean),
            "std": list(self.std),
        }

    @staticmethod
    def from_dict(values: dict[str, Any]) -> "Description":
        return Description(
            config=config_from_dict(values["config"]),
            categories=tuple(Category(**category) for category in values["categories"]),
            resize=ResizeRule.from_dict(values["resize"]),
            mean=tuple(map(float, values["mean"])),
            std=tuple(map(float, values["std"])),
        )


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint; nothing in it is run.

    Args:
        path: a file of `torch.save`'s, or an exported one: NAME.safetensors with NAME.json beside it, or their folder.

    Errors: a missing file, one that is no checkpoint of ours or is cut off, one that holds more than plain data.
    """
    content = _read_exported(path) if path.is_dir() or path.suffix == ".safetensors" else read_torch(path)
    if not isinstance(content, dict) or KEY not in content or not is_state(content.get("state_dict")):
        raise DetrLiteError(f"{path}: not a checkpoint that detr_lite wrote")
    version = content[KEY].get("format") if isinstance(content[KEY], dict) else None
    if version != FORMAT:
        raise DetrLiteError(
            f"{path}: a checkpoint of format {version}; this version of detr_lite reads format {FORMAT}"
        )
    _refuse_other_files(content.get("callbacks"), path)
    return content


def describe_checkpoint(content: dict[str, Any], path: Path) -> Description:
    """Errors: a description that this version does not understand."""
    try:
        return Description.from_dict(content[KEY])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DetrLiteError(f"{path}: its description is not complete ({reason_of(error)})") from error
    except DetrLiteError as error:
        raise DetrLiteError(f"{path}: {error}") from error


def load_model(path: Path) -> tuple[Detr, Description]:
    """A trained model with its weights, in evaluation mode, and what has to be known to use it.

    Errors: as `read_checkpoint`, and weights that do not fit their description.
    """
    content = read_checkpoint(path)
    description = describe_checkpoint(content, path)
    model = build_model(description.config.model, len(description.categories), for_checkpoint=True)
    state: dict[str, Tensor] = {name.removeprefix("model."): value for name, value in content["state_dict"].items()}
    expected = model.state_dict()
    odd = [name for name in {*expected, *state} if _shape(expected, name) != _shape(state, name)]
    if odd:
        raise DetrLiteError(f"{path}: the weights do not fit the settings beside them: {_some(sorted(odd))}")
    model.load_state_dict(state)
    return model.eval(), description


def write_checkpoint(path: Path, model: Detr, description: Description) -> None:
    """The model as a checkpoint like those of a run, without what only training needs."""
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    content = {KEY: description.to_dict(), "state_dict": state}
    atomic_write(path, lambda file: torch.save(content, file))


def find_exported(path: Path) -> Path | None:
    """The NAME.safetensors that a path means, a file or a folder that holds just one."""
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    return files[0] if len(files) == 1 and files[0].is_file() and files[0].suffix == ".safetensors" else None


def is_exported(path: Path) -> bool:
    """Whether `detr-lite export` wrote it; other people's weights may have a .json of their own beside them.

    Errors: a .json beside it that is none.
    """
    file = find_exported(path)
    beside = None if file is None else file.with_suffix(".json")
    return beside is not None and beside.is_file() and KEY in read_json(beside)


def _read_exported(path: Path) -> dict[str, Any]:
    file = find_exported(path)
    if file is None:
        raise DetrLiteError(f"{path}: no such checkpoint")
    beside = file.with_suffix(".json")
    if not beside.is_file():
        raise DetrLiteError(
            f"{file}: {beside.name} is not beside it, which says what the weights are; if they are other people's, "
            f"{command_line('import')} makes a checkpoint of them"
        )
    return {**read_json(beside), "state_dict": read_safetensors(file)}


def _refuse_other_files(callbacks: Any, path: Path) -> None:
    """A run that goes on lets Lightning remove what its checkpoint calls the best before, as soon as there is a better.

    Lightning keeps to the run's folder, but `..`, a file system's name before the path, and a state that does not name
    its folder lead it out, and it would remove whole folders. What it writes itself is right in the folder beside it.
    """
    for state in callbacks.values() if isinstance(callbacks, dict) else ():
        file = state.get("kth_best_model_path") if isinstance(state, dict) else None
        if file and (file != os.path.normpath(str(file)) or str(Path(file).parent) != state.get("dirpath")):
            raise DetrLiteError(f"{path}: it names {shown(file)} as the best before, which is not in its own folder")


def _shape(state: dict[str, Tensor], name: str) -> torch.Size | None:
    return state[name].shape if name in state else None


def _some(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
