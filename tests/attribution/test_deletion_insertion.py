"""Occlusion, deletion and insertion of a model whose answer is known for every image."""

import numpy as np
import pytest
import torch

from detr_lite.attribution.attribute import distance_to_box
from detr_lite.attribution.cells import Cells
from detr_lite.attribution.curves import (
    FRACTIONS,
    STEPS,
    altered_images,
    blur,
    deletion_and_insertion,
    mean_color,
    occlusion,
)
from detr_lite.attribution.target_scores import AT_ONCE, TargetScores
from detr_lite.evaluation.attribution import area_under
from detr_lite.structures import AttentionMaps, DetrOutput

BOX = torch.tensor([[0.5, 0.5, 0.25, 0.25]])


class BrightShare(torch.nn.Module):
    """One query at `BOX`, whose score is the share of the middle (8 x 8 of 32 x 32 pixels) that is bright."""

    def __init__(self):
        super().__init__()
        self.seen = 0

    def forward(self, batch, need_attention=False):
        self.seen += len(batch.images)
        share = (batch.images[:, 0, 12:20, 12:20] > 0.9).float().mean((1, 2))  # not where it is blurred
        logits = torch.stack([share, torch.zeros_like(share)], -1)[None, :, None]
        return DetrOutput(logits, BOX.expand(1, len(share), 1, 4))


def scores_of(model, boxes=BOX, labels=(0,)):
    return TargetScores(model, lambda logits: logits, boxes, torch.tensor(labels, dtype=torch.long))


@pytest.fixture
def pixels():
    """Dark, with a bright square in the middle: of 16 x 16 cells, 4 x 4."""
    image = torch.zeros(3, 32, 32)
    image[:, 12:20, 12:20] = 1
    return image


def weights_of_middle(cells, value=1.0):
    grid = torch.zeros(cells.rows, cells.columns)
    grid[6:10, 6:10] = value
    return grid.flatten()[None]


def test_cells_are_about_square_and_cover_the_image():
    for height, width in ((32, 32), (100, 50), (7, 300), (1, 1), (480, 640)):
        cells = Cells.of(height, width)
        assert max(cells.rows, cells.columns) == min(16, max(height, width))
        of_pixels = cells.of_pixels()
        assert of_pixels.unique().tolist() == list(range(cells.count))
        boxes = cells.boxes_xyxy()
        assert ((boxes[:, 2:] - boxes[:, :2]).prod(1).sum() - 1).abs() < 1e-5
        y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        point = torch.stack([x / width, y / height], -1).flatten(0, 1)
        own = boxes[of_pixels.flatten()]
        assert (point >= own[:, :2] - 1.01 / max(1, min(height, width))).all()


def test_hidden_cells_have_the_cover(pixels):
    cells = Cells.of(32, 32)
    hidden = torch.zeros(2, cells.count, dtype=torch.bool)
    hidden[1, 0] = True
    first, second = cells.covered(pixels, torch.tensor([0.2, 0.3, 0.4])[:, None, None], hidden)
    assert torch.equal(first, pixels)
    assert second[:, :2, :2].flatten(1).T.unique(dim=0).tolist() == [pytest.approx([0.2, 0.3, 0.4])]
    assert torch.equal(second[:, 2:], pixels[:, 2:])


def test_tokens_are_spread_over_the_cells_that_they_cover():
    cells = Cells(2, 2, 8, 8)
    maps = AttentionMaps(
        cross=torch.zeros(1, 1, 1, 1, 5),
        queries=torch.ones(1, 1, 1, 1, 1),
        encoder=torch.zeros(0, 1, 1, 4, 4),
        grids=((2, 2), (1, 1)),
        encoder_grids=((2, 2),),
        is_padding=torch.zeros(1, 5, dtype=torch.bool),
        spans=torch.tensor([[[2.0, 2.0], [1.0, 1.0]]]),
    )
    weights = torch.tensor([[0.1, 0.2, 0.3, 0.0, 0.4]])
    torch.testing.assert_close(cells.of_tokens(maps, weights), torch.tensor([[0.2, 0.3, 0.4, 0.1]]))


def test_occlusion_finds_what_the_score_depends_on(pixels):
    cells = Cells.of(32, 32)
    model = BrightShare()
    scores = scores_of(model)
    found = occlusion(scores, cells, pixels, scores.of(pixels[None])[0]).view(cells.rows, cells.columns)
    # The window around a cell in the middle hides nine of the sixteen cells.
    inside = torch.zeros(16, 16, dtype=torch.bool)
    inside[6:10, 6:10] = True
    assert found[inside].min() > found[~inside].max()
    assert found[:4].abs().max() == 0

    def overlap(center):
        return sum(6 <= each < 10 for each in range(center - 1, center + 2))

    falls = torch.tensor([[overlap(row) * overlap(column) / 16 for column in range(16)] for row in range(16)])
    expected = np.mean([falls[row, column] for row in (6, 7, 8) for column in (6, 7, 8)])
    assert found[7, 7] == pytest.approx(expected, abs=1e-6)


def test_curves_of_the_best_order_are_known(pixels):
    cells = Cells.of(32, 32)
    scores = scores_of(BrightShare())
    orders = {"best": weights_of_middle(cells), "worst": -weights_of_middle(cells)}
    deletion, insertion = deletion_and_insertion(scores, cells, pixels, torch.ones(1), orders)
    hidden = np.array([round(fraction * 256) for fraction in FRACTIONS])
    np.testing.assert_allclose(deletion["best"][0], (1 - hidden / 16).clip(0))
    np.testing.assert_allclose(deletion["worst"][0], ((256 - hidden) / 16).clip(0, 1))
    np.testing.assert_allclose(insertion["best"][0], (hidden / 16).clip(0, 1))
    np.testing.assert_allclose(insertion["worst"][0], ((hidden - 240) / 16).clip(0, 1))
    assert area_under(FRACTIONS, deletion["best"]) < 0.05 < 0.9 < area_under(FRACTIONS, deletion["worst"])


def test_random_order_lies_between_and_equal_weights_are_mixed(pixels):
    cells = Cells.of(32, 32)
    scores = scores_of(BrightShare())
    deletion, insertion = deletion_and_insertion(scores, cells, pixels, torch.ones(1), {"even": torch.ones(1, 256)})
    assert 0.35 < area_under(FRACTIONS, deletion["even"]).item() < 0.65  # half of the middle when half is hidden
    assert 0.35 < area_under(FRACTIONS, insertion["even"]).item() < 0.65


def test_as_many_images_are_looked_at_as_are_announced(pixels):
    cells, model = Cells.of(32, 32), BrightShare()
    scores = scores_of(model, BOX.expand(2, 4), (0, 1))
    occlusion(scores, cells, pixels, torch.ones(2))
    orders = {name: torch.rand(2, 256) for name in "abc"}
    deletion_and_insertion(scores, cells, pixels, torch.ones(2), orders)
    assert model.seen == altered_images(cells, 2, 3) == 256 + 2 + 2 * 2 * 3 * (STEPS - 1)


def test_few_altered_images_are_in_memory_at_a_time(pixels, monkeypatch):
    cells, scores = Cells.of(32, 32), scores_of(BrightShare())
    covered, made = Cells.covered, []
    monkeypatch.setattr(Cells, "covered", lambda *given: made.append(len(given[3])) or covered(*given))
    occlusion(scores, cells, pixels, torch.ones(1))
    assert sum(made) == 256
    assert max(made) <= AT_ONCE


def test_a_score_counts_as_far_as_the_box_overlaps(pixels):
    half = torch.tensor([[0.5, 0.5625, 0.25, 0.125]])  # its lower half
    assert scores_of(BrightShare(), half).of(pixels[None]).item() == pytest.approx(0.5)
    assert scores_of(BrightShare(), torch.tensor([[0.1, 0.1, 0.1, 0.1]])).of(pixels[None]).item() == 0
    assert scores_of(BrightShare(), BOX, (1,)).of(pixels[None]).item() == 0  # another class


def test_no_detections_have_empty_curves(pixels):
    cells = Cells.of(32, 32)
    scores = scores_of(BrightShare(), BOX[:0], ())
    deletion, insertion = deletion_and_insertion(scores, cells, pixels, torch.ones(0), {"a": torch.zeros(0, 256)})
    assert deletion["a"].shape == insertion["a"].shape == (0, STEPS + 1)
    assert occlusion(scores, cells, pixels, torch.ones(0)).shape == (0, 256)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (480, 640), (3, 200), (1, 1)])
def test_blur_leaves_the_size_and_the_mean_and_hardly_any_detail(height, width):
    image = torch.rand(3, height, width, generator=torch.Generator().manual_seed(0))
    blurred = blur(image)
    assert blurred.shape == image.shape
    torch.testing.assert_close(blurred.mean((1, 2)), image.mean((1, 2)), atol=0.05, rtol=0)
    if min(height, width) > 16:
        assert blurred.std() < 0.1 * image.std()
    assert torch.equal(mean_color(image)[:, 0, 0], image.mean((1, 2)))


def test_distance_is_one_at_the_edge_of_the_box():
    cells = Cells(1, 4, 10, 40)  # centers at 0.125, 0.375, 0.625, 0.875
    distance = distance_to_box(cells, torch.tensor([[0.375, 0.5, 0.5, 1.0]]))
    assert distance[0].tolist() == pytest.approx([1, 0, 1, 2])
