"""A self-contained page: one HTML file with its style and script inlined, which loads nothing."""

import os
from importlib.resources import files
from pathlib import Path

from detr_lite.errors import DetrLiteError
from detr_lite.text import printable
from detr_lite.viz.pages.html import Html, element, join

STATIC = files("detr_lite.viz.pages") / "static"

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
"""Content security policy: the browser itself sees to it that nothing is loaded."""

_MARK = Html(
    '<svg class="mark" viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="8"/>'
    '<circle class="halo" cx="16" cy="16" r="10"/><circle class="ring" cx="16" cy="16" r="6.5"/>'
    '<circle class="core" cx="16" cy="16" r="3"/></svg>'
)

DOCTOR = "doctor"
"""The kind of page that `detr-lite doctor` writes."""


def render_page(kind: str, title: str, subtitle: str, body: Html) -> str:
    """The text of the page.

    Args:
        kind: which program wrote it, so that it replaces its own page only; see `is_page`.
        subtitle: one line under the title.
    """
    head = join(
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="generator", content=_generator(kind)),
        element("title", f"{title} · {subtitle}"),
        element("link", rel="icon", href="data:,"),
        element("style", Html(read_static("theme.css") + read_static("page.css"))),
    )
    header = element(
        "header",
        element(
            "div", _MARK, element("div", element("h1", title), element("p", subtitle, id="subtitle")), class_="title"
        ),
    )
    script = element("script", Html(read_static("page.js")))
    text = element("html", element("head", head), element("body", header, body, script), lang="en")
    return f"<!doctype html>\n{text}\n"


def is_page(start: str, kind: str) -> bool:
    """Whether a file that begins like this is a page of this kind; `start` holds at least 1,000 characters of it."""
    return start.startswith("<!doctype html>") and f'name="generator" content="{_generator(kind)}"' in start


def check_replaceable(path: Path, kind: str, option: str = "") -> None:
    """Errors: a page that would replace a folder, or a file that is no page of this kind; a place without write access.

    Args:
        option: what the message calls the path, such as "--output ".
    """
    # os.path's functions call a path that may not be looked at missing; those of Path raise an error.
    folder = next(parent for parent in path.absolute().parents if os.path.exists(parent))  # noqa: PTH110
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        fault = "may not be written to" if folder.is_dir() else "is a file"
        raise DetrLiteError(
            f"{option}{printable(path)}: {printable(folder)} {fault}; name a file elsewhere with --output"
        )
    if path.is_dir():
        raise DetrLiteError(
            f"{option}{printable(path)} is a folder; name a file, such as {printable(path / kind)}.html"
        )
    if path.exists():
        with path.open("rb") as file:
            start = file.read(4000).decode(errors="replace")
        if not is_page(start, kind):
            raise DetrLiteError(
                f"{option}{printable(path)} is a file that this command did not write; name another file"
            )


def read_static(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")


def _generator(kind: str) -> str:
    return f"detr_lite {kind}"
