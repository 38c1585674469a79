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


@pytest.mark.parametrize("pixels", [100, 4_000, 100_000])
def test_a_pixel_in_a_large_image_counts_as_any_box(pixels):
    """A perfect prediction had an IoU of 0.625 where an image had 4,000 pixels."""
    in_pixels = torch.tensor([[10.0, 20, 11, 21]], dtype=torch.float64)
    shifted = torch.tensor([[10.5, 20, 11.5, 21]], dtype=torch.float64)
    for other in (in_pixels, shifted, shifted + 3):
        iou, giou = paired_iou_and_giou((in_pixels / pixels).float(), (other / pixels).float())
        tolerance = 3e-7 * pixels / 1 + 1e-6  # coordinates of float32 near 2e-4
        torch.testing.assert_close(iou.double(), box_iou(in_pixels, other)[0], atol=tolerance, rtol=0)
        torch.testing.assert_close(giou.double(), generalized_box_iou(in_pixels, other)[0], atol=tolerance, rtol=0)


def test_losses_of_tiny_boxes_have_gradients_as_large_as_those_of_others():
    """In units of the box: the loss does not depend on the scale of the image."""
    gradients = []
    for side in (0.5, 2.5e-4, 1e-6):
        box_xyxy = torch.tensor([[0.0, 0.0, side, side]], requires_grad=True)
        _, giou = paired_iou_and_giou(box_xyxy, torch.tensor([[0.0, 0.0, side / 2, side]]))
        gradients.append(torch.autograd.grad(giou.sum(), box_xyxy)[0] * side)
    torch.testing.assert_close(gradients[1], gradients[0])
    torch.testing.assert_close(gradients[2], gradients[0])
