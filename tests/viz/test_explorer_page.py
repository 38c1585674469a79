"""The explorer in a real browser: it draws exactly the attention maps, by mouse, touch and keyboard."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_up_attention import NAMES, found, maps, picture, truth

from detr_lite.structures import Detections
from detr_lite.viz.explorer.page import explorer_page
from detr_lite.viz.explorer.scene import pack_scene

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium: apt-get install chromium")

NASTY = "</script><img src=x onerror=window.hurt=1>"
ATTENTION = maps()
OTHER = maps(seed=1, layers=2, heads=2, encoder_layers=0, grids=((6, 6),), spans=((5.5, 6.0),))


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`all.html` with three images, `bare.html` of a model with one of everything, `empty.html` without detections."""
    folder = tmp_path_factory.mktemp("pages")
    names = (*NAMES[:2], NASTY)
    scenes = [
        pack_scene("first.jpg", picture(), found(names=names), ATTENTION, truth()),
        pack_scene("second.jpg", picture(120, 120), found((0.95, 0.3), names), OTHER),
        pack_scene(NASTY, picture(), found((0.4,), names), maps(seed=2)),
    ]
    (folder / "all.html").write_text(explorer_page(scenes, names))
    bare = maps(1, 1, 1, 0, grids=((3, 4),), spans=((4.0, 3.0),))
    one = found((0.9,))
    bare_scene = pack_scene("bare.jpg", picture(), replace(one, queries=torch.tensor([0])), bare)
    (folder / "bare.html").write_text(explorer_page([bare_scene], NAMES))
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long(), torch.zeros(0).long(), NAMES)
    (folder / "empty.html").write_text(explorer_page([pack_scene("empty.jpg", picture(), nothing, maps())], NAMES))
    small = pack_scene("small.jpg", picture(), found(), maps(), budget=202_000)
    (folder / "small.html").write_text(explorer_page([small], NAMES))
    return folder


@pytest.fixture
def visit(browser, folder):
    """Open a page; at the end of the test there must be no errors, warnings or requests."""
    contexts, problems = [], []

    def open_page(hash="", name="all", prelude=None, **options):
        context = browser.new_context(**{"viewport": {"width": 1000, "height": 700}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on(
            "console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or problems.append(request.url))
        if prelude:
            page.add_init_script(prelude)
        page.goto((folder / f"{name}.html").as_uri() + hash)
        page.evaluate("window.explorer && explorer.ready")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


def summed(weights, grids=((8, 10), (4, 5))):
    """The finest level's heatmap: a coarse token's weight is spread evenly over the tokens that it covers."""
    fine, coarse = weights.double().split([height * width for height, width in grids])
    coarse = coarse.view(grids[1])
    return fine.view(grids[0]) + coarse.repeat_interleave(2, 0).repeat_interleave(2, 1) / 4


def heatmap_of(page):
    heatmap = page.evaluate("explorer.heatmap()")
    return np.array(heatmap["values"]).reshape(heatmap["height"], heatmap["width"])


def assert_drawn(page, expected, peak):
    """Within the 8 bits of a row: half of 1/255 of its peak."""
    np.testing.assert_allclose(heatmap_of(page), np.asarray(expected), atol=peak * 0.5 / 255 + 1e-6, rtol=0)


def assert_cross(page, rows):
    """The mean of these rows is drawn, of both levels: a coarse token adds a quarter of its own error."""
    rows = rows.reshape(-1, 100)
    assert_drawn(page, summed(rows.mean(0)), peak=1.25 * float(rows.amax(1).mean()))


def assert_encoder(page, layer, token):
    row = ATTENTION.encoder[layer, 0].mean(0)[token]
    assert_drawn(page, row.view(4, 5), peak=float(row.max()))


def wait(page, expression):
    """Until it is true. Playwright's own waiting evaluates text in the page, which its policy forbids."""
    for _ in range(200):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(20)
    raise AssertionError(f"never true: {expression}")


def state(page):
    return page.evaluate("explorer.state()")


def at(page, x, y):
    """A point of the image in pixels of the window."""
    box = page.locator("#stage").bounding_box()
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def weight_shown(page):
    """The number under the cursor, as a share."""
    return float(re.sub(r"[ %<]", "", page.locator("#weight b").inner_text())) / 100


def test_initially_the_best_detection_is_shown_in_the_last_layer(visit):
    page = visit()
    wait(page, "explorer.heatmap() !== null")
    assert_cross(page, ATTENTION.cross[2, 0, :, 3])
    assert state(page)["query"] is None
    assert "cup 0.90" in page.locator("#caption").inner_text()
    assert page.locator("#detections [role=option]").count() == 3, "query 0 scores 0.2"


def test_every_layer_and_head_of_a_query(visit):
    page = visit("#query=1")
    for layer in range(3):
        for head in range(4):
            page.locator(f"#overview button[aria-label='Layer {layer}, head {head}']").click()
            weights = ATTENTION.cross[layer, 0, head, 1]
            assert_cross(page, weights)
            assert np.isclose(heatmap_of(page).sum(), 1, atol=0.02)
        page.locator(f"#overview button[aria-label='Layer {layer}, mean of heads']").click()
        assert_cross(page, ATTENTION.cross[layer, 0, :, 1])


def test_a_single_level_is_shown_alone(visit):
    page = visit("#query=1&head=2&layer=0")
    page.locator("#level").select_option("1")
    peak = float(ATTENTION.cross[0, 0, 2, 1].max())
    assert_drawn(page, ATTENTION.cross[0, 0, 2, 1, 80:].view(4, 5), peak)
    page.locator("#level").select_option("0")
    assert_drawn(page, ATTENTION.cross[0, 0, 2, 1, :80].view(8, 10), peak)
    page.locator("#level").select_option("all")
    assert_cross(page, ATTENTION.cross[0, 0, 2, 1])


def test_hovering_shows_a_query_until_the_cursor_leaves(visit):
    page = visit("#score=0.5")
    page.mouse.move(*at(page, 120 / 160, 100 / 120))  # in the plate, beside the spoon in it
    wait(page, "document.querySelector('#caption b').textContent.startsWith('plate')")
    assert_cross(page, ATTENTION.cross[2, 0, :, 1])
    page.mouse.move(*at(page, 110 / 160, 70 / 120))  # the smallest box around
    wait(page, "document.querySelector('.tag').dataset.query === '5'")
    assert_cross(page, ATTENTION.cross[2, 0, :, 5])
    page.mouse.move(*at(page, 0.5, 0.1))
    wait(page, "explorer.heatmap() === null")
    page.locator("#detections [role=option]").nth(0).hover()
    wait(page, "explorer.heatmap() !== null")
    assert_cross(page, ATTENTION.cross[2, 0, :, 3])
    assert state(page)["query"] is None


def test_a_click_selects_the_query_and_a_second_one_the_point(visit):
    page = visit()
    page.mouse.click(*at(page, 45 / 160, 30 / 120))
    assert state(page)["query"] == 3
    assert page.locator("#detections [aria-selected=true]").inner_text().startswith("cup")
    page.mouse.move(*at(page, 120 / 160, 100 / 120))
    assert_cross(page, ATTENTION.cross[2, 0, :, 3])  # selected: hovering the inside of another box changes nothing
    page.mouse.click(*at(page, 45 / 160, 30 / 120))
    assert state(page)["view"] == "point"
    assert state(page)["query"] is None
    token = 5 * int(30 / 120 * 3.75) + int(45 / 160 * 5)
    assert_encoder(page, 1, token)


@pytest.mark.parametrize("smooth", [0, 1])
def test_the_number_under_the_cursor_is_the_weight(visit, smooth):
    page = visit(f"#query=3&layer=1&head=0&smooth={smooth}")
    weights = ATTENTION.cross[1, 0, 0, 3]
    expected = summed(weights)
    for row, column in ((0, 0), (3, 4), (6, 9), (7, 2)):
        # The image is 10 tokens wide and 7.5 high; each token's middle, within the image.
        page.mouse.move(*at(page, (column + 0.5) / 10, (row + (0.25 if row == 7 else 0.5)) / 7.5))
        error = float(weights.max()) / 255 + 5e-6  # of the codes of two levels, and of the digits shown
        assert weight_shown(page) == pytest.approx(float(expected[row, column]), abs=error)
    assert "of its attention is here" in page.locator("#weight").inner_text()


def test_the_canvas_is_colored_by_the_weights(visit):
    """Sharp-edged: the pixel in each token's middle has inferno's colour for its share of the peak."""
    import matplotlib

    page = visit("#query=1&layer=0&head=1&level=0&smooth=0")
    weights = ATTENTION.cross[0, 0, 1, 1, :80].view(8, 10)
    pixels = page.evaluate(
        """() => { const {width, height} = document.getElementById("heatmap");
        const {data} = document.getElementById("heatmap").getContext("2d").getImageData(0, 0, width, height);
        return Array.from({length: 70}, (_, i) => {
          const x = Math.floor((i % 10 + 0.5) / 10 * width), y = Math.floor((Math.floor(i / 10) + 0.5) / 7.5 * height);
          return [...data.subarray(4 * (y * width + x), 4 * (y * width + x) + 4)]; }); }"""
    )
    share = (weights / weights.max()).flatten()[:70].numpy()
    np.testing.assert_allclose(np.array(pixels)[:, 3] / 255, 0.94 * np.sqrt(share), atol=0.06)
    visible = share > 0.1  # a canvas keeps colours multiplied by opacity, so faint ones are coarse
    colors = matplotlib.colormaps["inferno"](share)[visible, :3]
    np.testing.assert_allclose(np.array(pixels)[visible, :3] / 255, colors, atol=0.03)
    ticks = page.locator(".ticks").inner_text().split("\n")
    assert ticks[0] == "0 %"
    assert float(ticks[-1].removesuffix(" %")) == pytest.approx(100 * float(weights.max()), rel=1e-2)


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
    expected = ["share", "theme", "help-button", "picker", "stage", "show-boxes", "show-truth", "smooth", "level"]
    expected += [
        "layer",
        "head",
        "overview",
        "tab-detections",
        "threshold",
        "classes",
        "classes",
        "classes",
        "detections",
    ]
    assert reached == expected
    page.keyboard.press("ArrowDown")
    assert state(page)["query"] == 1
    page.keyboard.press("End")
    assert state(page)["query"] == 5
    assert page.evaluate("document.activeElement.getAttribute('aria-selected')") == "true"


def test_queries_that_attend_to_a_point(visit):
    page = visit("#layer=1&head=3&view=point")
    page.mouse.click(*at(page, 0.62, 0.6))
    row, column = int(0.6 * 7.5), int(0.62 * 10)
    weights = [float(summed(ATTENTION.cross[1, 0, 3, query])[row, column]) for query in range(6)]
    at_point = page.evaluate("explorer.queriesAt()")
    order = [one["query"] for one in at_point]
    assert sorted(order) == list(range(6))
    tolerance = 1.25 * 0.5 / 255 * ATTENTION.cross[1, 0, 3].amax(-1) + 1e-6  # of each query's 8 bits
    for one in at_point:
        assert one["weight"] == pytest.approx(weights[one["query"]], abs=float(tolerance[one["query"]]))
    in_order = [weights[query] for query in order]
    assert (np.diff(in_order) <= 2 * float(tolerance.max())).all(), "most first, but for what 8 bits cannot tell"
    entries = page.locator("#point-queries [role=option]").all_inner_texts()
    assert entries[0].startswith("Encoder self-attention")
    assert f"query {order[0]}" in entries[1]
    assert entries[1].split()[-2] == page.evaluate("percent(explorer.queriesAt()[0].weight)").split()[0]
    assert "layer 1, head 3" in page.locator("#point-note").inner_text()

    # Each entry shows the cross-attention of its query, with the weight at the point.
    page.locator("#point-queries [role=option]").nth(1).click()
    assert_cross(page, ATTENTION.cross[1, 0, 3, order[0]])
    page.mouse.move(5, 5)
    assert weight_shown(page) == pytest.approx(at_point[0]["weight"], abs=1e-4)
    page.locator("#point-queries [role=option]").nth(0).click()
    token = 5 * int(0.6 * 3.75) + int(0.62 * 5)
    assert_encoder(page, 1, token)
    page.locator("#encoder").fill("0")
    assert_encoder(page, 0, token)


def test_self_attention_of_queries(visit):
    page = visit("#query=1&view=links&layer=0&head=2&score=0.1")
    weights = ATTENTION.queries[0, 0, 2, 1]
    np.testing.assert_allclose(page.evaluate("explorer.selfAttention()"), weights, atol=float(weights.max()) / 255)
    entries = page.locator("#linked-queries [role=option]").all_inner_texts()
    order = weights.argsort(descending=True).tolist()
    listed = [int(re.search(r"query (\d)", entry)[1]) for entry in entries]
    assert sorted(listed) == list(range(6))
    assert (weights[listed].diff() <= float(weights.max()) / 255).all(), "most first, but for what 8 bits cannot tell"
    ends = [query for query in order if query in (0, 3, 5)]
    assert page.locator("#links circle").count() == len(ends) == 3, "to those that have a box"
    assert page.locator(".box.linked").last.get_attribute("data-query") == str(ends[0])
    page.keyboard.press("m")
    np.testing.assert_allclose(
        page.evaluate("explorer.selfAttention()"), ATTENTION.queries[0, 0, :, 1].mean(0), atol=0.004
    )


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


def test_back_and_forward(visit):
    page = visit()
    page.locator("#detections [role=option]").nth(0).click()
    page.wait_for_timeout(450)  # a quicker run through a list is one step
    page.locator("#detections [role=option]").nth(1).click()
    page.wait_for_timeout(450)
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
        page.locator("#detections-empty").inner_text().startswith("No score reaches 0.50. The best is cup with 0.40.")
    )
    page.locator("#detections-empty button").click()
    assert page.locator("#detections [role=option]").count() == 1


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
    assert "No detections in this image" in page.locator("#detections-empty").inner_text()
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


def test_smoothing_keeps_the_peak_where_it_is(visit):
    page = visit("#query=3&layer=0&head=0&level=0")
    x, y = page.evaluate(
        """() => { const {width, height} = document.getElementById("heatmap");
        const {data} = document.getElementById("heatmap").getContext("2d").getImageData(0, 0, width, height);
        let best = 0;
        for (let i = 0; i < width * height; i++) if (data[4 * i + 3] > data[4 * best + 3]) best = i;
        return [(best % width + 0.5) / width, (Math.floor(best / width) + 0.5) / height]; }"""
    )
    assert 10 * int(y * 7.5) + int(x * 10) == int(ATTENTION.cross[0, 0, 0, 3, :80].argmax())


def test_each_image_has_its_own_picture(visit):
    page = visit("#image=1")
    size = page.evaluate(
        "[document.getElementById('picture').naturalWidth, document.getElementById('picture').naturalHeight]"
    )
    assert size == [120, 120]
