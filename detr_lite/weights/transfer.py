"""Weights for a model that differs from the one they come from: what fits is copied, and all of it is accounted for."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

CLASS_ROWS = re.compile(
    r"heads\.label\.(\d+\.)?(weight|bias)|queries\.token_label\.(weight|bias)|queries\.denoising_embed\.weight"
)
"""Tensors with a row for each class; in the original's class layer the background's row comes after them."""

QUERY_ROWS = re.compile(r"queries\.(position|content)\.weight")
"""Tensors with a row for each query."""

COUNTER = "num_batches_tracked"
"""Batch norm's step counter, which frozen batch norm does not have; nothing here depends on it."""


@dataclass(frozen=True)
class Weights:
    """The tensors of a model, and what they are of."""

    state: Mapping[str, Tensor]
    class_names: Sequence[str]
    backbone: str
    """timm's name of the network."""


@dataclass(frozen=True)
class Transfer:
    """The state of the new model, and where each tensor in it is from."""

    state: dict[str, Tensor]
    kept: tuple[str, ...]
    """Tensors copied whole."""
    by_class: tuple[str, ...]
    """Tensors whose rows were filled by category name."""
    by_query: tuple[str, ...]
    """Tensors whose first rows were copied."""
    reset: tuple[str, ...]
    """Tensors that stay as the new model was made."""
    unused: tuple[str, ...]
    """Tensors of the old model that the new one has no place for; of a network of another kind none are listed."""
    classes_kept: tuple[str, ...]
    """The new model's names of the classes whose rows were copied."""
    classes: int
    has_background: bool
    """Whether the class layer's row of the background was copied, too."""
    queries_before: int
    queries: int
    old_names: tuple[str, ...]

    @property
    def has_transformer(self) -> bool:
        """Whether anything was kept of what the encoder's or the decoder's layers multiply with; a bias is nothing."""
        layers = ("encoder.layers.", "decoder.layers.")
        return any(name.startswith(layers) and self.state[name].ndim > 1 for name in self.kept)

    def lines(self) -> list[str]:
        """What was kept and what was reset, for people; nothing is left out."""
        lines = [f"{len(self.kept)} tensors kept"]
        if self.by_class:
            lines.append(f"class rows: {self._classes()}; in {summarise(self.by_class, self.state)}")
        if self.by_query:
            lines.append(f"queries: {self._queries()}")
        if self.reset:
            lines.append(f"reset: {summarise(self.reset, self.state)}")
        if self.unused:
            lines.append(f"not used: {summarise(self.unused, self.old_names)}")
        return lines

    def _classes(self) -> str:
        kept, new = len(self.classes_kept), self.classes - len(self.classes_kept)
        names = ", ".join(self.classes_kept[:8]) + (f" and {kept - 8} more" if kept > 8 else "")
        return (
            f"{kept} of {self.classes} by name"
            + (f" ({names})" if kept else "")
            + (f", {new} new" if new else "")
            + (", and the background's" if self.has_background else "")
        )

    def _queries(self) -> str:
        kept = min(self.queries, self.queries_before)
        more, fewer = self.queries - kept, self.queries_before - kept
        return f"{kept} of {self.queries} kept" + (f", {more} new" if more else f", {fewer} left out" if fewer else "")


def transfer(old: Weights, new: Weights) -> Transfer:
    """Put `old` into `new` wherever names and shapes agree; `new` gives the rest, as it was made.

    Rows of classes go by category name. Of queries the first rows are taken. A network of another kind gives nothing to
    the backbone: some of its tensors may have the same names and shapes, but they do not work together.
    """
    has_same_network = architecture_of(old.backbone) == architecture_of(new.backbone)
    rows = match_names(old.class_names, new.class_names)
    state = dict(new.state)
    kept, by_class, by_query, reset = [], [], [], []
    for name, fresh in new.state.items():
        given = old.state.get(name)
        if given is not None and name.startswith("backbone.") and not has_same_network:
            given = None
        if name.endswith(COUNTER):
            state[name] = fresh if given is None else given
        elif given is None or given.shape[1:] != fresh.shape[1:] or given.ndim != fresh.ndim:
            reset.append(name)
        elif CLASS_ROWS.fullmatch(name) and _others(given, old) == _others(fresh, new) >= 0:
            state[name] = _by_class(given, fresh, rows, _others(fresh, new))
            by_class.append(name)
        elif QUERY_ROWS.fullmatch(name):
            state[name] = torch.cat([given[: len(fresh)].to(fresh), fresh[len(given) :]])
            by_query.append(name)
        elif given.shape == fresh.shape and not CLASS_ROWS.fullmatch(name):
            state[name] = given.to(fresh)
            kept.append(name)
        else:
            reset.append(name)
    unused = [name for name in old.state if name not in new.state and not name.endswith(COUNTER)]
    if not has_same_network:
        unused = [name for name in unused if not name.startswith("backbone.")]
    queries = by_query[0] if by_query else None
    return Transfer(
        state=state,
        kept=tuple(kept),
        by_class=tuple(by_class),
        by_query=tuple(by_query),
        reset=tuple(reset),
        unused=tuple(unused),
        classes_kept=tuple(new.class_names[row] for row in sorted(rows)) if by_class else (),
        classes=len(new.class_names),
        has_background=any(_others(state[name], new) for name in by_class),
        queries_before=len(old.state[queries]) if queries else 0,
        queries=len(new.state[queries]) if queries else 0,
        old_names=tuple(old.state),
    )


def match_names(old: Sequence[str], new: Sequence[str]) -> dict[int, int]:
    """For each new row the old one of that name: compared exactly, and what is left without regard to case."""
    rows: dict[int, int] = {}
    comparisons: tuple[Callable[[str], str], ...] = (str, str.casefold)
    for as_compared in comparisons:
        free: dict[str, int] = {}
        for row, name in enumerate(old):
            if row not in rows.values():
                free.setdefault(as_compared(name), row)
        for row, name in enumerate(new):
            if row not in rows and as_compared(name) in free:
                rows[row] = free.pop(as_compared(name))
    return rows


def architecture_of(backbone: str) -> str:
    """timm's name without the tag of the weights."""
    return backbone.split(".")[0]


def summarise(names: Iterable[str], among: Iterable[str]) -> str:
    """Tensors as modules where a module is meant as a whole: "backbone.network.layer4 (12 tensors)".

    Numbered modules of which the same part is meant share an entry: "decoder.layers.3-5 (78 tensors)".
    """
    meant = tuple(names)
    others = {name for name in {*among} - {*meant} if not name.endswith(COUNTER)}
    in_part = {prefix for name in others for prefix in _prefixes(name)}
    counts: dict[str, int] = {}
    for name in meant:
        root = next((prefix for prefix in _prefixes(name) if prefix not in in_part), name)
        counts[root] = counts.get(root, 0) + 1
    alike: dict[tuple[str, str], dict[int, int]] = {}  # before and after the first number -> number -> tensors
    for root, count in counts.items():
        found = re.fullmatch(r"(.*?\.)(\d+)((?:\..*)?)", root)
        before, number, after = found.groups() if found else (root, "-1", "")
        alike.setdefault((before, after), {})[int(number)] = count
    parts = []
    for (before, after), numbered in alike.items():
        name = before + ("" if -1 in numbered else _spans(sorted(numbered))) + after
        count = sum(numbered.values())
        parts.append(name if name in meant else f"{name} ({count} tensor{'s' if count > 1 else ''})")
    return ", ".join(parts)


def _spans(numbers: Sequence[int]) -> str:
    """ "0-2,5" for 0, 1, 2 and 5."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and spans[-1][-1] == number - 1:
            spans[-1].append(number)
        else:
            spans.append([number])
    return ",".join(f"{span[0]}-{span[-1]}" if len(span) > 1 else f"{span[0]}" for span in spans)


def _others(tensor: Tensor, weights: Weights) -> int:
    """Rows beside those of the classes: the background's, or none."""
    return len(tensor) - len(weights.class_names)


def _by_class(given: Tensor, fresh: Tensor, rows: Mapping[int, int], others: int) -> Tensor:
    filled = fresh.clone()
    for row, given_row in rows.items():
        filled[row] = given[given_row]
    if others:
        filled[-others:] = given[-others:]
    return filled


def _prefixes(name: str) -> list[str]:
    """ "a.b.weight" is in "a" and in "a.b"."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]
