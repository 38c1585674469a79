import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from detr_lite.structures import AttentionMaps, Detections, DetrLiteError
from detr_lite.viz.figures.attention import attention_figure, overlay, token_heatmap

NAMES = ("cup", "plate")


def attention_maps(cross, grids, is_padding=None):
    layers, batch, heads, queries, tokens = cross.shape
    if is_padding is None:
        is_padding = torch.zeros(batch, tokens, dtype=torch.bool)
    return AttentionMaps(
        cross=cross,
        queries=torch.zeros(layers, batch, heads, queries, queries),
        encoder=torch.zeros(0, batch, heads, tokens, tokens),
        grids=grids,
        encoder_grids=grids,
        is_padding=is_padding,
        spans=whole_spans(grids, is_padding),
    )


def whole_spans(grids, is_padding):
    """Of images that cover whole tokens."""
    spans = []
    for padding, grid in zip(is_padding.split([height * width for height, width in grids], dim=1), grids, strict=True):
        is_image = ~padding.view(-1, *grid)
        spans.append(torch.stack([is_image.any(1).sum(1), is_image.any(2).sum(1)], dim=1))
    return torch.stack(spans, dim=1).float()


def heatmap_of(weights, grids, is_padding=None, spans=None):
    """`token_heatmap` of one image's weights."""
    maps = attention_maps(weights.view(1, 1, 1, 1, -1), grids, None if is_padding is None else is_padding[None])
    return token_heatmap(weights, maps if spans is None else replace(maps, spans=torch.tensor([spans])))


def detections(count, queries=None):
    boxes_xyxy = torch.tensor([[10.0, 10.0, 50.0, 40.0]]).repeat(count, 1)
    queries = torch.arange(count) if queries is None else torch.tensor(queries)
    return Detections(boxes_xyxy, torch.linspace(0.9, 0.5, count), torch.arange(count) % 2, queries, NAMES)


def padding_of(grid, height, width):
    """Padding at the right and at the bottom of a (height width) image."""
    is_padding = torch.ones(grid, dtype=torch.bool)
    is_padding[:height, :width] = False
    return is_padding.flatten()


def test_one_level_is_its_grid():
    weights = torch.arange(6.0) / 15
    np.testing.assert_allclose(heatmap_of(weights, ((2, 3),)), weights.view(2, 3).numpy())


def test_padding_is_cut_off():
    heat = heatmap_of(torch.arange(12.0), ((3, 4),), padding_of((3, 4), 2, 3))
    np.testing.assert_array_equal(heat, [[0, 1, 2], [4, 5, 6]])


@pytest.mark.parametrize("order", [1, -1])
def test_levels_are_added_at_the_finest_and_no_weight_is_lost(order):
    fine, coarse = torch.zeros(8, 8), torch.zeros(4, 4)
    fine[1, 1], coarse[2, 1] = 0.25, 0.75
    levels = [fine, coarse][::order]
    paddings = [padding_of((8, 8), 6, 4), padding_of((4, 4), 3, 2)][::order]
    grids = tuple(tuple(level.shape) for level in levels)
    heat = heatmap_of(torch.cat([level.flatten() for level in levels]), grids, torch.cat(paddings))
    assert heat.shape == (6, 4)
    assert heat.sum() == pytest.approx(1)
    assert heat[1, 1] == pytest.approx(0.25)
    # The coarse token covers rows 4 to 5 and columns 2 to 3; bilinear resizing spreads a part to its neighbours.
    coarse_part = heat.copy()
    coarse_part[1, 1] = 0
    assert coarse_part[4:6, 2:4].sum() > 0.4
    assert coarse_part[4:6, 2:4].min() >= coarse_part.max() / 2
    assert coarse_part[:3].max() == 0


def test_half_precision_and_no_attention_at_all():
    heat = heatmap_of(torch.zeros(8).bfloat16(), ((2, 2), (2, 2)))
    assert heat.dtype == np.float32
    np.testing.assert_array_equal(heat, np.zeros((2, 2)))


def test_the_heatmap_is_where_the_weight_is():
    heat = np.zeros((4, 8), np.float32)
    heat[1, 6] = 0.2
    image = Image.new("RGB", (160, 80), (200, 60, 60))
    pixels = np.asarray(overlay(image, heat)).astype(int)
    assert pixels.shape == (80, 160, 3)
    # Inferno's peak is a pale yellow; where nothing is, the image is grey and dim.
    red, _, blue = pixels[30, 130]
    assert red > 220
    assert red > blue + 40
    far = pixels[:, :108]  # bicubic smoothing undershoots beyond a peak's neighbours: not to be seen
    assert np.abs(far - far[0, 0, 0]).max() < 8
    assert 40 < far[0, 0, 0] < 80
    brightest = np.unravel_index(pixels.sum(axis=2).argmax(), (80, 160))
    assert 20 <= brightest[0] < 40
    assert 120 <= brightest[1] < 140


def test_large_images_are_reduced_and_their_shape_kept():
    assert overlay(Image.new("RGB", (4000, 1000)), np.ones((2, 8), np.float32)).size == (384, 96)


def test_panels_show_the_query_of_the_detection_in_the_last_layer():
    grid = (4, 6)
    cross = torch.rand(2, 3, 2, 9, 24) * 1e-3
    is_padding = torch.stack([torch.zeros(24, dtype=torch.bool), padding_of(grid, 4, 3), padding_of(grid, 2, 6)])
    cross[-1, 1, 0, 5] = torch.nn.functional.one_hot(torch.tensor(0), 24)  # head 0: top left
    cross[-1, 1, 1, 5] = 0.5 * torch.nn.functional.one_hot(torch.tensor(20), 24)  # head 1: bottom right
    image = Image.new("RGB", (300, 400))
    figure = attention_figure(image, detections(1, queries=[5]), attention_maps(cross, (grid,), is_padding), index=1)

    panels = [axes for axes in figure.axes if axes.images]
    titles = [axes.get_title() for axes in panels]
    assert titles == ["cup 0.90\nquery 5", "mean of heads\npeak 50.0%", "head 0\npeak 100.0%", "head 1\npeak 50.0%"]
    heights, widths = [], []
    for axes in panels[2:]:
        assert axes.images[0].get_extent() == [0, 300, 400, 0], "in pixels of the image"
        picture = np.asarray(axes.images[0].get_array()).astype(int)
        peak = np.unravel_index(picture.sum(axis=2).argmax(), picture.shape[:2])
        heights.append(peak[0] / picture.shape[0])
        widths.append(peak[1] / picture.shape[1])
    assert heights[0] < 0.25
    assert widths[0] < 1 / 3
    assert heights[1] > 0.75
    assert widths[1] > 2 / 3, "three of six columns are padding, so column 2 is the image's right edge"
    assert all(axes.patches[0].get_bbox().bounds == (10, 10, 40, 30) for axes in panels)


@pytest.mark.parametrize("found", [0, 1, 7])
@pytest.mark.parametrize("heads", [1, 4, 8])
@pytest.mark.slow
def test_any_number_of_detections_and_heads(found, heads):
    maps = attention_maps(torch.rand(1, 1, heads, 10, 20).softmax(-1), ((4, 4), (2, 2)))
    figure = attention_figure(Image.new("L", (90, 60)), detections(found), maps, max_detections=2)
    panels = [axes for axes in figure.axes if axes.images]
    assert len(panels) == (min(found, 2) * (2 + heads) if found else 1)
    assert {f"head {head}" for head in range(heads)} <= {
        axes.get_title().split("\n")[0] for axes in panels
    } or not found

    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=50)
    with Image.open(file) as picture:
        assert np.asarray(picture.convert("L")).std() > 5
    boxes = [axes.get_position() for axes in figure.axes]
    for index, first in enumerate(boxes):
        assert 0 <= first.x0 < first.x1 <= 1
        assert 0 <= first.y0 < first.y1 <= 1
        assert not any(first.overlaps(second) for second in boxes[index + 1 :])


def test_classes_without_names():
    maps = attention_maps(torch.full((1, 1, 1, 1, 4), 0.25), ((2, 2),))
    found = Detections(torch.tensor([[0.0, 0.0, 9.0, 9.0]]), torch.ones(1), torch.tensor([3]), torch.tensor([0]))
    figure = attention_figure(Image.new("RGB", (10, 10)), found, maps)
    assert figure.axes[0].get_title() == "class 3 1.00\nquery 0"


def test_the_heatmap_is_where_the_token_is_when_the_last_tokens_reach_beyond_the_image():
    """An image two and a half tokens wide: the second token's middle is at 1.5 / 2.5 of it, not at 1 / 2."""
    image = Image.new("RGB", (250, 100))
    heat = np.array([[0.0, 1.0, 0.0]], dtype=np.float32)
    for span, middle in (((2.5, 1.0), 150), ((3.0, 1.0), 125)):
        bright = np.asarray(overlay(image, heat, span)).sum(axis=(0, 2))
        assert abs(int(bright.argmax()) - middle) <= 6


def marked_maps(layers, heads):
    """Layer l and head h attend to token l * heads + h alone."""
    cross = torch.zeros(layers, 1, heads, 2, 64)
    for layer in range(layers):
        for head in range(heads):
            cross[layer, 0, head, :, layer * heads + head] = 1
    return attention_maps(cross, ((8, 8),))


def brightest(axes):
    """The token where a panel is brightest."""
    picture = np.asarray(axes.images[0].get_array()).astype(int).sum(axis=2)
    y, x = np.unravel_index(picture.argmax(), picture.shape)
    return int(y * 8 // picture.shape[0]) * 8 + int(x * 8 // picture.shape[1])


@pytest.mark.parametrize(
    ("layer", "heads", "titles", "tokens"),
    [
        (None, [0, 3], ["head 0", "head 3"], [16, 19]),
        (2, [0], ["head 0"], [16]),
        (0, [1], ["head 1"], [1]),
        (1, [7, 2], ["head 7", "head 2"], [15, 10]),
        (1, "all", ["mean of heads", *(f"head {head}" for head in range(8))], [None, *range(8, 16)]),
        (1, "mean", ["mean of heads"], [None]),
    ],
)
def test_the_selected_layer_and_heads(layer, heads, titles, tokens):
    image = Image.new("RGB", (160, 160))
    figure = attention_figure(image, detections(2), marked_maps(3, 8), layer=layer, heads=heads)
    first = [axes for axes in figure.axes if axes.images][1 : 1 + len(titles)]
    assert [axes.get_title().split("\n")[0] for axes in first] == titles
    for axes, token in zip(first, tokens, strict=True):
        assert token is None or brightest(axes) == token
    which = "the last decoder layer" if layer in (None, 2) else f"decoder layer {layer} (of 0 to 2)"
    assert figure.get_suptitle() == f"Cross-attention of {which}\nboxes of layer 2, the last"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": 3}, "there is no decoder layer 3; this model has 0, 1, 2"),
        ({"layer": -1}, "there is no decoder layer -1; this model has 0, 1, 2"),
        ({"heads": [0, 2]}, "there is no head 2; this model has 0, 1"),
    ],
)
@pytest.mark.parametrize("found", [0, 1])
def test_a_layer_or_head_that_does_not_exist(options, message, found):
    with pytest.raises(DetrLiteError, match=f"^{message}$"):
        attention_figure(Image.new("RGB", (9, 9)), detections(found), marked_maps(3, 2), **options)


@pytest.mark.slow
def test_all_detections_may_be_shown():
    maps = attention_maps(torch.rand(1, 1, 1, 20, 4).softmax(-1), ((2, 2),))
    figure = attention_figure(Image.new("RGB", (9, 9)), detections(20), maps, max_detections=None)
    assert len([axes for axes in figure.axes if axes.images]) == 20 * 3


@pytest.mark.parametrize("heads", ["mean", [0]])
@pytest.mark.parametrize("size", [(20, 400), (400, 20), (50, 50)])
def test_title_and_note_fit_whatever_the_image(heads, size):
    maps = attention_maps(torch.rand(1, 1, 2, 3, 4).softmax(-1), ((2, 2),))
    found = detections(1)
    figure = attention_figure(
        Image.new("RGB", size), found, maps, heads=heads, note="a note of some length, shown here"
    )
    figure.canvas.draw()
    title = figure._suptitle.get_window_extent()
    assert "a note" in figure.get_suptitle()
    assert title.x0 >= 0
    assert title.x1 <= figure.bbox.width
    assert figure.get_figwidth() < 8
    assert figure.get_figheight() < 10
    panel = figure.axes[0]
    assert panel.title.get_window_extent().y1 <= title.y0


@pytest.mark.parametrize(("width", "ratio"), [(161, 4), (33, 4), (129, 4), (40, 2)])
def test_the_heatmap_of_a_coarse_token_is_where_the_token_is(width, ratio):
    """Grids of strides 8 and 8 * ratio; all weight on the last coarse token, which reaches beyond the image."""
    fine, coarse = -(-width // 8), -(-width // (8 * ratio))
    weights = torch.zeros(fine + coarse)
    weights[-1] = 1.0
    spans = [[width / 8, 1.0], [width / 8 / ratio, 1.0]]
    heat = heatmap_of(weights, ((1, fine), (1, coarse)), spans=spans)
    assert heat.sum() == pytest.approx(1.0)
    assert heat[0].argmax() >= (coarse - 1) * ratio
    assert heat[0, : max(0, (coarse - 2) * ratio)].sum() == pytest.approx(0.0, abs=1e-6)


def test_a_part_of_the_image_around_a_small_object():
    image = Image.new("RGB", (1000, 500), (90, 120, 200))
    found = replace(
        detections(2), boxes_xyxy=torch.tensor([[880.0, 140.0, 900.0, 170.0], [100.0, 100.0, 400.0, 300.0]])
    )
    cross = torch.zeros(1, 1, 1, 2, 50)
    cross[..., 0, 18] = cross[..., 1, 18] = 1  # the token at x 800 to 900, y 100 to 200
    figure = attention_figure(image, found, attention_maps(cross, ((5, 10),)))
    panels = [axes for axes in figure.axes if axes.images]
    titles = [axes.get_title().split("\n") for axes in panels]
    whole, part, other = panels[:3], panels[3:6], panels[6:]
    assert len(other) == 3, "none for a large object"
    assert titles[3] == ["cup 0.90", "part of the image"]
    assert [title[0] for title in titles[3:6]] == ["cup 0.90", "mean of heads", "head 0"]
    for axes in part:
        assert axes.get_xlim() == (700, 1000)
        assert axes.get_ylim() == (230, 80)
        assert axes.patches[0].get_bbox().bounds == (880, 140, 20, 30)
    assert whole[0].patches[1].get_bbox().bounds == (700, 80, 300, 150), "outlined"
    assert len(whole[1].patches) == len(other[0].patches) == 1
    heat = np.asarray(part[2].images[0].get_array()).astype(int).sum(axis=2)
    y, x = np.argwhere(heat == heat.max()).mean(axis=0)
    assert 700 + 300 * x / heat.shape[1] == pytest.approx(850, abs=12)
    assert 80 + 150 * y / heat.shape[0] == pytest.approx(150, abs=12)
    assert "dotted" in figure.axes[-1].get_xlabel()


def test_a_part_of_a_heatmap_is_that_part_of_the_whole():
    heat = torch.rand(6, 8, generator=torch.Generator().manual_seed(0)).numpy()
    image, window = Image.new("RGB", (384, 288), (80, 80, 80)), (96, 72, 288, 216)
    whole = np.asarray(overlay(image, heat, (7.5, 5.5)).crop(window).resize((384, 288))).astype(int)
    part = np.asarray(overlay(image, heat, (7.5, 5.5), window)).astype(int)
    assert np.abs(whole - part).mean() < 3


def test_guesses_are_dashed_and_called_so():
    maps = marked_maps(1, 1)
    found, guess = (
        attention_figure(Image.new("RGB", (60, 60)), detections(1), maps, below=each) for each in (None, 0.5)
    )
    assert "guess" not in found.get_suptitle()
    assert guess.get_suptitle().endswith("\nbest guesses, below the threshold 0.50")
    assert {axes.patches[0].get_linestyle() for axes in found.axes if axes.images} == {"solid"}
    assert all(axes.patches[0].get_linestyle() != "solid" for axes in guess.axes if axes.images)
