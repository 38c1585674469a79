"""Checkpoints of detr_lite: tensors and plain types only, and everything needed to use the model."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detr_lite.build import build_model
from detr_lite.config import Config, config_from_dict, config_to_dict
from detr_lite.data.categories import check_name
from detr_lite.data.transforms import ResizeRule
from detr_lite.evaluation.postprocess import Activation
from detr_lite.families.network import FamilyDetr, build_network
from detr_lite.families.registry import family_of
from detr_lite.io import atomic_write
from detr_lite.model.detr import Detr
from detr_lite.structures import Category, DetrLiteError
from detr_lite.tensor_files import is_state, read_safetensors, read_torch
from detr_lite.text import command_line, reason_of, shorten_list, shown
from detr_lite.weights.checkpoint_path import find_exported
from detr_lite.weights.files import read_json
from detr_lite.weights.score_thresholds import ScoreThresholds
from detr_lite.weights.upgrade import FORMAT, UPGRADABLE, upgrade

KEY = "detr_lite"
"""Key of the description in a Lightning checkpoint."""

TASK_KEY = "detr_lite_task"
"""Key in a checkpoint of another task than detection of what it is, in place of the description."""

THRESHOLDS = "thresholds"
"""Key of the score thresholds in the description."""


@dataclass(frozen=True)
class Description:
    """What is needed besides the weights to use a model."""

    config: Config
    categories: tuple[Category, ...]
    """Category of each label, with the id of the dataset."""
    resize: ResizeRule
    mean: tuple[float, ...]
    std: tuple[float, ...]
    architecture: dict[str, Any] | None = None
    """The configuration of a model of transformers, as in its config.json."""
    thresholds: ScoreThresholds | None = None
    """Of these very weights; None until they have been evaluated at the end of a run."""

    def __post_init__(self) -> None:
        for category in self.categories:
            if type(category.id) is not int:
                raise DetrLiteError(f"category id {shown(category.id)} is not an integer")
            check_name(category.id, category.name)
        if self.thresholds is not None and len(self.thresholds.per_class) != len(self.categories):
            scores, classes = len(self.thresholds.per_class), len(self.categories)
            raise DetrLiteError(f"score thresholds of {scores} classes, but there are {classes}")

    def to_dict(self) -> dict[str, Any]:
        """Plain types, as in a checkpoint."""
        return {
            "format": FORMAT,
            "config": config_to_dict(self.config),
            "categories": [{"id": category.id, "name": category.name} for category in self.categories],
            "resize": self.resize.to_dict(),
            "mean": list(self.mean),
            "std": list(self.std),
            **({} if self.architecture is None else {"architecture": self.architecture}),
            **({} if self.thresholds is None else {THRESHOLDS: self.thresholds.to_dict()}),
        }

    @staticmethod
    def from_dict(values: dict[str, Any]) -> "Description":
        return Description(
            config=config_from_dict(values["config"]),
            categories=tuple(Category(**category) for category in values["categories"]),
            resize=ResizeRule.from_dict(values["resize"]),
            mean=tuple(map(float, values["mean"])),
            std=tuple(map(float, values["std"])),
            architecture=values.get("architecture"),
            thresholds=ScoreThresholds.from_dict(values[THRESHOLDS]) if values.get(THRESHOLDS) is not None else None,
        )


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint; no code in it is executed.

    Args:
        path: a file of `torch.save`, or an exported one: NAME.safetensors with NAME.json beside it, or their folder.

    Errors: a missing or truncated file, another kind or format of checkpoint, and one that is not plain data.
    """
    content = _read_exported(path) if path.is_dir() or path.suffix == ".safetensors" else read_torch(path)
    if isinstance(content, dict) and isinstance(content.get(TASK_KEY), dict):
        raise DetrLiteError(f"{path}: is of the task {shown(content[TASK_KEY].get('name'))}, not a detector")
    if not isinstance(content, dict) or KEY not in content or not is_state(content.get("state_dict")):
        raise DetrLiteError(f"{path}: not a checkpoint of detr_lite")
    version = content[KEY].get("format") if isinstance(content[KEY], dict) else None
    if version in UPGRADABLE:
        upgrade(content, KEY)
    elif version != FORMAT:
        is_newer = isinstance(version, int) and version > FORMAT
        remedy = "update detr_lite" if is_newer else "train again, or use the version of detr_lite that wrote it"
        raise DetrLiteError(
            f"{path}: checkpoint format {shown(version)}, but this version of detr_lite reads format {FORMAT}; {remedy}"
        )
    _check_best_paths(content.get("callbacks"), path)
    return content


def describe_checkpoint(content: dict[str, Any], path: Path) -> Description:
    """Errors: an incomplete description, and settings that this version does not have."""
    try:
        return Description.from_dict(content[KEY])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DetrLiteError(f"{path}: its description is incomplete ({reason_of(error)})") from error
    except DetrLiteError as error:
        raise DetrLiteError(f"{path}: {error}") from error


def load_model(path: Path) -> tuple[Detr | FamilyDetr, Description]:
    """The model of a checkpoint, in evaluation mode, and its description.

    Errors: those of `read_checkpoint`, and weights that do not match the description.
    """
    content = read_checkpoint(path)
    description = describe_checkpoint(content, path)
    model = model_of(description)
    load_weights(model, content["state_dict"], path)
    return model.eval(), description


def load_weights(model: nn.Module, state_dict: Mapping[str, Tensor], path: Path) -> None:
    """Load the weights of a run's checkpoint.

    Errors: names or shapes that the model does not have, or lacks.
    """
    state = {name.removeprefix("model."): value for name, value in state_dict.items()}
    expected = model.state_dict()
    mismatched = [name for name in {*expected, *state} if _shape(expected, name) != _shape(state, name)]
    if mismatched:
        names = shorten_list(sorted(mismatched), limit=3)
        raise DetrLiteError(f"{path}: its weights do not match its settings: {names}")
    model.load_state_dict(state)


def activation_of(description: Description) -> Activation:
    """What turns the model's logits into scores."""
    if description.architecture is not None:
        return family_of(description.architecture).activation
    return "softmax" if description.config.model.name == "detr" else "sigmoid"


def model_of(description: Description) -> Detr | FamilyDetr:
    """A model for the weights of a checkpoint; nothing is downloaded.

    Errors: transformers is not installed, and an architecture that does not fit the classes.
    """
    classes = len(description.categories)
    if description.architecture is not None:
        return FamilyDetr(build_network(description.architecture, classes))
    return build_model(description.config.model, classes, for_checkpoint=True)


def write_checkpoint(path: Path, model: Detr | FamilyDetr, description: Description) -> None:
    """Write a checkpoint like those of a run, without the state of training."""
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    content = {KEY: description.to_dict(), "state_dict": state}
    atomic_write(path, lambda file: torch.save(content, file))


def store_thresholds(path: Path, thresholds: ScoreThresholds) -> None:
    """Write a checkpoint anew with these thresholds; everything else in it, the state of training too, stays as it is.

    Errors: those of `read_checkpoint`, thresholds of other classes, and a file that cannot be written, which stays.
    """
    content = read_checkpoint(path)
    before = describe_checkpoint(content, path)
    if before.thresholds == thresholds:
        return
    replace(before, thresholds=thresholds)  # checks that they fit the classes
    content[KEY][THRESHOLDS] = thresholds.to_dict()
    atomic_write(path, lambda file: torch.save(content, file))


def is_exported(path: Path) -> bool:
    """Whether it is an export of detr_lite; weights of other programs may have another .json beside them.

    Errors: a .json file that cannot be read.
    """
    file = find_exported(path)
    description = None if file is None else file.with_suffix(".json")
    return description is not None and description.is_file() and KEY in read_json(description)


def _read_exported(path: Path) -> dict[str, Any]:
    file = find_exported(path)
    if file is None:
        raise DetrLiteError(f"{path}: no such checkpoint")
    description = file.with_suffix(".json")
    if not description.is_file():
        raise DetrLiteError(
            f"{file}: {description.name}, which describes the model, is not beside it; weights of other programs are "
            f"converted by {command_line('import')}"
        )
    return {**read_json(description), "state_dict": read_safetensors(file)}


def _check_best_paths(callbacks: Any, path: Path) -> None:
    """Refuse a state of `ModelCheckpoint` whose best checkpoint is not directly in its own folder.

    A resumed run lets Lightning delete that path once there is a better checkpoint; a manipulated one, with `..` or a
    protocol of fsspec, would delete other files or whole folders.
    """
    for state in callbacks.values() if isinstance(callbacks, dict) else ():
        file = state.get("kth_best_model_path") if isinstance(state, dict) else None
        if file and (file != os.path.normpath(str(file)) or str(Path(file).parent) != state.get("dirpath")):
            raise DetrLiteError(f"{path}: its best checkpoint {shown(file)} is not in the folder of its checkpoints")


def _shape(state: Mapping[str, Tensor], name: str) -> torch.Size | None:
    return state[name].shape if name in state else None
