import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from detr_lite.box_ops import cxcywh_to_xyxy
from detr_lite.model.denoising import denoising_attn_mask, make_denoising_queries, pad_denoising_queries
from detr_lite.structures import Target


def target(objects: int) -> Target:
    boxes_cxcywh = torch.rand(objects, 4) * 0.2 + 0.4
    return Target(boxes_cxcywh, torch.arange(objects) % 3, image_id=objects, original_size=(10, 10))


@pytest.mark.parametrize(
    ("objects", "slots", "groups"), [((0, 0), 1, 12), ((1,), 1, 12), ((3, 5), 5, 2), ((7,), 7, 1), ((20, 1), 12, 1)]
)
def test_groups_hold_each_object_once_and_fit(objects, slots, groups):
    noisy = make_denoising_queries([target(count) for count in objects], classes=3, max_queries=12)
    assert noisy.groups == groups
    assert noisy.labels.shape == (len(objects), slots * groups)
    for image, count in enumerate(objects):
        per_group = noisy.is_real[image].view(groups, slots).sum(1)
        assert per_group.tolist() == [min(count, 12)] * groups
        if count <= slots:
            assert noisy.objects[image].view(groups, slots).tolist() == [list(range(slots))] * groups


def test_of_many_objects_a_random_subset_is_taken():
    torch.manual_seed(0)
    truth, taken = target(20), set()
    for _ in range(20):
        noisy = make_denoising_queries(
            [truth], classes=3, max_queries=12, contrastive=True, box_noise=0.0, label_noise=0.0
        )
        objects = noisy.objects[0]
        assert sorted(objects.tolist()) == sorted([*set(objects.tolist())] * 2)  # positive and negative
        torch.testing.assert_close(noisy.boxes_cxcywh[0], truth.boxes_cxcywh[objects])
        assert torch.equal(noisy.labels[0], truth.labels[objects])
        taken |= set(objects.tolist())
    assert len(taken) == 20


def test_without_noise_they_are_the_objects():
    truth = target(4)
    noisy = make_denoising_queries([truth], classes=3, max_queries=8, box_noise=0.0, label_noise=0.0)
    torch.testing.assert_close(noisy.boxes_cxcywh[0], truth.boxes_cxcywh.repeat(2, 1))
    assert torch.equal(noisy.labels[0], truth.labels.repeat(2))


def test_noise_by_hand(monkeypatch):
    """Centers move by a share of half the size, then sizes scale; boxes are clipped to the image (DN-DETR, 4.2)."""
    truth = Target(torch.tensor([[0.5, 0.4, 0.2, 0.1], [0.05, 0.5, 0.1, 0.2]]), torch.tensor([2, 0]), 1, (10, 10))
    centers = [[1.0, 0.0], [0.0, 0.5], [0.5, 0.75], [0.5, 0.5]]  # 1 is right or down, 0 left or up
    sizes = [[0.5, 1.0], [0.5, 0.0], [0.0, 0.5], [0.5, 0.5]]  # 1 is larger, 0 smaller
    monkeypatch.setattr(
        torch, "rand_like", lambda like: torch.tensor([centers, sizes]).permute(1, 0, 2).reshape(1, 4, 4)
    )
    monkeypatch.setattr(torch, "rand", lambda shape, device=None: torch.tensor([[0.19, 0.2, 0.9, 0.0]]))
    monkeypatch.setattr(torch, "randint_like", lambda like, high: torch.full_like(like, high - 1))
    noisy = make_denoising_queries([truth], classes=5, max_queries=5, box_noise=0.4, label_noise=0.2)
    assert noisy.groups == 2
    assert noisy.objects.tolist() == [[0, 1, 0, 1]]
    assert noisy.labels.tolist() == [[4, 0, 2, 4]]  # drawn again where the number is below 0.2
    expected = torch.tensor(
        [
            [0.5 + 0.04, 0.4 - 0.02, 0.2, 0.1 * 1.4],
            [0.04, 0.5, 0.08, 0.2 * 0.6],  # moved to 0.03, from -0.02 to 0.08: its left fifth is clipped
            [0.5, 0.4 + 0.01, 0.2 * 0.6, 0.1],
            [0.05, 0.5, 0.1, 0.2],
        ]
    )
    torch.testing.assert_close(noisy.boxes_cxcywh[0], expected, atol=1e-6, rtol=0)


def test_noise_is_bounded_and_boxes_are_clipped_to_the_image():
    torch.manual_seed(0)
    truth = target(6)
    noisy = make_denoising_queries([truth], classes=3, max_queries=600, box_noise=0.4, label_noise=0.2)
    original = truth.boxes_cxcywh.repeat(100, 1)
    shift = (noisy.boxes_cxcywh[0, :, :2] - original[:, :2]).abs() / original[:, 2:]
    scale = noisy.boxes_cxcywh[0, :, 2:] / original[:, 2:]
    assert 0.19 < shift.max() <= 0.2 + 1e-5
    assert 0.59 < scale.min() < 0.62
    assert 1.38 < scale.max() < 1.41
    changed = (noisy.labels[0] != truth.labels.repeat(100)).float().mean()
    assert 0.09 < changed < 0.18  # a fifth is drawn again, a third of those get the same class

    corner = Target(torch.tensor([[0.05, 0.05, 0.1, 0.1]]), torch.tensor([0]), 1, (10, 10))
    edges = cxcywh_to_xyxy(make_denoising_queries([corner], 3, 200).boxes_cxcywh)
    assert edges.min() >= -1e-6


@pytest.mark.parametrize(
    ("noisy", "groups", "queries", "rows"),
    [
        (2, 1, 1, ["111", "111", "001"]),  # one group
        (3, 3, 1, ["1001", "0101", "0011", "0001"]),  # groups of one
        (2, 2, 0, ["10", "01"]),
    ],
)
def test_attn_mask_by_hand(noisy, groups, queries, rows):
    attn_mask = denoising_attn_mask(num_denoising=noisy, groups=groups, num_queries=queries)
    assert ["".join(str(int(may)) for may in row) for row in attn_mask] == rows


def test_attn_mask_of_groups_of_two():
    attn_mask = denoising_attn_mask(num_denoising=4, groups=2, num_queries=3)
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
    assert torch.equal(attn_mask, expected)


def test_negatives_have_one_to_two_times_the_noise():
    truth = Target(torch.tensor([[0.5, 0.5, 0.2, 0.4]]), torch.tensor([1]), 0, (10, 10))
    noisy = make_denoising_queries(
        [truth], classes=3, max_queries=400, contrastive=True, box_noise=0.4, label_noise=0.0
    )
    assert noisy.groups == 200
    assert noisy.is_near[0].tolist() == [True, False] * 200
    moved = (noisy.boxes_cxcywh[0] - truth.boxes_cxcywh).abs()
    furthest = 0.4 * torch.tensor([0.1, 0.2, 0.2, 0.4])
    near, far = moved[noisy.is_near[0]], moved[~noisy.is_near[0]]
    assert (near <= furthest + 1e-5).all()
    assert (far >= furthest - 1e-5).all()
    assert (far <= 2 * furthest + 1e-5).all()


def mean_iou(noise: float, is_near: bool) -> float:
    """Mean IoU of a unit box and its noisy copies, by midpoints over all shifts and scales of both axes."""
    steps = (np.arange(24) + 0.5) / 24 + (not is_near)
    steps = noise * np.concatenate([-steps, steps])
    shifts, sizes = (values.ravel() for values in np.meshgrid(steps / 2, np.abs(1 + steps)))
    overlaps = np.minimum(0.5, shifts + sizes / 2) - np.maximum(-0.5, shifts - sizes / 2)
    intersections = np.multiply.outer(overlaps.clip(0), overlaps.clip(0))
    return float((intersections / (1 + np.multiply.outer(sizes, sizes) - intersections)).mean())


@pytest.mark.parametrize(
    ("noise", "near", "far"), [(0.2, 0.772, 0.526), (0.4, 0.601, 0.259), (0.5**0.5, 0.404, 0.079), (1.0, 0.263, 0.049)]
)
def test_overlap_of_copies_with_their_object(noise, near, far):
    """The table of the docstring, by numerical integration and by measurement."""
    assert [mean_iou(noise, is_near=True), mean_iou(noise, is_near=False)] == pytest.approx([near, far], abs=1.5e-3)
    torch.manual_seed(0)
    truth = Target(torch.tensor([[0.5, 0.5, 0.1, 0.2]]), torch.tensor([1]), 0, (10, 10))
    noisy = make_denoising_queries([truth], classes=3, max_queries=40_000, contrastive=True, box_noise=noise)
    assert (noisy.boxes_cxcywh[..., 2:] >= 0).all()  # edges that have passed each other are swapped
    overlaps = box_iou(cxcywh_to_xyxy(noisy.boxes_cxcywh[0]), cxcywh_to_xyxy(truth.boxes_cxcywh))[:, 0]
    measured = [overlaps[noisy.is_near[0]].mean().item(), overlaps[~noisy.is_near[0]].mean().item()]
    assert measured == pytest.approx([near, far], abs=5e-3)


def test_edges_move_as_far_as_with_dinos_scale():
    """DINO moves each edge by a uniform share of half the size, up to its scale: scale / sqrt(3) halves on average."""
    torch.manual_seed(0)
    truth = Target(torch.tensor([[0.5, 0.5, 0.2, 0.2]]), torch.tensor([1]), 0, (10, 10))
    noisy = make_denoising_queries([truth], classes=3, max_queries=40_000, box_noise=0.5**0.5)
    halves = (cxcywh_to_xyxy(noisy.boxes_cxcywh[0]) - cxcywh_to_xyxy(truth.boxes_cxcywh)) / 0.1
    assert halves.square().mean().sqrt().item() == pytest.approx(1.0 / 3**0.5, abs=5e-3)


def test_negatives_fit_for_any_number_of_objects():
    for count in (0, 1, 30):
        noisy = make_denoising_queries([target(count)], classes=3, max_queries=12, contrastive=True)
        assert noisy.labels.shape[1] <= 12
        assert noisy.is_near.sum() == noisy.labels.shape[1] / 2


def test_padding_is_in_no_group_and_seen_by_no_other():
    noisy = make_denoising_queries([target(3), target(1)], classes=3, max_queries=16, contrastive=True)
    count, groups = noisy.labels.shape[1], noisy.groups
    padded = pad_denoising_queries(noisy, count + 4)
    for name in ("boxes_cxcywh", "labels", "objects", "is_real", "is_near"):
        assert torch.equal(getattr(padded, name)[:, :count], getattr(noisy, name)), name
        assert getattr(padded, name).shape[1] == count + 4, name
    assert not padded.is_real[:, count:].any()
    mask = denoising_attn_mask(count, groups, 5, padding=4)
    keep = torch.tensor([index for index in range(count + 9) if not count <= index < count + 4])
    assert torch.equal(mask[keep][:, keep], denoising_attn_mask(count, groups, 5))
    assert not mask[keep][:, count : count + 4].any()
    assert torch.equal(mask[count : count + 4, count : count + 4], torch.eye(4).bool())
    assert mask[count : count + 4, count + 4 :].all()
