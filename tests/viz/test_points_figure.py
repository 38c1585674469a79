"""Encoder self-attention of given points: the token that contains a point, and what it attends to."""

import numpy as np
import pytest
import torch
from PIL import Image
from test_attention_figure import padding_of, whole_spans

from detr_lite.structures import AttentionMaps, Batch, DetrLiteError
from detr_lite.viz.figures.points import point_token, points_figure, token_box
from tests.helpers.figure_checks import assert_legible, panels_of

SIZE = (400, 300)


def encoder_maps(layers=2, heads=2, grid=(3, 4), finer=(), is_padding=None, spans=None):
    """Token t attends, in layer l with head h, to token t + 1 + l * heads + h (modulo the tokens) alone."""
    tokens = grid[0] * grid[1]
    encoder = torch.zeros(layers, 1, heads, tokens, tokens)
    for layer in range(layers):
        for head in range(heads):
            for token in range(tokens):
                encoder[layer, 0, head, token, (token + 1 + layer * heads + head) % tokens] = 1
    grids = (*finer, grid)
    everything = sum(height * width for height, width in grids)
    if is_padding is None:
        is_padding = torch.zeros(1, everything, dtype=torch.bool)
    return AttentionMaps(
        cross=torch.zeros(0, 1, heads, 1, everything),
        queries=torch.zeros(0, 1, heads, 1, 1),
        encoder=encoder,
        grids=grids,
        encoder_grids=(grid,),
        is_padding=is_padding,
        spans=whole_spans(grids, is_padding) if spans is None else torch.tensor([spans]),
    )


def brightest(axes, grid):
    picture = np.asarray(axes.images[0].get_array()).astype(int).sum(axis=2)
    y, x = np.unravel_index(picture.argmax(), picture.shape)
    return int(y * grid[0] // picture.shape[0]), int(x * grid[1] // picture.shape[1])


@pytest.mark.parametrize(
    ("point", "token"),
    [((0, 0), (0, 0)), ((99.9, 99.9), (0, 0)), ((100, 99), (0, 1)), ((250, 150), (1, 2)), ((400, 300), (2, 3))],
)
def test_the_token_that_contains_a_point(point, token):
    assert point_token(point, SIZE, encoder_maps()) == token
    assert point_token(point, SIZE, encoder_maps(finer=((12, 16), (6, 8)))) == token


def test_padding_is_not_part_of_the_image():
    """The image covers 2 of 3 rows and 3 of 4 columns, so that its middle lies in column 1, not 2."""
    is_padding = torch.cat([padding_of((6, 8), 4, 6), padding_of((3, 4), 2, 3)])[None]
    maps = encoder_maps(finer=((6, 8),), is_padding=is_padding)
    assert point_token((200, 149), SIZE, maps) == (0, 1)
    assert point_token((200, 151), SIZE, maps) == (1, 1)
    assert point_token((400, 300), SIZE, maps) == (1, 2)
    figure = points_figure(Image.new("RGB", SIZE), [(10, 10)], maps)
    assert brightest(panels_of(figure)[1], (2, 3)) in ((0, 1), (0, 2)), "heads 0 and 1 attend to these"


def test_the_last_tokens_may_reach_beyond_the_image():
    """An image 2.5 tokens wide and 2.2 high: a token is 160 of its 400 pixels wide."""
    maps = encoder_maps(grid=(3, 3), spans=[[2.5, 2.2]])
    assert point_token((159, 0), SIZE, maps) == (0, 0)
    assert point_token((161, 0), SIZE, maps) == (0, 1)
    assert point_token((400, 300), SIZE, maps) == (2, 2)
    assert token_box((0, 1), SIZE, maps) == pytest.approx((160, 0, 320, 300 / 2.2))
    assert token_box((2, 2), SIZE, maps) == pytest.approx((320, 2 / 2.2 * 300, 400, 300))


def test_tokens_are_where_the_encoder_has_them():
    """The encoder's centers of tokens, in a batch of two images of which the first is padded."""
    from detr_lite.model.encoder import _token_geometry

    batch = Batch.from_images([torch.zeros(3, 50, 90), torch.zeros(3, 100, 120)])
    geometry = _token_geometry(batch.is_padding, (7, 8), 16, is_original=False)
    maps = AttentionMaps(
        cross=torch.zeros(0, 2, 1, 1, 56),
        queries=torch.zeros(0, 2, 1, 1, 1),
        encoder=torch.zeros(1, 2, 1, 56, 56),
        grids=((7, 8),),
        encoder_grids=((7, 8),),
        is_padding=geometry.is_padding.flatten(1),
        spans=geometry.span[:, None],
    )
    for index, size in ((0, (900, 500)), (1, (120, 100))):
        checked = 0
        for row, column in (~geometry.is_padding[index]).nonzero().tolist():
            x, y = (geometry.centers[index, row, column] * torch.tensor(size)).tolist()
            if x < size[0] and y < size[1]:  # the last tokens' centers may be outside the image
                assert point_token((x, y), size, maps, index) == (row, column)
                x0, y0, x1, y1 = token_box((row, column), size, maps, index)
                assert x0 < x < x1
                assert y0 < y < y1
                checked += 1
        assert checked >= 15


def test_each_panel_shows_the_tokens_attention_in_its_layer():
    image = Image.new("RGB", SIZE)
    figure = points_figure(image, [(250, 150), (10, 10)], encoder_maps(heads=1))
    panels = panels_of(figure)
    assert [axes.get_title() for axes in panels] == [
        "point 250, 150\nrow 1, column 2",
        *("layer 0\npeak 100.0%", "layer 1\npeak 100.0%"),
        "point 10, 10\nrow 0, column 0",
        *("layer 0\npeak 100.0%", "layer 1\npeak 100.0%"),
    ]
    peaks = [brightest(panels[number], (3, 4)) for number in (1, 2, 4, 5)]
    assert peaks == [(1, 3), (2, 0), (0, 1), (0, 2)]
    for number, point in ((0, (250, 150)), (2, (250, 150)), (5, (10, 10))):
        assert panels[number].lines[0].get_xydata().tolist() == [list(point)]
    assert panels[0].patches[0].get_bbox().extents.tolist() == [200, 100, 300, 200]


@pytest.mark.parametrize(
    ("heads", "titles", "tokens"),
    [
        ([1], ["head 1"], [(0, 2)]),
        ([1, 0], ["head 1", "head 0"], [(0, 2), (0, 1)]),
        ("all", ["mean of heads", "head 0", "head 1"], [None, (0, 1), (0, 2)]),
    ],
)
def test_selected_heads(heads, titles, tokens):
    panels = panels_of(points_figure(Image.new("RGB", SIZE), [(10, 10)], encoder_maps(), heads=heads))
    row = 1 + len(titles)
    assert len(panels) == 2 * row, "a row for each layer"
    assert [axes.get_title().split("\n")[1] for axes in panels[::row]] == ["encoder layer 0", "encoder layer 1"]
    assert [axes.get_title().split("\n")[0] for axes in panels[1:row]] == titles
    for axes, token in zip(panels[1:row], tokens, strict=True):
        assert token is None or brightest(axes, (3, 4)) == token


def test_the_mean_of_heads_is_their_mean():
    panels = panels_of(points_figure(Image.new("RGB", SIZE), [(10, 10)], encoder_maps()))
    assert panels[1].get_title() == "layer 0\npeak 50.0%", "two heads, each with all its weight at another token"


@pytest.mark.parametrize("size", [(400, 300), (1200, 300), (300, 1200), (4000, 3000)])
@pytest.mark.parametrize(("layers", "heads"), [(1, "mean"), (6, "mean"), (8, "mean"), (2, "all")])
@pytest.mark.slow
def test_legible_and_without_overlaps(size, layers, heads):
    points = [(0, 0), (size[0], size[1])]
    figure = points_figure(Image.new("RGB", size), points, encoder_maps(layers=layers), heads=heads, note="a note")
    assert_legible(figure)


def test_one_token_and_no_points():
    image = Image.new("RGB", SIZE)
    assert len(panels_of(points_figure(image, [(1, 1)], encoder_maps(grid=(1, 1))))) == 3
    assert points_figure(image, [], encoder_maps()).axes[0].get_title() == "no points"


@pytest.mark.parametrize("point", [(401, 0), (0, 301), (-1, 0), (float("nan"), 0)])
def test_a_point_outside_the_image(point):
    with pytest.raises(DetrLiteError, match="lies outside the image of 400 x 300 pixels; give x from 0 to 400"):
        points_figure(Image.new("RGB", SIZE), [point], encoder_maps())


def test_layers_and_heads_that_do_not_exist():
    with pytest.raises(DetrLiteError, match="has no encoder layers"):
        points_figure(Image.new("RGB", SIZE), [(1, 1)], encoder_maps(layers=0))
    with pytest.raises(DetrLiteError, match="there is no head 2; this model has 0, 1"):
        points_figure(Image.new("RGB", SIZE), [(1, 1)], encoder_maps(), heads=[2])
