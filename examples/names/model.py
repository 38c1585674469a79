"""Names as texts of letters, and the decoder that writes them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from detr_lite.errors import DetrLiteError
from detr_lite.model.autoregressive import CausalDecoder
from detr_lite.text import shown

TASK = "names"
FILE = Path(__file__).with_name("names.txt")
END = 0
"""Stands before a name and after it; letters are 1 to 26."""
IGNORED = -1
"""The next letter in the padding."""
LETTERS = "abcdefghijklmnopqrstuvwxyz"
MAX_LETTERS = 20


class Names(NamedTuple):
    train: list[str]
    val: list[str]
    """Choose the checkpoint, and the smoothing of the count models."""
    test: list[str]
    """Are only measured."""


def read_names(path: Path) -> Names:
    """A tenth each to choose and to measure with; the order of the file does not matter.

    Errors: a missing file, one of few names, other characters than letters from a to z.
    """
    try:
        names = sorted({line.strip().lower() for line in path.read_text(encoding="utf-8").splitlines()} - {""})
    except (OSError, UnicodeDecodeError) as error:
        raise DetrLiteError(f"{path}: cannot be read as a list of names, one a line") from error
    for name in names:
        if set(name) - set(LETTERS) or len(name) > MAX_LETTERS:
            raise DetrLiteError(f"{path}: {shown(name)} is not a name of at most {MAX_LETTERS} letters from a to z")
    if len(names) < 30:
        raise DetrLiteError(f"{path}: {len(names)} names are too few; give at least 30")
    Random(0).shuffle(names)
    tenth = len(names) // 10
    return Names(names[2 * tenth :], names[:tenth], names[tenth : 2 * tenth])


def encode(name: str) -> list[int]:
    return [LETTERS.index(letter) + 1 for letter in name]


def decode(letters: Sequence[int]) -> str:
    return "".join(LETTERS[letter - 1] for letter in letters)


class Letters(NamedTuple):
    """A batch of names, padded at the right."""

    read: Int[Tensor, "name letter"]
    """The start and the name."""
    following: Int[Tensor, "name letter"]
    """The name and its end: what comes after each letter."""


def collate(names: Sequence[str]) -> Letters:
    longest = max(map(len, names), default=0) + 1
    rows = [encode(name) for name in names]
    read = [[END, *row] + [END] * (longest - 1 - len(row)) for row in rows]
    following = [[*row, END] + [IGNORED] * (longest - 1 - len(row)) for row in rows]
    return Letters(torch.tensor(read), torch.tensor(following))


def build_network(settings: Mapping[str, Any]) -> CausalDecoder:
    """Without cross-attention: Q, K and V are the letters so far."""
    dim = settings["dim"]
    return CausalDecoder(
        len(LETTERS) + 1,
        dim,
        settings["layers"],
        settings["heads"],
        4 * dim,
        settings["dropout"],
        cross_attention=False,
    )
