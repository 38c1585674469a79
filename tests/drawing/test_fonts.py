"""Names in any script: drawn if a font has them, else with a substitute, never with a warning."""

import io
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from detr_lite.drawing import fonts
from detr_lite.drawing.fonts import AnyScriptFigure, draw_text, drawable, drawable_name, label_font, text_length
from detr_lite.structures import Detections

NAMES = (
    "自転車",
    "信号機 \uff1d",
    "العربية",
    "😀👨\u200d👩\u200d👧",
    "हिन्दी",
    "한국어",
    "кот",
    "\ue000",
    "\uff41\uff42\uff43",
)
BOLD_A = "\U0001d400"
"""In matplotlib's STIXGeneral, not in DejaVu Sans."""


@pytest.fixture
def only(monkeypatch):
    """Pretend that the system has these files of matplotlib's only, beside DejaVu Sans."""

    def pretend(**families):
        folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
        files = {str(folder / file): family.replace("_", " ") for family, file in families.items()}
        monkeypatch.setattr(fonts, "_families", lambda: files)
        fonts._font_of.cache_clear()

    yield pretend
    fonts._font_of.cache_clear()


@pytest.mark.parametrize("name", ["Ölfleck", "кот", "ñandú", "العربية"])
def test_what_dejavu_has_is_unchanged(only, name):
    only()
    assert drawable(name) == drawable_name(name, "class 0") == name


def test_substitutes(only):
    only()
    assert drawable("a自転車") == "a□□□"
    assert drawable("\uff1d\uff11\uff0b\uff11") == "=1+1", "full-width forms have plain ones"
    assert drawable("x\U000e0020\U000e0101") == "x", "no box for what has no width"
    assert drawable("a\n自") == "a\n□"
    assert drawable("") == ""


def test_a_name_of_which_nothing_can_be_drawn_is_the_number_of_its_class(only):
    only()
    assert drawable_name("自転車", "class 3") == "class 3"
    assert drawable_name("自転 車", "class 3") == "class 3"
    assert drawable_name("自転車 2", "class 3") == "□□□ 2"
    assert drawable_name("□", "class 3") == "□"


def test_a_font_of_the_system_is_used_where_dejavu_lacks_the_character(only):
    only()
    assert drawable(BOLD_A) == "A"
    only(STIXGeneral="STIXGeneral.ttf")
    assert drawable(BOLD_A) == BOLD_A
    picture = Image.new("RGB", (80, 40), (255, 255, 255))
    draw_text(ImageDraw.Draw(picture), (40, 20), f"x{BOLD_A}y", 20, (0, 0, 0), "mm")
    columns = np.flatnonzero((np.asarray(picture) < 128).any(axis=(0, 2)))
    assert columns[[0, -1]].mean() == pytest.approx(40, abs=3)
    assert columns[-1] - columns[0] == pytest.approx(text_length(f"x{BOLD_A}y", 20), abs=4)
    figure = AnyScriptFigure()
    text = figure.text(0.5, 0.5, BOLD_A)
    figure.savefig(io.BytesIO())
    assert text.get_fontfamily()[-1] == "STIXGeneral"


@pytest.mark.parametrize("anchor", ["la", "mm", "rm", "lm", "ma"])
def test_runs_of_several_fonts_lie_where_one_font_would(only, anchor):
    only(STIXGeneral="STIXGeneral.ttf")

    def ink(text):
        canvas = Image.new("RGB", (200, 80), (255, 255, 255))
        draw_text(ImageDraw.Draw(canvas), (100, 40), text, 24, (0, 0, 0), anchor)
        rows = np.flatnonzero((np.asarray(canvas) < 128).any(axis=(1, 2)))
        return rows[[0, -1]].mean()

    assert ink("AAA") == pytest.approx(ink(f"A{BOLD_A}A"), abs=2)


@pytest.mark.parametrize("has_system_fonts", [True, False])
def test_figures_and_pictures_with_any_name_are_drawn_without_warnings(only, has_system_fonts):
    if not has_system_fonts:
        only()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = AnyScriptFigure(layout="constrained")
        axes = figure.subplots()
        figure.suptitle("、".join(NAMES))
        for name in NAMES:
            axes.plot([0, 1], label=name)
        axes.set(title=NAMES[0], xlabel=NAMES[1])
        axes.legend()
        figure.savefig(io.BytesIO(), format="png")
        count = len(NAMES)
        boxes_xyxy = torch.rand(count, 4, generator=torch.Generator().manual_seed(0)) * 400
        found = Detections(boxes_xyxy, torch.ones(count), torch.arange(count), torch.arange(count), NAMES)
        found.draw(Image.new("RGB", (400, 400)))


def test_no_figure_is_drawn_with_tofu(only):
    """DejaVu's own glyph for missing characters is not what a picture shows."""
    only()
    missing = bytes(label_font(20).getmask("\U0010fffe"))
    for character in drawable("".join(NAMES)):
        assert character.isspace() or bytes(label_font(20).getmask(character)) != missing


def test_unusable_fonts_are_passed_over(tmp_path):
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    assert fonts._characters(str(tmp_path / "broken.ttf")) == frozenset()
    assert fonts._characters(str(tmp_path / "gone.ttf")) == frozenset()
