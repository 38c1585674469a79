"""Names of categories: what a name may be, and categories of one name joined into one class."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from detr_lite.array_structures import Category
from detr_lite.data.report import SplitReport
from detr_lite.errors import DetrLiteError
from detr_lite.text import STEERS, shown

MAX_NAME_LENGTH = 1000
"""Characters in a category's name."""


def check_name(id: int, name: object, where: str = "") -> None:
    """Refuse a category name that cannot be printed in one line; errors begin with `where`."""
    if not isinstance(name, str):
        fault = "is not a string"
    elif STEERS.search(name):
        fault = "contains control characters"
    elif len(name) > MAX_NAME_LENGTH:
        fault = f"is longer than {MAX_NAME_LENGTH:,} characters"
    else:
        return
    raise DetrLiteError(f"{where}category {id} has the name {shown(name)}, which {fault}; correct it")


def tidy_categories(
    ids: Sequence[int], names: Sequence[object], report: SplitReport
) -> tuple[tuple[Category, ...], Int64[np.ndarray, " listed"]]:
    """Categories with names that are text without blanks around it, each name once, in ascending order of id.

    Args:
        ids: unique.
        names: as a file has them; a number becomes text, and a missing name "class ID".

    Returns also the label of each of the listed categories. Names that cannot be printed are refused in the report.
    """
    tidied: list[str] = []
    changed: list[str] = []
    for id, name in zip(ids, names, strict=True):
        if isinstance(name, int | float) and not isinstance(name, bool):
            text = str(name)
        else:
            text = name.strip() if isinstance(name, str) else ""
        tidied.append(text or f"class {id}")
        if tidied[-1] != name:
            changed.append(f"{shown(name)} of category {id} is {shown(tidied[-1])}")
        try:
            check_name(id, tidied[-1])
        except DetrLiteError as error:
            report.refuse("category_name", str(error))
    if changed:
        report.note("category_names", "category names that are not text, or have blanks around it, are tidied", changed)
    first_of: dict[str, int] = {}
    for place in np.argsort(np.array(ids, dtype=object), kind="stable").tolist():
        first_of.setdefault(tidied[place], place)
    label_of = {name: label for label, name in enumerate(first_of)}
    repeated = [
        f"{shown(name)} of category {ids[place]}" for place, name in enumerate(tidied) if first_of[name] != place
    ]
    if repeated:
        report.note("repeated_category", "categories of the same name are joined into one class", repeated)
    categories = tuple(Category(ids[place], name) for name, place in first_of.items())
    return categories, np.array([label_of[name] for name in tidied], dtype=np.int64)
