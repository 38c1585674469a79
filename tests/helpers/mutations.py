"""Faults for files: in the values and the structure of JSON, XML, YAML and tables, and in the bytes of any file."""

import copy
import json
import re
import struct
import zlib
from collections.abc import Callable
from random import Random
from typing import Any
from xml.etree import ElementTree

ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64 + 1, -(2**63) - 1, 10**400),
    *(0.5, -0.0, 1e-300, 1e308, -1e308, float("nan"), float("inf"), float("-inf")),
    *(
        "",
        " ",
        "0",
        "-1",
        "1.0",
        "1e999",
        "nan",
        "inf",
        "0x10",
        "\uff11\uff12",
        "a" * 5000,
        "\x00",
        "\x1b[2J",
        "\n",
        "\r\n",
    ),
    *("\ud800", "\u202e", "../../../etc/passwd", "/etc/passwd", "C:\\a\\b.jpg", "\\\\host\\share", "..", ".", "con"),
    *("a/" * 3000, "train", "__proto__", "<b>", "&amp;", "%s%n", "{0}", "${HOME}", "~", "file:///etc/passwd"),
    *([], {}, [[]], [{}], {"": None}, [0] * 4, [1e9] * 4, ["a"] * 4, [[1, 2], [3, 4]], {"id": 1}),
    *([None], [1, 2, 3], [1, 2, 3, 4, 5], [[[[[[]]]]]], {"size": [10**9, 10**9], "counts": [10**18]}),
    *({"size": [64, 128], "counts": "\x7f" * 9}, {"size": [64, 128], "counts": [-5, 10]}, {"size": None, "counts": ""}),
)

ODD_TEXTS = tuple(value if isinstance(value, str) else json.dumps(value) for value in ODD_VALUES)

Mutation = Callable[[bytes, Random], bytes]


def mutate_file(name: str, content: bytes, random: Random) -> bytes:
    """The content of an annotation file with one fault or a few, of the kinds that its format makes possible."""
    if name.endswith(".json"):
        structural: Mutation = mutate_json
    elif name.endswith(".xml"):
        structural = mutate_xml
    else:
        structural = mutate_words
    kinds: tuple[Mutation, ...] = (structural, structural, structural, mutate_bytes, mutate_encoding, mutate_words)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        try:
            content = random.choice(kinds)(content, random)
        except (ValueError, ElementTree.ParseError):  # an earlier fault made it unreadable
            content = mutate_bytes(content, random)
    return content


def mutate_json(content: bytes, random: Random) -> bytes:
    """Change, remove, repeat, nest or move values, and repeat keys. Raises `ValueError` for what is not JSON."""
    tree = json.loads(content)
    for _ in range(random.choice((1, 1, 2, 4))):
        tree = _mutate_tree(tree, random)
    text = json.dumps(tree, indent=random.choice((None, 1)))
    if random.random() < 0.1:  # the same key twice in an object
        text = re.sub(r'"(\w+)":', lambda found: f'"{found[1]}": {_odd_json(random)}, {found[0]}', text, count=1)
    return text.encode("utf-8", "surrogatepass")


def _odd_json(random: Random) -> str:
    return json.dumps(random.choice(ODD_VALUES))


def _mutate_tree(tree: Any, random: Random) -> Any:
    parent, key = random.choice(_places(tree) or [([tree], 0)])
    value = parent[key]
    kind = random.randrange(10)
    if kind < 4:
        parent[key] = copy.deepcopy(random.choice(ODD_VALUES))
    elif kind == 4:
        del parent[key]
    elif kind == 5:
        parent[key] = random.choice(([value], {"a": value}, [value] * 50, str(value), json.dumps(value)))
    elif kind == 6 and isinstance(value, int | float):
        factor = random.choice((-1, 1e-9, 1e9, 1e300, 0.5, 1 / 128))
        parent[key] = value * factor if abs(value) < 1e8 else value
    elif kind == 7 and isinstance(parent, dict):
        parent[random.choice((key.upper(), f"{key} ", "", "bbox", "image", "id"))] = parent.pop(key)
    elif kind == 8 and isinstance(value, list):
        parent[key] = random.choice(
            (value * 20, value[::-1], value[:1], {str(i): each for i, each in enumerate(value)})
        )
    else:
        other, place = random.choice(_places(tree))
        parent[key] = copy.deepcopy(other[place])
    return tree


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) below a JSON value."""
    found, waiting = [], [tree]
    while waiting and len(found) < 2000:
        container = waiting.pop()
        keys = list(container) if isinstance(container, dict) else range(len(container))
        found += [(container, key) for key in keys]
        waiting += [container[key] for key in keys if isinstance(container[key], dict | list)]
    return found


ENTITIES = (
    '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">'
    '<!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;"><!ENTITY e "&d;&d;&d;&d;&d;&d;&d;&d;"><!ENTITY f "&e;&e;&e;&e;&e;&e;">]>',
    '<!DOCTYPE a [<!ENTITY f SYSTEM "file:///etc/passwd">]>',
    '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd">',
)


def mutate_xml(content: bytes, random: Random) -> bytes:
    """Change, remove, repeat, nest or rename elements, and declare entities. Raises `ParseError` for what is no XML."""
    root = ElementTree.fromstring(content)
    for _ in range(random.choice((1, 1, 2, 4))):
        elements = list(root.iter())
        element = random.choice(elements)
        text = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]", "?", random.choice(ODD_TEXTS))
        kind = random.randrange(7)
        if kind < 2:
            element.text = text
        elif kind == 2 and element.attrib:
            element.set(random.choice(list(element.attrib)), text)
        elif kind == 3 and len(element):
            element.remove(random.choice(list(element)))
        elif kind == 4 and len(element):
            element.extend([copy.deepcopy(random.choice(list(element))) for _ in range(random.choice((1, 30)))])
        elif kind == 5:
            element.tag = random.choice(("a", "object", "image", "box", "bndbox", "annotation", "{http://x}name"))
        else:
            element.append(copy.deepcopy(random.choice(elements)))
    written = ElementTree.tostring(root, "unicode")
    if random.random() < 0.15:
        written = random.choice(ENTITIES) + re.sub(r">[^<>]+<", ">&f;<", written, count=random.choice((1, 50)))
    return written.encode("utf-8", "surrogatepass")


def mutate_words(content: bytes, random: Random) -> bytes:
    """Of text such as YOLO's labels, a table or YAML: change, remove and repeat words and lines."""
    text = content.decode("utf-8", "replace")
    parts = re.split(r"([\s,:]+)", text)
    for _ in range(random.choice((1, 1, 2, 5))):
        place = random.randrange(len(parts))
        kind = random.randrange(6)
        if kind < 3:
            parts[place] = random.choice(ODD_TEXTS)
        elif kind == 3:
            parts[place] = ""
        elif kind == 4:
            parts[place] = parts[place] * random.choice((2, 3, 200))
        else:
            parts.insert(
                place, random.choice((",", ";", "\t", "\n", '"', "'", "!!python/object/apply:os.getcwd []", "&a [*a]"))
            )
    return "".join(parts).encode("utf-8", "replace")


def mutate_encoding(content: bytes, random: Random) -> bytes:
    text = content.decode("utf-8", "replace")
    text = text.replace("box", random.choice(("Löffel", "圆盘", "box", "🥏")))
    encoding = random.choice(("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "utf-7", "cp037"))
    return text.encode(encoding, "replace")


def mutate_bytes(content: bytes, random: Random) -> bytes:
    """Of any file: flip, remove, repeat and insert bytes, or cut it off."""
    changed = bytearray(content)
    for _ in range(random.choice((1, 2, 8, 40))):
        if not changed:
            break
        place = random.randrange(len(changed))
        kind = random.randrange(6)
        if kind < 3:
            changed[place] = random.choice((changed[place] ^ (1 << random.randrange(8)), random.randrange(256), 0, 255))
        elif kind == 3:
            del changed[place : place + random.choice((1, 4, 100))]
        elif kind == 4:
            changed[place:place] = changed[place : place + random.choice((1, 16, 300))]
        else:
            changed[place:place] = random.randbytes(random.choice((1, 4, 30)))
    if random.random() < 0.2:
        del changed[random.randrange(len(changed) + 1) :]
    return bytes(changed)


def mutate_image(content: bytes, random: Random) -> bytes:
    """Of an image file: bytes anywhere, bytes of the header, or absurd sizes in it."""
    kind = random.randrange(4)
    if kind == 0:
        return mutate_bytes(content, random)
    if kind == 1:
        head = random.choice((32, 64, 200))
        return mutate_bytes(content[:head], random) + content[head:]
    if kind == 2 and content.startswith(b"\x89PNG"):
        return _png_with_header(content, random)
    changed = bytearray(content)
    limit = min(len(changed), random.choice((40, 300, len(changed))))
    for _ in range(random.choice((1, 1, 3))):
        number = random.choice((0, 1, 0x7FFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 20_000, 200_000, 70_000))
        form = random.choice((">I", "<I", ">H", "<H"))
        packed = struct.pack(form, number if form[1] == "I" else number & 0xFFFF)
        place = random.randrange(max(1, limit - len(packed)))
        changed[place : place + len(packed)] = packed
    return bytes(changed)


def _png_with_header(content: bytes, random: Random) -> bytes:
    """Another size, depth or kind of color under a right checksum, so that the decoder believes it."""
    width, height, *rest = struct.unpack(">IIBBBBB", content[16:29])
    values = [width, height, *rest]
    for _ in range(random.choice((1, 2))):
        place = random.randrange(len(values))
        sizes = (0, 1, width + 1, 13_000, 100_000, 2**31 - 1, 2**32 - 1)
        values[place] = random.choice(sizes) if place < 2 else random.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
    chunk = b"IHDR" + struct.pack(">IIBBBBB", *values)
    return content[:12] + chunk + struct.pack(">I", zlib.crc32(chunk)) + content[33:]
