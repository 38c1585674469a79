"""Classes of one name in two lists, such as those of a model and of a dataset."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from detr_lite.data.synonyms import first_synonym, simplify

_LOOSER: tuple[Callable[[str], str], ...] = (str.casefold, simplify, first_synonym)


def match_names(source: Sequence[str], target: Sequence[str]) -> dict[int, int]:
    """Index in `target` -> index in `source` of the same name, each used once.

    What is left after equal names is matched ignoring case; then also spaces, "-" and "_"; then by the table of
    synonyms; each time only names that neither list has twice.
    """
    matched: dict[int, int] = {}
    free: dict[str, int] = {}
    for index, name in enumerate(source):
        free.setdefault(name, index)
    for index, name in enumerate(target):
        if name in free:
            matched[index] = free.pop(name)
    for normalize in _LOOSER:
        used = set(matched.values())
        sources = _unique((index, normalize(name)) for index, name in enumerate(source) if index not in used)
        targets = _unique((index, normalize(name)) for index, name in enumerate(target) if index not in matched)
        matched |= {index: sources[name] for name, index in targets.items() if name in sources}
    return matched


def other_names(source: Sequence[str], target: Sequence[str], matched: Mapping[int, int]) -> list[str]:
    """The matches of names that are not equal, such as "sofa as couch": the target's name first."""
    return [
        f"{target[index]} as {source[matched[index]]}"
        for index in sorted(matched)
        if target[index] != source[matched[index]]
    ]


def _unique(named: Iterable[tuple[int, str]]) -> dict[str, int]:
    """Index of each name that occurs once."""
    pairs = list(named)
    counts = Counter(name for _, name in pairs)
    return {name: index for index, name in pairs if name and counts[name] == 1}
