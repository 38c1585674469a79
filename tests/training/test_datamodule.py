"""Data loaders of a run."""

from pathlib import Path
from unittest.mock import MagicMock

import pytest
import torch

from detr_lite.data.reading import read_split
from detr_lite.data.sampler import SeededBatchSampler
from detr_lite.data.transforms import ResizeRule, evaluation_transform
from detr_lite.training.datamodule import DetectionData, default_workers, make_loader

RESIZE = ResizeRule("longest", 64)


def image_ids(loader) -> list[int]:
    return [target.image_id for batch in loader for target in batch.targets]


def loader_of(root: Path, split: str = "train", num_workers: int = 0, **options):
    return make_loader(read_split(root, split), evaluation_transform(RESIZE), RESIZE, 3, num_workers, **options)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_every_image_is_loaded_once_in_padded_batches(tiny_data: Path, num_workers: int) -> None:
    loader = loader_of(tiny_data, num_workers=num_workers)
    assert sorted(image_ids(loader)) == list(range(8))
    for batch in loader:
        assert batch.images.shape[0] <= 3
        assert max(batch.images.shape[2:]) <= 64
        assert batch.is_padding.shape == (len(batch.images), *batch.images.shape[2:])


def test_evaluation_has_a_fixed_order_and_training_one_per_epoch(tiny_data: Path) -> None:
    fixed = loader_of(tiny_data)
    assert image_ids(fixed) == image_ids(fixed)
    shuffled, again = loader_of(tiny_data, shuffle=True, seed=1), loader_of(tiny_data, shuffle=True, seed=1)
    orders = []
    for epoch in range(4):
        shuffled.batch_sampler.set_epoch(epoch)
        again.batch_sampler.set_epoch(epoch)
        orders.append(image_ids(shuffled))
        assert orders[-1] == image_ids(again)
    assert len({tuple(order) for order in orders}) > 1


def test_images_are_divided_among_ranks(tiny_data: Path) -> None:
    ids = [image_ids(loader_of(tiny_data, rank=rank, world_size=2)) for rank in (0, 1)]
    assert {*ids[0], *ids[1]} == set(range(8))


def test_loading_leaves_the_global_generator_alone(tiny_data: Path) -> None:
    torch.manual_seed(0)
    expected = torch.rand(())
    torch.manual_seed(0)
    image_ids(loader_of(tiny_data))
    assert torch.rand(()) == expected


def test_the_module_shuffles_training_images_only(tiny_data: Path) -> None:
    transform = evaluation_transform(RESIZE)
    train, val = read_split(tiny_data, "train"), read_split(tiny_data, "val")
    data = DetectionData(train, val, transform, transform, RESIZE, batch_size=2, num_workers=0, seed=0)
    assert isinstance(data.train_dataloader().batch_sampler, SeededBatchSampler)
    assert not data.val_dataloader().batch_sampler.shuffle
    assert sorted(image_ids(data.val_dataloader())) == list(range(5))


@pytest.mark.parametrize(
    ("cores", "processes", "num_workers"),
    [(1, 1, 1), (2, 1, 1), (4, 1, 2), (64, 1, 8), (64, 8, 4), (16, 8, 1), (2, 8, 1)],
)
def test_the_default_number_of_workers_follows_the_cores_of_a_process(
    cores: int, processes: int, num_workers: int, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detr_lite.cores.usable_cores", lambda: cores)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    assert default_workers(processes) == num_workers
    transform, train = evaluation_transform(RESIZE), read_split(tiny_data, "train")
    data = DetectionData(train, train, transform, transform, RESIZE, batch_size=2, num_workers=None, seed=0)
    data.trainer = MagicMock(num_devices=processes, global_rank=0, world_size=processes)
    assert data.val_dataloader().num_workers == num_workers
