"""Words for people out of text that somebody else wrote: in one line, and steering no terminal."""

import re
import reprlib
import textwrap
from collections.abc import Sequence

_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = 120

STEERS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, line ends, turns of the reading direction, and halves of characters, which cannot be printed."""


def printable(text: object) -> str:
    """The text with all that steers a terminal written out: an escape character as \\x1b."""
    return STEERS.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def reason_of(error: BaseException) -> str:
    """What an exception says, or its name: one short line without a full stop, for a place within a message."""
    text = str(error).strip().rstrip(".") or type(error).__name__
    return printable(textwrap.shorten(text, 160, placeholder=" ..."))


def shown(value: object) -> str:
    """A value from a file, quoted so that it stays on one line, shortened if it is very long."""
    return _brief.repr(value)


def shorten_list(values: Sequence[object], limit: int = 5) -> str:
    """The first `limit` values for a message: "1, 2, 3 and 40 more"."""
    rest = len(values) - limit
    return ", ".join(map(str, values[:limit])) + (f" and {rest:,} more" if rest > 0 else "")
