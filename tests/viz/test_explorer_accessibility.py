"""axe-core finds no violation in any view of the explorer, and everything is reached with the keyboard alone."""

import pytest

from detr_lite.viz.explorer.other_tasks import pack_words
from detr_lite.viz.explorer.page import explorer_page
from tests.helpers.explorer_checks import state, wait
from tests.helpers.fake_attention import word_maps

pytestmark = pytest.mark.slow

VIEWS = (
    ("all", "#query=3"),
    ("all", "#view=links&query=3"),
    ("all", "#view=links&query=3&matrix=1"),
    ("all", "#view=heads&query=3&mode=contour"),
    ("all", "#view=point&point=0.5,0.5&zoom=0.1,0.1,2"),
    ("all", "#query=3&other=0,0,1"),
    ("all", "#image=2"),
    ("sampled", "#view=levels&query=3"),
    ("words_only", "#query=2"),
    ("maps", "#view=maps&query=3&source=occlusion"),
    ("maps", "#view=maps&source=relevance&query=5"),
)


@pytest.fixture(scope="module")
def words_page(explorer_pages):
    words, source = tuple("abcde"), tuple("uvwxyz")
    scene = pack_words("a sentence", words, word_maps(), source_words=source, truth=((0,), (1,), (), (), (5,)))
    (explorer_pages / "words_only.html").write_text(explorer_page([scene], ()))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("name", "hash"), VIEWS)
@pytest.mark.stress
def test_axe_finds_no_violation(visit, words_page, name, hash, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install -e '.[dev]'").Axe()
    page = visit(hash, name=name, color_scheme=scheme, bypass_csp=True, viewport={"width": 1280, "height": 800})
    results = axe.run(page).response
    assert len(results["passes"]) > 15, "axe has looked at the page"
    assert [(each["id"], [node["html"][:120] for node in each["nodes"]]) for each in results["violations"]] == []


def test_from_the_first_view_to_a_saved_comparison_by_keyboard_alone(visit):
    """What a newcomer does: choose an object, look into heads, magnify it, compare two layers, save, go on."""
    page = visit()
    press = page.keyboard.press
    press("n")
    press("ArrowUp")
    press("2")
    assert {"query": 3, "layer": 1, "head": 2}.items() <= state(page).items()
    press("z")
    assert state(page)["zoom"] is not None
    press("v")
    press("g")
    assert (state(page)["mode"], state(page)["colors"]) == ("contour", "viridis")
    press("c")
    wait(page, "explorer.comparison() !== null")
    press("h")
    assert state(page)["view"] == "heads"
    press("o")
    for _ in range(40):
        press("Tab")
        if page.evaluate("document.activeElement.id") == "save-svg":
            break
    with page.expect_download() as saved:
        press("Enter")
    assert saved.value.suggested_filename.endswith(".svg")
    press("i")
    for _ in range(3):
        press("ArrowRight")
    assert state(page)["view"] == "point"
    press("Escape")
    press(".")
    wait(page, "document.getElementById('subtitle').textContent.includes('2 of 3')")
    assert state(page)["zoom"] is None
