"""What long pages are made of: a summary, sections, and a list of links to them that stays in view."""

from collections.abc import Sequence
from dataclasses import dataclass

from detr_lite.viz.pages.charts import patterns
from detr_lite.viz.pages.gallery import large_view
from detr_lite.viz.pages.html import Content, Html, element, join


@dataclass(frozen=True)
class Section:
    """A part of a page with a heading."""

    anchor: str
    title: str
    content: Content
    intro: str = ""
    link: str = ""
    """In the list of links, by default the title."""


def page_body(summary: Html, name: str, sections: Sequence[Section], footer: str) -> Html:
    """The body of a page.

    Args:
        summary: an element with the id "verdict".
        name: of the summary in the list of links.
    """
    links = [element("a", section.link or section.title, href=f"#{section.anchor}") for section in sections]
    contents = element("nav", element("a", name, href="#verdict"), *links, class_="contents", aria_label="Contents")
    skip = None
    if sections:
        first = sections[0]
        skip = element("a", f"Skip to: {first.title}", href=f"#{first.anchor}", class_="skip")
    parts = [
        element(
            "section",
            element("h2", section.title),
            element("p", section.intro, class_="intro") if section.intro else None,
            section.content,
            id=section.anchor,
        )
        for section in sections
    ]
    return join(skip, patterns(), contents, element("main", summary, *parts), element("footer", footer), large_view())
