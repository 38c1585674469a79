"""Text of annotation files in whatever encoding, and XML in it, read without trust."""

import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from math import isfinite, nan
from pathlib import Path
from typing import Any

from detr_lite.data.formats.values import number_of
from detr_lite.errors import DetrLiteError
from detr_lite.text import reason_of

HEAD = 65_536
"""Bytes at the beginning, and at the end, of a file by which its format is recognized."""


class BadFileError(Exception):
    """A file that cannot be read; the message says why, without its name."""


def read_text(path: Path) -> str:
    """The content of a file, decoded. Raises `BadFileError`."""
    return decode(_read_bytes(path))


def decode(data: bytes) -> str:
    """UTF-16 and UTF-32 are recognized by their byte order mark or zeros; what is not UTF-8 is taken for Windows-1252,
    which old tools write.
    """
    encoding = json.detect_encoding(data)
    if encoding != "utf-8":
        return data.decode(encoding, errors="replace").removeprefix("\ufeff")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def read_head(path: Path) -> str:
    """The first and the last part of a file, for recognizing its format; empty if it cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
            if len(head) == HEAD:
                size = file.seek(0, 2)
                file.seek(max(HEAD, size - HEAD))
                head += file.read()
    except (OSError, ValueError):
        return ""
    return decode(head)


def read_xml(path: Path) -> ElementTree.Element:
    """The root element, with all tags without their namespaces. Raises `BadFileError`."""
    try:
        root = ElementTree.fromstring(_xml_text(_read_bytes(path)))
    except ElementTree.ParseError as error:
        raise BadFileError(f"not valid XML: {reason_of(error)}") from error
    for element in root.iter():
        element.tag = local_name(element)
    return root


def stream_xml(path: Path, tags: tuple[str, ...]) -> Iterator[ElementTree.Element]:
    """The elements with these tags one by one, so that a file of any size takes little memory.

    Raises `BadFileError`.
    """
    text = _xml_text(_read_bytes(path))
    parser: ElementTree.XMLPullParser[Any] = ElementTree.XMLPullParser(("end",))
    try:
        for start in range(0, len(text), HEAD):
            parser.feed(text[start : start + HEAD])
            events: Iterator[Any] = parser.read_events()
            for _, element in events:
                element.tag = local_name(element)
                if element.tag in tags:
                    yield element
                    element.clear()
        parser.close()
    except ElementTree.ParseError as error:
        raise BadFileError(f"not valid XML: {reason_of(error)}") from error


def local_name(element: ElementTree.Element) -> str:
    """The tag without its namespace."""
    return str(element.tag).rpartition("}")[2]


def unusable(path: Path, root: Path, error: BadFileError) -> DetrLiteError:
    """The refusal of a file that holds a whole split."""
    shown = path.relative_to(root) if path.is_relative_to(root) else path
    return DetrLiteError(f"{shown}: {error}; the file is cut off or damaged, copy or export it again")


def to_size(value: object) -> float:
    """A width or height; NaN for one that is missing or 0, as tools write that do not open the image."""
    number = number_of(value)
    return number if isfinite(number) and number > 0 else nan


def _xml_text(data: bytes) -> str:
    declared = re.match(rb"""<\?xml[^>]{0,200}?encoding\s*=\s*["']([\w.:-]{1,40})["']""", data.lstrip())
    if json.detect_encoding(data) != "utf-8" or declared is None:
        text = decode(data)
    else:
        try:
            text = data.decode(declared[1].decode())
        except (LookupError, UnicodeDecodeError):
            text = decode(data)
    if "<!ENTITY" in text:
        raise BadFileError("declares XML entities, which are not expanded; remove the declaration")
    return re.sub(r"^\s*<\?xml[^>]*\?>", "", text, count=1)  # the declared encoding no longer holds


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise BadFileError(f"cannot be read ({getattr(error, 'strerror', None) or reason_of(error)})") from error
