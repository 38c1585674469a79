"""The explorer of deformable models: what the page holds, and in a real browser the sampled points."""

import base64
import zlib

import numpy as np
import pytest
import torch

from detr_lite.viz.explorer.page import explorer_page
from detr_lite.viz.explorer.quantize import SparseRows, quantize_rows
from detr_lite.viz.explorer.samples import STEPS, quantize_samples
from detr_lite.viz.explorer.scene import pack_scene
from tests.helpers.explorer_checks import SAMPLED, assert_drawn, summed
from tests.helpers.fake_attention import NAMES, found, maps, picture, sampled_maps

ROWS = 2 * 4  # layers and heads of a query
POINTS = 5


def read(data, *parts):
    """Arrays of (dtype, count), one after the other; nothing is left over."""
    arrays = []
    for dtype, count in parts:
        size = np.dtype(dtype).itemsize * int(count)
        arrays.append(np.frombuffer(data[:size], dtype))
        data = data[size:]
    assert not data
    return arrays


def sparse_rows_in(text, count, length):
    """Weights (row, column) as the page decodes them."""
    data = zlib.decompress(base64.b64decode(text))
    counts = np.frombuffer(data[4 * count : 8 * count], "<u4")
    columns = "<u2" if length <= 1 << 16 else "<u4"
    entries = counts.sum()
    peaks, _, columns, codes = read(data, ("<f4", count), ("<u4", count), (columns, entries), ("u1", entries))
    rows = np.zeros((count, length))
    row = np.repeat(np.arange(count), counts)
    rows[row, columns] = codes / 255 * peaks[row]
    return rows


@pytest.mark.parametrize("length", [50, 70_000])
def test_sparse_rows_are_the_rows_without_zeros(length):
    weights = torch.zeros(3, 4, length)
    weights[:2, :, -40:] = torch.rand(2, 4, 40) ** 4
    dense = quantize_rows(weights)
    # Each weight in two entries, and entries of nothing.
    tokens = torch.arange(length - 40, length).repeat(12, 3).numpy()
    halves = weights.flatten(0, 1)[:, -40:] / 2
    sparse = SparseRows.of_entries(tokens, torch.cat([halves, halves, 0 * halves], 1).numpy(), length)
    np.testing.assert_allclose(sparse_rows_in(sparse.to_base64(), 12, length), dense.dequantize(), rtol=1e-6)
    parts = [SparseRows.of_entries(tokens[:4, :80], part.repeat(1, 2).numpy(), length) for part in halves.split(4)]
    assert SparseRows.join(parts).to_base64() == sparse.to_base64()
    assert sparse.to_base64(10.0) is None


def test_samples_are_exact_to_a_step():
    sampled = SAMPLED.sampled
    data = zlib.decompress(base64.b64decode(quantize_samples(sampled, query=3).to_base64()))
    points = ROWS * POINTS
    peaks, outside, x, y, codes = read(
        data, ("<f4", ROWS), ("<u2", ROWS), ("<i2", points), ("<i2", points), ("u1", points)
    )
    expected = sampled.points[:, 0, :, 3].reshape(-1, 2).numpy()
    assert (expected < 0).any()
    assert (expected > 1).any()
    np.testing.assert_allclose(np.stack([x, y], 1) / STEPS, expected, atol=0.51 / STEPS)
    weights = codes.reshape(ROWS, POINTS) / 255 * peaks[:, None]
    np.testing.assert_allclose(weights, sampled.weights[:, 0, :, 3].reshape(ROWS, POINTS), atol=0.51 / 255)
    np.testing.assert_allclose(outside / 65535, sampled.outside[:, 0, :, 3].flatten(), atol=1e-5)


def test_a_point_far_outside_stays_outside():
    far = sampled_maps().sampled
    far.points[0, 0, 0, 0, 0] = torch.tensor([1e20, -1e20])
    x, y = quantize_samples(far, 0).positions[:, 0, 0] / STEPS
    assert x > 3
    assert y < -3


@pytest.mark.parametrize("has_rows", [False, True])
def test_a_scene_of_a_deformable_model(has_rows):
    scene = pack_scene("a.jpg", picture(), found(), sampled_maps(has_rows=has_rows))
    assert scene.left_out == ()
    metadata = scene.metadata
    assert metadata["pointLevels"] == [0, 0, 0, 1, 1]
    assert metadata["encoderLayers"] == 0
    assert (metadata["heads"], metadata["selfHeads"], metadata["selfAttentionHeads"]) == (4, 2, 1), "the mean alone"
    order = metadata["includedQueries"]
    assert order[:4] == [3, 1, 5, 0]
    expected = SAMPLED.cross[:, 0].permute(2, 0, 1, 3)[order].reshape(-1, 100)
    rows = sparse_rows_in(scene.blobs["cross-attention"], 6 * ROWS, 100)
    np.testing.assert_allclose(rows, expected, atol=float(expected.max()) * 0.51 / 255)
    data = zlib.decompress(base64.b64decode(scene.blobs["samples"]))
    assert len(data) == 6 * ROWS * (4 + 2 + POINTS * 5)
    assert "samples" not in pack_scene("a.jpg", picture(), found(), maps()).blobs


def test_what_exceeds_the_budget_is_left_out_with_its_samples():
    attention = sampled_maps(layers=6, heads=8, queries=80, self_heads=8)
    scene = pack_scene("a.jpg", picture(), found(), attention, budget=275_000)
    included = len(scene.metadata["includedQueries"])
    assert 4 <= included < 80
    assert len(explorer_page([scene], NAMES)) < 275_000
    assert len(zlib.decompress(base64.b64decode(scene.blobs["samples"]))) == included * 48 * (4 + 2 + POINTS * 5)
    nothing = pack_scene("a.jpg", picture(), found(), attention, budget=1)
    assert nothing.metadata["includedQueries"] == []
    explorer_page([nothing], NAMES)


def test_the_encoders_level_need_not_be_the_last():
    coarsest = maps(grids=((8, 10), (4, 5), (2, 3)), spans=((10.0, 7.5), (5.0, 3.75), (2.5, 1.875)), encoder_layers=0)
    attention = type(coarsest)(**{**vars(coarsest), "encoder": maps().encoder, "encoder_grids": ((4, 5),)})
    scene = pack_scene("a.jpg", picture(), found(), attention)
    assert [(level["width"], level["height"]) for level in scene.metadata["encoderLevels"]] == [(5, 4)]
    data = zlib.decompress(base64.b64decode(scene.blobs["encoder-0"]))
    assert len(data) == 20 * (4 + 20)


def dots(page):
    """(x, y) relative to the image, and the radius in pixels, of each dot."""
    found = page.evaluate(
        """(({clientWidth, clientHeight}) => [...document.querySelectorAll("#samples circle")].map(dot =>
        [dot.getAttribute("cx") / clientWidth, dot.getAttribute("cy") / clientHeight, Number(dot.getAttribute("r"))]))
        (document.getElementById("stage"))"""
    )
    return np.array(found).reshape(-1, 3)


def assert_dots(page, points, weights):
    points, weights = points.reshape(-1, 2).numpy(), weights.flatten().numpy()
    inside = ((points >= 0) & (points <= 1)).all(1) & (weights > weights.max() / 100)
    drawn = dots(page)
    distance = np.abs(points[inside][:, None] - drawn[None, :, :2]).max(-1)
    assert (distance.min(1) < 1e-3).all()
    if inside.any():
        area = (drawn[distance.argmin(1), 2] / drawn[:, 2].max()) ** 2
        expected = weights[inside] / weights[inside].max()
        np.testing.assert_allclose(area[expected > 0.2], expected[expected > 0.2], rtol=0.05)


@pytest.mark.slow
def test_the_points_of_each_layer_and_head_are_drawn(visit):
    page = visit("#query=3", name="sampled")
    for layer in range(2):
        page.locator("#layer").fill(str(layer))
        for head in (-1, 0, 3):
            page.locator("#head").fill(str(head))
            heads = slice(None) if head < 0 else slice(head, head + 1)
            of = (layer, 0, heads, 3)
            assert_dots(page, SAMPLED.sampled.points[of], SAMPLED.sampled.weights[of])
            rows = SAMPLED.cross[of]
            assert_drawn(page, summed(rows.mean(0)), peak=1.25 * float(rows.amax(1).mean()))
            share = float(SAMPLED.sampled.outside[of].mean())
            note = page.locator("#samples-note").inner_text()
            percent = "none" if share == 0 else "less than 1 %" if share < 0.005 else f"{round(100 * share)} %"
            assert note == f"{5 * len(rows)} sampled points; {percent} of the weight fell outside the image."
            assert note in page.locator("#live").inner_text()


@pytest.mark.slow
def test_points_are_turned_off_and_belong_to_levels(visit):
    page = visit("#query=1&head=2", name="sampled")
    assert len(dots(page))
    page.locator("#level").select_option("1")
    of = (1, 0, 2, 1, slice(3, 5))
    assert_dots(page, SAMPLED.sampled.points[of], SAMPLED.sampled.weights[of])
    page.locator("#level").select_option("0")
    page.locator("#stage").focus()
    page.keyboard.press("x")
    assert len(dots(page)) == 0
    assert "samples=0" in page.evaluate("location.hash")
    assert not page.locator("#show-samples").is_checked()
    page.locator("#show-samples").check()
    assert len(dots(page))
    page.keyboard.press("q")
    assert len(dots(page)) == 0
    assert "decoder layer 1, mean of 2 heads" in page.locator("#caption").inner_text(), "self-attention has its own"
    page.keyboard.press("m")
    page.locator("#level").select_option("all")
    page.keyboard.press("f")
    page.locator("#stage").focus()
    page.keyboard.press("ArrowRight")
    assert "has no dense self-attention" in page.locator("#caption").inner_text()
    assert page.locator("#point-queries [role=option]").count() > 0


@pytest.mark.slow
def test_dense_attention_has_no_points(visit):
    page = visit("#query=3")
    for part in ("#samples-label", "#samples-note", "#about-samples"):
        assert page.locator(part).is_hidden()
    page.keyboard.press("x")
    assert page.evaluate("explorer.state().samples")
    assert page.evaluate("explorer.samples()") is None
