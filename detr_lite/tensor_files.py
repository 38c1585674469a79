"""Reads weights without executing code in their files."""

import pickle
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeGuard

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from detr_lite.structures import DetrLiteError
from detr_lite.text import printable, reason_of


def read_torch(path: Path, allowed: Sequence[type] = ()) -> Any:
    """The content of a file of `torch.save`: tensors, plain types, and instances of the `allowed` classes.

    Errors: a missing or truncated file, and one with other classes.
    """
    if not path.is_file():
        raise DetrLiteError(f"{path}: no such checkpoint")
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(list(allowed)):
            warnings.simplefilter("ignore")  # about unusual pickles; errors are reported below
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DetrLiteError(
            f"{path}: not a checkpoint of tensors and plain types; it could execute code, so it is not loaded"
            + _other_classes(path, allowed)
        ) from error
    except Exception as error:  # the type depends on which bytes are damaged
        raise DetrLiteError(f"{path}: not a checkpoint, or cut off ({reason_of(error)})") from error


def _other_classes(path: Path, allowed: Sequence[type]) -> str:
    """The classes in a file that are not allowed, and how to save it without them."""
    try:
        with torch.serialization.safe_globals(list(allowed)):
            names = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # torch cannot list the classes of every pickle
        return ""
    # Names may be any text.
    classes = textwrap.shorten(printable(", ".join(names)), 200)
    resave = "torch.save({'model': torch.load(FILE, weights_only=False)['model']}, NEW)"
    return f" (it contains {classes}); if you trust its source, save its weights alone: {resave}" if names else ""


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Errors: a missing, unreadable or truncated file."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise DetrLiteError(f"{path}: not a safetensors file, or cut off ({reason_of(error)})") from error


def is_state(value: Any) -> TypeGuard[dict[str, Tensor]]:
    """Whether it is a state_dict: tensors by name and nothing else."""
    return isinstance(value, dict) and all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items()
    )
