"""The doctor's page: a verdict, what was found with pictures, the numbers, and what training would choose."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from detr_lite.data.records import Split
from detr_lite.text import printable
from detr_lite.viz.doctor.overview import Choice, choice_section, numbers_section
from detr_lite.viz.pages.gallery import (
    ENTRIES,
    LEVELS,
    PICTURES,
    Group,
    Level,
    badge,
    gallery,
    merge_groups,
)
from detr_lite.viz.pages.html import Html, element
from detr_lite.viz.pages.layout import Section, page_body
from detr_lite.viz.pages.page import DOCTOR, render_page
from detr_lite.viz.pages.pictures import PictureBudget

PAGE_BYTES = 10_000_000
"""Most bytes of the page."""

_TEXT_BYTES = 400_000
"""Kept for everything but the pictures; long lists of names are taken off too."""


@dataclass(frozen=True)
class Checkup:
    """Everything that the page says."""

    root: str
    format: str
    splits: Mapping[str, Split]
    """Those that could be read, training first."""
    groups: Sequence[Group]
    passes: Sequence[str]
    """What was looked at and is as it should be, a few words each."""
    choice: Choice | None
    """None without images to train on."""

    def ordered(self) -> list[Group]:
        """The gravest first."""
        levels = list(LEVELS)
        return sorted(merge_groups(self.groups), key=lambda group: levels.index(group.level))

    def count(self, level: Level) -> int:
        return sum(group.level == level for group in self.ordered())

    def verdict(self) -> str:
        """One sentence."""
        mend, look = self.count("mend"), self.count("look")
        if mend:
            things = "one thing" if mend == 1 else f"{mend} things"
            return f"Training would refuse this dataset: {things} must be mended first."
        if look:
            things = "one thing is" if look == 1 else f"{look} things are"
            return f"Ready to train; {things} worth a look."
        return "Ready to train; nothing was found."


def doctor_page(checkup: Checkup, size: int = PAGE_BYTES) -> str:
    """The page as text, of at most about `size` bytes; it depends on nothing but the arguments and the images."""
    groups = checkup.ordered()
    names = sum(len(entry) for group in groups for entry in group.entries[:ENTRIES])
    budget = PictureBudget(max(0, size - _TEXT_BYTES - 2 * names))
    sections = [Section("found", "What was found", gallery(groups, budget), _found_intro())] if groups else []
    if checkup.splits:
        sections.append(Section("numbers", "Classes and sizes", numbers_section(checkup.splits)))
    sections += _choice(checkup)
    footer = "Written by detr-lite doctor. The page is one file and loads nothing; the dataset is unchanged."
    body = page_body(_verdict(checkup, groups), "Verdict", sections, footer)
    return render_page(DOCTOR, "Data doctor", f"{printable(checkup.root)} ({checkup.format})", body)


def _verdict(checkup: Checkup, groups: Sequence[Group]) -> Html:
    splits = "; ".join(
        f"{name}: {len(split.images):,} images with {len(split.images.labels):,} objects"
        for name, split in checkup.splits.items()
    )
    columns = [_level(level, [group for group in groups if group.level == level], checkup.passes) for level in LEVELS]
    return element(
        "section",
        element("h2", checkup.verdict()),
        element("p", f"{splits}." if splits else "No split could be read.", class_="intro"),
        element("div", *columns, class_="levels"),
        class_="card verdict",
        id="verdict",
        aria_label="Verdict",
    )


def _level(level: Level, groups: Sequence[Group], passes: Sequence[str]) -> Html:
    items = [
        element(
            "li",
            element("a", group.title, href=f"#{group.anchor}"),
            element("span", "" if group.count is None else f"{group.count:,}", class_="count"),
            element("span", group.where, class_="where"),
        )
        for group in groups
    ]
    if level == "fine":
        items += [element("li", text) for text in passes]
    heading = element("h3", badge(level), element("span", LEVELS[level][0], aria_hidden="true"))
    none = element("p", "Nothing.", class_="none")
    return element(
        "div", heading, element("ul", *items) if items else none, class_=f"level {level}{'' if items else ' empty'}"
    )


def _found_intro() -> str:
    return (
        f"The gravest first, with pictures of at most {PICTURES} examples each. Yellow and solid: as annotated; blue "
        "and dashed: what it is compared with; thin: other objects. Select a picture to enlarge it; arrow keys go on "
        "to the next."
    )


def _choice(checkup: Checkup) -> list[Section]:
    train = next(iter(checkup.splits.values()), None)
    if checkup.choice is None or train is None:
        return []
    intro = "Settings that training chooses from the data and this machine where they are left open."
    return [Section("choice", "What training would choose", choice_section(train, checkup.choice), intro)]
