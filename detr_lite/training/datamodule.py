"""Data loaders of a run."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

try:
    import resource
except ImportError:  # Windows, which has no such limit
    resource = None  # type: ignore[assignment]

import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset

from detr_lite.cores import cores_of_rank
from detr_lite.data.collate import collate
from detr_lite.data.dataset import DetectionDataset
from detr_lite.data.records import Split
from detr_lite.data.sampler import BucketedBatchSampler, SeededBatchSampler
from detr_lite.data.transforms import ResizeRule
from detr_lite.structures import Batch
from detr_lite.training.augmentation_stop import AugmentationStop
from detr_lite.training.distributed.signals import reset_worker_signals
from detr_lite.training.lightning_internals import epoch_and_batch


def default_workers(processes: int = 1) -> int:
    """One loading process for every two cores of each of the processes that share this machine, from 1 to 8."""
    return min(8, max(1, cores_of_rank(processes) // 2))


def make_loader(
    split: Split,
    transform: torch.nn.Module,
    resize: ResizeRule,
    batch_size: int,
    num_workers: int,
    shuffle: bool = False,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    late_transform: torch.nn.Module | None = None,
    is_late: Callable[[int, int, int], bool] | None = None,
) -> DataLoader[Batch]:
    """Batches of images of similar shape.

    Args:
        resize: as in `transform`; it gives the sizes that the images will have.
        shuffle: draw the order, and the random numbers of each image's augmentation, from `seed`, epoch and index.
        rank, world_size: which share of each step's images to load.
        late_transform: of the batches for which `is_late` (epoch, batch, batches of an epoch) is true, if shuffled.
    """
    batches = BucketedBatchSampler(
        sizes=[resize.target_size(height, width) for width, height in split.images.sizes_wh.tolist()],
        batch_size=batch_size,
        shuffle=shuffle,
        seed=seed,
        rank=rank,
        world_size=world_size,
    )
    dataset: Dataset[Batch] = DetectionDataset(split, transform, late_transform)  # type: ignore[assignment]
    late = None if is_late is None else lambda epoch, batch: is_late(epoch, batch, len(batches))
    return loader_of(dataset, batches, collate, num_workers, late)


def loader_of(
    dataset: Dataset[Any],
    batches: BucketedBatchSampler,
    collate: Callable[[list[Any]], Any],
    num_workers: int,
    is_late: Callable[[int, int], bool] | None = None,
) -> DataLoader[Any]:
    """Batches of any task: where they are shuffled the dataset is given a `SeededIndex`, else the index alone."""
    return DataLoader(
        dataset,
        batch_sampler=SeededBatchSampler(batches, is_late) if batches.shuffle else batches,
        collate_fn=collate,
        num_workers=num_workers,
        worker_init_fn=reset_worker_signals,
        persistent_workers=batches.shuffle and num_workers > 0,
        # A generator of its own, or creating an iterator would advance torch's global one, which the model uses.
        generator=torch.Generator().manual_seed(batches.seed),
        pin_memory=torch.cuda.is_available(),
    )


def allow_open_files(wanted: int = 65_536) -> None:
    """Raise the limit on open files: each tensor on its way from a loading process is one."""
    if resource is not None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if 0 <= soft < wanted:
            with contextlib.suppress(OSError, ValueError):  # macOS allows less than it reports
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard < 0 else min(wanted, hard), hard))


class DetectionData(L.LightningDataModule):
    """Training and validation images of one dataset."""

    def __init__(
        self,
        train: Split,
        val: Split,
        train_transform: torch.nn.Module,
        val_transform: torch.nn.Module,
        resize: ResizeRule,
        batch_size: int,
        num_workers: int | None,
        seed: int,
        late_transform: torch.nn.Module | None = None,
        augmentation_stop: float = 1.0,
    ) -> None:
        """
        Args:
            num_workers: by default as the cores of the trainer's processes on this machine allow.
            late_transform: of training images after the share `augmentation_stop` of the run.
        """
        super().__init__()
        self.train = train
        self.val = val
        self.train_transform = train_transform
        self.val_transform = val_transform
        self.resize = resize
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.late_transform = late_transform
        self.stop = AugmentationStop(augmentation_stop)

    def train_dataloader(self) -> DataLoader[Batch]:
        loader = self._loader(self.train, self.train_transform, shuffle=True)
        if self.trainer:
            # Lightning sets the epoch too, but only after the workers of a resumed run have started to load.
            assert isinstance(loader.batch_sampler, SeededBatchSampler)
            loader.batch_sampler.start_at(*epoch_and_batch(self.trainer))
        return loader

    def training_batch(self, epoch: int, index: int, rank: int, world_size: int) -> Batch:
        """One batch of one rank, exactly as in training."""
        loader = self._loader(self.train, self.train_transform, shuffle=True, ranks=(rank, world_size), is_replay=True)
        assert isinstance(loader.batch_sampler, SeededBatchSampler)
        loader.batch_sampler.start_at(epoch, index)
        images: Any = loader.dataset
        return collate([images[draw] for draw in next(iter(loader.batch_sampler))])

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._loader(self.val, self.val_transform, shuffle=False)

    def _loader(
        self,
        split: Split,
        transform: torch.nn.Module,
        shuffle: bool,
        ranks: tuple[int, int] | None = None,
        is_replay: bool = False,
    ) -> DataLoader[Batch]:
        """`ranks` is (rank, world size), by default that of the trainer."""
        if ranks is None:
            ranks = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        num_workers = self.num_workers
        if num_workers is None:
            num_workers = default_workers(self.trainer.num_devices if self.trainer else 1)
        return make_loader(
            split,
            transform,
            self.resize,
            self.batch_size,
            num_workers,
            shuffle,
            self.seed,
            rank=ranks[0],
            world_size=ranks[1],
            late_transform=self.late_transform if shuffle else None,
            is_late=functools.partial(self.stop.replay if is_replay else self.stop.draw, self.trainer),
        )
