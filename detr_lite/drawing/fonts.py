"""Text of any script in pictures and figures: the fonts of the system that have its characters, or a substitute."""

import logging
import unicodedata
from collections.abc import Iterable
from functools import cache, lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text
from PIL import ImageDraw, ImageFont

logger = logging.getLogger(__name__)

LITERAL: Any = {"parse_math": False, "usetex": False}
"""For matplotlib texts that contain names from files: no part of them is parsed as mathtext or TeX."""

SUBSTITUTE = "□"
"""Stands for a character that no font has."""

_PREFERRED = (
    *("Noto Sans CJK", "Noto Sans SC", "Noto Sans JP", "Noto Sans KR", "Source Han Sans", "PingFang", "Hiragino Sans"),
    *("Apple SD Gothic Neo", "Microsoft YaHei", "Yu Gothic", "Meiryo", "Malgun Gothic", "SimHei", "WenQuanYi"),
    *("Droid Sans Fallback", "IPAGothic", "NanumGothic", "Noto Sans", "Segoe UI", "Nirmala UI", "Leelawadee UI"),
    *("Arial Unicode MS", "Liberation Sans", "Noto Emoji", "FreeSans", "Unifont"),
)
"""Beginnings of the names of fonts with many characters, in plain shapes like those of DejaVu Sans."""

_UNUSABLE = ("lastresort", "last resort", "cm", "stixnonunicode", "stixsize", "webdings", "wingdings", "marlett")
"""Beginnings of the names of fonts whose glyphs are not what their code points say."""


@lru_cache(maxsize=64)
def label_font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, `size` in pixels."""
    return _sized(_primary(), size)


def drawable(text: str) -> str:
    """The text with a substitute for each character that no font of the system has.

    Full-width letters and the like become ordinary ones, marks without a width are left out, and what remains becomes
    `SUBSTITUTE`.
    """
    if text.isascii():
        return text
    return "".join(character if _is_drawable(character) else _substitute(character) for character in text)


def drawable_name(name: str, otherwise: str) -> str:
    """The name as it can be drawn; `otherwise` if none of its characters can, as rows of boxes are all alike."""
    text = drawable(name)
    if text != name and not set(text) - set(f"{SUBSTITUTE} "):
        _tell_once()
        return otherwise
    return text


def text_length(text: str, size: int) -> float:
    """Pixels that a line takes in the fonts of `draw_text`."""
    return sum(_sized(path, size).getlength(run) for run, path in _runs(text))


def draw_text(
    draw: ImageDraw.ImageDraw,
    position: tuple[int | float, int | float],
    text: str,
    size: int,
    fill: tuple[int, int, int],
    anchor: str = "la",
) -> None:
    """Draw a line of any script.

    Args:
        size: of the font, in pixels.
        anchor: of Pillow: "l", "m" or "r", then "a" (ascender) or "m" (middle).
    """
    x, y = position
    runs = _runs(text)
    if len(runs) == 1:
        draw.text((x, y), runs[0][0], fill=fill, font=_sized(runs[0][1], size), anchor=anchor)
        return
    ascent, descent = label_font(size).getmetrics()
    x -= {"l": 0.0, "m": 0.5, "r": 1.0}[anchor[0]] * text_length(text, size)
    baseline = y + (ascent if anchor[1] == "a" else (ascent - descent) / 2)
    for run, path in runs:
        font = _sized(path, size)
        draw.text((x, baseline), run, fill=fill, font=font, anchor="ls")
        x += font.getlength(run)


class AnyScriptFigure(Figure):
    """A figure whose texts are drawn in fonts that have their characters; without warnings of missing glyphs."""

    def draw(self, renderer: Any) -> None:
        for text in self.findobj(Text):
            _choose_fonts(text)
        super().draw(renderer)


def _choose_fonts(text: Any) -> None:
    string = text.get_text()
    if string.isascii():
        return
    string = drawable(string)
    needed = [_families().get(_font_of(character) or "", "DejaVu Sans") for character in string]
    text.set_fontfamily(list(dict.fromkeys([*text.get_fontfamily(), "DejaVu Sans", *needed])))
    text.set_text(string)


def _runs(text: str) -> list[tuple[str, str]]:
    """Parts of the drawable text, each with the file of its font."""
    if text.isascii():
        return [(text, _primary())]
    groups = groupby(drawable(text), key=lambda character: _font_of(character) or _primary())
    return [("".join(characters), path) for path, characters in groups]


def _is_drawable(character: str) -> bool:
    return character == "\n" or _font_of(character) is not None


def _substitute(character: str) -> str:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return ""
    plain = unicodedata.normalize("NFKC", character)
    return plain if plain != character and all(map(_is_drawable, plain)) else SUBSTITUTE


@lru_cache(maxsize=16_384)
def _font_of(character: str) -> str | None:
    """The file of the first font that has the character."""
    return next((path for path in _font_files() if ord(character) in _characters(path)), None)


@lru_cache(maxsize=1)
def _primary() -> str:
    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


@lru_cache(maxsize=1)
def _families() -> dict[str, str]:
    """The file of each family's regular font -> the family, the ones to be preferred first."""
    best: dict[str, tuple[float, str]] = {}
    for entry in fontManager.ttflist:
        name = entry.name.lstrip(".")
        if entry.style == "normal" and not name.lower().startswith(_UNUSABLE):
            weight = float(entry.weight) if str(entry.weight).isdecimal() else 400.0
            best[entry.name] = min(best.get(entry.name, (float("inf"), "")), (abs(weight - 400), entry.fname))

    def rank(family: str) -> tuple[int, str]:
        places = (place for place, beginning in enumerate(_PREFERRED) if family.lstrip(".").startswith(beginning))
        return next(places, len(_PREFERRED)), family

    return {best[family][1]: family for family in sorted(best, key=rank)}


def _font_files() -> Iterable[str]:
    yield _primary()
    yield from _families()


@cache
def _characters(path: str) -> frozenset[int]:
    """The code points of a font; none of one that cannot be used at any size, such as bitmaps of emoji."""
    try:
        ImageFont.truetype(path, 20)
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


@lru_cache(maxsize=256)
def _sized(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)


@lru_cache(maxsize=1)
def _tell_once() -> None:
    logger.info(
        "no font of this machine has the characters of some names: pictures show the class's number instead, such as "
        '"class 3", counted from 0; install a font of their script, such as Noto Sans, to see them'
    )
