"""The categories of a dataset that a model knows, by name, and what there is to say about the others."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int64

from detr_lite.data.name_matching import match_names, other_names
from detr_lite.data.records import Split
from detr_lite.structures import Category, DetrLiteError
from detr_lite.text import shorten_list


@dataclass(frozen=True, eq=False)
class CategoryMatch:
    """Which category of the dataset each of the model's is."""

    new_labels: Int64[np.ndarray, " class"]
    """The dataset's label for each of the model's; -1 where the dataset does not list it."""
    lines: tuple[str, ...]
    """For the log: what was matched under another name, and objects that count as missed."""


def match_categories(categories: Sequence[Category], data: Split, allow_unknown: bool = False) -> CategoryMatch:
    """Match the model's categories with the dataset's by name, as `match_names` does.

    Args:
        allow_unknown: let objects of categories that the model does not know count as missed, if it knows any.

    Errors: objects of a category that the model does not know; with `allow_unknown`, if it knows none.
    """
    model_names, names = [each.name for each in categories], [each.name for each in data.categories]
    matched = match_names(model_names, names)
    counts = np.bincount(data.ground_truth.labels[~data.ground_truth.is_crowd], minlength=len(names))
    used = np.flatnonzero(counts).tolist()
    unknown = [label for label in used if label not in matched]
    if unknown and not allow_unknown:
        raise DetrLiteError(
            f"{data.report.source}: has objects of {shorten_list([names[label] for label in unknown])}, for which the "
            f"model was not trained; it knows {shorten_list(model_names)}"
        )
    if allow_unknown and not (set(used) & set(matched) if used else matched):
        raise DetrLiteError(
            f"{data.report.source}: the model knows none of its categories ({shorten_list(names)}); it knows "
            f"{shorten_list(model_names)}; rename the categories, or fine-tune the model on them"
        )
    new_labels = np.full(len(categories), -1, dtype=np.int64)
    new_labels[list(matched.values())] = list(matched)
    renamed = other_names(model_names, names, matched)
    lines = [f"categories matched under other names: {shorten_list(renamed, limit=8)}"] if renamed else []
    if unknown:
        lines.append(_unknown_line([names[label] for label in unknown], len(used), int(counts[unknown].sum())))
    return CategoryMatch(new_labels, tuple(lines))


def in_model_categories(data: Split, categories: Sequence[Category], match: CategoryMatch) -> Split:
    """The data's objects under the labels of the model, without those of categories that it does not know."""
    name_of = {new: category.name for new, category in zip(match.new_labels.tolist(), categories, strict=True)}
    renamed = [
        replace(category, name=name_of.get(label, f"unknown {label}")) for label, category in enumerate(data.categories)
    ]
    return replace(data, categories=tuple(renamed)).with_categories(categories)


def _unknown_line(names: Sequence[str], categories: int, objects: int) -> str:
    is_one = len(names) == 1
    listed = f"{', '.join(names[:-1])} and {names[-1]}" if 1 < len(names) <= 5 else shorten_list(names)
    missed = f"{objects:,} object{'s' * (objects != 1)} count{'s' * (objects == 1)} as missed"
    return (
        f"{len(names):,} of {categories:,} categories {'is' if is_one else 'are'} unknown to the model, {listed}: "
        f"{'its' if is_one else 'their'} {missed}"
    )
