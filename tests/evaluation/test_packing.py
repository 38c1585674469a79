import numpy as np
import torch

from detr_lite.evaluation.packing import merge_detections, pack_detections, relabel_detections
from detr_lite.structures import Detections


def detections_of(boxes_xyxy: list[list[float]], scores: list[float], labels: list[int]) -> Detections:
    return Detections(
        torch.tensor(boxes_xyxy).reshape(-1, 4),
        torch.tensor(scores),
        torch.tensor(labels, dtype=torch.long),
        torch.arange(len(labels)),
    )


FOUND = {
    7: detections_of([[1.0, 2.0, 3.0, 4.0]], [0.25], [1]),
    2: detections_of([[10.0, 20.0, 40.123456, 80.0], [0.0, 0.0, 1.0, 2.0]], [0.9, 1 / 3], [2, 0]),
    5: detections_of([], [], []),
}


def test_detections_are_packed_in_the_order_of_the_images_and_rounded() -> None:
    packed = pack_detections(FOUND)
    assert packed.image_index.tolist() == [2, 2, 7]
    assert packed.labels.tolist() == [2, 0, 1]
    assert packed.boxes_xywh.tolist() == [[10.0, 20.0, 30.123, 60.0], [0.0, 0.0, 1.0, 2.0], [1.0, 2.0, 2.0, 2.0]]
    assert packed.scores.tolist() == [0.9, 0.333333, 0.25]


def test_rounded_values_are_the_doubles_nearest_to_their_decimals() -> None:
    """So that they are written with few digits and read back as the same bits."""
    boxes_xyxy = 2000 * torch.rand(1000, 4, generator=torch.Generator().manual_seed(0))
    packed = pack_detections({0: Detections(boxes_xyxy, boxes_xyxy[:, 0] / 2000, *torch.zeros(2, 1000).long())})
    for value in packed.boxes_xywh.ravel().tolist():
        assert value == float(f"{value:.3f}")
    for value in packed.scores.tolist():
        assert value == float(f"{value:.6f}")


def test_parts_are_merged_and_an_image_counts_once() -> None:
    """As ranks that repeat some images have them."""
    first = pack_detections({4: FOUND[2], 0: FOUND[7]})
    second = pack_detections({4: FOUND[7], 3: FOUND[5], 2: FOUND[2]})
    merged = merge_detections([first, second, pack_detections({})])
    assert merged.image_index.tolist() == [0, 2, 2, 4, 4]
    assert merged.labels.tolist() == [1, 2, 0, 2, 0]
    np.testing.assert_array_equal(merged.boxes_xywh[1:3], merged.boxes_xywh[3:])
    alone = merge_detections([first])
    for name, values in vars(first).items():
        np.testing.assert_array_equal(getattr(alone, name), values)
    assert merge_detections([pack_detections({})]).boxes_xywh.shape == (0, 4)


def test_labels_are_replaced_and_those_without_a_new_one_left_out() -> None:
    packed = pack_detections(FOUND)
    other = relabel_detections(packed, np.array([5, -1, 0]))
    assert (other.labels.tolist(), other.image_index.tolist()) == ([0, 5], [2, 2])
    assert other.scores.tolist() == packed.scores[:2].tolist()
