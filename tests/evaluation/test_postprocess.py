import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.ops import nms

from detr_lite.evaluation.postprocess import Postprocess, stable_topk
from detr_lite.structures import DetrLiteError, DetrOutput

TWO_CLASSES = ("cup", "plate")


def one_image(logits, boxes_cxcywh=None):
    """A model's output of one layer for one image."""
    logits = torch.as_tensor(logits)
    boxes_cxcywh = torch.rand(len(logits), 4) if boxes_cxcywh is None else torch.tensor(boxes_cxcywh)
    return DetrOutput(logits[None, None], boxes_cxcywh[None, None])


def test_softmax_computed_by_hand():
    probabilities = torch.tensor([[0.3, 0.1, 0.6], [0.2, 0.7, 0.1], [0.5, 0.4, 0.1]])  # "no object" last
    boxes_cxcywh = [[0.5, 0.5, 0.2, 0.4], [0.25, 0.5, 0.5, 1.0], [0.75, 0.25, 0.1, 0.1]]
    (found,) = Postprocess("softmax", TWO_CLASSES)(one_image(probabilities.log(), boxes_cxcywh), [(100, 200)])

    torch.testing.assert_close(found.scores, torch.tensor([0.7, 0.5, 0.3]))
    assert found.labels.tolist() == [1, 0, 0]
    assert found.queries.tolist() == [1, 2, 0]
    expected_xyxy = [[0.0, 0.0, 100.0, 100.0], [140.0, 20.0, 160.0, 30.0], [80.0, 30.0, 120.0, 70.0]]
    torch.testing.assert_close(found.boxes_xyxy, torch.tensor(expected_xyxy))
    assert found.class_names == TWO_CLASSES


def test_sigmoid_computed_by_hand():
    probabilities = torch.tensor([[0.9, 0.8], [0.1, 0.2], [0.3, 0.85]])
    boxes_cxcywh = [[0.5, 0.5, 1.0, 1.0], [0.1, 0.1, 0.2, 0.2], [0.5, 0.5, 0.5, 0.5]]
    postprocess = Postprocess("sigmoid", TWO_CLASSES, max_detections=4)
    (found,) = postprocess(one_image(probabilities.logit(), boxes_cxcywh), [(40, 80)])

    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.85, 0.8, 0.3]))
    assert found.labels.tolist() == [0, 1, 1, 0]
    assert found.queries.tolist() == [0, 2, 0, 2], "one query may be detected as several classes"
    whole, center = [0.0, 0.0, 80.0, 40.0], [20.0, 10.0, 60.0, 30.0]
    torch.testing.assert_close(found.boxes_xyxy, torch.tensor([whole, center, whole, center]))


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("queries", [0, 1, 7])
def test_any_number_of_queries(activation, queries):
    classes = 2 + (activation == "softmax")
    output = DetrOutput(torch.randn(3, 2, queries, classes), torch.rand(3, 2, queries, 4))
    images = Postprocess(activation, TWO_CLASSES)(output, [(30, 40), (50, 60)])
    assert [len(found) for found in images] == [queries * (2 if activation == "sigmoid" else 1)] * 2
    for found in images:
        assert found.boxes_xyxy.shape == (len(found), 4)
        assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_each_detection_has_the_index_of_its_query(activation):
    classes = 2 + (activation == "softmax")
    output = DetrOutput(torch.randn(2, 3, 50, classes), torch.rand(2, 3, 50, 4) * 0.2 + 0.4)
    for index, found in enumerate(Postprocess(activation, TWO_CLASSES, max_detections=20)(output, [(1, 1)] * 3)):
        boxes_cxcywh = output.boxes_cxcywh[-1, index, found.queries]
        torch.testing.assert_close((found.boxes_xyxy[:, :2] + found.boxes_xyxy[:, 2:]) / 2, boxes_cxcywh[:, :2])
        logits = output.logits[-1, index]
        probabilities = logits.softmax(-1) if activation == "softmax" else logits.sigmoid()
        torch.testing.assert_close(found.scores, probabilities[found.queries, found.labels])


def test_at_most_max_detections():
    (found,) = Postprocess("softmax", TWO_CLASSES, max_detections=5)(one_image(torch.randn(30, 3)), [(10, 10)])
    assert len(found) == 5


def test_equal_scores_are_in_the_order_of_queries():
    for activation, classes in (("softmax", 3), ("sigmoid", 2)):
        (found,) = Postprocess(activation, TWO_CLASSES)(one_image(torch.zeros(40, classes)), [(10, 10)])
        assert found.queries.tolist() == sorted(found.queries.tolist())


def test_boxes_are_clamped_into_the_image():
    boxes_cxcywh = [[0.0, 0.5, 0.5, 3.0], [1.5, 0.5, 0.1, 0.1]]
    (found,) = Postprocess("sigmoid", ("cup",))(one_image([[2.0], [1.0]], boxes_cxcywh), [(100, 200)])
    torch.testing.assert_close(found.boxes_xyxy[:, [0, 2]], torch.tensor([[0.0, 50.0], [200.0, 200.0]]))
    torch.testing.assert_close(found.boxes_xyxy[0, [1, 3]], torch.tensor([0.0, 100.0]))


def test_scores_are_computed_in_float32():
    logits = torch.linspace(2, 4, 40).bfloat16()[:, None]  # sigmoid in bfloat16 would make most of these equal
    output = DetrOutput(logits[None, None], torch.rand(1, 1, 40, 4).bfloat16())
    (found,) = Postprocess("sigmoid", ("cup",))(output, [(640, 480)])
    assert found.scores.dtype == found.boxes_xyxy.dtype == torch.float32
    torch.testing.assert_close(found.scores, logits[:, 0].float().sigmoid().sort(descending=True).values)


def test_detections_are_detached():
    (found,) = Postprocess("softmax", TWO_CLASSES)(one_image(torch.randn(4, 3, requires_grad=True)), [(10, 10)])
    assert not found.scores.requires_grad


class CountTransfers(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.to_host = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and args[0].device.type != "cpu" and result.device.type == "cpu":
            self.to_host += 1
        return result


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_one_device_to_host_transfer(activation):
    classes = 2 + (activation == "softmax")
    # Fake tensors have a device but no values: whatever would synchronize raises.
    with FakeTensorMode(), CountTransfers() as transfers:
        output = DetrOutput(
            torch.empty(3, 4, 30, classes, device="cuda", dtype=torch.bfloat16),
            torch.empty(3, 4, 30, 4, device="cuda", dtype=torch.bfloat16),
        )
        images = Postprocess(activation, TWO_CLASSES)(output, [(10, 10)] * 4)
        assert {found.boxes_xyxy.device.type for found in images} == {"cpu"}
    assert transfers.to_host == 1


def test_wrong_numbers_of_classes_or_sizes_are_refused():
    with pytest.raises(ValueError, match="softmax of 2 classes needs 3 logits, not 2"):
        Postprocess("softmax", TWO_CLASSES)(one_image(torch.zeros(4, 2)), [(10, 10)])
    with pytest.raises(ValueError, match="1 images need as many original sizes, got 2"):
        Postprocess("sigmoid", TWO_CLASSES)(one_image(torch.zeros(4, 2)), [(10, 10), (20, 20)])


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("iou", [0.0, 0.3, 0.7, 1.0])
def test_nms_is_that_of_torchvision_class_by_class(activation, iou):
    classes = 2 + (activation == "softmax")
    boxes_cxcywh = torch.rand(2, 60, 4) * 0.3 + 0.4
    boxes_cxcywh[:, 30:] = boxes_cxcywh[:, :30] + 0.02 * torch.rand(2, 30, 4)  # near copies
    logits = torch.randn(2, 60, classes).round(decimals=1)  # of which some are equal
    output = DetrOutput(logits[None], boxes_cxcywh[None])
    sizes = [(480, 640), (100, 50)]
    every = Postprocess(activation, TWO_CLASSES, max_detections=1000)(output, sizes)
    for limit in (1000, 10):
        kept = Postprocess(activation, TWO_CLASSES, limit, nms=iou)(output, sizes)
        for all_of_image, found in zip(every, kept, strict=True):
            expected = torch.zeros(len(all_of_image), dtype=torch.bool)
            for label in range(2):
                of_class = (all_of_image.labels == label).nonzero()[:, 0]
                boxes_xyxy, scores = all_of_image.boxes_xyxy[of_class], all_of_image.scores[of_class]
                expected[of_class[nms(boxes_xyxy, scores, iou)]] = True
            expected = all_of_image[expected][:limit]  # after NMS, whose gaps lower-scoring detections fill
            for name in ("boxes_xyxy", "scores", "labels", "queries"):
                torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=0, atol=0)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_nms_of_images_without_candidates_and_of_boxes_without_area(activation):
    classes = 2 + (activation == "softmax")
    for queries in (0, 3):
        output = DetrOutput(torch.zeros(1, 2, queries, classes), torch.zeros(1, 2, queries, 4))
        found = Postprocess(activation, TWO_CLASSES, nms=0.7)(output, [(10, 10)] * 2)
        assert [len(each) for each in found] == [queries * (2 if activation == "sigmoid" else 1)] * 2


@pytest.mark.parametrize("iou", [-0.1, 1.1, 70.0, float("nan")])
def test_nms_at_something_that_is_no_iou_is_refused(iou):
    with pytest.raises(DetrLiteError, match=r"^--nms is .*; it must be an IoU from 0 to 1, such as 0\.7$"):
        Postprocess("sigmoid", TWO_CLASSES, nms=iou)


def test_more_detections_for_more_objects_keep_the_nms():
    assert Postprocess("sigmoid", TWO_CLASSES, nms=0.7).covering(200).nms == 0.7


@pytest.mark.parametrize("k", [1, 7, 59, 60, 100])
@pytest.mark.parametrize("digits", [0, 1, 6])
def test_equal_scores_are_in_the_order_of_their_places(k: int, digits: int) -> None:
    scores = torch.rand(3, 60).round(decimals=digits)
    scores[0, [5, 40]] = torch.nan
    scores[1, [3, 9]] = torch.tensor([torch.inf, torch.finfo(torch.float32).tiny / 8])
    expected = scores.sort(dim=1, descending=True, stable=True).indices[:, :k]
    assert torch.equal(stable_topk(scores, k), expected)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_candidates_beyond_the_limit_are_not_sorted(activation: str) -> None:
    class Operators(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            names.add(str(func).split(".")[1])
            return func(*args, **(kwargs or {}))

    names: set[str] = set()
    output = DetrOutput(torch.randn(1, 2, 150, 3), torch.rand(1, 2, 150, 4))
    with Operators():
        Postprocess(activation, TWO_CLASSES if activation == "softmax" else ("a", "b", "c"))(output, [(10, 10)] * 2)
    assert "topk" in names
    assert not names & {"sort", "argsort", "msort"}


def test_every_query_with_its_own_box_and_best_class():
    """Of "no object" too, in the order of the queries, and after any decoder layer."""
    probabilities = torch.tensor([[0.3, 0.1, 0.6], [0.2, 0.7, 0.1], [0.05, 0.04, 0.91]])  # "no object" last
    boxes_cxcywh = torch.tensor([[0.5, 0.5, 0.2, 0.4], [0.25, 0.5, 0.5, 1.0], [0.95, 0.25, 0.2, 0.1]])
    first = DetrOutput(
        torch.stack([probabilities.flip(0).log(), probabilities.log()])[:, None],
        torch.stack([boxes_cxcywh.flip(0), boxes_cxcywh])[:, None],
    )
    (own,) = Postprocess("softmax", TWO_CLASSES, max_detections=1, nms=0.1).by_query(first, [(100, 200)])
    assert own.queries.tolist() == [0, 1, 2]
    assert own.labels.tolist() == [0, 1, 0]
    torch.testing.assert_close(own.scores, torch.tensor([0.3, 0.7, 0.05]))
    torch.testing.assert_close(own.boxes_xyxy[2], torch.tensor([170.0, 20.0, 200.0, 30.0]))  # within the image
    (before,) = Postprocess("softmax", TWO_CLASSES).by_query(first, [(100, 200)], layer=0)
    torch.testing.assert_close(before.scores, torch.tensor([0.05, 0.7, 0.3]))
    (sigmoid,) = Postprocess("sigmoid", ("a", "b", "c")).by_query(first, [(100, 200)])
    assert sigmoid.labels.tolist() == [2, 1, 2]
