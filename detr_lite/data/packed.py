"""Millions of strings and ids in arrays, which cost a few bytes each and which processes can share.

Of Python objects every loading process would end up with its own copy, because reading one writes its reference count.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, overload

import numpy as np
from jaxtyping import Int64, UInt8

from detr_lite.data.mapped_arrays import received, to_send

ImageId = int | str

_CHUNK = 4096
"""Strings that are decoded together when all are read."""


class PackedStrings(Sequence[str]):
    """Strings in one array, and another one of where they end."""

    def __init__(self, strings: Sequence[str]) -> None:
        encoded = [string.encode("utf-8", "surrogateescape") for string in strings]
        self.ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        self.bytes = np.frombuffer(b"".join(encoded), dtype=np.uint8)

    @staticmethod
    def of_arrays(bytes: UInt8[np.ndarray, " byte"], ends: Int64[np.ndarray, " ends"]) -> "PackedStrings":
        """The strings whose arrays these are."""
        packed = PackedStrings([])
        packed.bytes, packed.ends = bytes, ends
        return packed

    def __len__(self) -> int:
        return len(self.ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        return self.bytes[self.ends[place] : self.ends[place + 1]].tobytes().decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), _CHUNK):
            ends = self.ends[first : first + _CHUNK + 1].tolist()
            start = ends[0]
            content = self.bytes[start : ends[-1]].tobytes()
            for before, after in pairwise(ends):
                yield content[before - start : after - start].decode("utf-8", "surrogateescape")

    def __getstate__(self) -> dict[str, Any]:
        return {"bytes": to_send(self.bytes), "ends": to_send(self.ends)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.bytes, self.ends = received(state["bytes"]), received(state["ends"])


class PackedIds(Sequence[ImageId]):
    """The ids of images: 8 bytes each where all are numbers of 64 bits, else as texts."""

    def __init__(self, ids: Sequence[ImageId]) -> None:
        self.numbers: Int64[np.ndarray, " image"] | None = None
        self.texts = PackedStrings([])
        if isinstance(ids, PackedIds):
            self.numbers, self.texts = ids.numbers, ids.texts
        elif all(type(id) is int and -(2**63) <= id < 2**63 for id in ids):
            self.numbers = np.array(ids, dtype=np.int64)
        else:
            self.texts = PackedStrings([json.dumps(id) for id in ids])

    @staticmethod
    def of_arrays(arrays: dict[str, np.ndarray]) -> "PackedIds":
        """The ids of `arrays`."""
        packed = PackedIds([])
        if "id_numbers" in arrays:
            packed.numbers = arrays["id_numbers"]
        else:
            packed.numbers, packed.texts = None, PackedStrings.of_arrays(arrays["id_bytes"], arrays["id_ends"])
        return packed

    def arrays(self) -> dict[str, np.ndarray]:
        """For the cache."""
        if self.numbers is not None:
            return {"id_numbers": self.numbers}
        return {"id_bytes": self.texts.bytes, "id_ends": self.texts.ends}

    def __len__(self) -> int:
        return len(self.texts) if self.numbers is None else len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> ImageId: ...
    @overload
    def __getitem__(self, index: slice) -> list[ImageId]: ...
    def __getitem__(self, index: int | slice) -> ImageId | list[ImageId]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        if self.numbers is not None:
            return int(self.numbers[index])
        id: ImageId = json.loads(self.texts[index])
        return id

    def __iter__(self) -> Iterator[ImageId]:
        if self.numbers is not None:
            for first in range(0, len(self.numbers), _CHUNK):
                yield from self.numbers[first : first + _CHUNK].tolist()
        else:
            yield from map(json.loads, self.texts)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, PackedIds) and self.numbers is not None and other.numbers is not None:
            return np.array_equal(self.numbers, other.numbers)
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(_is_same, self, other))

    __hash__ = None  # type: ignore[assignment]


def _is_same(first: object, second: object) -> bool:
    return first == second
