"""Transfer of weights between models that differ: tensors that fit are copied, and every tensor is accounted for."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from detr_lite.data.name_matching import match_names, other_names
from detr_lite.text import shorten_list

CLASS_ROWS = re.compile(
    r"heads\.label\.(\d+\.)?(weight|bias)|queries\.token_label\.(weight|bias)|queries\.denoising_embed\.weight"
)
"""Tensors with a row for each class; in `detr` followed by a row for the background."""

QUERY_ROWS = re.compile(r"queries\.(position|content)\.weight")
"""Tensors with a row for each query."""

COUNTER = "num_batches_tracked"
"""Step counter of batch norm, which frozen batch norm does not have."""


@dataclass(frozen=True)
class ModelWeights:
    """The state_dict of a model, its classes and its backbone."""

    state: Mapping[str, Tensor]
    class_names: Sequence[str]
    backbone: str
    """timm's name."""


@dataclass(frozen=True)
class TransferResult:
    """The state_dict of the target model, and the origin of each of its tensors."""

    state: dict[str, Tensor]
    copied: tuple[str, ...]
    """Tensors copied as a whole."""
    by_class: tuple[str, ...]
    """Tensors whose rows were copied by class name."""
    by_query: tuple[str, ...]
    """Tensors whose first rows were copied."""
    initialized: tuple[str, ...]
    """Tensors of the target model that were not changed."""
    unused: tuple[str, ...]
    """Tensors of the source that the target does not have; without the backbone's if it is another network."""
    copied_classes: tuple[str, ...]
    """Names, in the target, of the classes whose rows were copied."""
    other_names: tuple[str, ...]
    """Those of them whose names in the source are not equal, such as "sofa as couch"."""
    num_classes: int
    has_background: bool
    """Whether the row of the background was copied."""
    num_source_queries: int
    num_queries: int
    source_names: tuple[str, ...]

    @property
    def has_transformer(self) -> bool:
        """Whether any matrix of the encoder's or decoder's layers was copied."""
        layers = ("encoder.layers.", "decoder.layers.")
        return any(name.startswith(layers) and self.state[name].ndim > 1 for name in self.copied)

    def summary(self) -> list[str]:
        """Lines that list what was copied, newly initialized and not used; every tensor is counted."""
        lines = [f"{len(self.copied)} tensors copied"]
        if self.by_class:
            lines.append(f"class rows: {self._classes()}; in {summarize(self.by_class, self.state)}")
            if self.other_names:
                lines.append(f"class rows matched by other names: {shorten_list(self.other_names, limit=8)}")
        if self.by_query:
            lines.append(f"queries: {self._queries()}")
        if self.initialized:
            lines.append(f"newly initialized: {summarize(self.initialized, self.state)}")
        if self.unused:
            lines.append(f"not used: {summarize(self.unused, self.source_names)}")
        return lines

    def _classes(self) -> str:
        copied, new = len(self.copied_classes), self.num_classes - len(self.copied_classes)
        return (
            f"{copied} of {self.num_classes} by name"
            + (f" ({shorten_list(self.copied_classes, limit=8)})" if copied else "")
            + (f", {new} new" if new else "")
            + (", and the background's" if self.has_background else "")
        )

    def _queries(self) -> str:
        copied = min(self.num_queries, self.num_source_queries)
        more, fewer = self.num_queries - copied, self.num_source_queries - copied
        return f"{copied} of {self.num_queries} kept" + (
            f", {more} new" if more else f", {fewer} left out" if fewer else ""
        )


def transfer(source: ModelWeights, target: ModelWeights) -> TransferResult:
    """Copy the source's tensors into the target's state_dict where names and shapes agree.

    Rows of classes are matched by class name; of queries the first rows are copied. Nothing is copied between backbones
    of different architectures, although some names and shapes may agree.
    """
    has_same_network = architecture_of(source.backbone) == architecture_of(target.backbone)
    rows = match_names(source.class_names, target.class_names)
    state = dict(target.state)
    copied, by_class, by_query, initialized = [], [], [], []
    for name, fresh in target.state.items():
        given = source.state.get(name)
        if given is not None and name.startswith("backbone.") and not has_same_network:
            given = None
        if name.endswith(COUNTER):
            state[name] = fresh if given is None else given
        elif given is None or given.shape[1:] != fresh.shape[1:] or given.ndim != fresh.ndim:
            initialized.append(name)
        elif CLASS_ROWS.fullmatch(name) and _extra_rows(given, source) == _extra_rows(fresh, target) >= 0:
            state[name] = _copy_class_rows(given, fresh, rows, _extra_rows(fresh, target))
            by_class.append(name)
        elif QUERY_ROWS.fullmatch(name):
            state[name] = torch.cat([given[: len(fresh)].to(fresh), fresh[len(given) :]])
            by_query.append(name)
        elif given.shape == fresh.shape and not CLASS_ROWS.fullmatch(name):
            state[name] = given.to(fresh)
            copied.append(name)
        else:
            initialized.append(name)
    unused = [name for name in source.state if name not in target.state and not name.endswith(COUNTER)]
    if not has_same_network:
        unused = [name for name in unused if not name.startswith("backbone.")]
    queries = by_query[0] if by_query else None
    return TransferResult(
        state=state,
        copied=tuple(copied),
        by_class=tuple(by_class),
        by_query=tuple(by_query),
        initialized=tuple(initialized),
        unused=tuple(unused),
        copied_classes=tuple(target.class_names[row] for row in sorted(rows)) if by_class else (),
        other_names=tuple(other_names(source.class_names, target.class_names, rows)) if by_class else (),
        num_classes=len(target.class_names),
        has_background=any(_extra_rows(state[name], target) for name in by_class),
        num_source_queries=len(source.state[queries]) if queries else 0,
        num_queries=len(target.state[queries]) if queries else 0,
        source_names=tuple(source.state),
    )


def architecture_of(backbone: str) -> str:
    """timm's name without the tag of the pretrained weights."""
    return backbone.split(".")[0]


def summarize(names: Iterable[str], all_names: Iterable[str]) -> str:
    """A short list of tensors, with modules in place of all of their tensors: "backbone.network.layer4 (12 tensors)".

    The same part of numbered modules is one entry: "decoder.layers.3-5 (78 tensors)".
    """
    listed = tuple(names)
    others = {name for name in {*all_names} - {*listed} if not name.endswith(COUNTER)}
    incomplete = {prefix for name in others for prefix in _prefixes(name)}
    counts: dict[str, int] = {}
    for name in listed:
        root = next((prefix for prefix in _prefixes(name) if prefix not in incomplete), name)
        counts[root] = counts.get(root, 0) + 1
    groups: dict[tuple[str, str], dict[int, int]] = {}  # name before and after the first index -> index -> tensors
    for root, count in counts.items():
        found = re.fullmatch(r"(.*?\.)(\d+)((?:\..*)?)", root)
        before, number, after = found.groups() if found else (root, "-1", "")
        groups.setdefault((before, after), {})[int(number)] = count
    parts = []
    for (before, after), numbered in groups.items():
        name = before + ("" if -1 in numbered else _ranges(sorted(numbered))) + after
        count = sum(numbered.values())
        parts.append(name if name in listed else f"{name} ({count} tensor{'s' if count > 1 else ''})")
    return ", ".join(parts)


def _ranges(numbers: Sequence[int]) -> str:
    """ "0-2,5" for 0, 1, 2 and 5."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and ranges[-1][-1] == number - 1:
            ranges[-1].append(number)
        else:
            ranges.append([number])
    return ",".join(f"{each[0]}-{each[-1]}" if len(each) > 1 else f"{each[0]}" for each in ranges)


def _extra_rows(tensor: Tensor, weights: ModelWeights) -> int:
    """Number of rows besides those of the classes: 1 with a background, otherwise 0."""
    return len(tensor) - len(weights.class_names)


def _copy_class_rows(given: Tensor, fresh: Tensor, rows: Mapping[int, int], extra_rows: int) -> Tensor:
    filled = fresh.clone()
    for row, given_row in rows.items():
        filled[row] = given[given_row]
    if extra_rows:
        filled[-extra_rows:] = given[-extra_rows:]
    return filled


def _prefixes(name: str) -> list[str]:
    """ "a" and "a.b" of "a.b.weight"."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]
