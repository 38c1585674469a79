"""Names that datasets give to the same class: those of COCO with those of Pascal VOC, Open Images, Objects365, LVIS."""

import re

SYNONYMS: tuple[tuple[str, ...], ...] = (
    ("person", "human"),
    ("car", "automobile"),
    ("truck", "lorry"),
    ("motorcycle", "motorbike"),
    ("airplane", "aeroplane", "plane"),
    ("fire hydrant", "fireplug"),
    ("cow", "cattle"),
    ("backpack", "rucksack"),
    ("tie", "necktie"),
    ("frisbee", "flying disc"),
    ("skis", "ski"),
    ("tennis racket", "tennis racquet"),
    ("donut", "doughnut"),
    ("couch", "sofa"),
    ("potted plant", "pot plant", "houseplant"),
    ("dining table", "dinning table", "kitchen & dining room table"),
    ("tv", "tv monitor", "tv set", "television", "television set", "monitor/tv"),
    ("laptop", "laptop computer"),
    ("mouse", "computer mouse"),
    ("remote", "remote control"),
    ("keyboard", "computer keyboard"),
    ("cell phone", "mobile phone", "cellular phone", "cellular telephone"),
    ("microwave", "microwave oven"),
    ("refrigerator", "fridge"),
    ("hair drier", "hair dryer", "blow dryer"),
)
"""COCO's name first. Kinds of a thing, such as "man" or "wild bird", are not listed: their boxes are not the same."""

_SEPARATORS = re.compile(r"[\s_-]+")


def simplify(name: str) -> str:
    """The name without case, spaces, "-" and "_"; between digits one is kept, as "size 1-2" is not "size 12"."""
    return _SEPARATORS.sub(_between_digits, name.casefold())


def _between_digits(found: re.Match[str]) -> str:
    text = found.string
    is_between = text[: found.start()][-1:].isdigit() and text[found.end() :][:1].isdigit()
    return " " if is_between else ""


_FIRST_OF = {simplify(name): simplify(names[0]) for names in SYNONYMS for name in names}


def first_synonym(name: str) -> str:
    """The first of the names of the same class, simplified."""
    simple = simplify(name)
    return _FIRST_OF.get(simple, simple)
