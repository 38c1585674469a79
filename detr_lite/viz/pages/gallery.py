"""Groups of things to look at, each with pictures: a filter by kind, arrow keys between pictures, a large view."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Literal
from zlib import crc32

from detr_lite.viz.pages.html import Html, element, join, wrappable
from detr_lite.viz.pages.pictures import PictureBudget, View

Level = Literal["mend", "look", "fine"]
"""Must be mended, worth a look, nothing to do."""

LEVELS: dict[Level, tuple[str, str]] = {
    "mend": ("Must be mended", "✕"),
    "look": ("Worth a look", "!"),
    "fine": ("Fine", "✓"),
}
"""Heading and sign of each."""

PICTURES = 24
"""Most examples with pictures in a group."""

FINE_PICTURES = 6
"""In a group that is no fault."""

ENTRIES = 500
"""Most entries that a group lists by name."""


@dataclass(frozen=True)
class Link:
    """From a picture to where there is more to see of it."""

    href: str
    text: str


@dataclass(frozen=True)
class Example:
    """One image, or several side by side, with what there is to see."""

    views: tuple[View, ...]
    caption: str
    """Lines of it, such as the names of two images, stand under each other."""
    detail: str = ""
    links: tuple[Link, ...] = ()


@dataclass(frozen=True)
class Group:
    """One kind of thing to look at."""

    kind: str
    """For the filter; groups of several splits may share it."""
    level: Level
    title: str
    where: str
    """The split, or splits, such as "train"."""
    text: str
    """One or two sentences: what it is and what was, or should be, done."""
    count: int | None = None
    entries: tuple[str, ...] = ()
    """Names of what is concerned."""
    examples: tuple[Example, ...] = ()
    """The most telling first."""
    tag: str = ""
    """What was done: "repaired", "left out"."""
    extra: Html | None = field(default=None)
    """Shown under the text, such as a table."""

    @property
    def anchor(self) -> str:
        return f"{self.kind}-{crc32('|'.join((self.where, self.tag, self.text)).encode()):08x}"


def merge_groups(groups: Sequence[Group]) -> list[Group]:
    """Groups of several splits that say the same become one, in the place of the first; entries then name the split."""
    alike: dict[tuple[str, str, str, str], list[Group]] = {}
    for group in groups:
        alike.setdefault((group.kind, group.level, group.text, group.tag), []).append(group)
    return [some[0] if len(some) == 1 else _merged(some) for some in alike.values()]


def gallery(groups: Sequence[Group], budget: PictureBudget) -> Html:
    """All groups, in their order, under a row of filters."""
    kinds = {group.kind: group.title for group in groups}
    counts = {kind: sum(group.count or 1 for group in groups if group.kind == kind) for kind in kinds}
    chips = [_chip("", "All", len(groups), True), *(_chip(kind, kinds[kind], counts[kind], False) for kind in kinds)]
    filters = element("div", *chips, class_="chips", role="group", aria_label="Show one kind alone", id="filters")
    return join(filters if len(kinds) > 1 else None, *(_group(group, budget) for group in groups))


def large_view() -> Html:
    """The dialog in which a picture is shown large."""
    buttons = (("previous", "← Previous"), ("next", "Next →"), ("close", "Close"))
    return element(
        "dialog",
        element("div", class_="large", id="large-picture"),
        element("p", "", id="large-caption"),
        element("p", "", id="large-links", hidden=True),
        element("div", *(element("button", text, type="button", data_do=do) for do, text in buttons), class_="actions"),
        id="large",
        aria_label="Picture",
    )


def links_of_picture(links: Sequence[Link]) -> Html | None:
    """What the large view shows under the picture; in the picture's own element, a button, there may be no links."""
    if not links:
        return None
    return element("template", *(element("a", link.text, href=link.href) for link in links), class_="links")


def badge(level: Level) -> Html:
    """The sign of a level, with its meaning for those who do not see it."""
    heading, sign = LEVELS[level]
    return element("span", element("span", sign, aria_hidden="true"),
                   element("span", f"{heading}:", class_="visually-hidden"), class_=f"badge {level}")  # fmt: skip


def _merged(groups: Sequence[Group]) -> Group:
    counts = [group.count for group in groups if group.count is not None]
    rounds = zip_longest(
        *(
            [replace(example, detail=f"{group.where}: {example.detail}") for example in group.examples]
            for group in groups
        )
    )
    return replace(
        groups[0],
        where=", ".join(group.where for group in groups),
        count=sum(counts) if counts else None,
        entries=tuple(f"{group.where}: {entry}" for group in groups for entry in group.entries),
        examples=tuple(example for some in rounds for example in some if example is not None),
    )


def _chip(kind: str, title: str, count: int, is_pressed: bool) -> Html:
    number = element("span", f"{count:,}", class_="count")
    pressed = "true" if is_pressed else "false"
    return element("button", element("span", title), number, type="button", class_="chip", data_kind=kind,
                   aria_pressed=pressed)  # fmt: skip


def _group(group: Group, budget: PictureBudget) -> Html:
    cards = []
    most = PICTURES if group.level != "fine" else FINE_PICTURES
    for example in group.examples[:most]:
        frames = [budget.picture(view) for view in example.views]
        if None in frames:
            break
        cards.append(_card(example, [frame for frame in frames if frame is not None]))
    of = len(group.entries) or group.count or len(group.examples)
    note = None
    if cards and len(cards) < of:
        why = "the page holds at most 10 MB" if len(cards) < min(most, len(group.examples)) else "the first ones"
        note = element("p", f"Pictures of {len(cards):,} of {of:,} ({why}).", class_="note")
    elif group.examples and not cards:
        note = element("p", "No pictures: the page holds at most 10 MB.", class_="note")
    heading = element(
        "h3",
        badge(group.level),
        element("span", group.title, class_="group-title"),
        None if group.count is None else element("span", f"{group.count:,}", class_="count"),
        element("span", group.where, class_="where") if group.where else None,
        element("span", group.tag, class_="tag") if group.tag else None,
    )
    return element(
        "section",
        heading,
        element("p", group.text, class_="lead"),
        group.extra,
        element("div", *cards, class_="cards", role="group", aria_label=f"Pictures: {group.title}") if cards else None,
        note,
        _entries(group.entries),
        class_="group card",
        id=group.anchor,
        data_kind=group.kind,
        aria_label=f"{group.title}, {group.where}",
    )


def _card(example: Example, frames: Sequence[Html]) -> Html:
    """A button, so that it is reached and opened by the keyboard; the script makes one per group a tab stop."""
    return element(
        "button",
        element("span", *frames, class_="frames"),
        *(element("span", wrappable(line), class_="caption", title=line) for line in example.caption.split("\n")),
        element("span", wrappable(example.detail), class_="detail") if example.detail else None,
        links_of_picture(example.links),
        type="button",
        class_="picture",
        data_views=len(frames),
    )


def _entries(entries: Sequence[str]) -> Html | None:
    if not entries:
        return None
    items = [element("li", wrappable(entry)) for entry in entries[:ENTRIES]]
    rest = len(entries) - ENTRIES
    more = element("p", f"and {rest:,} more", class_="note") if rest > 0 else None
    count = f"{len(entries):,} {'entry' if len(entries) == 1 else 'entries'} by name"
    return element(
        "details",
        element("summary", count),
        element("div", element("ul", *items, class_="entries"), class_="long"),
        more,
    )
