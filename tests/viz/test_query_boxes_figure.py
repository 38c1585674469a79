"""The boxes that each query predicts on many images."""

import pytest
import torch

from detr_lite.structures import DetrLiteError
from detr_lite.viz.figures.query_boxes import BOX_KINDS, QueryBoxes, box_kinds, query_boxes_figure
from tests.helpers.figure_checks import assert_legible

SMALL, WIDE, TALL = range(3)


@pytest.mark.parametrize(
    ("size", "image_size", "kind"),
    [
        ((0.1, 0.1), (100, 100), SMALL),
        ((0.9, 0.04), (100, 100), SMALL),
        ((0.25, 0.2), (100, 100), WIDE),
        ((0.5, 0.5), (100, 100), WIDE),
        ((0.4, 0.5), (100, 100), TALL),
        ((0.4, 0.5), (200, 100), WIDE),  # 80 x 50 pixels
        ((0.0, 0.0), (100, 100), SMALL),
    ],
)
def test_kinds_of_boxes(size, image_size, kind):
    assert box_kinds(torch.tensor([[0.5, 0.5, *size]]), image_size).tolist() == [kind]


def random_boxes(images, queries=5):
    query_boxes = QueryBoxes()
    given = torch.rand(images, queries, 4, generator=torch.Generator().manual_seed(1))
    for number, boxes_cxcywh in enumerate(given):
        query_boxes.add(boxes_cxcywh, (640, 480), torch.tensor([3, 3, 1] if number else [3]))
    return query_boxes, given


def points_in(axes):
    """The drawn centers of each kind, by color."""
    return {
        tuple(drawn.get_facecolor()[0, :3].round(3)): drawn.get_offsets()
        for drawn in axes.collections
        if len(drawn.get_offsets())
    }


@pytest.mark.parametrize("images", [1, 7])
def test_every_box_is_drawn_once_at_its_center_in_the_color_of_its_kind(images):
    from matplotlib.colors import to_rgb

    query_boxes, given = random_boxes(images)
    figure = query_boxes_figure(query_boxes, queries=[4, 0])
    for axes, query in zip(figure.axes, [4, 0], strict=True):
        drawn = points_in(axes)
        kinds = box_kinds(given[:, query], (640, 480))
        assert sum(map(len, drawn.values())) == images
        for number, kind in enumerate(BOX_KINDS):
            expected = given[kinds == number, query, :2]
            color = tuple(round(channel, 3) for channel in to_rgb(kind.color))
            if len(expected):
                assert torch.allclose(torch.tensor(drawn[color].data).float(), expected)
            else:
                assert color not in drawn


def test_the_queries_with_most_detections_come_first():
    query_boxes, _ = random_boxes(7)
    assert query_boxes.counts().tolist() == [0, 6, 0, 7, 0], "two detections of a query in an image count once"
    figure = query_boxes_figure(query_boxes, max_queries=3, note="detection: score of at least 0.5")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["query 3: 7 images", "query 1: 6 images", "query 0: 0 images"]
    assert figure.get_suptitle().startswith("Centers of all boxes of 3 of 5 queries on 7 images\n")
    assert figure.get_suptitle().endswith("; detection: score of at least 0.5")


def test_the_legend_names_the_kinds():
    query_boxes, _ = random_boxes(2)
    (legend,) = query_boxes_figure(query_boxes).legends
    assert [text.get_text() for text in legend.get_texts()] == [kind.rule for kind in BOX_KINDS]


def test_colors_and_markers_differ():
    assert len({kind.marker for kind in BOX_KINDS}) == len({kind.color for kind in BOX_KINDS}) == 3


@pytest.mark.parametrize("queries", [1, 5, 30])
@pytest.mark.slow
def test_legible_and_without_overlaps(queries):
    query_boxes = QueryBoxes()
    for _ in range(120):
        query_boxes.add(torch.rand(queries, 4), (64, 48), torch.arange(queries))
    figure = query_boxes_figure(query_boxes, note="detection: score of at least 0.5")
    assert len(figure.axes) == min(queries, 20)
    assert_legible(figure)


def test_memory_is_25_bytes_a_box():
    query_boxes, _ = random_boxes(1000, queries=100)
    size = sum(tensor.numel() * tensor.element_size() for tensors in vars(query_boxes).values() for tensor in tensors)
    assert size <= 1000 * 100 * 25, "25 bytes a box"


def test_wrong_use():
    with pytest.raises(DetrLiteError, match="no image was added"):
        query_boxes_figure(QueryBoxes())
    with pytest.raises(DetrLiteError, match="there is no query 5; this model has 5, counted from 0"):
        query_boxes_figure(random_boxes(1)[0], queries=[5])
