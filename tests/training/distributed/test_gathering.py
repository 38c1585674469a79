"""Detections of all processes come to rank 0 whole, and nothing else is sent."""

import pickle
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch import distributed as dist

from detr_lite.evaluation.packing import DetectionRows, detection_rows, merge_detections, pack_detections
from detr_lite.evaluation.postprocess import Postprocess
from detr_lite.structures import DetectionArrays, Detections, DetrOutput
from detr_lite.training.distributed.gathering import gather_detections
from tests.helpers import ranks

CPU = torch.device("cpu")
IMAGES, QUERIES, CLASSES = 8, 300, 80


def detections_of(rank: int, images: int) -> dict[int, Detections]:
    torch.manual_seed(rank)
    found = {}
    for image in range(images):
        count = 0 if image == 1 else 3 + rank
        scores, labels = torch.rand(count), torch.randint(CLASSES, (count,))
        found[10 * rank + image] = Detections(torch.rand(count, 4) * 500, scores, labels, torch.arange(count))
    return found


def equal_arrays(one: DetectionArrays, other: DetectionArrays) -> bool:
    return all((getattr(one, field.name) == getattr(other, field.name)).all() for field in fields(DetectionArrays))


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def of_a_batch() -> dict[int, Detections]:
    logits, boxes_cxcywh = torch.randn(1, IMAGES, QUERIES, CLASSES), torch.rand(1, IMAGES, QUERIES, 4)
    postprocess = Postprocess("sigmoid", [str(label) for label in range(CLASSES)], QUERIES)
    return dict(enumerate(postprocess(DetrOutput(logits, boxes_cxcywh), [(480, 640)] * IMAGES)))


def test_an_image_sends_24_bytes_for_a_detection(group: None, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []
    for name, place in (("gather", 0), ("all_gather", 1)):
        collective = getattr(dist, name)

        def counted(*words: Tensor, collective=collective, place=place) -> None:
            sent.append(words[place].nbytes)
            collective(*words)

        monkeypatch.setattr(dist, name, counted)
    for name in ("all_gather_object", "gather_object", "broadcast_object_list"):
        monkeypatch.delattr(dist, name)
    found = of_a_batch()
    (gathered,) = gather_detections(detection_rows(found), CPU) or []
    assert sum(sent) == IMAGES * (24 * QUERIES + 16) + 16
    assert equal_arrays(pack_detections(gathered), pack_detections(found))


def test_detections_hold_no_memory_of_their_batch() -> None:
    one = of_a_batch()[0]
    tensors = (one.boxes_xyxy, one.scores, one.labels, one.queries)
    assert [tensor.untyped_storage().nbytes() for tensor in tensors] == [16 * QUERIES, 4 * QUERIES, *[8 * QUERIES] * 2]
    assert len(pickle.dumps(tensors)) < 36 * QUERIES + 2000


def gather(place: Path, counts: tuple[int, ...]) -> None:
    ranks.join()
    rank = dist.get_rank()
    gathered = gather_detections(detection_rows(detections_of(rank, counts[rank])), CPU)
    torch.save(None if gathered is None else [(part.images, part.rows) for part in gathered], place / f"{rank}.pt")


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("counts", [(3, 2), (0, 3), (3, 0), (0, 0)])
def test_rank_0_gets_the_detections_of_all(tmp_path: Path, counts: tuple[int, int]) -> None:
    started = ranks.start(tmp_path / "ranks", 2, gather, tmp_path, counts)
    try:
        assert started.codes() == [0, 0], started.err
    finally:
        started.kill()
    assert torch.load(tmp_path / "1.pt", weights_only=True) is None
    gathered = [DetectionRows(*part) for part in torch.load(tmp_path / "0.pt", weights_only=True)]
    expected = {index: each for rank in (0, 1) for index, each in detections_of(rank, counts[rank]).items()}
    assert equal_arrays(merge_detections([pack_detections(part) for part in gathered]), pack_detections(expected))
