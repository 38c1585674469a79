import pytest
import torch

from detr_lite.structures import Batch, Detections, Target


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


def test_detections_above_a_score_keep_what_belongs_together():
    found = Detections(torch.arange(12.0).view(3, 4), torch.tensor([0.9, 0.5, 0.1]), torch.tensor([2, 1, 0]),
                       torch.tensor([7, 8, 9]), ("a", "b", "c"))  # fmt: skip
    kept = found.above(0.5)
    assert len(kept) == 2
    assert kept.queries.tolist() == [7, 8]
    assert kept.boxes_xyxy.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert kept.class_names == ("a", "b", "c")
