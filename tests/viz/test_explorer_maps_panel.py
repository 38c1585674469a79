"""The explorer's panel that says which map of a detection is right, in a real browser."""

import numpy as np
import pytest

from detr_lite.evaluation.attribution import CONTROLS, METHODS, area_under
from detr_lite.viz.explorer.page import explorer_page
from detr_lite.viz.explorer.scene import pack_scene
from tests.helpers.explorer_checks import (
    ATTENTION,
    assert_cross,
    state,
)
from tests.helpers.explorer_maps import GIVEN, assert_occlusion, assert_relevance, text
from tests.helpers.fake_attention import NAMES, found, picture
from tests.helpers.fake_attribution import FRACTIONS, STEEPNESS, attribution

pytestmark = pytest.mark.slow


def areas_shown(page):
    """By method: the numbers of its row."""
    rows = page.locator(".areas tbody tr")
    names = [*METHODS, *CONTROLS]
    return {name: [float(cell) for cell in rows.nth(i).locator("td").all_inner_texts()] for i, name in enumerate(names)}


def expected_areas(name, row):
    return [area_under(FRACTIONS, getattr(GIVEN, kind)[name])[row] for kind in ("deletion", "insertion")]


@pytest.mark.parametrize(("row", "query"), [(0, 3), (1, 1)])
def test_areas_are_those_under_the_curves(visit, row, query):
    page = visit(f"#view=maps&query={query}", "maps")
    shown = areas_shown(page)
    for name in STEEPNESS:
        own = expected_areas(name, row)
        mean = np.mean([expected_areas(name, 0), expected_areas(name, 1)], axis=0)
        assert shown[name] == pytest.approx([*own, *mean], abs=0.0051)
    bold = [cell.inner_text() for cell in page.locator(".areas strong").all()]
    assert bold == [f"{value:.2f}" for value in shown["occlusion"]], "the best of each column, here of one map"


def test_what_the_areas_say(visit):
    page = visit("#view=maps&query=3", "maps")
    area = {name: f"{value:.2f}" for name in STEEPNESS for value in expected_areas(name, 0)[:1]}
    assert float(area["attention"]) > float(area["box"])
    assert text(page, ".verdict h2") == "cup 0.90"
    assert text(page, ".verdict .sentence") == (
        f"For this detection occlusion finds what the score depends on soonest (deletion {area['occlusion']}; "
        f"attention {area['attention']}, relevance {area['relevance']}, random {area['random']}). "
        f"Attention does no better than the distance to the box ({area['box']})."
    )


@pytest.mark.parametrize(
    ("steepness", "sentences"),
    [
        (
            {"attention": 30, "occlusion": 9},
            ["attention finds what", "Attention does better than the distance to the box"],
        ),
        (
            {"attention": 30, "relevance": 30},
            ["attention, relevance and occlusion find what the score depends on equally soon (deletion"],
        ),
        ({"box": 60}, ["occlusion finds what", "The distance to the box alone does better than any of them (0."]),
        (
            {"attention": 1, "relevance": 1, "occlusion": 1, "random": 5},
            ["no map finds what the score depends on sooner than random order does", "In insertion no map does better"],
        ),
    ],
)
def test_other_verdicts(visit, explorer_pages, steepness, sentences):
    given = attribution((3,), (0,), steepness=STEEPNESS | steepness)
    scene = pack_scene("other.jpg", picture(), found(), ATTENTION, attribution=given)
    (explorer_pages / "other.html").write_text(explorer_page([scene], NAMES))
    page = visit("#view=maps&query=3", "other")
    said = text(page, ".verdict .sentence")
    for sentence in sentences:
        assert sentence in said
    assert page.locator(".areas thead th[colspan]").count() == 1, "the mean of one is itself"
    page.keyboard.press("Escape")
    assert text(page, "#panel-maps > .note") == "Choose the detection of highest score to see its own curves."


def test_areas_that_are_almost_equal_are_both_said(visit, explorer_pages):
    """0.19 and 0.18 are not told apart: both are named, each with its own number."""
    steepness = {"attention": 5.9, "relevance": 6.3, "occlusion": 2, "box": 3, "random": 0.5}
    given = attribution((3,), (0,), steepness=steepness)
    scene = pack_scene("near.jpg", picture(), found(), ATTENTION, attribution=given)
    (explorer_pages / "near.html").write_text(explorer_page([scene], NAMES))
    page = visit("#view=maps&query=3", "near")
    first, second = (area_under(FRACTIONS, given.deletion[name])[0] for name in ("attention", "relevance"))
    assert 0.005 < first - second < 0.015
    said = text(page, ".verdict .sentence")
    assert "attention and relevance find what the score depends on soonest" in said
    assert f"(deletion attention {first:.2f}, relevance {second:.2f}; occlusion" in said


def test_without_a_detection_the_mean_of_all(visit):
    page = visit("#view=maps&query=5", "maps")
    assert text(page, "#panel-maps > .note") == "Curves exist for the 2 detections of highest score only."
    assert text(page, ".verdict h2") == "Mean of 2 detections"
    assert text(page, ".verdict .sentence").startswith("On average occlusion finds")
    for name, shown in areas_shown(page).items():
        assert shown == pytest.approx(np.mean([expected_areas(name, 0), expected_areas(name, 1)], axis=0), abs=0.0051)
    page.keyboard.press("Escape")
    assert text(page, "#panel-maps > .note").startswith("Choose one of the 2 detections of highest score")


def curve_points(page, kind, name):
    """The drawn points of a curve, and the pixels of the chart between its lowest and highest values."""
    chart = page.locator(".charts figure").nth(kind)
    points = chart.locator(f"polyline.curve.{name}").get_attribute("points")
    return np.array([[float(side) for side in point.split(",")] for point in points.split()])


@pytest.mark.parametrize(("place", "kind"), [(0, "deletion"), (1, "insertion")])
def test_curves_are_drawn_over_the_square_root_of_the_share(visit, place, kind):
    page = visit("#view=maps&query=1", "maps")
    for name in STEEPNESS:
        points = curve_points(page, place, name)
        values = getattr(GIVEN, kind)[name][1]
        across = (points[:, 0] - points[0, 0]) / (points[-1, 0] - points[0, 0])
        np.testing.assert_allclose(across, np.sqrt(FRACTIONS), atol=0.001)
        lines = page.locator(".charts figure").nth(place).locator("line.grid")
        bottom, top = (float(lines.nth(i).get_attribute("y1")) for i in (0, 2))
        np.testing.assert_allclose((bottom - points[:, 1]) / (bottom - top), values, atol=0.002)


def test_each_curve_has_a_label_that_covers_no_other(visit):
    page = visit("#view=maps&query=3", "maps")
    for chart in page.locator(".charts svg").all():
        labels = chart.locator("text.label").all()
        assert sorted(label.text_content() for label in labels) == sorted(STEEPNESS)
        boxes = [label.bounding_box() for label in labels]
        whole = chart.bounding_box()
        for i, one in enumerate(boxes):
            assert whole["x"] <= one["x"]
            assert one["x"] + one["width"] <= whole["x"] + whole["width"] + 1
            for other in boxes[:i]:
                apart = one["x"] + one["width"] <= other["x"] + 1 or other["x"] + other["width"] <= one["x"] + 1
                above = one["y"] + one["height"] <= other["y"] + 4 or other["y"] + other["height"] <= one["y"] + 4
                assert apart or above


@pytest.mark.stress
def test_a_row_a_line_or_a_label_chooses_the_map(visit):
    page = visit("#view=maps&query=3&layer=0&head=1", "maps")
    page.locator(".areas button", has_text="Relevance").click()
    assert state(page)["source"] == "relevance"
    assert_relevance(page)
    assert page.locator(".areas button[aria-pressed=true]").inner_text() == "Relevance"
    page.locator(".charts figure").nth(1).locator("text.label.occlusion").click()
    assert state(page)["source"] == "occlusion"
    page.locator(".areas tbody tr").nth(0).locator("td").first.click()
    assert state(page)["source"] == "attention"
    assert_cross(page, ATTENTION.cross[2, 0, :, 3])
    page.locator(".charts figure").nth(0).locator("polyline.hit").nth(1).dispatch_event("click")
    assert state(page)["source"] != "attention"
    before = state(page)["source"]
    page.locator(".areas tbody tr").nth(4).locator("td").first.click()
    assert state(page)["source"] == before, "random order is no map"


@pytest.mark.stress
def test_by_keyboard_alone(visit):
    page = visit("#query=3", "maps")
    page.keyboard.press("a")
    assert state(page)["view"] == "maps"
    page.locator(".areas button").nth(2).focus()
    page.keyboard.press("Enter")
    assert state(page)["source"] == "occlusion"
    assert page.evaluate("document.activeElement.textContent") == "Occlusion", "the focus stays"
    page.keyboard.press("n")
    assert state(page)["query"] == 1
    assert page.evaluate("document.activeElement.textContent") == "Occlusion"
    assert_occlusion(page, 1)
    for expected in ("attention", "relevance", "occlusion"):
        page.keyboard.press("e")
        assert state(page)["source"] == expected
    page.keyboard.press("?")
    assert page.locator("#help .of-maps").is_visible()


def test_a_query_that_is_detected_as_two_classes_has_the_maps_of_each(visit, explorer_pages):
    detections = found()
    detections.queries[1] = 3
    given = attribution((3, 3), (0, 1))
    scene = pack_scene("twice.jpg", picture(), detections, ATTENTION, attribution=given)
    (explorer_pages / "twice.html").write_text(explorer_page([scene], NAMES))
    page = visit("#query=3&label=1&source=occlusion&view=maps", "twice")
    assert_occlusion(page, 1)
    assert text(page, ".verdict h2") == "plate 0.80"
    page.keyboard.press("p")
    assert_occlusion(page, 0)
    assert text(page, ".verdict h2") == "cup 0.90"


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_is_wider_than_the_window(visit, width):
    page = visit("#view=maps&query=3&source=occlusion", "maps", viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == width
    table = page.locator(".areas").bounding_box()
    panel = page.locator("#panel-maps").bounding_box()
    assert table["width"] <= panel["width"] + 1
