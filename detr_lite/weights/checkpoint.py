"""Our checkpoints: tensors and plain types only, with all that is needed to use the model anywhere."""

import pickle
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detr_lite.build import build_model
from detr_lite.config import Config, config_from_dict, config_to_dict
from detr_lite.data.transforms import ResizeRule
from detr_lite.model.detr import Detr
from detr_lite.structures import Category, DetrLiteError

KEY = "detr_lite"
"""Where our description stands in a checkpoint of Lightning's."""

FORMAT = 1
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
            mean=tuple(values["mean"]),
            std=tuple(values["std"]),
        )


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint file; nothing in it is run.

    Errors: a missing file, one that is no checkpoint of ours or is cut off, one that holds more than plain data.
    """
    if not path.is_file():
        raise DetrLiteError(f"{path}: no such checkpoint")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unusual pickles; what is wrong with one is told below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DetrLiteError(
            f"{path}: not a checkpoint of tensors and plain types; it may ask to run code, so it is not opened"
        ) from error
    except Exception as error:  # a damaged file fails in as many ways as there are bytes
        raise DetrLiteError(f"{path}: not a checkpoint, or cut off ({_first_line(error)})") from error
    if not isinstance(content, dict) or KEY not in content or not _is_state(content.get("state_dict")):
        raise DetrLiteError(f"{path}: not a checkpoint that detr_lite wrote")
    version = content[KEY].get("format") if isinstance(content[KEY], dict) else None
    if version != FORMAT:
        raise DetrLiteError(
            f"{path}: a checkpoint of format {version}; this version of detr_lite reads format {FORMAT}"
        )
    return content


def describe_checkpoint(content: dict[str, Any], path: Path) -> Description:
    """Errors: a description that this version does not understand."""
    try:
        return Description.from_dict(content[KEY])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DetrLiteError(f"{path}: its description is not complete ({_first_line(error)})") from error
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


def _is_state(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(tensor, Tensor) for tensor in value.values())


def _shape(state: dict[str, Tensor], name: str) -> torch.Size | None:
    return state[name].shape if name in state else None


def _some(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _first_line(error: BaseException) -> str:
    return textwrap.shorten((str(error).strip() or type(error).__name__).splitlines()[0], 120, placeholder=" ...")
