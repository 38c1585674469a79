"""Files of weights and of settings, read without running any code in them."""

import json
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
    """What `torch.save` wrote: tensors, plain types, and instances of the `allowed` classes.

    Errors: a missing file, one that is cut off, one that holds more.
    """
    if not path.is_file():
        raise DetrLiteError(f"{path}: no such checkpoint")
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(list(allowed)):
            warnings.simplefilter("ignore")  # of unusual pickles; what is wrong with one is told below
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DetrLiteError(
            f"{path}: not a checkpoint of tensors and plain types; it may ask to run code, so it is not opened"
            + _others_in(path, allowed)
        ) from error
    except Exception as error:  # a damaged file fails in as many ways as there are bytes
        raise DetrLiteError(f"{path}: not a checkpoint, or cut off ({reason_of(error)})") from error


def _others_in(path: Path, allowed: Sequence[type]) -> str:
    """The classes that a file asks for beside the allowed ones, and what to do where they are harmless."""
    try:
        with torch.serialization.safe_globals(list(allowed)):
            names = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # not all that is pickled is in the form that torch can list
        return ""
    # A name is any text that its writer chose.
    listed = textwrap.shorten(printable(", ".join(names)), 200)
    resave = "torch.save({'model': torch.load(FILE, weights_only=False)['model']}, NEW)"
    return f" (it asks for {listed}); if you trust its writer, save its weights alone: {resave}" if names else ""


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Errors: a missing or unreadable file, one that is cut off."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise DetrLiteError(f"{path}: not a safetensors file, or cut off ({reason_of(error)})") from error


def read_json(path: Path) -> dict[str, Any]:
    """Errors: no readable JSON, or not an object."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DetrLiteError(f"{path}: not readable as JSON ({reason_of(error)})") from error
    if not isinstance(content, dict):
        raise DetrLiteError(f"{path}: it holds a {type(content).__name__}, not an object with settings")
    return content


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Errors: a folder where a file is to be written; a file, unless `overwrite`."""
    if path.is_dir():
        raise DetrLiteError(f"{path} is a folder; name a file")
    if path.exists() and not overwrite:
        raise DetrLiteError(f"{path} exists; name another file, or give --overwrite to replace it")


def is_state(value: Any) -> TypeGuard[dict[str, Tensor]]:
    """Whether it is named tensors and nothing else."""
    return isinstance(value, dict) and all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items()
    )
