"""Reads JSON files of any Unicode encoding; what is wrong with one is said with its line and column."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detr_lite.errors import DetrLiteError
from detr_lite.text import printable, shown

SNIPPET = 24
"""Characters of a file that a message shows on either side of a fault."""

NOT_STANDARD = {
    "'": "a quote ' where JSON has \"",
    "N": "None or Nan where JSON has null or NaN",
    "T": "True where JSON has true",
    "F": "False where JSON has false",
    "/": "a comment, which JSON does not have",
}
"""What a character means at which no JSON value can begin."""


def read_json(file: Path, name: str, object_hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """The content of a file.

    Args:
        name: how errors call the file.
        object_hook: gets each object as soon as it is complete, innermost first; its result takes the object's place.

    Raises `DetrLiteError` for a file that cannot be read, with the cause, its place and the remedy.
    """
    try:
        data = file.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DetrLiteError(f"{name}: cannot be read ({printable(reason)}); check {printable(file)}") from error
    if not data.strip(b"\0 \t\r\n"):
        raise DetrLiteError(f"{name}: the file is empty ({len(data):,} bytes); copy or export it again")
    text = _decode(data, name)
    del data  # COCO's file has 450 MB
    try:
        return json.loads(text, object_hook=object_hook)
    except json.JSONDecodeError as error:
        raise DetrLiteError(f"{name}: not valid JSON: {_fault_of(text, error)}") from error
    except RecursionError as error:
        raise DetrLiteError(f"{name}: not valid JSON: nested too deeply (recursion); export it again") from error
    except ValueError as error:  # a number of more digits than Python converts
        reason = f"{error}".split(";")[0]
        raise DetrLiteError(f"{name}: not valid JSON: {printable(reason)}; export it again") from error


def kind_of_json(content: Any) -> str:
    """What the content of a JSON file looks like, for a message: "a GeoJSON file"."""
    if isinstance(content, list):
        first = content[0] if content else None
        if not isinstance(first, dict):
            return "a list" if content else "an empty list"
        if "score" in first and "bbox" in first:
            return "a list of detections, without images and categories"
        if "image" in first and "annotations" in first:
            return "a CreateML file"
        if "data" in first and ("annotations" in first or "predictions" in first):
            return "a Label Studio export in its own JSON format"
        return f"a list of objects with {_keys(first)}"
    if isinstance(content, dict):
        if content.get("type") in ("FeatureCollection", "Feature"):
            return "a GeoJSON file"
        if "shapes" in content and "imagePath" in content:
            return "a LabelMe file, for one image"
        if "_via_img_metadata" in content or any(isinstance(v, dict) and "regions" in v for v in content.values()):
            return "a VGG Image Annotator (VIA) project"
        if "items" in content and "categories" in content:
            return "a Datumaro file"
        return f"an object with {_keys(content)}" if content else "an empty object"
    return f"a {type(content).__name__}"


def _keys(content: dict[str, Any]) -> str:
    names = ", ".join(shown(key) for key in list(content)[:4])
    return f"the keys {names}{' ...' if len(content) > 4 else ''}"


def _decode(data: bytes, name: str) -> str:
    encoding = json.detect_encoding(data)
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        place = error.start
        line = data.count(b"\n", 0, place) + 1
        column = place - data.rfind(b"\n", 0, place)
        around = data[max(0, place - SNIPPET) : place + SNIPPET].decode("cp1252", "replace")
        if not encoding.startswith("utf-8"):
            raise DetrLiteError(
                f"{name}: not valid {encoding.upper()} text at byte {place + 1:,}; the file is cut off or damaged, "
                "copy or export it again"
            ) from error
        raise DetrLiteError(
            f"{name}: not UTF-8 text: line {line}, byte {column:,} is 0x{data[place]:02X}; as Windows-1252 it reads "
            f"{shown(around)}. Save the file as UTF-8; if that is garbled, copy or export it again"
        ) from error


def _fault_of(text: str, error: json.JSONDecodeError) -> str:
    """What is wrong, where, and the remedy."""
    place = error.pos
    if text.startswith("version https://git-lfs"):
        return "a Git LFS pointer, which stands for the file; fetch that with git lfs pull"
    if re.match(r"\s*<(!doctype|html|\?xml)", text, re.IGNORECASE):
        return f"a web page or XML: {shown(text[:SNIPPET])}; download or export the file again"
    before, after = text[max(0, place - 1000) : place].rstrip(), text[place : place + 1000].lstrip()
    if not after or error.msg.startswith("Unterminated string"):
        lines = text.count("\n") + 1
        return f"the file ends in the middle, in line {lines}: {shown(text[-SNIPPET:])}; copy or export it again"
    if before.endswith(",") and after[0] in "]}":
        return f"a comma after the last entry {_where(text, text.rindex(',', 0, place))}; remove the comma"
    where = _where(text, place)
    if re.match(r",\s*[\]}]", after):  # as Python 3.13 places it
        return f"a comma after the last entry {where}; remove the comma"
    if error.msg.startswith("Extra data"):
        return f"a second value begins {where}; a file is to have one, remove the rest or export it again"
    if error.msg.startswith("Expecting ',' delimiter"):
        return f"a comma is missing {where}; add it"
    if after[0] in NOT_STANDARD and not error.msg.startswith("Invalid"):
        return f"{NOT_STANDARD[after[0]]} {where}; correct it"
    fault = error.msg.removesuffix(" at")
    return f"{fault[0].lower()}{fault[1:]} {where}; correct it or export the file again"


def _where(text: str, place: int) -> str:
    line = text.count("\n", 0, place) + 1
    column = place - text.rfind("\n", 0, place)
    return f"at line {line}, column {column:,}: {shown(text[max(0, place - SNIPPET) : place + SNIPPET])}"
