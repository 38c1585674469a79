import pytest
import torch
from torchvision.ops import box_convert, box_iou, generalized_box_iou

from detr_lite.box_ops import cxcywh_to_xyxy, paired_iou_and_giou, xywh_to_xyxy, xyxy_to_cxcywh, xyxy_to_xywh


def random_xyxy(count: int, seed: int) -> torch.Tensor:
    corners = torch.rand(count, 2, 2, generator=torch.Generator().manual_seed(seed)).sort(dim=1).values
    return corners.flatten(1)


@pytest.mark.parametrize("boxes", [0, 1, 7])
def test_conversions_are_torchvisions(boxes):
    boxes_xyxy = random_xyxy(boxes, seed=boxes)
    boxes_cxcywh = box_convert(boxes_xyxy, "xyxy", "cxcywh")
    torch.testing.assert_close(xyxy_to_cxcywh(boxes_xyxy), boxes_cxcywh)
    torch.testing.assert_close(cxcywh_to_xyxy(boxes_cxcywh), boxes_xyxy)
    torch.testing.assert_close(xywh_to_xyxy(xyxy_to_xywh(boxes_xyxy)), boxes_xyxy)


@pytest.mark.parametrize(("first", "second"), [(0, 3), (5, 1), (7, 9)])
def test_iou_and_giou_of_all_pairs_are_torchvisions(first, second):
    first_xyxy, second_xyxy = random_xyxy(first, 1), random_xyxy(second, 2)
    iou, giou = paired_iou_and_giou(first_xyxy[:, None], second_xyxy[None])
    torch.testing.assert_close(iou, box_iou(first_xyxy, second_xyxy))
    torch.testing.assert_close(giou, generalized_box_iou(first_xyxy, second_xyxy))


def test_boxes_without_area_give_finite_iou_and_gradients():
    point_xyxy = torch.tensor([[0.5, 0.5, 0.5, 0.5]], requires_grad=True)
    for other_xyxy in ([0.5, 0.5, 0.5, 0.5], [0.1, 0.1, 0.1, 0.1], [0.2, 0.2, 0.9, 0.9], [0.9, 0.9, 0.2, 0.2]):
        iou, giou = paired_iou_and_giou(point_xyxy, torch.tensor([other_xyxy]))
        (gradient,) = torch.autograd.grad((iou + giou).sum(), point_xyxy)
        assert iou.isfinite().all()
        assert giou.isfinite().all()
        assert gradient.isfinite().all()
