"""The explorer's panel of true objects in a real browser: three planted cases, each explained."""

import pytest

from detr_lite.evaluation.postprocess import Postprocess
from detr_lite.viz.explorer.outcomes import pack_outcome, relabeled_outcome
from detr_lite.viz.explorer.page import explorer_page
from detr_lite.viz.explorer.scene import pack_scene
from tests.helpers.explorer_checks import at, state
from tests.helpers.fake_attention import NAMES, maps, picture
from tests.helpers.planted import ELSEWHERE, HEIGHT, WIDTH, explain_planted, planted_output, true_objects

CUP, PLATE, SPOON = range(3)
NOTHING = (0.01, 0.01, 0.01)
SHARED, FRONT, BEHIND = (12, 22, 60, 98), (10, 20, 56, 98), (20, 24, 64, 96)
SWAPPED, HIDDEN, SMALL = (80, 10, 110, 50), (120, 60, 156, 100), (66, 90, 80, 102)
QUERIES = [
    (ELSEWHERE, NOTHING),
    (SHARED, (0.93, 0.01, 0.03)),
    (SWAPPED, (0.05, 0.84, 0.01)),
    ((118, 62, 156, 100), NOTHING),
    ((67, 90, 80, 102), (0.01, 0.01, 0.6)),
    (SMALL, (0.01, 0.01, 0.7)),
    ((80, 100, 90, 110), (0.01, 0.55, 0.01)),
]
TRUTH = true_objects((FRONT, CUP), (BEHIND, SPOON), (SWAPPED, CUP), (HIDDEN, PLATE), (SMALL, SPOON))
CROWDS = true_objects(((0, 0, 112, 120), PLATE), ((60, 85, 85, 105), SPOON))


@pytest.fixture(scope="module")
def why(explorer_pages):
    outcome = explain_planted(QUERIES, TRUTH, before=[(box, NOTHING) for box, _ in QUERIES])
    (detections,) = Postprocess("sigmoid", NAMES)(planted_output(QUERIES), [(HEIGHT, WIDTH)])
    attention = maps(layers=2, queries=len(QUERIES))
    known = pack_scene("known.jpg", picture(), detections, attention, TRUTH, outcome=outcome)
    unknown = pack_scene("unknown.jpg", picture(), detections, attention)
    ignored = explain_planted(QUERIES, TRUTH[:0], crowds=CROWDS)
    crowd = pack_scene("crowd.jpg", picture(), detections, attention, TRUTH[:0], outcome=ignored, crowds=CROWDS)
    last = pack_scene("last.jpg", picture(), detections, attention, TRUTH, outcome=explain_planted(QUERIES, TRUTH))
    (explorer_pages / "last.html").write_text(explorer_page([last], NAMES))
    (explorer_pages / "crowd.html").write_text(explorer_page([crowd], NAMES))
    (explorer_pages / "why.html").write_text(explorer_page([known, unknown], NAMES))
    return outcome


def test_labels_of_the_page_instead_of_the_models(why):
    packed = pack_outcome(why)
    moved = relabeled_outcome(packed, [5, 7, 9])
    before = [layer["label"] for each in packed["objects"] for layer in each["layers"]]
    after = [layer["label"] for each in moved["objects"] for layer in each["layers"]]
    assert set(before) > {0}
    assert after == [[5, 7, 9][label] for label in before]


def answer(page):
    return page.locator(".answer .sentence").inner_text()


def options(page):
    rows = page.locator("#why-list [role=option]")
    return [(row.locator(".name").inner_text(), row.locator(".detail").inner_text()) for row in rows.all()]


@pytest.mark.slow
def test_objects_and_false_detections_with_what_they_are(visit, why):
    page = visit("#view=why", "why")
    assert "5 true objects, 3 not found and 3 false detections" in page.locator("#panel-why .note").first.inner_text()
    assert options(page) == [
        ("cup 1", "found"),
        ("spoon 1", "missed"),
        ("cup 2", "wrong class"),
        ("plate", "missed"),
        ("spoon 2", "found"),
        ("plate, query 2", "false: wrong class"),
        ("spoon, query 4", "false: duplicate"),
        ("plate, query 6", "false detection"),
    ]


@pytest.mark.parametrize(
    ("number", "reason"),
    [(1, "Its place is taken: query 1"), (2, "Another class: "), (3, "Taken for background: the nearest query, 3,")],
)
@pytest.mark.slow
def test_each_planted_case_is_explained(visit, why, number: int, reason: str):
    page = visit("#view=why", "why")
    page.locator("#why-list [role=option]").nth(number).click()
    verdict = why.objects[number].at(0.5)
    assert state(page)["object"] == number
    assert state(page)["query"] == verdict.query, "its attention is shown"
    assert answer(page) == verdict.sentence
    assert answer(page).startswith(reason)
    assert verdict.sentence in page.locator("#caption").inner_text()
    assert page.locator("#boxes .true.chosen").count() == 1


@pytest.mark.slow
def test_a_click_on_a_true_box_chooses_it(visit, why):
    page = visit("#view=why", "why")
    page.mouse.click(*at(page, 138 / WIDTH, 80 / HEIGHT))
    assert state(page)["object"] == 3
    page.mouse.click(*at(page, 12 / WIDTH, 60 / HEIGHT))
    assert answer(page).startswith("Found by query 1")


@pytest.mark.slow
def test_the_nearest_query_layer_by_layer(visit, why):
    page = visit("#view=why&object=2&query=2", "why")
    rows = page.locator(".answer tbody tr")
    texts = [row.locator("td").all_inner_texts() for row in rows.all()]
    layers = why.objects[2].layers
    assert [[text[0], text[2]] for text in texts] == [[f"{each.score:.2f}", f"{each.iou:.2f}"] for each in layers]
    assert texts[1][1] == "plate 0.84"
    assert rows.nth(1).get_attribute("aria-current") == "true", "the last layer is shown"
    rows.nth(0).locator("button").click()
    assert state(page)["layer"] == 0
    assert page.locator(".answer tbody tr").nth(0).get_attribute("aria-current") == "true"


@pytest.mark.slow
def test_a_model_that_predicts_after_its_last_layer_alone_has_nothing_to_say_before(visit, why):
    page = visit("#view=why&object=2&query=2", "last")
    texts = [row.locator("td").all_inner_texts() for row in page.locator(".answer tbody tr").all()]
    assert texts[0][:3] == ["\N{EN DASH}"] * 3
    assert texts[0][3].endswith("%")
    assert texts[1][0] == f"{why.objects[2].layers[1].score:.2f}"
    assert "predicts after its last layer alone" in page.locator(".answer .note").inner_text()
    page = visit("#view=why&object=2&query=2", "why")
    assert "alone" not in page.locator(".answer .note").inner_text()


@pytest.mark.slow
def test_filters_by_kind_of_error(visit, why):
    page = visit("#view=why", "why")
    chips = {chip.locator("span").first.inner_text(): chip for chip in page.locator("#panel-why .chips > .chip").all()}
    assert {name: chip.locator(".count").inner_text() for name, chip in chips.items()} == {
        "all": "8", "missed": "2", "wrong class": "2", "duplicate": "1", "false": "1",
    }  # fmt: skip
    page.get_by_role("button", name="duplicate 1").click()
    assert options(page) == [("spoon, query 4", "false: duplicate")]
    page.locator("#why-list [role=option]").click()
    assert "Query 4: the object was already found by a detection with a higher score." in answer(page)
    page.get_by_role("button", name="The object: spoon 2").click()
    assert answer(page).startswith("Found by query 5")


@pytest.mark.slow
def test_the_answer_depends_on_the_minimum_score(visit, why):
    page = visit("#view=why&object=0&query=1&score=0.95", "why")
    assert answer(page) == "Below the minimum score: query 1 would find it (IoU 0.86), but gives cup only 0.93."
    assert "4 not found" not in answer(page)


@pytest.mark.slow
def test_by_keyboard_alone(visit, why):
    page = visit("", "why")
    page.keyboard.press("w")
    assert state(page)["view"] == "why"
    page.locator("#why-list").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert state(page)["object"] == 1
    page.keyboard.press("ArrowDown")
    assert state(page)["object"] == 2
    page.locator(".answer tbody button").first.focus()
    page.keyboard.press("Enter")
    assert state(page)["layer"] == 0
    assert page.evaluate("document.activeElement.textContent") == "0", "the focus stays in the table"


@pytest.mark.slow
def test_an_image_without_true_objects_in_the_page_has_no_panel(visit, why):
    page = visit("#view=why&object=1", "why")
    page.keyboard.press(".")
    page.wait_for_timeout(100)
    assert state(page)["view"] == "detections"
    assert page.locator("#tab-why").is_hidden()
    page.keyboard.press("w")
    page.wait_for_timeout(100)
    assert state(page)["view"] == "detections"
    page.keyboard.press(",")
    assert page.locator("#tab-why").is_visible()


@pytest.mark.slow
def test_detections_in_crowd_regions_are_ignored_and_said_to_be(visit, why):
    """Two plates in a region of plates and two spoons in one of spoons; the cup lies in a region of another class."""
    page = visit("#view=why", "crowd")
    note = page.locator("#panel-why .note").first.inner_text()
    assert "0 true objects, 0 not found and 1 false detection at" in note
    assert "4 more in crowd regions count neither as right nor as false." in note
    ignored = "ignored: in a crowd region"
    assert options(page) == [
        ("cup, query 1", "false detection"),
        ("plate, query 2", ignored),
        ("spoon, query 5", ignored),
        ("spoon, query 4", ignored),
        ("plate, query 6", ignored),
    ]
    page.get_by_role("button", name="in a crowd region 4").click()
    assert [detail for _, detail in options(page)] == [ignored] * 4
    page.locator("#why-list [role=option]").nth(1).click()
    assert state(page)["query"] == 5
    assert page.locator(".answer h3").inner_text() == "spoon 0.70: ignored"
    assert "annotated as a crowd of the class spoon" in answer(page)


@pytest.mark.slow
def test_crowd_regions_are_drawn_as_such(visit, why):
    page = visit("#view=why", "crowd")
    names = page.locator("#boxes .crowd .name")
    assert names.all_inner_texts() == ["crowd: plate", "crowd: spoon"]
    box, stage = page.locator("#boxes .crowd").first.bounding_box(), page.locator("#stage").bounding_box()
    assert box["width"] / stage["width"] == pytest.approx(112 / WIDTH, abs=0.01)
    page.keyboard.press("o")
    assert names.count() == 0
    page.keyboard.press("t")
    assert names.all_inner_texts() == ["crowd: plate", "crowd: spoon"], "as part of the ground truth"
    page.keyboard.press("w")
    assert names.count() == 2, "not twice"
