"""The Python snippets of a page, so that a test can run them and the figures can be drawn from what they compute."""

import contextlib
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BLOCK = re.compile(r"^```(?P<kind>[a-z]+)(?: (?P<mark>[a-z]+))?\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Snippet:
    """A Python block of a page, and what the page says that it prints."""

    code: str
    printed: str
    """The `text` block right after it; nothing where none follows."""
    is_trained: bool
    """The block is marked `text trained`: its numbers are those of one trained model, and others' differ."""
    line: int
    """Where the code begins in the page, counted from 1."""


def read_snippets(page: Path) -> list[Snippet]:
    """All Python blocks of a page in their order; a `text` block belongs to the Python block before it."""
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
    """What it prints. The namespace goes on from snippet to snippet, as in one program."""
    # Blank lines before it, so that an error names the line of the page.
    code = compile("\n" * (snippet.line - 1) + snippet.code, str(page), "exec")
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(code, namespace)
    return out.getvalue()
