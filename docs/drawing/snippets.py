"""Read and run the Python snippets of a page, for the tests and for the figures drawn from their variables."""

import contextlib
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BLOCK = re.compile(r"^```(?P<kind>[a-z]+)(?: (?P<mark>[a-z]+))?\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Snippet:
    """A Python block of a page with its expected output."""

    code: str
    printed: str
    """The `text` block that follows it, or an empty string."""
    is_trained: bool
    """The output is marked `text trained`: its numbers depend on the trained model."""
    line: int
    """First line of the code in the page, counted from 1."""


def read_snippets(page: Path) -> list[Snippet]:
    """All Python blocks of a page in order, each with the `text` block that follows it."""
    text = page.read_text(encoding="utf-8")
    snippets: list[Snippet] = []
    blocks = list(_BLOCK.finditer(text))
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        if block["kind"] != "python":
            continue
        printed, is_trained = "", False
        if following is not None and following["kind"] == "text":
            printed, is_trained = following["body"], following["mark"] == "trained"
        snippets.append(Snippet(block["body"], printed, is_trained, text.count("\n", 0, block.start("body")) + 1))
    return snippets


def run_snippet(snippet: Snippet, page: Path, namespace: dict[str, Any]) -> str:
    """Run the snippet and return what it prints. Snippets share the namespace, as in one program."""
    # Blank lines make errors name the line of the page.
    code = compile("\n" * (snippet.line - 1) + snippet.code, str(page), "exec")
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(code, namespace)
    return out.getvalue()
