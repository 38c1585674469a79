import dataclasses
from dataclasses import replace

import pytest
import torch

from detr_lite.structures import AttentionMaps, Batch, Detections, Target


def test_images_are_padded_at_the_right_and_bottom_without_rounding():
    small, wide = torch.full((3, 5, 7), 2.0), torch.full((3, 4, 11), 3.0)
    batch = Batch.from_images([small, wide])
    assert batch.images.shape == (2, 3, 5, 11)
    assert torch.equal(batch.images[0, :, :5, :7], small)
    assert torch.equal(batch.images[1, :, :4, :11], wide)
    assert batch.images.sum() == small.sum() + wide.sum()
    assert torch.equal(~batch.is_padding[0], torch.ones(5, 11).index_fill(1, torch.arange(7, 11), 0).bool())
    assert batch.is_padding[1, 4].all()
    assert not batch.is_padding[1, :4].any()


def test_an_empty_batch_is_an_error():
    with pytest.raises(ValueError, match="at least one image"):
        Batch.from_images([])


def test_a_batch_moves_with_its_targets():
    target = Target(torch.rand(2, 4), torch.tensor([0, 1]), image_id=5, original_size=(10, 20))
    batch = Batch.from_images([torch.zeros(3, 4, 4)], [target]).to("meta")
    assert batch.targets[0].boxes_cxcywh.device.type == "meta"
    assert batch.targets[0].image_id == 5
    assert batch.is_padding.device.type == "meta"


@pytest.fixture
def detections() -> Detections:
    boxes_xyxy = torch.arange(12.0).view(3, 4)
    scores, labels, queries = torch.tensor([0.9, 0.5, 0.1]), torch.tensor([2, 1, 0]), torch.tensor([7, 8, 9])
    return Detections(boxes_xyxy, scores, labels, queries, ("a", "b", "c"))


@pytest.mark.parametrize(
    ("which", "rows"),
    [
        (torch.tensor([2, 0]), [2, 0]),
        (torch.tensor([], dtype=torch.long), []),
        (torch.tensor([True, False, True]), [0, 2]),
        (slice(1, None), [1, 2]),
        (slice(None), [0, 1, 2]),
        (-1, [2]),
    ],
    ids=["indices", "no indices", "mask", "slice", "everything", "one index"],
)
def test_detections_are_selected_with_all_their_fields(detections, which, rows):
    selected = detections[which]
    assert len(selected) == len(rows)
    assert selected.queries.tolist() == [7 + row for row in rows]
    assert selected.labels.tolist() == [2 - row for row in rows]
    assert selected.scores.tolist() == [detections.scores[row].item() for row in rows]
    assert selected.boxes_xyxy.tolist() == [[4 * row + side for side in range(4)] for row in rows]
    assert selected.class_names == ("a", "b", "c")


def test_detections_are_iterated_one_by_one(detections):
    assert [one.queries.tolist() for one in detections] == [[7], [8], [9]]


def test_detections_above_a_threshold(detections):
    assert detections.above(0.5).queries.tolist() == [7, 8]
    assert len(detections.above(0.95)) == 0


def test_detections_above_a_threshold_of_each_class():
    scores, labels = torch.tensor([0.9, 0.6, 0.5, 0.3]), torch.tensor([1, 0, 1, 0])
    detections = Detections(torch.zeros(4, 4), scores, labels, torch.arange(4), ("a", "b"))
    assert detections.above([0.3, 0.7]).queries.tolist() == [0, 1, 3]
    assert detections.above((0.61, 0.5)).queries.tolist() == [0, 2]
    assert torch.equal(detections.above((0.5, 0.5)).queries, detections.above(0.5).queries)
    nothing = detections[detections.scores > 1]
    assert len(nothing.above((0.5, 0.5))) == len(nothing.above(())) == 0
    with pytest.raises(ValueError, match="1 thresholds, but there is a label 1"):
        detections.above([0.5])


def test_the_unpadded_part_of_each_level():
    """Two images of one batch: 64 x 40 pixels, and all of 64 x 64; strides of 16 and 32."""
    grids = ((4, 4), (2, 2))
    is_padding = torch.zeros(2, 16 + 4, dtype=torch.bool)
    is_padding[0, :16].view(4, 4)[:, 3:] = True
    maps = AttentionMaps(
        cross=torch.zeros(1, 2, 1, 1, 20),
        queries=torch.zeros(1, 2, 1, 1, 1),
        encoder=torch.zeros(1, 2, 1, 4, 4),
        grids=grids,
        encoder_grids=grids[-1:],
        is_padding=is_padding,
        spans=torch.tensor([[[2.5, 4.0], [1.25, 2.0]], [[4.0, 4.0], [2.0, 2.0]]]),
    )
    assert [maps.unpadded_grid(0, level) for level in (0, 1, -1)] == [(4, 3), (2, 2), (2, 2)]
    assert [maps.unpadded_grid(1, level) for level in (0, 1)] == [(4, 4), (2, 2)]
    nothing = replace(maps, is_padding=torch.ones_like(is_padding))
    assert nothing.unpadded_grid(0, 0) == (0, 0)


def test_spans_must_be_given():
    fields = {field.name: field for field in dataclasses.fields(AttentionMaps)}
    assert fields["spans"].default is dataclasses.MISSING
