"""The explorer in a real browser: queries of two classes, queries that detect nothing, and the best guesses."""

import numpy as np
import pytest
import torch

from detr_lite.structures import Detections
from detr_lite.viz.explorer.page import explorer_page
from detr_lite.viz.explorer.scene import pack_scene
from tests.helpers.explorer_checks import ATTENTION, assert_cross, at, state, wait
from tests.helpers.fake_attention import NAMES, found, picture

pytestmark = pytest.mark.slow

OWN = Detections(
    torch.tensor(
        [[5.0, 90, 60, 115], [90, 50, 150, 110], [62, 5, 88, 40], [20, 20, 70, 60], [0, 0, 9, 9], [100, 60, 120, 80]]
    ),
    torch.tensor([0.2, 0.7, 0.04, 0.9, 0.01, 0.6]),
    torch.tensor([0, 1, 1, 0, 2, 2]),
    torch.arange(6),
    NAMES,
)
"""Each query's own box and best class; queries 2 and 4 detect nothing."""


@pytest.fixture(scope="module")
def pages(explorer_pages):
    """`classes.html`, where query 3 is detected as a cup and as a plate, and `guesses.html` of low scores."""
    twice = Detections(
        torch.tensor([[20.0, 20, 70, 60], [20, 20, 70, 60], [90, 50, 150, 110], [100, 60, 120, 80]]),
        torch.tensor([0.9, 0.8, 0.7, 0.6]),
        torch.tensor([0, 1, 1, 2]),
        torch.tensor([3, 3, 1, 5]),
        NAMES,
    )
    scene = pack_scene("a.jpg", picture(), twice, ATTENTION, by_query=OWN)
    (explorer_pages / "classes.html").write_text(explorer_page([scene], NAMES))
    low = pack_scene("a.jpg", picture(), found((0.31, 0.2, 0.1, 0.05)), ATTENTION)
    (explorer_pages / "guesses.html").write_text(explorer_page([low], NAMES))
    return explorer_pages


def caption(page):
    return page.locator("#caption").inner_text()


def chosen(page):
    return page.locator("#detections [aria-selected=true]").all_inner_texts()


def test_the_classes_of_a_query_are_chosen_one_by_one(visit, pages):
    page = visit(name="classes")
    shown = []
    for _ in range(5):
        page.keyboard.press("n")
        (entry,) = chosen(page)
        name, score = entry.split("\n")[0], entry.split("\n")[-1]
        assert caption(page).startswith(f"{name} {score}"), "the caption names the class that was chosen"
        assert page.locator(".tag").inner_text() == f"{name} {score}"
        shown.append((name, state(page)["query"]))
    assert shown == [("cup", 3), ("plate", 3), ("plate", 1), ("spoon", 5), ("cup", 3)], "each once, then from the start"
    page.keyboard.press("p")
    page.keyboard.press("p")
    assert (chosen(page)[0].split("\n")[0], state(page)["query"]) == ("plate", 1), "5 to 1 backwards"


def test_a_query_of_two_classes_has_one_box_and_hovering_marks_one_entry(visit, pages):
    page = visit("#score=0.5", name="classes")
    assert page.locator("#boxes .box").count() == 3
    assert sorted(page.locator(".tag").all_inner_texts()) == ["cup 0.90", "plate 0.70", "spoon 0.60"]
    page.locator("#detections [role=option]").nth(1).hover()
    wait(page, "document.getElementById('caption').textContent.startsWith('plate 0.80')")
    assert page.locator("#detections .hovered").all_inner_texts()[0].startswith("plate")
    assert page.locator("#detections .hovered").count() == 1
    assert_cross(page, ATTENTION.cross[2, 0, :, 3])


@pytest.mark.stress
def test_an_address_keeps_the_class(visit, pages):
    page = visit(name="classes")
    page.locator("#detections [role=option]").nth(1).click()
    other = visit(page.evaluate("location.hash"), name="classes")
    assert caption(other) == caption(page)
    assert caption(other).startswith("plate 0.80")
    assert caption(visit("#query=3", name="classes")).startswith("cup 0.90"), "without one, the best"


def test_queries_that_detect_nothing_have_their_own_box_and_class(visit, pages):
    page = visit("#query=3&view=links&layer=0&head=2", name="classes")
    weights = ATTENTION.queries[0, 0, 2, 3]
    order = [query for query in weights.argsort(descending=True).tolist() if query != 3]
    assert page.locator("#links circle").count() == 5, "every other query has a box"
    assert page.locator(".box.linked").last.get_attribute("data-query") == str(order[0])
    listed = page.locator("#linked-queries [role=option]").all_inner_texts()
    entry = next(text for text in listed if "query 2" in text)
    assert entry.startswith("(plate)\nquery 2 · 0.04"), "in parentheses: below the threshold"
    page.locator("#linked-queries [role=option]", has_text="query 2").click()
    assert caption(page).startswith("plate 0.04")
    assert "a guess, below 0.50" in caption(page)


def test_links_are_bright(visit, pages):
    """Of the color map's upper half, however small the weight."""
    page = visit("#query=3&view=links", name="classes")
    colors = page.evaluate("[...document.querySelectorAll('#links circle')].map(one => one.getAttribute('fill'))")
    brightness = [np.dot([0.299, 0.587, 0.114], [int(part) for part in color[4:-1].split()]) for color in colors]
    assert len(brightness) == 5
    assert min(brightness) > 90


def test_without_a_detection_the_best_guesses_are_shown_and_called_so(visit, pages):
    page = visit(name="guesses")
    wait(page, "document.getElementById('caption').textContent.startsWith('cup 0.31')")
    assert "a guess, below 0.50" in caption(page)
    assert page.locator("#detections [role=option]").count() == 4
    assert (
        page.locator("#detections-note").inner_text().startswith("No score reaches 0.50. These are the best guesses.")
    )
    page.mouse.move(*at(page, 0.5, 0.02))
    wait(page, "document.getElementById('caption').textContent.startsWith('4 best guesses')")
    assert page.locator("#boxes .box.guess").count() == page.locator("#boxes .box").count() == 4
    page.locator("#threshold").fill("0.15")
    assert page.locator("#detections [role=option]").count() == 2
    assert page.locator("#boxes .box.guess").count() == 0


def test_nothing_moves_when_something_is_hovered(visit, pages):
    page = visit("#score=0.5", name="classes", viewport={"width": 1280, "height": 800})
    ids = ["stage", "show-boxes", "tabs", "detections"]
    places = f"{ids}.map(id => document.getElementById(id).getBoundingClientRect().top)"
    before = page.evaluate(places)
    page.locator("#detections [role=option]").nth(0).hover()
    wait(page, "explorer.heatmap() !== null")
    assert page.evaluate(places) == before
    page.mouse.move(*at(page, 0.4, 0.4))
    wait(page, "document.querySelector('#weight b').textContent !== ''")
    assert page.evaluate(places) == before


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (1000, 700), (390, 844)])
@pytest.mark.stress
def test_captions_are_not_cut(visit, pages, width, height):
    for hash in ("#query=4", "#query=3&view=links", "#view=point&point=0.5,0.5", "#query=3&layer=0&head=1"):
        page = visit(hash, name="classes", viewport={"width": width, "height": height})
        high, shown = page.evaluate("(e => [e.scrollHeight, e.clientHeight])(document.getElementById('caption'))")
        assert high <= shown, hash


def test_a_link_of_a_local_file_is_the_part_after_the_hash(visit, pages):
    page = visit("#query=3&label=1", name="classes", permissions=["clipboard-read", "clipboard-write"])
    page.locator("#share").click()
    wait(page, "document.getElementById('share').textContent === 'Copied the part after #'")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("#image=0&view=detections&query=3&label=1")
    phone = visit(name="classes", viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    assert phone.locator("#share").is_visible()


def test_pictures_take_the_width_of_a_phone(visit, pages):
    options = {"has_touch": True, "is_mobile": True}
    page = visit("#query=3", name="classes", viewport={"width": 390, "height": 844}, **options)
    assert page.locator("#stage").bounding_box()["width"] == 390
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    sideways = visit("#query=3", name="classes", viewport={"width": 844, "height": 390}, **options)
    stage, lists = (sideways.locator(one).bounding_box() for one in ("#stage", "aside"))
    assert stage["height"] > 250, "not a strip above the lists"
    assert stage["x"] + stage["width"] <= lists["x"], "beside them"
