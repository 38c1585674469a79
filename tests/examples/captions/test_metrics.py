"""Exact captions and shares of attention, worked by hand."""

import math

import pytest
import torch
from PIL import Image

from detr_lite.structures import AttentionMaps
from examples.captions.figure import MOST_IN_ROW, draw_caption, draw_shares, word_cells
from examples.captions.metrics import LookMeter, exactness, look_table
from examples.captions.scenes import SIDE
from examples.captions.wording import Thing, Word, words_of

HALF = SIDE / 2


def maps_of(cross, grids=((2, 2),)):
    batch, queries = cross.shape[1], cross.shape[3]
    spans = torch.tensor([[[float(width), float(height)] for height, width in grids]]).expand(batch, -1, -1)
    return AttentionMaps(
        cross=cross,
        queries=torch.zeros(len(cross), batch, 1, queries, queries),
        encoder=torch.zeros(0, batch, 1, 4, 4),
        grids=grids,
        encoder_grids=grids[-1:],
        is_padding=torch.zeros(batch, cross.shape[-1], dtype=torch.bool),
        spans=spans,
    )


def test_exact_captions_are_counted_by_objects():
    result = exactness(["a", "b", "c", "d"], ["a", "b", "x", "d"], [0, 1, 1, 3])
    assert result.exact == (1, 1, 0, 1)
    assert result.scenes == (1, 2, 0, 1)
    assert result.share == 0.75
    assert "75.0%" in result.table()
    assert math.isnan(exactness([], [], []).share)


def test_shares_by_hand():
    """Four tokens in a square: upper left 0.5, upper right 0.3, lower left 0.2; two heads that differ."""
    row = torch.tensor([0.5, 0.3, 0.2, 0.0])
    cross = torch.stack([row + 0.1 * torch.tensor([1.0, -1, 0, 0]), row - 0.1 * torch.tensor([1.0, -1, 0, 0])])
    cross = cross[None, None, :, None].expand(1, 1, 2, 3, 4)
    words = [Word("small", "size", (0,)), Word("red", "color", (1,)), Word("left", "relation", (0, 1))]
    # One object is the upper left quarter, the other the left half of the upper right quarter.
    boxes = [(0.0, 0.0, HALF, HALF), (HALF, 0.0, 1.5 * HALF, HALF)]
    meter = LookMeter()
    meter.update(maps_of(cross), [words], [boxes])
    looked = meter.compute()
    expected = {"size": (0.5, 0.25, 0.15, 0.125), "color": (0.15, 0.125, 0.5, 0.25), "relation": (0.65, 0.375, 0, 0)}
    assert set(looked) == set(expected)
    for kind, (inside, area, other, other_area) in expected.items():
        each = looked[kind]
        assert each.words == 1
        got = (each.inside.item(), each.area, each.other.item(), each.other_area)
        assert got == pytest.approx((inside, area, other, other_area), abs=1e-6)
    assert "65.0%" in look_table(looked)


def test_uniform_attention_has_the_share_of_the_picture():
    """On two levels, whose tokens differ in size, over boxes that cut through patches."""
    grids = ((4, 4), (2, 2))
    cross = torch.full((2, 1, 1, 1, 20), 0.5 / 16)
    cross[..., 16:] = 0.5 / 4
    boxes = [(13.0, 40.0, 77.0, 93.0), (90.0, 1.0, 127.0, 30.0)]
    meter = LookMeter()
    meter.update(maps_of(cross, grids), [[Word("disc", "shape", (1,))]], [boxes])
    each = meter.compute()["shape"]
    torch.testing.assert_close(each.inside, torch.full((2,), each.area))
    torch.testing.assert_close(each.other, torch.full((2,), each.other_area))
    assert each.area == pytest.approx(37 * 29 / SIDE**2)


def test_words_about_nothing_are_not_counted():
    cross = torch.full((1, 1, 1, 2, 4), 0.25)
    meter = LookMeter()
    meter.update(maps_of(cross), [[Word("nothing", "nothing")]], [[]])
    assert meter.compute() == {}
    assert look_table({}).startswith("word")


def test_figures_of_no_words_are_drawn():
    cross = torch.full((1, 1, 1, 1, 4), 0.25)
    assert len(draw_caption(Image.new("RGB", (32, 32)), [], maps_of(cross)).axes) == 2, "picture and color bar"
    assert draw_shares({}, 1).axes


def test_words_are_in_rows_of_one_object_each():
    things = [Thing("large", "red", "star"), Thing("small", "blue", "ring"), Thing("small", "purple", "disc")]
    boxes = [(10.0, 20.0, 50.0, 60.0), (90.0, 30.0, 110.0, 50.0), (90.0, 90.0, 110.0, 110.0)]
    words = [word.text for word in words_of(things, boxes)]
    rows = [row for row, _ in word_cells(words)]
    assert rows == [0] * 5 + [1] * 6 + [2] * 5
    assert max(column for _, column in word_cells(["a"] * 20)) < MOST_IN_ROW
