"""Cross-attention of one query, layer by layer."""

import pytest
import torch
from PIL import Image
from test_attention_figure import attention_maps, brightest, detections, marked_maps

from detr_lite.structures import DetrLiteError
from detr_lite.viz.figures.layers import layers_figure
from tests.helpers.figure_checks import assert_legible, panels_of

IMAGE = Image.new("RGB", (160, 80))


def test_each_row_is_a_layer_and_each_panel_a_head():
    panels = panels_of(layers_figure(IMAGE, detections(2), marked_maps(3, 4)))
    assert len(panels) == 3 * (2 + 4)
    for layer in range(3):
        row = panels[layer * 6 : layer * 6 + 6]
        titles = [axes.get_title().split("\n")[0] for axes in row]
        assert titles[1:] == ["mean", *(f"head {head}" for head in range(4))]
        assert [brightest(axes) for axes in row[2:]] == [layer * 4 + head for head in range(4)]
        assert [axes.get_title().split("\n")[1] for axes in row[1:]] == ["peak 25.0%", *["peak 100.0%"] * 4]


def test_each_row_shows_the_box_after_its_layer():
    boxes_cxcywh = torch.rand(2, 3, 5, 4)
    boxes_cxcywh[0, 1, 4] = torch.tensor([0.5, 0.5, 0.5, 0.25])
    boxes_cxcywh[1, 1, 4] = torch.tensor([0.25, 0.75, 0.25, 0.5])
    maps = attention_maps(torch.rand(2, 3, 1, 5, 8).softmax(-1), ((2, 4),))
    figure = layers_figure(IMAGE, detections(1, queries=[4]), maps, index=1, boxes_cxcywh=boxes_cxcywh)
    labels = [text.get_text() for text in figure.texts if text.get_text().startswith("layer")]
    assert labels == [
        "layer 0\nbox (pixels)\nx 40 to 120\ny 30 to 50",
        "layer 1\nbox (pixels)\nx 20 to 60\ny 40 to 80",
    ]
    bounds = [axes.patches[0].get_bbox().bounds for axes in panels_of(figure)]
    assert bounds == [(40, 30, 80, 20)] * 3 + [(20, 40, 40, 40)] * 3
    assert "prediction after each layer" in figure.get_suptitle()


def test_without_boxes_all_rows_show_the_final_one():
    figure = layers_figure(IMAGE, detections(2), marked_maps(2, 2), number=1, heads=[1])
    assert {axes.patches[0].get_bbox().bounds for axes in panels_of(figure)} == {(10, 10, 40, 30)}
    assert figure.get_suptitle() == "Cross-attention of query 1, layer by layer\nplate 0.50\nboxes of layer 1, the last"
    assert [axes.get_title().split("\n")[0] for axes in panels_of(figure)] == ["image", "head 1"] * 2


@pytest.mark.parametrize("size", [(160, 160), (1200, 300), (300, 1200)])
@pytest.mark.parametrize("heads", [1, 8, 12])
@pytest.mark.slow
def test_legible_and_without_overlaps(size, heads):
    maps = attention_maps(torch.rand(2, 1, heads, 3, 16).softmax(-1), ((4, 4),))
    boxes_cxcywh = torch.full((2, 1, 3, 4), 0.5)
    figure = layers_figure(Image.new("RGB", size), detections(1), maps, boxes_cxcywh=boxes_cxcywh, note="a note")
    is_small = max(size) > 500
    assert len(panels_of(figure)) == 2 * (2 + heads) * (2 if is_small else 1), "whole, and the part around it"
    assert_legible(figure)


def test_no_detections():
    assert layers_figure(IMAGE, detections(0), marked_maps(1, 1)).axes[0].get_title() == "no detections"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"number": 2}, "there is no detection 2; there are 2, counted from 0"),
        ({"number": -1}, "there is no detection -1"),
        ({"heads": [2]}, "there is no head 2; this model has 0, 1"),
    ],
)
def test_detections_and_heads_that_do_not_exist(options, message):
    with pytest.raises(DetrLiteError, match=message):
        layers_figure(IMAGE, detections(2), marked_maps(3, 2), **options)
