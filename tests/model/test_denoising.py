import pytest
import torch

from detr_lite.boxes import cxcywh_to_xyxy
from detr_lite.model.denoising import group_visibility, make_noisy_objects
from detr_lite.structures import Target


def target(objects: int) -> Target:
    boxes_cxcywh = torch.rand(objects, 4) * 0.2 + 0.4
    return Target(boxes_cxcywh, torch.arange(objects) % 3, image_id=objects, original_size=(10, 10))


@pytest.mark.parametrize(
    ("objects", "slots", "groups"), [((0, 0), 1, 12), ((1,), 1, 12), ((3, 5), 5, 2), ((7,), 7, 1), ((20, 1), 12, 1)]
)
def test_groups_hold_each_object_once_and_fit(objects, slots, groups):
    noisy = make_noisy_objects([target(count) for count in objects], classes=3, most_queries=12)
    assert noisy.groups == groups
    assert noisy.labels.shape == (len(objects), slots * groups)
    for image, count in enumerate(objects):
        per_group = noisy.is_real[image].view(groups, slots).sum(1)
        assert per_group.tolist() == [min(count, 12)] * groups
        assert noisy.objects[image].view(groups, slots).tolist() == [list(range(slots))] * groups


def test_without_noise_the_copies_are_the_objects():
    truth = target(4)
    noisy = make_noisy_objects([truth], classes=3, most_queries=8, box_noise=0.0, label_noise=0.0)
    torch.testing.assert_close(noisy.boxes_cxcywh[0], truth.boxes_cxcywh.repeat(2, 1))
    assert torch.equal(noisy.labels[0], truth.labels.repeat(2))


def test_noise_stays_in_its_bounds_and_in_the_image():
    torch.manual_seed(0)
    truth = target(6)
    noisy = make_noisy_objects([truth], classes=3, most_queries=600, box_noise=0.4, label_noise=0.2)
    original = truth.boxes_cxcywh.repeat(100, 1)
    shift = (noisy.boxes_cxcywh[0, :, :2] - original[:, :2]).abs() / original[:, 2:]
    scale = noisy.boxes_cxcywh[0, :, 2:] / original[:, 2:]
    assert 0.19 < shift.max() <= 0.2 + 1e-5
    assert 0.59 < scale.min() < 0.62
    assert 1.38 < scale.max() < 1.41
    changed = (noisy.labels[0] != truth.labels.repeat(100)).float().mean()
    assert 0.09 < changed < 0.18  # a fifth is drawn anew, a third of that falls on the same class

    corner = Target(torch.tensor([[0.05, 0.05, 0.1, 0.1]]), torch.tensor([0]), 1, (10, 10))
    edges = cxcywh_to_xyxy(make_noisy_objects([corner], 3, 200).boxes_cxcywh)
    assert edges.min() >= -1e-6


def test_who_may_attend_to_whom():
    may_attend = group_visibility(noisy=4, groups=2, queries=3)
    expected = torch.tensor(
        [
            [1, 1, 0, 0, 1, 1, 1],
            [1, 1, 0, 0, 1, 1, 1],
            [0, 0, 1, 1, 1, 1, 1],
            [0, 0, 1, 1, 1, 1, 1],
            [0, 0, 0, 0, 1, 1, 1],
            [0, 0, 0, 0, 1, 1, 1],
            [0, 0, 0, 0, 1, 1, 1],
        ]
    ).bool()
    assert torch.equal(may_attend, expected)
