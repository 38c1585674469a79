"""Relevance and occlusion over the image of the explorer, in a real browser."""

import numpy as np
import pytest
from PIL import Image

from detr_lite.viz.explorer.models import ExploredModel
from detr_lite.viz.explorer.page import explorer_page
from detr_lite.viz.explorer.scene import pack_scene
from tests.helpers.explorer_checks import (
    ATTENTION,
    SAMPLED,
    assert_cross,
    assert_drawn,
    at,
    heatmap_of,
    state,
    summed,
    wait,
)
from tests.helpers.explorer_maps import GIVEN, assert_occlusion, assert_relevance, choose, text
from tests.helpers.fake_attention import NAMES, found, maps, picture
from tests.helpers.fake_attribution import attribution

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def pages(explorer_pages):
    """`two.html`: two models, the second with a map of query 3 alone."""
    known = pack_scene("known.jpg", picture(), found(), ATTENTION, attribution=GIVEN)
    other = pack_scene("known.jpg", picture(), found(), maps(seed=4), attribution=attribution((3,), (0,), seed=8))
    models = [ExploredModel("first", NAMES), ExploredModel("second", NAMES)]
    (explorer_pages / "two.html").write_text(explorer_page([known, other], (), models=models))
    sampled = pack_scene("sampled.jpg", picture(), found(), SAMPLED, attribution=GIVEN)
    (explorer_pages / "sampled_maps.html").write_text(explorer_page([sampled], NAMES))


def note(page):
    return text(page, "#source-note")


@pytest.mark.parametrize(("row", "query"), [(0, 3), (1, 1)])
def test_the_maps_are_those_that_were_packed(visit, row, query):
    page = visit(f"#query={query}", "maps")
    assert_cross(page, ATTENTION.cross[2, 0, :, query])
    choose(page, "relevance")
    assert_relevance(page, row)
    choose(page, "occlusion")
    assert_occlusion(page, row)
    choose(page, "attention")
    assert_cross(page, ATTENTION.cross[2, 0, :, query])


def test_a_query_without_maps_shows_attention_and_a_line_says_why(visit):
    page = visit("#query=5&source=occlusion", "maps")
    assert_cross(page, ATTENTION.cross[2, 0, :, 5])
    assert note(page) == "Occlusion exists for the 2 detections of highest score only; this is attention."
    assert "cross-attention of query 5" in text(page, "#caption")
    assert page.locator("#layer").is_enabled()
    page.keyboard.press("n")
    assert state(page)["query"] == 3
    assert_occlusion(page)


def test_the_hovered_detection_keeps_its_map(visit):
    page = visit("#source=relevance", "maps")
    page.mouse.move(*at(page, 45 / 160, 22 / 120))
    wait(page, "explorer.heatmap() !== null")
    assert_relevance(page)
    page.locator("#source").focus()
    page.mouse.move(*at(page, 45 / 160, 30 / 120))
    wait(page, "explorer.heatmap() !== null")
    page.locator("#stage").focus()
    page.keyboard.press("e")
    assert {"source": "occlusion", "query": 3}.items() <= state(page).items()
    assert_occlusion(page)


@pytest.mark.parametrize(
    ("source", "extents", "reason"),
    [
        ("relevance", ("all layers", "all heads"), "of all layers and heads together"),
        ("occlusion", ("whole model", "whole model"), "of the whole model, not of a layer"),
    ],
)
def test_layers_and_heads_do_not_apply(visit, source, extents, reason):
    page = visit(f"#query=3&layer=1&head=2&source={source}", "maps")
    for slider, extent in zip(("layer", "head"), extents, strict=True):
        assert page.locator(f"#{slider}").is_disabled()
        assert text(page, f"#{slider}-value") == extent
        assert reason in page.locator(f"#{slider}").get_attribute("title")
    assert reason in note(page)
    assert page.locator("#play-layers").is_disabled()
    for key in ("ArrowUp", "ArrowLeft", "[", "0", "m", "l"):
        page.keyboard.press(key)
    assert {"layer": 1, "head": 2, "source": source}.items() <= state(page).items()
    assert page.locator("#overview [aria-pressed=true]").count() == 0, "its maps are of attention"
    page.locator("#overview button").nth(3).click()
    assert {"layer": 0, "head": 2, "source": "attention"}.items() <= state(page).items()
    assert page.locator("#layer").is_enabled()
    assert_cross(page, ATTENTION.cross[0, 0, 2, 3])


def test_playing_ends_where_there_are_no_layers(visit):
    page = visit("#query=3&layer=0", "maps")
    page.keyboard.press("l")
    choose(page, "occlusion")
    layer = state(page)["layer"]
    page.wait_for_timeout(1000)
    assert state(page)["layer"] == layer
    assert text(page, "#play-layers") == "▶"


def test_levels_apply_to_relevance_alone(visit):
    page = visit("#query=3&source=relevance&level=1", "maps")
    coarse = GIVEN.relevance[0][80:].view(4, 5)
    assert_drawn(page, coarse, peak=float(GIVEN.relevance[0].max()))
    choose(page, "occlusion")
    assert page.locator("#level").is_disabled()
    assert_occlusion(page)


def test_captions_units_and_readings(visit):
    page = visit("#query=3&source=occlusion", "maps")
    assert "occlusion of query 3: how much of its score is lost when a part of the image is hidden" in text(
        page, "#caption"
    )
    assert text(page, "#unit") == "share of the score lost when it is hidden"
    page.mouse.move(*at(page, 2.5 / 8, 3.5 / 6))
    value = float(GIVEN.occlusion[0].clamp(min=0).view(6, 8)[3, 2])
    peak = float(GIVEN.occlusion[0].max())
    shown, reading = page.locator("#weight b").inner_text(), page.locator("#weight span").inner_text()
    assert float(shown.removesuffix(" %")) / 100 == pytest.approx(value, abs=peak / 255)
    assert reading == "of the score is lost when this is hidden"
    assert text(page, "#zero") == "0 %"
    assert float(text(page, "#peak").removesuffix(" %")) / 100 == pytest.approx(peak, abs=0.002)
    choose(page, "relevance")
    assert "relevance of query 3: attention times its gradient, over all layers and heads" in text(page, "#caption")
    assert (text(page, "#zero"), text(page, "#half"), text(page, "#peak")) == ("0", "0.50", "1.00")
    page.mouse.move(*at(page, 6.5 / 10, 2.5 / 7.5))
    whole = summed(GIVEN.relevance[0])
    assert float(text(page, "#weight b")) == pytest.approx(float(whole[2, 6] / whole.max()), abs=0.02)
    assert text(page, "#weight span") == "relative relevance; no unit"


@pytest.mark.parametrize("mode", ["overlay", "contour", "bare"])
@pytest.mark.parametrize("colors", ["inferno", "cividis"])
def test_every_way_of_drawing(visit, mode, colors):
    page = visit(f"#query=3&mode={mode}&colors={colors}", "maps")
    pixels = "document.getElementById('heatmap').toDataURL()"
    seen = {page.evaluate(pixels)}
    for source in ("relevance", "occlusion"):
        choose(page, source)
        seen.add(page.evaluate(pixels))
    assert len(seen) == 3, "each map is drawn"


@pytest.mark.parametrize("source", ["relevance", "occlusion"])
def test_saved_pictures_say_which_map_they_show(visit, source):
    page = visit(f"#query=3&source={source}", "maps")
    for kind in ("svg", "png"):
        with page.expect_download() as saved:
            page.locator(f"#save-{kind}").click()
        assert saved.value.suggested_filename == f"known_query3_{source}.{kind}"
        if kind == "png":
            with Image.open(saved.value.path()) as image:
                assert image.width == 1200
        else:
            content = saved.value.path().read_text()
            assert f"{source} of query 3" in content
            assert text(page, "#unit") in content
            assert f">{text(page, '#peak')}<" in content


def test_the_address_carries_the_map(visit):
    page = visit("#query=3", "maps")
    assert "source" not in page.evaluate("location.hash")
    choose(page, "relevance")
    hash = page.evaluate("location.hash")
    assert "source=relevance" in hash
    other = visit(hash, "maps")
    assert state(other) == state(page)
    np.testing.assert_array_equal(heatmap_of(other), heatmap_of(page))
    assert other.locator("#source").input_value() == "relevance"
    page.go_back()
    wait(page, "explorer.state().source === 'attention'")
    assert_cross(page, ATTENTION.cross[2, 0, :, 3])


@pytest.mark.parametrize("source", ["", "no", "toString", "__proto__", "attention,relevance", "%F0%9F%92%A5", "0"])
def test_a_corrupted_map_in_the_address_is_harmless(visit, source):
    page = visit(f"#query=3&source={source}", "maps")
    assert state(page)["source"] == "attention"
    assert page.locator("#source").input_value() == "attention"
    assert_cross(page, ATTENTION.cross[2, 0, :, 3])


@pytest.mark.parametrize("hash", ["", "#query=3&source=occlusion&view=maps"])
@pytest.mark.parametrize("name", ["all", "sampled", "bare", "empty"])
def test_a_page_without_maps_is_as_before(visit, name, hash):
    page = visit(hash, name)
    assert page.locator("#source-label").is_hidden()
    assert page.locator("#source-note").is_hidden()
    assert page.locator("#tab-maps").is_hidden()
    assert text(page, "#mode-name") == "Attention"
    assert (state(page)["source"], state(page)["view"]) == ("attention", "detections")
    page.keyboard.press("a")
    page.keyboard.press("e")
    assert (state(page)["source"], state(page)["view"]) == ("attention", "detections")
    page.keyboard.press("?")
    assert page.locator("#help .of-maps").is_hidden()


def test_an_image_without_maps_in_a_page_that_has_some(visit):
    page = visit("#query=3&source=occlusion&view=maps", "maps")
    page.keyboard.press(".")
    wait(page, "document.getElementById('subtitle').textContent.includes('2 of 2')")
    assert page.locator("#source-label").is_hidden()
    assert state(page)["view"] == "detections"
    page.locator("#detections [role=option]").first.click()
    assert_cross(page, maps(seed=2).cross[2, 0, :, 3])
    page.keyboard.press(",")
    wait(page, "document.getElementById('subtitle').textContent.includes('1 of 2')")
    page.locator("#detections [role=option]").first.click()
    assert_occlusion(page)


def test_panels_about_attention_show_attention(visit):
    page = visit("#query=3&source=occlusion&view=heads", "maps")
    assert_cross(page, ATTENTION.cross[2, 0, :, 3])
    assert page.locator("#source").is_disabled()
    assert note(page) == "This panel is about attention, and so is the map."
    assert page.locator("#layer").is_enabled()
    page.keyboard.press("o")
    assert_occlusion(page)


def test_from_a_point_the_map_is_attention(visit):
    page = visit("#view=point&point=0.5,0.5&source=occlusion", "maps")
    assert heatmap_of(page).shape == (4, 5), "the encoder's tokens"
    assert note(page) == "From a point, the map is the encoder's attention."
    assert page.locator("#layer").is_enabled(), "of the list of queries"


def test_sampled_points_belong_to_attention(visit):
    page = visit("#query=3", "sampled_maps")
    assert page.locator("#samples circle").count() > 0
    choose(page, "occlusion")
    assert page.locator("#samples circle").count() == 0
    assert text(page, "#samples-note") == ""
    assert_occlusion(page)


def compared(page):
    return np.array(page.evaluate("explorer.comparison()")["values"])


def test_a_map_beside_attention_of_a_layer_and_head(visit):
    page = visit("#query=3&source=occlusion", "maps")
    assert text(page, "#compare option:nth-child(2)") == "its attention in a layer and head"
    page.locator("#compare").select_option("self")
    page.locator("#layer-b").fill("0")
    page.locator("#head-b").fill("2")
    assert_occlusion(page)
    expected = summed(ATTENTION.cross[0, 0, 2, 3])
    np.testing.assert_allclose(compared(page), expected.flatten(), atol=float(expected.max()) / 200)
    assert text(page, "#label-a") == "A: occlusion"
    assert text(page, "#pane-b .pane-label") == "B: attention · layer 0 · head 2"
    assert "of the map lies elsewhere in B." in text(page, "#comparison-text")
    assert "both maps scaled to the same sum" in text(page, "#comparison-text")
    choose(page, "attention")
    assert text(page, "#compare option:nth-child(2)") == "another layer or head"
    assert "of the attention lies elsewhere in B. Peak:" in text(page, "#comparison-text")


def test_equal_maps_do_not_differ_whatever_their_scale(visit, explorer_pages):
    """The relevance is a thousandth of the attention that it is compared with."""
    same = attribution((3,), (0,))
    cross = ATTENTION.cross[2, 0, 1, 3]
    same = type(same)(**{**vars(same), "relevance": cross[None] / 1000})
    scene = pack_scene("same.jpg", picture(), found(), ATTENTION, attribution=same)
    (explorer_pages / "same.html").write_text(explorer_page([scene], NAMES))
    page = visit("#query=3&source=relevance&other=0,2,1", "same")
    assert text(page, "#comparison-text").startswith("0 % of the map lies elsewhere in B.")


def test_a_map_beside_that_of_another_model(visit):
    page = visit("#query=3&source=relevance&other=1,2,mean", "two")
    expected = summed(attribution((3,), (0,), seed=8).relevance[0])
    np.testing.assert_allclose(compared(page), expected.flatten(), atol=float(expected.max()) / 200)
    assert page.locator("#layer-b").is_disabled()
    assert text(page, "#head-b-value") == "all heads"
    assert text(page, "#pane-b .pane-label") == "B: second · relevance"
    page.keyboard.press("n")
    assert state(page)["query"] == 1
    assert page.evaluate("explorer.comparison()") is None
    assert text(page, "#comparison-text") == "The page has no relevance of this detection of B."
