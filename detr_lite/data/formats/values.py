"""Numbers and ids from annotation files, whose types need not be those that the format prescribes."""

from collections.abc import Sequence
from itertools import chain
from math import inf, nan
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from detr_lite.data.packed import ImageId


def number_of(value: object) -> float:
    """The value of a number or of a number in quotes; NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return nan
    try:
        return float(value)
    except OverflowError:
        return inf
    except ValueError:
        return nan


def numbers_of(values: Sequence[object]) -> tuple[Float64[np.ndarray, " value"], list[int]]:
    """All values as `number_of` gives them, and the places of the numbers in quotes."""
    if set(map(type, values)) <= {int, float, type(None)}:
        try:
            return np.array(values, dtype=np.float64), []
        except OverflowError:
            pass
    numbers = [number_of(value) for value in values]
    quoted = [
        place for place, value in enumerate(values) if isinstance(value, str) and numbers[place] == numbers[place]
    ]
    return np.array(numbers, dtype=np.float64), quoted


def boxes_of(values: Sequence[object]) -> tuple[Float64[np.ndarray, "value 4"], list[int], list[int]]:
    """Lists of four numbers; a row of NaN for anything else.

    Returns besides the boxes the places of those with numbers in quotes, and of lists of five numbers, which have an
    angle.
    """
    if set(map(type, values)) == {list}:
        lists: Any = values
        if set(map(len, lists)) == {4} and set(map(type, chain.from_iterable(lists))) <= {int, float}:
            try:
                return np.array(lists, dtype=np.float64), [], []
            except OverflowError:
                pass
    boxes = np.full((len(values), 4), nan)
    quoted: list[int] = []
    oriented: list[int] = []
    for place, value in enumerate(values):
        if isinstance(value, str):  # as in a table's column: "[1, 2, 3, 4]"
            value = value.strip("[]() ").replace(",", " ").split()
        if not isinstance(value, list | tuple) or len(value) not in (4, 5):
            continue
        numbers = [number_of(each) for each in value]
        if len(value) == 4:
            boxes[place] = numbers
        if any(number != number for number in numbers):
            continue
        if len(value) == 5:
            oriented.append(place)
        elif any(isinstance(each, str) for each in value):
            quoted.append(place)
    return boxes, quoted, oriented


def id_of(value: object) -> ImageId | None:
    """A dataset's own id: an integer, or text; whole numbers written as 1.0 are integers. None for what is no id."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int | str) else None


class IdIndex:
    """Where each id stands in a list, also for one that is referred to as 1.0 or "1" where the list has 1."""

    def __init__(self, ids: Sequence[ImageId]) -> None:
        self._exact: dict[object, int] = {}
        for place, listed in enumerate(ids):
            self._exact.setdefault(listed, place)
        self._plain: dict[object, int] = {}
        for exact, place in self._exact.items():
            plain = _plain(exact)
            self._plain[plain] = -1 if plain in self._plain else place  # "1" and 1 are two ids here

    def of(self, values: Sequence[object]) -> tuple[Int64[np.ndarray, " value"], list[int]]:
        """The place of each id, -1 for one that is not listed; and which were found only as number for text."""
        try:
            places = np.array([self._exact.get(value, -1) for value in values], dtype=np.int64)
        except TypeError:  # a list or an object
            places = np.array(
                [self._exact.get(value, -1) if id_of(value) is not None else -1 for value in values], dtype=np.int64
            )
        converted: list[int] = []
        for unknown in np.flatnonzero(places == -1).tolist():
            id = id_of(values[unknown])
            if id is not None and (place := self._plain.get(_plain(id), -1)) != -1:
                places[unknown] = place
                converted.append(unknown)
        return places, converted


def _plain(id: object) -> object:
    """The number that an id in quotes is, or else the id."""
    if not isinstance(id, str):
        return id
    number = number_of(id)
    return int(number) if number.is_integer() else id
