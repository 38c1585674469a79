"""Images that stand in the dataset twice, as groups of pairs side by side."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from detr_lite.data.analysis.near_duplicates import ImagePairs, series_of
from detr_lite.data.records import Split
from detr_lite.viz.pages.charts import bar_table
from detr_lite.viz.pages.gallery import PICTURES, Example, Group, Level
from detr_lite.viz.pages.html import Html
from detr_lite.viz.pages.split_views import context_marks, image_name, view_of


@dataclass(frozen=True)
class Repeats:
    """Images of one split that another one, or the same one, has too."""

    first: Split
    second: Split
    copies: Sequence[tuple[int, int]]
    """Places (first, second) of files with the same content."""
    near: ImagePairs
    """Near duplicates, the copies among them."""


def shared_groups(shared: Repeats) -> list[Group]:
    """Images of a held-out split (the first) that stand in training (the second) too, or nearly so."""
    held_out, train = shared.first, shared.second
    where = f"{held_out.name} and {train.name}"
    copies = [(first, second, "the same file") for first, second in shared.copies]
    copied = {first for first, *_ in copies}
    near = [pair for pair in _described(shared.near.best_of_first()) if pair[0] not in copied]
    copies_text = (
        f"{_of_all(len(copied), held_out)} are files that stand in {train.name} too. The model has learned their "
        "answers, so AP on them tells nothing; take them out of one of the splits."
    )
    near_text = (
        f"{_of_all(len(near), held_out)} have a near copy in {train.name}, as frames of one video have. The model has "
        "seen these scenes, so AP is better than on new ones. Split the dataset so that a video is in one split alone."
    )
    series = _series_table(shared)
    groups = [
        _group("copies_in_both", "look", "Same files in both splits", where, copies_text, shared, copies),
        _group("near_in_both", "look", "Nearly the same images in both splits", where, near_text, shared, near, series),
    ]
    return [group for group in groups if group.count]


def repeated_groups(within: Repeats) -> list[Group]:
    """Images that stand twice in one split: copies are worth a look, near copies are no fault."""
    copies = [(first, second, "the same file") for first, second in within.copies]
    known = {(first, second) for first, second, _ in copies}
    near = [pair for pair in _described(within.near) if pair[:2] not in known]
    name = within.first.name
    copies_text = "These files stand in the split more than once, and each copy counts like another image."
    near_text = (
        "Pairs of images that are nearly the same, as frames of one video are. Within one split that is no fault."
    )
    groups = [
        _group("repeated_files", "look", "Repeated files", name, copies_text, within, copies),
        _group("near_repeated", "fine", "Nearly the same images in one split", name, near_text, within, near),
    ]
    return [group for group in groups if group.count]


def _described(pairs: ImagePairs) -> list[tuple[int, int, str]]:
    columns = pairs.first.tolist(), pairs.second.tolist(), pairs.correlation.tolist()
    return [(first, second, f"{alike:.0%} alike") for first, second, alike in zip(*columns, strict=True)]


def _group(
    kind: str,
    level: Level,
    title: str,
    where: str,
    text: str,
    repeats: Repeats,
    pairs: Sequence[tuple[int, int, str]],
    extra: Html | None = None,
) -> Group:
    splits = repeats.first, repeats.second
    entries: list[str] = []
    examples: list[Example] = []
    for *places, detail in pairs:
        names = [image_name(split, place) for split, place in zip(splits, places, strict=True)]
        entries.append(f"{' | '.join(names)}: {detail}")
        if len(examples) < PICTURES:
            views = (
                view_of(split, place, context_marks(split, place)) for split, place in zip(splits, places, strict=True)
            )
            examples.append(Example(tuple(views), "\n".join(names), detail))
    return Group(kind, level, title, where, text, len(pairs), tuple(entries), tuple(examples), extra=extra)


def _series_table(shared: Repeats) -> Html | None:
    """How many images the series have in which near duplicates were found, by the names of their files."""
    held_out, train = ([series_of(path) for path in split.images.paths]
                       for split in (shared.first, shared.second))  # fmt: skip
    pairs = zip(shared.near.first.tolist(), shared.near.second.tolist(), strict=True)
    found = Counter(held_out[first] for first, second in pairs if held_out[first] == train[second] and held_out[first])
    if not found:
        return None
    in_held_out, in_train = Counter(held_out), Counter(train)
    names = [name for name, _ in found.most_common()]
    columns = [[counts[name] for name in names] for counts in (in_train, in_held_out)]
    heads = ("Names that begin with", f"images in {shared.second.name}", f"images in {shared.first.name}")
    return bar_table("Series of file names in which near copies were found", heads, names, columns, limit=10)


def _of_all(count: int, split: Split) -> str:
    return f"{count:,} of {len(split.images):,} {split.name} images"
