"""Lines and sentences in the explorer: what the page holds, and what it draws in a real browser."""

import numpy as np
import pytest
import torch

from detr_lite.structures import DetrLiteError
from detr_lite.viz.explorer.other_tasks import Line, pack_lines, pack_words
from detr_lite.viz.explorer.page import explorer_page
from tests.helpers.explorer_checks import ATTENTION, assert_cross, assert_drawn, at, state, wait
from tests.helpers.fake_attention import maps, picture, truth, word_maps

WORDS, SOURCE = ("I", "love", "my", "dog", "."), ("我", "喜", "欢", "我", "的", "狗")
ALIGNED = ((0,), (1, 2), (3, 4), (5,), ())
OVER_WORDS = word_maps()
OVER_IMAGE = word_maps(grid=(6, 8), encoder_layers=0, seed=1)


def line(points, score, query, label=0):
    return Line(torch.tensor(points, dtype=torch.float), score, label, query)


LANES = [
    line([[20, 119], [40, 60], [70, 10]], 0.7, 1),
    line([[150, 119], [100, 10]], 0.9, 4),
    line([[5, 5], [9, 9]], 0.1, 0),
]


@pytest.fixture(scope="module")
def task_pages(explorer_pages):
    """`lines.html`, and `words.html` of a translation and a caption."""
    true = [line([[22, 119], [72, 10]], 1.0, 0)]
    lanes = pack_lines("road.jpg", picture(), LANES, ATTENTION, true, class_names=("lane",))
    (explorer_pages / "lines.html").write_text(explorer_page([lanes], ("lane",)))
    translation = pack_words(
        "1", WORDS, OVER_WORDS, source_words=SOURCE, truth=ALIGNED, inputs=("<start>", *WORDS[:-1])
    )
    caption = pack_words("2", WORDS, OVER_IMAGE, image=picture(), truth=truth())
    (explorer_pages / "words.html").write_text(explorer_page([translation, caption], ()))
    return explorer_pages


def test_lines_in_order_of_scores_with_those_of_every_query():
    metadata = pack_lines("road.jpg", picture(), LANES, maps()).metadata
    assert metadata["kind"] == "lines"
    assert metadata["detections"]["queries"] == [4, 1, 0]
    assert metadata["detections"]["lines"][1] == [[20, 119], [40, 60], [70, 10]]
    assert metadata["detections"]["boxes"][1] == [20, 10, 70, 119]
    assert metadata["querySummaries"][4] == {
        "box": [100, 10, 150, 119],
        "line": [[150, 119], [100, 10]],
        "label": 0,
        "score": 0.9,
    }
    assert metadata["querySummaries"][2] is None
    assert metadata["includedQueries"][:2] == [4, 1]
    nothing = pack_lines("road.jpg", picture(), [], maps(), truth=[])
    assert nothing.metadata["truth"] == {"boxes": [], "lines": [], "names": []}


def test_words_keep_their_order_and_need_as_many_as_the_attention():
    metadata = pack_words("s", WORDS, OVER_WORDS, source_words=SOURCE, truth=ALIGNED).metadata
    assert (metadata["words"], metadata["inputs"], metadata["sourceWords"]) == (list(WORDS), list(WORDS), list(SOURCE))
    assert metadata["alignment"] == [[0], [1, 2], [3, 4], [5], []]
    assert metadata["includedQueries"] == list(range(5))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give an image or source_words"),
        ({"image": picture(), "source_words": SOURCE}, "give an image or source_words"),
        ({"source_words": SOURCE[:3]}, "3 source_words, but the attention has 6"),
        ({"source_words": SOURCE, "words": WORDS[:2]}, "2 words, but the attention has 5"),
        ({"source_words": SOURCE, "inputs": WORDS[:1]}, "1 inputs, but the attention has 5"),
        ({"source_words": SOURCE, "truth": ((6,), (), (), (), ())}, "indices below 6"),
    ],
)
def test_words_that_do_not_fit_are_refused(options, message):
    with pytest.raises(DetrLiteError, match=message):
        pack_words("s", options.pop("words", WORDS), OVER_WORDS, **options)


def test_lines_that_do_not_fit_are_refused():
    with pytest.raises(DetrLiteError, match="the line of query 3 has fewer than two points"):
        pack_lines("a", picture(), [line([[1, 2]], 0.5, 3)], maps())
    with pytest.raises(DetrLiteError, match="a line is of query 9; the attention has 6 queries"):
        pack_lines("a", picture(), [line([[1, 2], [3, 4]], 0.5, 9)], maps())


@pytest.mark.slow
def test_lines_are_drawn_and_chosen_on_the_picture(visit, task_pages):
    page = visit(name="lines")
    page.mouse.move(5, 5)
    assert page.locator("#tab-detections").inner_text() == "Lines"
    assert page.locator("#boxes .box").count() == 0
    drawn = page.locator("#lines polyline:not(.casing)")
    shown = drawn.evaluate_all("all => all.map(one => one.getAttribute('points'))")
    assert shown == ["20,119 40,60 70,10", "150,119 100,10"], "the higher score on top, the low one not"
    page.mouse.click(*at(page, 41 / 160, 60 / 120))
    assert state(page)["query"] == 1
    assert page.locator("#caption").inner_text().startswith("lane 0.70")
    assert_cross(page, ATTENTION.cross[2, 0, :, 1])
    page.mouse.click(*at(page, 0.62, 0.5))
    assert state(page)["view"] == "point", "between the lines"
    page.keyboard.press("Escape")
    page.keyboard.press("t")
    assert page.locator("#lines .true:not(.casing)").count() == 1
    page.keyboard.press("o")
    page.keyboard.press("n")
    page.keyboard.press("q")
    assert page.locator("#links circle").count() == 2, "to the middles of the other queries' lines"


def cell_center(page, row, column):
    place = """([row, column]) => {
        const {left, top} = document.querySelector('#matrix canvas').getBoundingClientRect();
        const shown = explorer.matrix();
        return [left + shown.left + (column + .5) * shown.cell, top + shown.top + (row + .5) * shown.cell]; }"""
    return page.evaluate(place, [row, column])


def matrix_of(page):
    return np.array(page.evaluate("explorer.matrix().values"))


@pytest.mark.slow
def test_a_sentence_over_another_is_a_matrix(visit, task_pages):
    page = visit("#image=0&layer=0&head=1", name="words")
    assert page.locator("#stage").is_hidden()
    weights = OVER_WORDS.cross[0, 0, 1].numpy()
    np.testing.assert_allclose(matrix_of(page), weights, atol=weights.max() * 0.51 / 255)
    assert page.locator("#detections .name").all_inner_texts() == [f"“{word}”" for word in WORDS], "in reading order"
    page.mouse.click(*cell_center(page, 3, 5))
    assert state(page)["query"] == 3
    assert page.locator("#caption").inner_text().startswith("“dog”")
    read = page.locator("#weight").inner_text().replace("\n", " ")
    assert read.endswith("of the attention of dog is on 狗")
    assert float(read.split(" %")[0]) == pytest.approx(
        100 * float(weights[3, 5]), abs=100 * float(weights[3].max()) / 255
    )
    assert page.locator("#threshold").is_hidden()
    page.keyboard.press("t")
    assert state(page)["truth"] is True, "the alignment is marked"


@pytest.mark.slow
def test_from_a_source_word_and_between_the_words(visit, task_pages):
    page = visit("#image=0&head=0", name="words")
    page.mouse.click(*cell_center(page, -0.6, 2))
    assert state(page)["view"] == "point"
    encoder = OVER_WORDS.encoder[0, 0].mean(0).numpy()
    np.testing.assert_allclose(matrix_of(page), encoder, atol=encoder.max() * 0.51 / 255)
    assert page.locator("#caption").inner_text().startswith("From “欢”")
    order = OVER_WORDS.cross[1, 0, 0, :, 2].argsort(descending=True).tolist()
    entries = page.locator("#point-queries .name").all_inner_texts()
    assert entries[1] == f"“{WORDS[order[0]]}”"
    page.keyboard.press("q")
    own = OVER_WORDS.queries[1, 0, 0].numpy()
    np.testing.assert_allclose(matrix_of(page), own, atol=own.max() * 0.51 / 255)
    assert (matrix_of(page)[np.triu_indices(5, 1)] == 0).all(), "later words are masked"
    page.mouse.move(*cell_center(page, 2, 0))
    wait(page, "document.getElementById('weight').textContent.includes('my is on <start>')")
    page.mouse.click(*cell_center(page, 2, 0))
    order = OVER_WORDS.queries[1, 0, 0, 2].argsort(descending=True).tolist()
    read = ("<start>", *WORDS[:-1])
    assert page.locator("#linked-queries .name").all_inner_texts()[0] == f"“{read[order[0]]}”"


@pytest.mark.slow
def test_words_over_an_image_are_heat_maps(visit, task_pages):
    page = visit("#image=1&query=2&layer=1&head=1", name="words")
    assert page.locator("#matrix").is_hidden()
    weights = OVER_IMAGE.cross[1, 0, 1, 2]
    assert_drawn(page, weights.view(6, 8), float(weights.max()))
    assert page.locator("#caption").inner_text().startswith("“my”")
    page.keyboard.press("t")
    assert page.locator(".box.true").count() == 2
    page.keyboard.press("n")
    assert state(page)["query"] == 3
    page.keyboard.press("q")
    own = OVER_IMAGE.queries[1, 0, 1].numpy()
    np.testing.assert_allclose(matrix_of(page), own, atol=own.max() * 0.51 / 255)


@pytest.mark.slow
def test_a_matrix_by_keyboard(visit, task_pages):
    page = visit("#image=0", name="words")
    page.locator("#matrix").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert state(page)["query"] == 1
    assert "of the attention of love is on 喜" in page.locator("#weight").inner_text()
    page.keyboard.press("Enter")
    assert state(page)["view"] == "point"


@pytest.mark.slow
def test_self_attention_of_queries_as_a_matrix(visit):
    """In order of the queries' own scores: 3, 1, 5, 0, then those that detect nothing."""
    page = visit("#query=1&view=links&layer=0&head=2")
    page.locator("#show-matrix").check()
    order = [3, 1, 5, 0, 2, 4]
    weights = ATTENTION.queries[0, 0, 2][order][:, order].numpy()
    np.testing.assert_allclose(matrix_of(page), weights, atol=weights.max() * 0.51 / 255)
    page.mouse.click(*cell_center(page, 0, 2))
    assert state(page)["query"] == 3
    page.keyboard.press("r")
    assert page.locator("#stage").is_visible()
