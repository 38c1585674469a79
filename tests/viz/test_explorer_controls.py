"""The explorer in a real browser: mouse, touch, keyboard, addresses and unusual images."""

import numpy as np
import pytest

from tests.helpers.explorer_checks import (
    ATTENTION,
    OTHER,
    assert_cross,
    assert_drawn,
    assert_encoder,
    at,
    heatmap_of,
    state,
    wait,
)

pytestmark = pytest.mark.slow


def test_sliders(visit):
    page = visit("#query=3")
    page.locator("#layer").fill("0")
    page.locator("#head").fill("2")
    assert (state(page)["layer"], state(page)["head"]) == (0, 2)
    assert_cross(page, ATTENTION.cross[0, 0, 2, 3])
    page.locator("#head").fill("-1")
    assert state(page)["head"] == "mean"
    assert page.locator("#head-value").inner_text() == "mean of 4"
    page.locator("#threshold").fill("0.85")
    assert page.locator("#detections [role=option]").count() == 1
    page.locator("#threshold").fill("0.1")
    assert page.locator("#detections [role=option]").count() == 4


def test_by_keyboard_alone(visit):
    page = visit()
    press = page.keyboard.press
    press("n")
    assert state(page)["query"] == 3
    press("n")
    press("ArrowUp")
    press("2")
    assert {"query": 1, "layer": 1, "head": 2}.items() <= state(page).items()
    assert_cross(page, ATTENTION.cross[1, 0, 2, 1])
    press("ArrowRight")
    press("[")
    assert (state(page)["layer"], state(page)["head"]) == (0, 3)
    press("m")
    assert state(page)["head"] == "mean"
    press("9")
    assert state(page)["head"] == "mean", "there is no head 9"
    press("i")
    for _ in range(2):
        press("ArrowRight")
    press("ArrowUp")
    assert state(page)["view"] == "point"
    assert state(page)["point"] == pytest.approx([3.5 / 5, 0.5 / 3.75], abs=1e-4), "from the middle, by tokens"
    assert_encoder(page, 1, 3)
    press("Escape")
    assert state(page)["point"] is None
    press("q")
    press("t")
    press("b")
    press("s")
    assert {"view": "links", "truth": True, "boxes": False, "smooth": False}.items() <= state(page).items()
    press(".")
    wait(page, "document.getElementById('subtitle').textContent.startsWith('second.jpg')")
    press(",")
    wait(page, "document.getElementById('subtitle').textContent.startsWith('first.jpg')")
    press("?")
    assert page.locator("#help").is_visible()
    press("Escape")
    wait(page, "!document.getElementById('help').open")
    assert page.locator("#help").is_hidden()


def test_tab_reaches_every_control_once_and_arrows_move_in_lists(visit):
    page = visit("#query=3")
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("(e => e.id || (e.closest('[id]') || {}).id || e.tagName)(document.activeElement)")
        )
        style = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert style != "none" or reached[-1] == "BODY", f"{reached[-1]} shows that it has the focus"
        if reached[-1] == "detections":
            break
    expected = ["share", "theme", "help-button", "picker", "stage", "zoom-in", "zoom-object", "save-png", "save-svg"]
    expected += ["mode", "colors", "show-boxes", "show-truth", "smooth", "level", "play-layers", "layer", "head"]
    expected += ["compare", "overview", "tab-detections", "threshold", "classes", "classes", "classes", "detections"]
    assert reached == expected
    page.keyboard.press("ArrowDown")
    assert state(page)["query"] == 1
    page.keyboard.press("End")
    assert state(page)["query"] == 5
    active = page.evaluate("document.activeElement.getAttribute('aria-activedescendant')")
    assert page.locator(f"#{active}").get_attribute("aria-selected") == "true"


def test_filter_by_class(visit):
    page = visit("#score=0.1")
    page.locator(".chip", has_text="cup").click()
    assert [text.split("\n")[0] for text in page.locator("#detections .name").all_inner_texts()] == ["cup", "cup"]
    assert page.locator("#boxes .box").count() == 2
    page.locator(".chip", has_text="plate").click()
    assert page.locator("#detections [role=option]").count() == 3
    assert state(page)["classes"] == [0, 1]
    page.locator(".chip", has_text="cup").click()
    page.locator(".chip", has_text="plate").click()
    assert page.locator("#detections [role=option]").count() == 4


def test_ground_truth_on_and_off(visit):
    page = visit()
    assert page.locator(".box.true").count() == 0
    page.locator("#show-truth").check()
    assert page.locator(".box.true").count() == 2
    left, width = page.evaluate("(({style}) => [style.left, style.width])(document.querySelector('.box.true'))")
    assert [float(left.removesuffix("%")), float(width.removesuffix("%"))] == pytest.approx([22 / 1.6, 49 / 1.6])
    page.locator("#picker button").nth(1).click()
    wait(page, "document.getElementById('subtitle').textContent.includes('2 of 3')")
    assert page.locator("#truth-label").is_hidden(), "that image has no ground truth"


def test_a_shared_link_shows_the_same_view(visit):
    page = visit("#layer=0&score=0.1")
    page.locator(".chip", has_text="plate").click()
    page.locator("#show-truth").check()
    page.locator("#smooth").uncheck()
    page.locator("#tab-point").click()
    page.mouse.click(*at(page, 0.31, 0.77))
    page.locator("#point-queries [role=option]").nth(2).click()
    page.locator("#head").fill("1")
    page.locator("#level").select_option("1")
    page.locator("#theme").click()
    other = visit(page.evaluate("location.hash"))
    assert state(other) == state(page)
    np.testing.assert_array_equal(heatmap_of(other), heatmap_of(page))
    for part in ("#caption", "#point-queries", "#point-note", "#head-value"):
        assert other.locator(part).inner_text() == page.locator(part).inner_text()
    assert other.evaluate("document.documentElement.dataset.theme") == "dark"


LATE_FRAMES = "window.requestAnimationFrame = (draw) => setTimeout(draw, 200)"


def test_a_click_is_not_lost_where_hovering_is_drawn_late(visit):
    """The option under the cursor must be the same when the button is released: else browsers report no click."""
    page = visit(prelude=LATE_FRAMES)
    page.mouse.move(5, 5)
    page.wait_for_timeout(500)
    option = page.locator("#detections [role=option]").nth(0)
    option.scroll_into_view_if_needed()
    box = option.bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.wait_for_timeout(400)
    page.mouse.up()
    wait(page, "explorer.state().query === 3")
    assert_cross(page, ATTENTION.cross[2, 0, :, 3])
    page.locator("#detections [role=option]").nth(1).hover()
    page.wait_for_timeout(500)
    assert_cross(page, ATTENTION.cross[2, 0, :, 1])  # hovering is drawn again


def test_back_and_forward(visit):
    page = visit()
    for place, query in enumerate((3, 1)):
        page.locator("#detections [role=option]").nth(place).click()
        wait(page, f"explorer.state().query === {query}")  # on a busy machine the page follows later
        page.wait_for_timeout(450)  # a quicker run through a list is one step
    page.locator("#picker button").nth(1).click()
    wait(page, "document.getElementById('subtitle').textContent.includes('2 of 3')")
    page.go_back()
    wait(page, "explorer.state().query === 1 && explorer.heatmap()?.width === 10")
    page.go_back()
    wait(page, "explorer.state().query === 3")
    page.mouse.move(5, 5)
    assert_cross(page, ATTENTION.cross[2, 0, :, 3])
    page.go_forward()
    wait(page, "explorer.state().query === 1")


@pytest.mark.parametrize(
    "hash",
    ["#image=99&query=99&layer=99&head=99&level=9&encoder=9", "#point=2,x&score=7&classes=9,x&view=no", "#&&==%"],
)
def test_an_invalid_address_shows_the_nearest_valid_state(visit, hash):
    page = visit(hash)
    shown = state(page)
    assert shown["score"] == 0.5
    assert shown["layer"] in (1, 2)
    assert shown["point"] is None


def test_several_images_and_a_picker(visit):
    page = visit("#query=3")
    assert page.locator("#picker button").count() == 3
    page.locator("#picker button").nth(1).click()
    wait(page, "document.getElementById('subtitle').textContent.includes('2 of 3')")
    assert page.locator("#picker button[aria-current]").get_attribute("aria-label") == "Image 2 of 3: second.jpg"
    assert (state(page)["layer"], state(page)["query"]) == (1, None), "a model with fewer layers"
    page.locator("#detections [role=option]").first.click()
    rows = OTHER.cross[1, 0, :, 3]
    assert_drawn(page, rows.mean(0).view(6, 6), float(rows.amax(1).mean()))
    page.locator("#picker button").nth(1).focus()
    page.keyboard.press("ArrowRight")
    wait(page, "document.getElementById('subtitle').textContent.includes('3 of 3')")
    assert (
        page.locator("#detections-note").inner_text().startswith("No score reaches 0.50. These are the best guesses.")
    )
    page.locator("#detections-note button").click()
    assert state(page)["score"] == pytest.approx(0.4)
    assert page.locator("#detections [role=option]").count() == 1
    assert page.locator("#detections-note").is_hidden()


def test_a_model_without_encoder_layers_says_so(visit):
    page = visit("#image=1&view=point&point=0.5,0.5")
    assert "no encoder layers" in page.locator("#caption").inner_text()
    token = 6 * 3 + int(0.5 * 5.5)
    rows = OTHER.cross[1, 0]  # head, query, token
    seen = ((255 * rows / rows.amax(-1, keepdim=True)).round()[..., token] > 0).any(dim=0)
    assert 0 < page.locator("#point-queries [role=option]").count() == int(seen.sum())
    assert page.evaluate("explorer.heatmap()") is None


def test_one_of_everything(visit):
    page = visit("#query=0&head=mean", name="bare")
    assert page.evaluate("explorer.heatmap().values.length") == 12
    assert "layer 0, the only one, one head" in page.locator("#caption").inner_text()
    assert page.locator("#overview").is_hidden()
    assert page.locator("#layer").is_disabled()
    assert page.locator("#picker").is_hidden()
    page.locator("#tab-links").click()
    assert page.locator("#linked-queries [role=option]").count() == 1
    for key in ("ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight", "m", "0", "n", "p"):
        page.keyboard.press(key)


def test_an_image_without_detections(visit):
    page = visit(name="empty")
    assert "No detections in this image" in page.locator("#detections-note").inner_text()
    page.mouse.click(*at(page, 0.5, 0.5))
    assert page.locator("#point-queries [role=option]").count() > 1
    assert "no detection" in page.locator("#point-queries").inner_text()
    page.keyboard.press("n")


def test_the_page_says_what_was_left_out(visit):
    page = visit("#query=1&view=point&point=0.5,0.5", name="small")
    assert page.locator("#left-out").inner_text().startswith("Left out, to keep this page small: ")
    page.keyboard.press("Escape")
    page.keyboard.press("q")
    page.keyboard.press("o")


def test_names_are_text_and_not_markup(visit):
    page = visit("#image=2&score=0.1")
    assert page.evaluate("window.hurt") is None
    assert page.locator("img[src=x]").count() == 0
    assert page.locator("#subtitle").inner_text().startswith("</script><img")
    page.locator("#picker button").nth(0).click()
    wait(page, "document.getElementById('subtitle').textContent.includes('1 of 3')")
    assert "</script><img" in page.locator("#detections").inner_text()


def test_on_a_phone_by_touch(visit):
    page = visit(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 360, "nothing is wider than the screen"
    page.touchscreen.tap(*at(page, 45 / 160, 30 / 120))
    assert state(page)["query"] == 3
    assert_cross(page, ATTENTION.cross[2, 0, :, 3])
    page.touchscreen.tap(*at(page, 0.6, 0.1))
    assert state(page)["view"] == "point"
    token = 5 * 0 + int(0.6 * 5)
    assert_encoder(page, 1, token)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    for button in page.locator("button:visible").all():
        assert button.bounding_box()["height"] >= 24


def test_light_and_dark(visit):
    def background(page):
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    light, dark = visit(color_scheme="light"), visit(color_scheme="dark")
    assert (background(light), background(dark)) == ("rgb(246, 245, 243)", "rgb(14, 11, 20)")
    for page, turned in ((light, background(dark)), (dark, background(light))):
        before = background(page)
        page.keyboard.press("d")
        assert background(page) == turned
        page.locator("#theme").click()
        assert background(page) == before


def test_reduced_motion(visit):
    page = visit(reduced_motion="reduce")
    assert page.evaluate("getComputedStyle(document.getElementById('picture')).transitionProperty") == "none"


def test_labels_for_screen_readers(visit):
    page = visit("#query=1")
    assert (
        page.locator("#live").inner_text() == "plate 0.80 cross-attention of query 1, decoder layer 2, mean of 4 heads"
    )
    assert page.locator("#detections [role=option]").nth(1).get_attribute("aria-label") == "plate, score 0.80, query 1"
    unnamed = page.evaluate(
        """[...document.querySelectorAll("button, input, select, [role=listbox], [role=application]")].filter(one =>
        !one.textContent.trim() && !one.getAttribute("aria-label") && !one.labels?.length && one.id !== "stage")
        .map(one => one.outerHTML.slice(0, 80))"""
    )
    assert unnamed == []


def test_a_browser_that_cannot_decompress_says_so(visit):
    page = visit(prelude="delete window.DecompressionStream")
    assert "lacks DecompressionStream" in page.locator("#error-message").inner_text()
    assert page.locator("main").is_hidden()
