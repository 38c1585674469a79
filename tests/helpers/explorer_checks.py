"""What the explorer draws in a browser, compared with the attention that its pages were made of."""

import re
import time

import numpy as np

from tests.helpers.fake_attention import maps, sampled_maps
from tests.helpers.waiting import PATIENCE

NASTY = "</script><img src=x onerror=window.hurt=1>"
ATTENTION = maps()
SAMPLED = sampled_maps(has_rows=True)
OTHER = maps(seed=1, layers=2, heads=2, encoder_layers=0, grids=((6, 6),), spans=((5.5, 6.0),))


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
    end = time.monotonic() + PATIENCE
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"never true: {expression}"
        page.wait_for_timeout(20)


def state(page):
    return page.evaluate("explorer.state()")


def at(page, x, y):
    """A point of the image in pixels of the window."""
    box = page.locator("#stage").bounding_box()
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def weight_shown(page):
    """The number under the cursor, as a share."""
    return float(re.sub(r"[ %<]", "", page.locator("#weight b").inner_text())) / 100
