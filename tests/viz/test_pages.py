"""Parts of self-contained pages: nothing from a file becomes markup; charts are to scale, pictures show their boxes."""

import base64
import io
import re
from html import unescape
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image, ImageDraw

from detr_lite.viz.pages.charts import Marker, bar_table, histogram
from detr_lite.viz.pages.gallery import ENTRIES, FINE_PICTURES, PICTURES, Example, Group, gallery, merge_groups
from detr_lite.viz.pages.html import Html, element, join, wrappable
from detr_lite.viz.pages.page import STATIC, is_page, render_page
from detr_lite.viz.pages.pictures import LONGEST_SIDE, Mark, PictureBudget, View

NASTY = "</script><img src=x onerror=alert(1)> & \" ' \u202e \x07"


def tree(markup: str) -> ElementTree.Element:
    """Parsed strictly, with void elements closed."""
    return ElementTree.fromstring(re.sub(r"<(img|meta|wbr|link)([^>]*)>", r"<\1\2/>", f"<root>{markup}</root>"))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    image = Image.new("RGB", (800, 600), (90, 120, 90))
    ImageDraw.Draw(image).rectangle((400, 300, 419, 309), fill=(250, 30, 30))
    image.save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def pictures_in(markup: str) -> list[Image.Image]:
    uris = re.findall(r"data:image/jpeg;base64,([\w+/=]+)", markup)
    return [Image.open(io.BytesIO(base64.b64decode(uri))) for uri in uris]


# --- Markup ---


def test_text_is_escaped_and_markup_is_not() -> None:
    made = element("p", NASTY, element("b", "<i>"), None, 3, title=NASTY, hidden=True, data_kind="a", id=None)
    (paragraph,) = tree(made.replace(" hidden", ' hidden="hidden"'))
    shown = NASTY.replace("\u202e", "\\u202e").replace("\x07", "\\x07")
    assert (paragraph.text, paragraph.get("title")) == (shown, shown)
    assert "<img" not in made
    assert "\u202e" not in made
    assert "\x07" not in made
    assert made.endswith("<b>&lt;i&gt;</b>3</p>")
    assert ' hidden data-kind="a">' in made
    assert " id=" not in made
    assert join("<", Html("<br>")) == "&lt;<br>"


def test_coordinates_are_short() -> None:
    assert element("line", x1=1.0, x2=0.126, y1=-3.5, y2=12) == '<line x1="1" x2="0.13" y1="-3.5" y2="12"></line>'


def test_long_names_may_be_broken_at_their_parts_alone() -> None:
    assert wrappable("train/a_b-c.jpg") == "train/<wbr>a_<wbr>b-c.jpg"
    assert wrappable("a\\b__c/") == "a\\<wbr>b__<wbr>c/"
    assert wrappable("") == ""
    assert wrappable("<i>/x") == "&lt;i&gt;/<wbr>x"


def test_a_page_knows_its_kind() -> None:
    page = render_page("doctor", NASTY, "data", element("p", "text"))
    assert is_page(page[:4000], "doctor")
    assert not is_page(page[:4000], "report")
    assert not is_page("<!doctype html><html></html>", "doctor")
    assert page.count("<script") == page.count("</script") == 1, "its own alone"
    assert "default-src 'none'" in unescape(page)


def test_a_page_loads_nothing() -> None:
    page = render_page("doctor", "title", "data", element("p", "text"))
    assert not re.search(r"https?:|@import|fetch\(|XMLHttpRequest|import\(|url\((?!#)", page)
    assert re.findall(r'(?:src|href)="([^"]*)"', page) == ["data:,"]
    for file in STATIC.iterdir():
        assert page.count(file.read_text()) == 1, f"{file.name} is in the page once"
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", file.read_text())


# --- Charts ---


def test_bars_have_the_length_of_their_numbers() -> None:
    table = tree(
        bar_table("Objects", ("Class", "train", "share"), ["a", NASTY], [[40, 10], [0.5, 0.25]], full=[None, 1])
    )
    rows = table.findall(".//tbody/tr")
    widths = [[float(rect.get("width")) for rect in row.findall(".//rect")] for row in rows]
    assert widths == [[100, 50], [25, 25]], "of the largest, and of 1"
    assert [cell.text for cell in rows[0].findall(".//td/span")] == ["40", "0"]
    assert "".join(rows[1].find("th").itertext()) == NASTY


def test_long_tables_are_folded() -> None:
    table = tree(bar_table("Objects", ("Class", "train"), [f"c{n}" for n in range(100)], [list(range(100))], limit=30))
    assert len(table.findall("./div//tbody/tr")) == 30
    assert len(table.findall("./details//tbody/tr")) == 70
    assert table.findtext("./details/summary") == "70 more"


@pytest.mark.parametrize("values", [[], [0, 0]])
def test_charts_of_nothing(values: list[int]) -> None:
    names = [str(number) for number in range(len(values))]
    assert "nan" not in bar_table("Objects", ("Class", "train"), names, [values])
    edges = np.arange(len(values) + 2, dtype=np.float64)
    chart = histogram("Sizes", edges, [("train", [0] * (len(values) + 1))], [], "pixels")
    assert "nan" not in chart


def test_a_histogram_is_drawn_to_scale() -> None:
    edges = np.array([0.0, 1.0, 2.0])
    chart = histogram(
        "Sizes", edges, [("train", [3, 1]), ("val", [0, 8])], [(1.0, "one")], "pixels", [Marker(0.5, "half")]
    )
    rects = [rect for rect in tree(chart).iter("rect") if rect.find("title") is not None]
    heights = [float(rect.get("height")) for rect in rects]
    np.testing.assert_allclose(np.array(heights) / max(heights), [0.75, 0.25, 0, 1], atol=1e-3)
    assert rects[0].findtext("title") == "train, 0 to 1: 75.0%"
    assert {rect.get("class") for rect in rects} == {"series-0", "series-1"}
    middle = [line for line in tree(chart).iter("line") if line.get("class") == "marker"]
    left, right = (float(rects[place].get("x")) for place in (0, 1))
    assert left < float(middle[0].get("x1")) < right


# --- Pictures ---


def test_a_picture_with_its_boxes(photo: Path) -> None:
    marks = (Mark((500.0, 400.0, 100.0, 50.0), "annotated", NASTY), Mark((1.0, 2.0, 3.0, 4.0), "context"))
    made = PictureBudget(10**6).picture(View(photo, NASTY, (800, 600), marks))
    (image,) = pictures_in(made)
    assert image.size == (LONGEST_SIDE, 360)
    boxes = [rect.attrib for rect in tree(made).iter("rect") if rect.get("class") != "shadow"]
    assert {key: boxes[0][key] for key in ("x", "y", "width", "height")} == {
        "x": "100", "y": "50", "width": "400", "height": "350"
    }, "corners in any order"  # fmt: skip
    assert [box["class"] for box in boxes] == ["annotated", "context"]
    assert tree(made).find(".//svg").get("viewBox") == "0 0 800 600"
    assert "<img src=x" not in made


def test_a_small_object_is_shown_from_near(photo: Path) -> None:
    made = PictureBudget(10**6).picture(View(photo, "photo", (800, 600), (Mark((400.0, 300.0, 420.0, 310.0)),)))
    left, top, width, height = map(int, tree(made).find(".//svg").get("viewBox").split())
    assert left < 400 < 420 < left + width < 800
    assert top < 300 < 310 < top + height < 600
    (image,) = pictures_in(made)
    assert image.size == (width, height), "nothing is enlarged"
    red = np.argwhere(np.asarray(image)[..., 0] > 200) + np.array([top, left])
    assert red.min(axis=0).tolist() == pytest.approx([300, 400], abs=1)
    assert "part of the image" in made
    beyond = PictureBudget(10**6).picture(View(photo, "photo", (800, 600), (Mark((-9.0, 0.0, 5.0, 5.0)),)))
    assert tree(beyond).find(".//svg").get("viewBox") == "0 0 800 600", "of a box beyond it the whole image"


def test_a_box_without_area_is_encircled(photo: Path) -> None:
    made = PictureBudget(10**6).picture(View(photo, "photo", (800, 600), (Mark((400.0, 300.0, 400.0, 300.0)),)))
    (ring,) = (circle for circle in tree(made).iter("circle") if circle.get("class") == "annotated")
    assert (ring.get("cx"), ring.get("cy")) == ("400", "300")
    assert float(ring.get("r")) > 5


def test_images_that_cannot_be_read_or_have_another_size(photo: Path) -> None:
    assert "cannot be opened" in PictureBudget(10**6).picture(View(photo.with_name("none.png"), "none", (4, 4)))
    assert pictures_in(PictureBudget(10**6).picture(View(photo, "photo", (44, 33))))[0].size == (480, 360)
    assert pictures_in(PictureBudget(10**6).picture(View(photo, "photo", None)))[0].size == (480, 360)


def test_the_budget_holds(photo: Path) -> None:
    view = View(photo, "photo", (800, 600))
    size = len(PictureBudget(10**6).picture(view).split('"')[5])
    budget = PictureBudget(int(2.5 * size))
    made = [budget.picture(view) for _ in range(4)]
    assert [each is not None for each in made] == [True, True, False, False]


# --- Gallery ---


def group(examples: int = 0, **options: object) -> Group:
    view = View(Path("/none.png"), "none", (9, 9))
    shown = tuple(Example((view,), f"example {number}") for number in range(examples))
    return Group(**{"kind": "odd", "level": "look", "title": "Odd", "where": "train", "text": "Odd ones.",
                    "examples": shown, **options})  # fmt: skip


def test_groups_say_how_many_pictures_they_leave_out() -> None:
    entries = tuple(f"{NASTY} {number}" for number in range(700))
    made = gallery([group(100, count=700, entries=entries)], PictureBudget(10**6))
    assert made.count('class="picture"') == PICTURES
    assert f"Pictures of {PICTURES} of 700 (the first ones)." in made
    assert made.count("<li>") == ENTRIES
    assert "and 200 more" in made
    assert "<img" not in made
    fine = gallery([group(100, level="fine", count=700)], PictureBudget(10**6))
    assert fine.count('class="picture"') == FINE_PICTURES


def test_a_spent_budget_is_told(photo: Path) -> None:
    shown = tuple(Example((View(photo, "photo", (800, 600)),), "a") for _ in range(5))
    size = len(PictureBudget(10**6).picture(shown[0].views[0]))
    made = gallery([group(examples=0, count=5)], PictureBudget(0))
    assert "Pictures" not in made
    some = gallery([Group("a", "look", "A", "train", "text", 5, examples=shown)], PictureBudget(3 * size))
    assert some.count('class="picture"') in (3, 4)
    assert "the page holds at most 10 MB" in some
    none = gallery([Group("a", "look", "A", "train", "text", 5, examples=shown)], PictureBudget(10))
    assert "No pictures: the page holds at most 10 MB." in none


def test_filters_count_each_kind_over_all_splits() -> None:
    groups = [
        group(count=2, entries=("a", "b")),
        group(count=3, where="val"),
        group(kind="rare", title="Rare", count=1),
    ]
    chips = tree(gallery(groups, PictureBudget(0))).findall("./div[@id='filters']/button")
    assert [(chip.get("data-kind"), chip.find("span[2]").text) for chip in chips] == [
        ("", "3"),
        ("odd", "5"),
        ("rare", "1"),
    ]
    assert [chip.get("aria-pressed") for chip in chips] == ["true", "false", "false"]
    assert "filters" not in gallery(groups[:1], PictureBudget(0)), "one kind needs no filter"
    anchors = [each.anchor for each in groups]
    assert len({*anchors}) == 3


def test_what_two_splits_share_is_said_once() -> None:
    merged = merge_groups(
        [group(2, count=2, entries=("1", "2")), group(kind="x"), group(1, where="val", count=1, entries=("1",))]
    )
    assert [(each.kind, each.where, each.count) for each in merged] == [("odd", "train, val", 3), ("x", "train", None)]
    assert merged[0].entries == ("train: 1", "train: 2", "val: 1")
    assert [example.caption for example in merged[0].examples] == ["example 0", "example 0", "example 1"], "in turn"
    different = [group(text="one"), group(text="two", where="val")]
    assert merge_groups(different) == different
