"""Attention metrics: computed by hand, and against a slow loop over pixels."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from detr_lite.evaluation.attention_metrics import BAND, MEASURES, AttentionMeter, AttentionMetrics, token_patches
from detr_lite.structures import AttentionMaps


def maps_of(
    cross: Tensor,
    grids: tuple[tuple[int, int], ...],
    spans: list[list[list[float]]] | None = None,
    is_padding: Tensor | None = None,
) -> AttentionMaps:
    """`cross` is (layer batch head query token). By default the images fill the grids."""
    layers, batch, heads, queries, tokens = cross.shape
    if spans is None:
        spans = [[[float(width), float(height)] for height, width in grids]] * batch
    return AttentionMaps(
        cross=cross,
        queries=torch.zeros(layers, batch, heads, queries, queries),
        encoder=torch.zeros(0, batch, heads, 1, 1),
        grids=grids,
        encoder_grids=grids[-1:],
        is_padding=torch.zeros(batch, tokens, dtype=torch.bool) if is_padding is None else is_padding,
        spans=torch.tensor(spans),
    )


def measured(
    maps: AttentionMaps, boxes_xyxy: list[list[float]], image: list[int] | None = None, query: list[int] | None = None
) -> AttentionMetrics:
    """By default the first image's queries are matched to the boxes in order."""
    x0, y0, x1, y1 = torch.tensor(boxes_xyxy).reshape(-1, 4).unbind(1)
    boxes_cxcywh = torch.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], dim=1)
    image = [0] * len(boxes_xyxy) if image is None else image
    query = list(range(len(boxes_xyxy))) if query is None else query
    meter = AttentionMeter()
    meter.update(maps, torch.tensor(image, dtype=torch.long), torch.tensor(query, dtype=torch.long), boxes_cxcywh)
    return meter.compute()


def row(*weights: float) -> Tensor:
    """One layer, image, head and query."""
    return torch.tensor(weights).view(1, 1, 1, 1, -1)


def test_metrics_computed_by_hand() -> None:
    """Two by two tokens; a box over the left quarter has half of the two left ones."""
    metrics = measured(maps_of(row(0.4, 0.3, 0.2, 0.1), ((2, 2),)), [[0, 0, 0.25, 1]])
    assert metrics.objects == 1
    assert metrics.box_area == pytest.approx(0.25)
    assert metrics.inside[0, 0].item() == pytest.approx(0.4 / 2 + 0.2 / 2)
    assert metrics.pointing[0, 0].item() == 1  # the first token's center, (0.25, 0.25), is on the box's edge
    entropy = -(0.4 * math.log(0.4) + 0.3 * math.log(0.3) + 0.2 * math.log(0.2) + 0.1 * math.log(0.1))
    assert metrics.entropy[0, 0].item() == pytest.approx(entropy)
    assert metrics.entropy_share[0, 0].item() == pytest.approx(entropy / math.log(4))
    assert metrics.even_entropy == pytest.approx(math.log(4))


def test_the_band_around_the_edges_computed_by_hand() -> None:
    """The box is the middle square of 0.4; its band goes from 0.25 to 0.75 outside and from 0.35 to 0.65 within."""
    assert BAND == 0.25
    cross = torch.zeros(1, 1, 1, 1, 400)
    cross[..., 10 * 20 + 10] = 0.5  # the center: in the box, not in the band
    cross[..., 10 * 20 + 5] = 0.3  # from 0.25 to 0.3 at the left: in the band, not in the box
    cross[..., 10 * 20 + 6] = 0.15  # in both
    cross[..., 0] = 0.05
    metrics = measured(maps_of(cross, ((20, 20),)), [[0.3, 0.3, 0.7, 0.7]])
    assert metrics.near_edges[0, 0].item() == pytest.approx(0.3 + 0.15, abs=1e-6)
    assert metrics.inside[0, 0].item() == pytest.approx(0.5 + 0.15, abs=1e-6)
    assert metrics.edges_area == pytest.approx(0.5**2 - 0.3**2)


def test_the_mean_over_heads_comes_last() -> None:
    """Shares are the mean of the heads' shares; entropy and peak are those of the averaged attention."""
    cross = torch.tensor([[0.0, 0.0, 0.4, 0.6], [0.6, 0.0, 0.4, 0.0]]).view(1, 1, 2, 1, 4)
    metrics = measured(maps_of(cross, ((1, 4),)), [[0.5, 0, 0.75, 1]])
    assert metrics.inside.shape == (1, 3)
    assert metrics.inside[0].tolist() == pytest.approx([0.4, 0.4, 0.4])
    assert metrics.pointing[0].tolist() == [0, 0, 1]
    entropy = -(2 * 0.3 * math.log(0.3) + 0.4 * math.log(0.4))
    assert metrics.entropy[0, 2].item() == pytest.approx(entropy)


def test_the_peak_is_of_attention_per_area_summed_over_levels() -> None:
    """Four fine tokens cover the same area as one coarse token, so the same weight on a fine one is denser."""
    fine = [0.1, 0.1, 0.1, 0.2]
    metrics = measured(maps_of(row(*fine, 0.5), ((2, 2), (1, 1))), [[0.5, 0.5, 1, 1], [0, 0, 0.5, 0.5]], query=[0, 0])
    assert metrics.pointing[0, 0].item() == 0.5
    # The finest level alone has its maximum at its first token.
    cross = row(0.3, 0.1, 0.25, 0.0, 0.05, 0.3)
    both = maps_of(cross, ((1, 4), (1, 2)))
    assert measured(both, [[0.5, 0, 0.75, 1]]).pointing[0, 0].item() == 1


def test_a_patch_that_extends_beyond_the_image_is_clipped() -> None:
    """An image of 1.5 tokens: the second token's patch is the last third."""
    maps = maps_of(row(0.5, 0.5, 0.0), ((1, 3),), [[[1.5, 1.0]]], torch.tensor([[False, False, True]]))
    third = 1 / 3
    torch.testing.assert_close(
        token_patches(maps)[0], torch.tensor([[0, 0, 2 * third, 1], [2 * third, 0, 1, 1], [1, 0, 1, 1]])
    )
    metrics = measured(maps, [[2 * third, 0, 1, 1]])
    assert metrics.inside[0, 0].item() == pytest.approx(0.5)
    assert metrics.pointing[0, 0].item() == 1
    assert metrics.even_entropy == pytest.approx(math.log(2))


def test_uniform_attention_has_the_area_of_each_region() -> None:
    sizes = torch.tensor([1.0, 1.0, 0.5] * 3 + [0.5, 0.5, 0.25])  # 2.5 x 3.5 tokens: patches that are cut are smaller
    maps = maps_of((sizes / sizes.sum()).view(1, 1, 1, 1, -1), ((4, 3),), [[[2.5, 3.5]]])
    metrics = measured(maps, [[0.13, 0.2, 0.61, 0.94]])
    assert metrics.inside[0, 0].item() == pytest.approx(metrics.box_area, abs=1e-6)
    assert metrics.near_edges[0, 0].item() == pytest.approx(metrics.edges_area, abs=1e-6)


def by_pixels(
    cross: np.ndarray, grids: list[tuple[int, int]], strides: list[int], size: tuple[int, int], box: tuple[int, ...]
) -> dict[str, float]:
    """The metrics of one row of weights, pixel by pixel; `size` is (width, height), `box` in pixels."""
    width, height = size
    heat = np.zeros((height, width))
    start = 0
    for (rows, columns), stride in zip(grids, strides, strict=True):
        for r in range(rows):
            for c in range(columns):
                pixels = [
                    (y, x)
                    for y in range(r * stride, min((r + 1) * stride, height))
                    for x in range(c * stride, min((c + 1) * stride, width))
                ]
                for y, x in pixels:
                    heat[y, x] += cross[start + r * columns + c] / len(pixels)
        start += rows * columns
    x0, y0, x1, y1 = box
    dx, dy = BAND / 2 * (x1 - x0), BAND / 2 * (y1 - y0)

    def total(a: float, b: float, c: float, d: float) -> float:
        return sum(heat[y, x] for y in range(height) for x in range(width) if a <= x + 0.5 < c and b <= y + 0.5 < d)

    # The maximum is a whole patch; its center is the mean of its pixels.
    top = np.argwhere(heat >= heat.max() * (1 - 1e-9)).mean(0) + 0.5
    return {
        "inside": total(x0, y0, x1, y1),
        "near_edges": total(x0 - dx, y0 - dy, x1 + dx, y1 + dy) - total(x0 + dx, y0 + dy, x1 - dx, y1 - dy),
        "pointing": float(x0 <= top[1] <= x1 and y0 <= top[0] <= y1),
        "entropy": -sum(w * math.log(w) for w in cross if w > 0),
    }


@pytest.mark.parametrize("seed", range(6))
def test_metrics_equal_a_loop_over_pixels(seed: int) -> None:
    """Two images of different sizes in a batch, padded right and below, two levels whose last patches are cut."""
    random = np.random.default_rng(seed)
    strides, padded, sizes = [4, 8], (44, 36), [(44, 28), (30, 36)]  # (width, height)
    grids = [(math.ceil(padded[1] / s), math.ceil(padded[0] / s)) for s in strides]
    tokens = sum(h * w for h, w in grids)
    cross = random.random((2, 2, 3, 5, tokens)) ** 8
    is_padding = np.zeros((2, tokens), dtype=bool)
    for image, (width, height) in enumerate(sizes):
        levels = [
            (np.arange(h)[:, None] * s >= height) | (np.arange(w) * s >= width)
            for (h, w), s in zip(grids, strides, strict=True)
        ]
        is_padding[image] = np.concatenate([level.ravel() for level in levels])
        cross[:, image, ..., is_padding[image]] = 0
    cross /= cross.sum(-1, keepdims=True)
    spans = [[[width / s, height / s] for s in strides] for width, height in sizes]
    maps = maps_of(torch.tensor(cross), tuple(grids), spans, torch.tensor(is_padding))

    # Sides are multiples of 8, so that the band's edges lie between pixels; no edge lies on a patch's center.
    boxes = [(4, 4, 20, 20), (12, 8, 44, 24), (1, 1, 25, 33), (7, 3, 15, 11)]
    image, query = [0, 0, 1, 1], [int(q) for q in random.integers(0, 5, 4)]
    relative = [[a / sizes[i][0], b / sizes[i][1], c / sizes[i][0], d / sizes[i][1]] for i, (a, b, c, d) in
                zip(image, boxes, strict=True)]  # fmt: skip
    metrics = measured(maps, relative, image, query)

    with_mean = np.concatenate([cross, cross.mean(2, keepdims=True)], axis=2)
    for layer in range(2):
        for head in range(4):
            each = [
                by_pixels(with_mean[layer, i, head, q], grids, strides, sizes[i], box)
                for i, q, box in zip(image, query, boxes, strict=True)
            ]
            for name in ("inside", "near_edges", "pointing", "entropy"):
                expected = sum(values[name] for values in each) / 4
                assert getattr(metrics, name)[layer, head].item() == pytest.approx(expected, abs=1e-5), (name, head)
    assert (metrics.pointing > 0).any()


def test_metrics_do_not_depend_on_how_images_are_batched() -> None:
    random = torch.Generator().manual_seed(1)
    cross = torch.rand(2, 3, 2, 40, 12, generator=random).softmax(-1)
    maps = maps_of(cross, ((3, 4),))
    count = 37  # more than one chunk
    image, query = torch.randint(0, 3, (count,), generator=random), torch.randint(0, 40, (count,), generator=random)
    boxes_cxcywh = torch.rand(count, 4, generator=random) * 0.4 + 0.3
    whole, parts = AttentionMeter(), AttentionMeter()
    whole.update(maps, image, query, boxes_cxcywh)
    for number in range(3):
        one = maps_of(cross[:, number : number + 1], ((3, 4),))
        mine = image == number
        parts.update(one, torch.zeros_like(image[mine]), query[mine], boxes_cxcywh[mine])
    first, second = whole.compute(), parts.compute()
    assert first.objects == second.objects == count
    for name in (*MEASURES, "apart"):
        torch.testing.assert_close(getattr(first, name), getattr(second, name))
    assert (first.box_area, first.edges_area) == pytest.approx((second.box_area, second.edges_area))


def test_one_token_has_no_entropy() -> None:
    metrics = measured(maps_of(row(1.0), ((1, 1),)), [[0.25, 0.25, 0.75, 0.75]])
    assert (metrics.entropy[0, 0].item(), metrics.entropy_share[0, 0].item()) == (0, 0)
    assert metrics.inside[0, 0].item() == pytest.approx(0.25)
    assert metrics.pointing[0, 0].item() == 1


@pytest.mark.parametrize("objects", [0, 1, 7])
def test_an_image_without_objects_changes_no_mean(objects: int) -> None:
    random = torch.Generator().manual_seed(2)
    cross = torch.rand(1, 2, 2, 8, 6, generator=random).softmax(-1)
    boxes = [[0.1, 0.1, 0.5, 0.6]] * objects
    both = measured(maps_of(cross, ((2, 3),)), boxes)
    alone = measured(maps_of(cross[:, :1], ((2, 3),)), boxes)
    assert both.objects == objects
    for name in MEASURES:
        torch.testing.assert_close(getattr(both, name), getattr(alone, name), equal_nan=True)
        assert getattr(both, name).isnan().all() == (objects == 0)
    layer = both.as_dict()["layers"][0]
    assert (layer["mean_of_heads"]["inside"] is None) == (objects == 0)
    assert len(layer["heads"]) == 2


def test_metrics_without_any_batch_are_none() -> None:
    assert AttentionMeter().compute().as_dict() == {
        "objects": 0, "box_area": None, "edges_area": None, "even_entropy": None, "layers": []}  # fmt: skip


def test_the_distance_between_queries_computed_by_hand() -> None:
    """Two queries without a common token: each has a distance of one half to their mean. Heads are averaged first."""
    alike = torch.full((1, 1, 1, 2, 2), 0.5)
    assert measured(maps_of(alike, ((1, 2),)), []).apart.tolist() == [0]
    different = torch.eye(2).view(1, 1, 1, 2, 2)
    assert measured(maps_of(different, ((1, 2),)), []).apart.tolist() == [0.5]
    crossed = torch.stack([torch.eye(2), torch.eye(2).flip(0)]).view(1, 1, 2, 2, 2)
    assert measured(maps_of(crossed, ((1, 2),)), []).apart.tolist() == [0]
    many = torch.eye(50).view(1, 1, 1, 50, 50)
    assert measured(maps_of(many, ((1, 50),)), []).apart.tolist() == pytest.approx([0.98])
    assert measured(maps_of(row(1.0), ((1, 1),)), []).apart.tolist() == [1]


def test_table_and_sentence() -> None:
    cross = torch.tensor([[0.25] * 4, [0.7, 0.1, 0.1, 0.1]]).view(2, 1, 1, 1, 4)
    metrics = measured(maps_of(cross, ((2, 2),)), [[0, 0, 0.5, 0.5]])
    head, first, last, even = metrics.table().splitlines()
    assert len({len(head), len(first), len(last)}) == 1
    assert first.split()[:3] == ["0", "25.0%", "100.0%"]
    assert last.split()[:3] == ["1", "70.0%", "100.0%"]
    assert even.split()[:3] == ["even", "25.0%", "25.0%"]
    assert (
        metrics.sentence()
        == "in the last layer 70.0% of the attention lies inside the true box, which covers 25.0% of the image"
    )
