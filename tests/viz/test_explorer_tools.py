"""The explorer in a real browser: zoom, ways to draw attention, saving, heads, levels, playing, and side by side."""

import base64
import io
import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from detr_lite.evaluation.attention_metrics import BAND
from detr_lite.viz.explorer.models import ExploredModel, TrainingFrame, joined_classes, relabeled
from detr_lite.viz.explorer.page import explorer_page
from detr_lite.viz.explorer.scene import encode_picture, pack_scene
from tests.helpers.explorer_checks import ATTENTION, OTHER, SAMPLED, assert_cross, at, heatmap_of, state, wait
from tests.helpers.fake_attention import NAMES, found, maps, picture, truth

FINE = maps(grids=((6, 8),), spans=((8.0, 6.0),), encoder_layers=0)
"""Of one level whose tokens cover the image exactly."""


@pytest.fixture(scope="module")
def tool_pages(explorer_pages):
    """`models.html` of two models with other classes, and `fine.html` of `FINE`."""
    moved = found((0.8, 0.7, 0.3), names=("spoon", "jug", "cup"))
    moved = replace(moved, queries=torch.tensor([2, 0, 4]), boxes_xyxy=moved.boxes_xyxy + 2)
    scenes = []
    for name in ("a.jpg", "b.jpg"):
        scenes.append(pack_scene(name, picture(), found(), ATTENTION, truth()))
        scenes.append(pack_scene(name, picture(), moved, OTHER, truth()))
    models = [ExploredModel("first", NAMES, ("AP 0.500", "lite")), ExploredModel("second", ("spoon", "jug", "cup"), ())]
    frames = [
        TrainingFrame(step, f"AP 0.{step:03}", encode_picture(picture(60 + step, 60), 100)) for step in (0, 10, 20)
    ]
    (explorer_pages / "models.html").write_text(explorer_page(scenes, (), models=models, history=frames))
    (explorer_pages / "fine.html").write_text(explorer_page([pack_scene("a.jpg", picture(), found(), FINE)], NAMES))
    return explorer_pages


def test_classes_of_several_models_have_one_numbering():
    models = [ExploredModel("a", ("cup", "plate")), ExploredModel("b", ("spoon", "cup"))]
    names, places = joined_classes(models)
    assert names == ["cup", "plate", "spoon"]
    assert places == [[0, 1], [2, 0]]
    scene = pack_scene("a.jpg", picture(), found((0.9, 0.8)), ATTENTION)
    moved = relabeled(scene.metadata, places[1])
    assert moved["detections"]["labels"] == [2, 0]
    assert moved["querySummaries"][3]["label"] == 2
    assert scene.metadata["detections"]["labels"] == [0, 1]
    with pytest.raises(ValueError, match="1 scenes of 2 models"):
        explorer_page([scene], (), models=models)


@pytest.mark.slow
def test_zoom_with_wheel_keys_and_buttons(visit):
    page = visit("#query=3")
    x, y = at(page, 0.25, 0.25)
    stage = page.locator("#stage").bounding_box()
    in_image = "([clientX, clientY]) => positionIn(document.getElementById('world'), {clientX, clientY})"
    before = page.evaluate(in_image, [x, y])
    page.mouse.move(x, y)
    page.mouse.wheel(0, -300)
    wait(page, "explorer.state().zoom !== null")
    after = page.evaluate(in_image, [x, y])
    assert after == pytest.approx(before, abs=1e-3), "what is under the cursor stays there"
    assert page.locator("#stage").bounding_box() == stage
    page.locator("#zoom-all").click()
    assert state(page)["zoom"] is None
    page.keyboard.press("z")
    box = page.locator("#boxes .box.selected").bounding_box()
    assert box["x"] >= stage["x"]
    assert box["x"] + box["width"] <= stage["x"] + stage["width"]
    assert max(box["width"] / stage["width"], box["height"] / stage["height"]) == pytest.approx(0.4, abs=0.02)
    page.keyboard.press("z")
    assert state(page)["zoom"] is None
    page.keyboard.press("+")
    assert state(page)["zoom"][2] == pytest.approx(1.6)
    page.keyboard.press("-")
    assert state(page)["zoom"] is None


@pytest.mark.slow
def test_dragging_moves_the_picture_and_selects_nothing(visit):
    page = visit("#query=3&zoom=0.2,0.2,2")
    page.mouse.move(*at(page, 0.5, 0.5))
    page.mouse.down()
    page.mouse.move(*at(page, 0.4, 0.5), steps=4)
    page.mouse.up()
    assert state(page)["zoom"] == pytest.approx([0.25, 0.2, 2], abs=0.01)
    assert (state(page)["query"], state(page)["point"]) == (3, None)


@pytest.mark.stress
def test_shift_and_arrow_keys_move_what_is_magnified(visit):
    """By an eighth of what is seen, up to the edges, and nothing else changes."""
    page = visit("#query=3&layer=1&head=2&zoom=0.2,0.2,2")
    before = state(page)
    for key, expected in (
        ("ArrowRight", [0.2625, 0.2]),
        ("ArrowDown", [0.2625, 0.2625]),
        ("ArrowLeft", [0.2, 0.2625]),
        ("ArrowUp", [0.2, 0.2]),
    ):
        page.keyboard.press(f"Shift+{key}")
        assert state(page)["zoom"] == pytest.approx([*expected, 2], abs=1e-3)
    for _ in range(6):
        page.keyboard.press("Shift+ArrowLeft")
    assert state(page) == before | {"zoom": [0, 0.2, 2]}
    page.locator("#detections").focus()
    page.keyboard.press("Shift+ArrowDown")
    assert state(page) == before | {"zoom": [0, pytest.approx(0.2625, abs=1e-3), 2]}, "in a list, too"
    page.locator("#stage").focus()
    page.keyboard.press("Shift+ArrowDown")
    assert state(page)["point"] is not None, "on the image keys move the point"
    whole = visit("#query=3&layer=1")
    whole.keyboard.press("Shift+ArrowDown")
    assert (state(whole)["layer"], state(whole)["zoom"]) == (1, None)
    whole.keyboard.press("?")
    assert "move what is magnified" in whole.locator("#help").inner_text()


@pytest.mark.slow
def test_a_click_in_a_magnified_picture_is_where_it_is_in_the_image(visit):
    page = visit("#view=point&zoom=0.5,0.25,2")
    page.mouse.click(*at(page, 0.5, 0.5))
    assert state(page)["point"] == pytest.approx([0.75, 0.5], abs=0.005)


@pytest.mark.slow
@pytest.mark.parametrize(
    "hash", ["#zoom=2,0,2", "#zoom=0,0,99", "#zoom=0,0", "#zoom=0,0,2,3", "#other=5,x", "#mode=x&colors=y"]
)
def test_invalid_tools_in_an_address(visit, tool_pages, hash):
    shown = state(visit(hash, name="models"))
    assert shown["zoom"] is None
    assert (shown["mode"], shown["colors"]) == ("overlay", "inferno")
    assert shown["other"] is None or shown["other"]["model"] == 1


def pixels(page, id="heatmap"):
    data = page.evaluate(
        """id => { const canvas = document.getElementById(id);
        const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return [canvas.width, canvas.height, ...data]; }""",
        id,
    )
    return np.array(data[2:]).reshape(data[1], data[0], 4)


@pytest.mark.stress
@pytest.mark.parametrize("name", ["viridis", "cividis"])
def test_bare_attention_has_the_colors_of_the_map(visit, tool_pages, name):
    import matplotlib

    page = visit(f"#query=3&layer=0&head=0&smooth=0&mode=bare&colors={name}", name="fine")
    weights = FINE.cross[0, 0, 0, 3].view(6, 8)
    drawn = pixels(page)
    height, width, _ = drawn.shape
    centers = drawn[(np.arange(6) * height // 6 + height // 12)][:, np.arange(8) * width // 8 + width // 16]
    expected = matplotlib.colormaps[name]((weights / weights.max()).numpy())[..., :3]
    np.testing.assert_allclose(centers[..., :3] / 255, expected, atol=0.02)
    assert (drawn[..., 3] == 255).all()
    assert page.evaluate("getComputedStyle(document.getElementById('picture')).opacity") == "0"


@pytest.mark.stress
def test_contours_lie_where_attention_passes_shares_of_its_peak(visit, tool_pages):
    page = visit("#query=3&layer=0&head=0&smooth=0&mode=contour", name="fine")
    weights = FINE.cross[0, 0, 0, 3].view(6, 8)
    share = (weights / weights.max()).numpy()
    band = sum(share >= level for level in (1 / 8, 1 / 4, 1 / 2, 3 / 4))
    drawn = pixels(page)[..., 3] > 0
    height, width = drawn.shape
    for row in range(6):
        y = int((row + 0.5) * height / 6)
        for column in range(7):
            edge = (column + 1) * width // 8
            has_line = drawn[y, edge - 2 : edge + 2].any()
            assert has_line == (band[row, column] != band[row, column + 1]), (row, column)
    assert not page.locator("#stage.dimmed").count(), "the picture stays as it is"


@pytest.mark.slow
@pytest.mark.parametrize("type", ["svg", "png"])
def test_the_view_is_saved(visit, tmp_path, type):
    page = visit("#query=3&layer=1&head=2&truth=1")
    with page.expect_download() as saved:
        page.locator(f"#save-{type}").click()
    assert saved.value.suggested_filename == f"first_query3_layer1_head-2.{type}"
    saved.value.save_as(tmp_path / f"view.{type}")
    height = round(1200 * 120 / 160) + 84
    if type == "png":
        with Image.open(tmp_path / "view.png") as image:
            assert abs(image.height - height) <= 2
            assert image.width == 1200
            assert len(image.convert("RGB").getcolors(1 << 24)) > 1000, "a picture, not a blank"
        return
    text = (tmp_path / "view.svg").read_text()
    root = ElementTree.fromstring(text)
    names = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "cup 0.90" in names, "the tag"
    assert "cup 0.90: cross-attention of query 3, decoder layer 1, head 2" in names
    (drawn,) = [
        Image.open(io.BytesIO(base64.b64decode(each)))
        for each in re.findall(r'href="data:image/png;base64,([^"]+)', text)
    ][:1]
    assert drawn.mode == "RGBA", "the heat map"


@pytest.mark.slow
@pytest.mark.parametrize("type", ["svg", "png"])
def test_a_comparison_is_saved_with_both_pictures_and_their_difference(visit, tool_pages, tmp_path, type):
    page = visit("#query=3&layer=1&head=2&other=1,0,mean&zoom=0,0.25,1.5", name="models")
    wait(page, "explorer.comparison() !== null")
    with page.expect_download() as saved:
        page.locator(f"#save-{type}").click()
    assert saved.value.suggested_filename == f"a_query3_layer1_head-2_compared.{type}"
    saved.value.save_as(tmp_path / f"view.{type}")
    if type == "png":
        with Image.open(tmp_path / "view.png") as image:
            assert (image.width, abs(image.height - 34 - 480 - 44 - 88) <= 2) == (3 * 640 + 2 * 16, True)
            parts = [image.convert("RGB").crop((left, 34, left + 640, 34 + 480)) for left in (0, 656, 1312)]
        assert all(len(part.getcolors(1 << 24)) > 1000 for part in parts), "pictures, not blanks"
        assert len({part.tobytes() for part in parts}) == 3
        return
    text = (tmp_path / "view.svg").read_text()
    svg = "{http://www.w3.org/2000/svg}"
    root = ElementTree.fromstring(text)
    names = [node.text for node in root.iter(f"{svg}text")]
    for name in (
        "A: first · layer 1 · head 2",
        "B: second · layer 0 · mean of 2 heads",
        "B \N{MINUS SIGN} A",
        "first · a.jpg",
    ):
        assert name in names
    assert page.locator("#comparison-text").inner_text() in names
    assert [name for name in names if name.startswith(("A more", "B more"))] == [
        page.locator(f"#difference-{side}").inner_text() for side in ("less", "more")
    ]
    parts = [part for part in root if part.tag == f"{svg}svg"]
    assert len(parts) == 3
    for part, id in zip(parts, ("#heatmap", "#pane-b canvas", "#pane-difference canvas"), strict=True):
        (view,) = part.findall(f"{svg}svg")
        assert [float(side) for side in view.get("viewBox").split()] == pytest.approx([0, 30, 160 / 1.5, 80])
        maps_in = [image.get("href") for image in view.findall(f"{svg}image")][1:]
        assert maps_in == [page.evaluate("id => document.querySelector(id).toDataURL()", id)]
        assert view.findall(f"{svg}rect"), "the chosen box"


def token_shares(box_xyxy, grid=(6, 8)):
    """The share of each token's patch in a box, by counting points: 40 x 40 for each."""
    height, width = grid
    y, x = np.meshgrid(
        (np.arange(height * 40) + 0.5) / (height * 40), (np.arange(width * 40) + 0.5) / (width * 40), indexing="ij"
    )
    x0, y0, x1, y1 = (side / size for side, size in zip(box_xyxy, (160, 120, 160, 120), strict=True))
    inside = (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)
    return inside.reshape(height, 40, width, 40).mean((1, 3)).ravel()


@pytest.mark.slow
def test_the_habit_of_each_head_in_numbers(visit, tool_pages):
    page = visit("#query=1&layer=0&view=heads", name="fine")
    cells = [
        [int(text.removesuffix(" %")) for text in row.split("\t")[1:5]]
        for row in page.locator(".habits tbody tr").all_inner_texts()
    ]
    box = np.array([90, 50, 150, 110])
    own = token_shares(box)
    grown = [token_shares(box + sign * BAND / 2 * np.array([-60, -60, 60, 60])) for sign in (1, -1)]
    others = np.maximum(token_shares([20, 20, 70, 60]), token_shares([100, 60, 120, 80]))
    others = np.minimum(others, 1 - own)
    for head, shown in enumerate(cells):
        weights = FINE.cross[0, 0, head, 1].numpy()
        expected = [weights @ own, weights @ (grown[0] - grown[1]), weights @ others, weights @ (1 - own - others)]
        np.testing.assert_allclose(shown, 100 * np.array(expected), atol=3)
    page.locator(".habits button").nth(2).click()
    assert state(page)["head"] == 2


@pytest.mark.slow
def test_heads_with_like_maps_are_a_group(visit, explorer_pages):
    cross = FINE.cross.clone()
    cross[:, :, 2] = 0.9 * cross[:, :, 0] + 0.1 * cross[:, :, 1]
    alike = pack_scene("a.jpg", picture(), found(), replace(FINE, cross=cross))
    (explorer_pages / "alike.html").write_text(explorer_page([alike], NAMES))
    page = visit("#view=heads&layer=1", name="alike")
    page.mouse.move(5, 5)
    assert page.locator(".habits .group").all_inner_texts() == ["A", "B", "A", "C"]
    assert "0 and 2" in page.locator("#panel-heads").inner_text()


@pytest.mark.slow
def test_levels_of_a_deformable_model_apart(visit):
    page = visit("#query=3&layer=1&head=1&view=levels", name="sampled")
    shares = SAMPLED.cross[1, 0, 1, 3].split([80, 20])
    texts = page.locator(".levels button").all_inner_texts()
    for text, share, size, points in zip(
        texts, shares, ("10 \N{MULTIPLICATION SIGN} 8", "5 \N{MULTIPLICATION SIGN} 4"), (3, 2), strict=True
    ):
        read = re.fullmatch(rf"{size}: ([\d.]+) %, {points} points", text.strip())
        total = float(SAMPLED.cross[1, 0, 1, 3].sum())
        assert float(read[1]) == pytest.approx(100 * float(share.sum()) / total, abs=1.5)
    page.locator(".levels button").nth(1).click()
    assert state(page)["level"] == 1
    assert heatmap_of(page).shape == (4, 5)
    page.locator(".levels button").nth(1).click()
    assert state(page)["level"] == "all"


@pytest.mark.slow
def test_the_layers_play(visit):
    page = visit("#query=3")
    page.locator("#play-layers").click()
    wait(page, "explorer.state().layer === 0")
    wait(page, "explorer.state().layer === 1")
    wait(page, "explorer.state().layer === 2")
    wait(page, "document.getElementById('play-layers').getAttribute('aria-label') === 'Play the layers'")
    assert_cross(page, ATTENTION.cross[2, 0, :, 3])


@pytest.mark.stress
def test_attention_in_training(visit, tool_pages):
    page = visit("#view=training", name="models")
    width = "document.querySelector('img.history').naturalWidth"
    assert page.locator("#panel-training output").inner_text() == "step 20"
    wait(page, f"{width} === 80")
    page.locator("#history-step").fill("0")
    wait(page, f"{width} === 60")
    assert page.locator("#history-step").get_attribute("aria-valuetext") == "step 0, AP 0.000"
    page.locator("#panel-training .play").click()
    wait(page, f"{width} === 80")
    assert visit(name="fine").locator("#tab-training").is_hidden()


@pytest.mark.slow
def test_two_models_side_by_side(visit, tool_pages):
    page = visit("#query=3&layer=2&head=1", name="models")
    assert page.locator("#model-facts").inner_text() == "first · AP 0.500 · lite"
    page.locator("#compare").select_option("1")
    wait(page, "explorer.comparison() !== null")
    shown = page.evaluate("explorer.comparison()")
    rows = OTHER.cross[1, 0, :, 2].mean(0).view(6, 6).numpy()
    np.testing.assert_allclose(np.array(shown["values"]).reshape(6, 6), rows, atol=rows.max() / 255)
    assert "Query 3 of A, query 2 of B" in page.locator("#comparison-text").inner_text(), "by their boxes"
    page.mouse.move(*at(page, 0.3, 0.4))
    left = "document.querySelector('#pane-b .cross').style.left"
    assert float(page.evaluate(left).removesuffix("%")) == pytest.approx(30, abs=0.5), "one cursor"
    assert "in B" in page.locator("#weight").inner_text()
    page.locator("#model").select_option("1")
    wait(page, "explorer.state().model === 1 && explorer.comparison() !== null")
    assert state(page)["query"] == 2, "the same object"
    assert state(page)["other"] == {"model": 0, "layer": 2, "head": 1}
    assert page.locator("#caption").inner_text().startswith("cup 0.80") is False
    assert page.locator("#caption").inner_text().startswith("spoon 0.80"), "with its own class"


@pytest.mark.stress
def test_the_difference_of_two_heads(visit, tool_pages):
    page = visit("#query=3&layer=0&head=0&other=0,0,1&smooth=0", name="fine")
    a, b = (FINE.cross[0, 0, head, 3].view(6, 8).numpy() for head in (0, 1))
    difference = 48 * (b - a)
    text = page.locator("#comparison-text").inner_text()
    moved = float(np.abs(b - a).sum() / 2)
    assert int(re.match(r"(\d+) % of the attention lies elsewhere", text)[1]) == pytest.approx(100 * moved, abs=2)
    peak = float(page.locator("#difference-more").inner_text().split()[2])
    assert peak == pytest.approx(float(np.abs(difference).max()), abs=0.2)
    canvas = """(() => { const canvas = document.querySelector('#pane-difference canvas');
        canvas.id = 'difference-canvas'; return null; })()"""
    page.evaluate(canvas)
    drawn = pixels(page, "difference-canvas")
    row, column = np.unravel_index(np.abs(difference).argmax(), difference.shape)
    height, width, _ = drawn.shape
    red, _, blue, alpha = drawn[int((row + 0.5) * height / 6), int((column + 0.5) * width / 8)]
    assert alpha > 200
    assert (red > blue) == (difference[row, column] > 0), "orange where B has more, purple where A has"
    page.keyboard.press("c")
    assert state(page)["other"] is None
    page.keyboard.press("c")
    assert state(page)["other"] == {"model": 0, "layer": 0, "head": "mean"}
