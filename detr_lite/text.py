"""Text for messages: names and values from files made safe to print, long lists cut short, commands to paste."""

import math
import re
import reprlib
import shlex
import sys
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = 120

STEERS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, line separators, bidirectional overrides, and lone surrogates, which cannot be encoded."""


def printable(text: object) -> str:
    """The text with all control characters escaped, so that it cannot steer a terminal: ESC as \\x1b."""
    return STEERS.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def url_of(name: object) -> str | None:
    """The address on the web that stands where a file is expected, printable; `Path` takes away one of its slashes."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/+", str(name))
    return printable(f"{found[1]}://{str(name)[found.end() :]}") if found else None


def reason_of(error: BaseException) -> str:
    """An exception's message, or its name if it has none: one short line without a full stop."""
    text = str(error).strip().rstrip(".") or type(error).__name__
    return printable(textwrap.shorten(text, 160, placeholder=" ..."))


def spreadsheet_text(name: str) -> str:
    """A name that a spreadsheet would evaluate as a formula, such as =1+1, with an apostrophe in front, which
    spreadsheets do not show."""
    return f"'{name}" if unicodedata.normalize("NFKC", name).startswith(("=", "+", "-", "@")) else name


def shown(value: object) -> str:
    """The repr of a value from a file, shortened if it is very long; always one line."""
    return _brief.repr(value)


def shorten_list(values: Sequence[object], limit: int = 5) -> str:
    """The first `limit` values for a message: "1, 2, 3 and 40 more"."""
    rest = len(values) - limit
    return ", ".join(map(str, values[:limit])) + (f" and {rest:,} more" if rest > 0 else "")


def shorten_middle(text: str, limit: int = 200) -> str:
    """A text of any length for a message: of a long one, such as a path, its two ends."""
    half = limit // 2
    return text if len(text) <= limit else f"{text[: half - 2]} ... {text[3 - half :]}"


TOOLS = (
    "train",
    "evaluate",
    "predict",
    "visualize",
    "export",
    "report",
    "doctor",
    "prepare_data",
    "import_checkpoint",
    "benchmark",
)
"""Names of the scripts in `tools/`."""


def command_line(command: str = "") -> str:
    """How to call a command the way this program was called, for messages to paste.

    "python tools/train.py" from a checkout, "python -m detr_lite train", or else "detr-lite train".
    """
    called = Path(sys.argv[0])
    if called.stem in TOOLS and called.absolute().parent.name == "tools":
        name = "import_checkpoint" if command == "import" else command.replace("-", "_")
        script = called.with_name(f"{name}.py")
        return f"python {shlex.quote(str(script))}"
    is_module = called.name == "__main__.py" and called.parent.name == "detr_lite"
    return f"{'python -m detr_lite' if is_module else 'detr-lite'} {command}".rstrip()


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows under each other: the first column to the left, all others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def format_duration(seconds: float) -> str:
    """Minutes and seconds, or hours too: "1:05", "2:00:10"; "?:??" if the number is not finite."""
    if not math.isfinite(seconds):
        return "?:??"
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def unique_names(names: Iterable[str], ignore_case: bool = False) -> list[str]:
    """Names as they are, with a number where one occurs again: a, a-2, a-3."""
    unique: list[str] = []
    taken: set[str] = set()
    for name in names:
        number, own = 1, name
        while (key := own.casefold() if ignore_case else own) in taken:
            number += 1
            own = f"{name}-{number}"
        unique.append(own)
        taken.add(key)
    return unique
