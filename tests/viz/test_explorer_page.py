"""The explorer in a real browser: it draws exactly the attention maps."""

import re

import numpy as np
import pytest

from tests.helpers.explorer_checks import (
    ATTENTION,
    assert_cross,
    assert_drawn,
    assert_encoder,
    at,
    heatmap_of,
    state,
    summed,
    wait,
    weight_shown,
)

pytestmark = pytest.mark.slow


def test_initially_the_largest_well_found_detection_is_shown_in_the_last_layer(visit):
    """The plate, of 3,600 pixels, not the cup of a higher score and 2,000 pixels."""
    page = visit()
    wait(page, "document.getElementById('caption').textContent.includes('plate 0.80')")
    assert_cross(page, ATTENTION.cross[2, 0, :, 1])
    assert state(page)["query"] is None
    assert page.locator("#detections [role=option]").count() == 3, "query 0 scores 0.2"


@pytest.mark.stress
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
    for row, column in ((0, 0), (3, 4), (6, 8), (7, 2)):  # at no edge of another box
        # The image is 10 tokens wide and 7.5 high; each token's middle, within the image.
        page.mouse.move(*at(page, (column + 0.5) / 10, (row + (0.25 if row == 7 else 0.5)) / 7.5))
        error = float(weights.max()) / 255 + 5e-6  # of the codes of two levels, and of the digits shown
        assert weight_shown(page) == pytest.approx(float(expected[row, column]), abs=error)
    assert "of its attention is here" in page.locator("#weight").inner_text()


def test_the_canvas_is_colored_by_the_weights(visit):
    """Sharp-edged: the pixel in each token's middle has inferno's color for its share of the peak."""
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
    visible = share > 0.1  # a canvas keeps colors multiplied by opacity, so faint ones are coarse
    colors = matplotlib.colormaps["inferno"](share)[visible, :3]
    np.testing.assert_allclose(np.array(pixels)[visible, :3] / 255, colors, atol=0.03)
    ticks = page.locator(".ticks").inner_text().split("\n")
    assert ticks[0] == "0 %"
    assert float(ticks[-1].removesuffix(" %")) == pytest.approx(100 * float(weights.max()), rel=1e-2)


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
    assert (np.diff(in_order) <= 2 * float(tolerance.max())).all(), "descending, up to the error of 8 bits"
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
    assert (weights[listed].diff() <= float(weights.max()) / 255).all(), "descending, up to the error of 8 bits"
    ends = [query for query in order if query in (0, 3, 5)]
    assert page.locator("#links circle").count() == len(ends) == 3, "to those that have a box"
    assert page.locator(".box.linked").last.get_attribute("data-query") == str(ends[0])
    page.keyboard.press("m")
    np.testing.assert_allclose(
        page.evaluate("explorer.selfAttention()"), ATTENTION.queries[0, 0, :, 1].mean(0), atol=0.004
    )


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
