"""Counts and sizes of the splits, and how large objects are for the model that training would choose."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from detr_lite.data.analysis.object_scale import object_tokens
from detr_lite.data.analysis.statistics import SplitStatistics, split_statistics
from detr_lite.data.records import Split
from detr_lite.data.transforms import ResizeRule
from detr_lite.grouping import places_of_each
from detr_lite.text import printable
from detr_lite.viz.pages.charts import Marker, bar_table, histogram
from detr_lite.viz.pages.gallery import Group
from detr_lite.viz.pages.html import Html, element, wrappable

_BINS = 24
MAX_HIDDEN = 0.1
"""Share of a class's objects that may be smaller than a token before the class is worth a look."""


@dataclass(frozen=True)
class Choice:
    """What training would choose for a dataset."""

    resize: ResizeRule
    stride: int
    """Pixels of the finest tokens."""
    reasons: tuple[str, ...]
    """Such as "--data.image_size 320: ...", as training logs them."""


def numbers_section(splits: Mapping[str, Split]) -> Html:
    """Images, objects and classes of each split."""
    statistics = {name: split_statistics(split) for name, split in splits.items()}
    sizes = {name: _box_sizes(split) for name, split in splits.items()}
    counts = {name: split.images.counts for name, split in splits.items()}
    most = max([int(count.max(initial=0)) for count in counts.values()], default=0)
    step = max(1, -(-(most + 1) // _BINS))
    fullness = np.arange(0, most + 1 + step, step, dtype=np.float64)
    return element(
        "div",
        element("div", _facts(statistics), class_="card"),
        element("div", _class_table(splits), class_="card"),
        element(
            "div",
            _log_histogram("Size of objects", sizes, "square root of the area, pixels"),
            class_="card",
        ),
        element(
            "div",
            histogram(
                "Objects in an image",
                fullness,
                [(name, np.histogram(values, fullness)[0].tolist()) for name, values in counts.items()],
                _middles(fullness),
                "objects",
            ),
            class_="card",
        ),
        class_="columns",
    )


def choice_section(train: Split, choice: Choice) -> Html:
    """The settings that are left to training, their reasons, and the objects' size in tokens."""
    rows = []
    for reason in choice.reasons:
        setting, _, why = reason.partition(": ")
        rows.append(element("tr", element("th", element("code", wrappable(setting)), scope="row"), element("td", why)))
    settings = element("table", element("caption", "Chosen, and why"), element("tbody", *rows), class_="settings")
    cards = [element("div", element("div", settings, class_="scroll"), class_="card")]
    tokens = object_tokens(train.images, choice.resize, choice.stride)
    if len(tokens):
        labels = train.images.labels
        axis = f"square root of the area, in tokens of {choice.stride} pixels"
        marker = Marker(1.0, "one token")
        shown = _log_histogram("Objects against the stride", {train.name: tokens}, axis, (marker,))
        by_class = places_of_each(labels, len(train.categories))
        used = [label for label, places in enumerate(by_class) if len(places)]
        shares = [float((tokens[by_class[label]] < 1).mean()) for label in used]
        medians = [float(np.median(tokens[by_class[label]])) for label in used]
        order = np.argsort(medians, kind="stable").tolist()
        table = bar_table(
            "By class, the smallest first",
            ("Class", "typical size in tokens", "smaller than a token"),
            [printable(train.categories[used[place]].name) for place in order],
            [[medians[place] for place in order], [shares[place] for place in order]],
            [[f"{medians[place]:.1f}" for place in order], [f"{shares[place]:.0%}" for place in order]],
            full=[None, 1.0],
            limit=12,
        )
        cards += [element("div", shown, class_="card"), element("div", table, class_="card")]
    return element("div", *cards, class_="columns")


def hidden_groups(train: Split, choice: Choice) -> list[Group]:
    """Classes of which many objects would be smaller than a token."""
    tokens, entries = object_tokens(train.images, choice.resize, choice.stride), []
    by_class = places_of_each(train.images.labels, len(train.categories))
    for category, places in zip(train.categories, by_class, strict=True):
        own = tokens[places]
        if len(own) and (own < 1).mean() > MAX_HIDDEN:
            entries.append(f"{printable(category.name)}: {(own < 1).mean():.0%} of {len(own):,}")
    if not entries:
        return []
    text = (
        f"Objects of less than one token ({choice.stride} pixels of an image resized to {choice.resize.size}) are hard "
        "to find. A larger --data.image_size shows them better, and costs more."
    )
    group = Group(
        "small_objects", "look", "Objects smaller than a token", train.name, text, len(entries), tuple(entries)
    )
    return [group]


def _facts(statistics: Mapping[str, SplitStatistics]) -> Html:
    facts: Sequence[tuple[str, Sequence[str]]] = [
        ("Images", [f"{each.images:,}" for each in statistics.values()]),
        ("without objects", [f"{each.empty_images:,}" for each in statistics.values()]),
        ("Objects", [f"{each.objects:,}" for each in statistics.values()]),
        ("per image", [f"{each.mean_objects_per_image:.1f}" for each in statistics.values()]),
        ("Crowd regions", [f"{each.crowd_regions:,}" for each in statistics.values()]),
        ("Classes with objects", [_used_classes(each) for each in statistics.values()]),
        ("Most common image size", [_size(each.image_sizes.most_common) for each in statistics.values()]),
        ("different sizes", [f"{each.image_sizes.distinct:,}" for each in statistics.values()]),
        ("Typical object", [_typical(each) for each in statistics.values()]),
        (
            "small, medium, large (COCO)",
            [f"{each.small:,}, {each.medium:,}, {each.large:,}" for each in statistics.values()],
        ),
    ]
    head = element("tr", element("td"), *(element("th", name, scope="col", class_="number") for name in statistics))
    rows = [
        element("tr", element("th", name, scope="row"), *(element("td", value, class_="number") for value in values))
        for name, values in facts
    ]
    table = element("table", element("caption", "In numbers"), element("thead", head), element("tbody", *rows))
    return element("div", table, class_="scroll")


def _used_classes(statistics: SplitStatistics) -> str:
    return f"{sum(each.objects > 0 for each in statistics.classes):,} of {len(statistics.classes):,}"


def _typical(statistics: SplitStatistics) -> str:
    return f"{statistics.box_sizes['median']:.0f} pixels" if statistics.box_sizes else "-"


def _size(size_wh: tuple[int, int]) -> str:
    return f"{size_wh[0]:,} x {size_wh[1]:,}"


def _class_table(splits: Mapping[str, Split]) -> Html:
    """Joined by name, the most frequent classes of the first split first."""
    counts: list[dict[str, int]] = []
    for split in splits.values():
        objects = np.bincount(split.images.labels, minlength=len(split.categories)).tolist()
        counts.append(dict(zip((printable(category.name) for category in split.categories), objects, strict=True)))
    names = sorted({name: None for each in counts for name in each}, key=lambda name: -counts[0].get(name, 0))
    heads = ("Class", *(f"objects in {name}" for name in splits))
    return bar_table("Objects by class", heads, names, [[each.get(name, 0) for name in names] for each in counts])


def _box_sizes(split: Split) -> np.ndarray:
    boxes = split.images.boxes_xyxy
    sizes: np.ndarray = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1).astype(np.float64))
    return sizes


def _log_histogram(
    label: str,
    values: Mapping[str, np.ndarray],
    axis: str,
    markers: Sequence[Marker] = (),
) -> Html:
    """Bins of equal ratio, over all values and the markers."""
    present = np.concatenate([*values.values(), [marker.value for marker in markers]])
    present = present[present > 0]
    low, high = (float(present.min()), float(present.max())) if len(present) else (1.0, 2.0)
    exponents = np.linspace(np.log2(low) - 0.01, np.log2(max(high, 2 * low)) + 0.01, _BINS + 1)
    counts = [(name, np.histogram(np.log2(each[each > 0]), exponents)[0].tolist()) for name, each in values.items()]
    whole = np.arange(np.ceil(exponents[0]), exponents[-1])
    shown = [(power, f"{2**power:g}") for power in whole[:: max(1, -(-len(whole) // 8))].tolist()]
    lines = [Marker(float(np.log2(marker.value)), marker.label) for marker in markers]
    return histogram(label, exponents, counts, shown, axis, lines)


def _middles(edges: np.ndarray) -> list[tuple[float, str]]:
    """Ticks in the middle of at most eight bins of whole numbers, which say what the bins count."""
    step = round(float(edges[1] - edges[0]))
    starts = edges[:-1].astype(int).tolist()
    shown = starts[:: max(1, -(-len(starts) // 8))]
    return [(start + step / 2, str(start) if step == 1 else f"{start} to {start + step - 1}") for start in shown]
