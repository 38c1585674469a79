"""Batches of images of similar shape, so that little of a batch is padding."""

from collections.abc import Iterator, Sequence
from itertools import islice
from math import ceil, isqrt
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64

CHUNK_BATCHES = 32
"""Batches that are sorted together. More would leave less padding, but make the same images meet more often."""


class Draw(NamedTuple):
    """Which image, by its position in the data set, and the seed of its augmentation."""

    position: int
    seed: int


def mixed_seed(*numbers: int) -> int:
    """One seed of several numbers, such as a run's seed, an epoch and a position; near ones give unrelated seeds."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


class BucketedBatchSampler(torch.utils.data.Sampler[list[int]]):
    """Lists of positions in `sizes`, a batch each.

    The shuffled images are cut into chunks of many batches. Each chunk is sorted into strips of similar aspect, and
    each strip by area; batches are cut from that and shuffled. So their composition changes from epoch to epoch, and
    depends on (seed, epoch) only. Without `shuffle` all images are one chunk and everything has a fixed order.

    Every rank gets the same number of batches: where the number does not divide, the first ones come again. A single
    rank sees every image exactly once; one batch may be smaller than the others.

    `sizes` holds (height, width) of each image as the model sees it, after the resize rule.
    """

    def __init__(
        self,
        sizes: Sequence[tuple[int, int]],
        batch_size: int,
        shuffle: bool,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size < 1 or not 0 <= rank < world_size:
            raise ValueError(f"impossible batch size {batch_size} or rank {rank} of {world_size}")
        self.sizes = np.array(sizes, dtype=np.int64).reshape(-1, 2)
        self.batch_size, self.shuffle, self.seed = batch_size, shuffle, seed
        self.rank, self.world_size = rank, world_size
        self.epoch = 0

    @property
    def sampler(self) -> "BucketedBatchSampler":
        """This object itself: Lightning tells the epoch to `dataloader.batch_sampler.sampler`, and to nobody else."""
        return self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        """Batches of one rank."""
        return ceil(self._all_batches / self.world_size)

    def __iter__(self) -> Iterator[list[int]]:
        batches = self._batches()
        for position in range(self.rank, len(self) * self.world_size, self.world_size):
            yield batches[position % len(batches)].tolist()

    @property
    def _all_batches(self) -> int:
        return ceil(len(self.sizes) / self.batch_size)

    def _batches(self) -> list[Int64[np.ndarray, " _"]]:
        """The epoch's batches for all ranks together."""
        if not self.shuffle:
            return self._sorted_batches(np.arange(len(self.sizes)))
        random = np.random.default_rng((self.seed, self.epoch))
        order = random.permutation(len(self.sizes))
        # Chunks of about equal size: a small rest would have too few images to choose similar ones from.
        chunks = ceil(self._all_batches / CHUNK_BATCHES)
        ends = [self.batch_size * (self._all_batches * chunk // chunks) for chunk in range(1, chunks)]
        batches = [batch for chunk in np.split(order, ends) for batch in self._sorted_batches(chunk)]
        return [batches[index] for index in random.permutation(len(batches))]

    def _sorted_batches(self, images: Int64[np.ndarray, " image"]) -> list[Int64[np.ndarray, " _"]]:
        """Cut images into batches of similar shape: as many strips of aspect as there are steps of area in each."""
        height, width = self.sizes[images].T
        images = images[np.argsort(height / width, kind="stable")]
        strip = self.batch_size * max(1, isqrt(ceil(len(images) / self.batch_size)))
        batches = []
        for start in range(0, len(images), strip):
            similar = images[start : start + strip]
            similar = similar[np.argsort(self.sizes[similar].prod(axis=1), kind="stable")]
            batches += [similar[first : first + self.batch_size] for first in range(0, len(similar), self.batch_size)]
        return batches


class SeededBatches(torch.utils.data.Sampler[list[Draw]]):
    """The sampler's batches, each image with a seed for its augmentation.

    An image's seed follows from (seed, epoch, image) alone: not from the process that loads it, nor from what was
    drawn before it. So an epoch can be entered at any batch.
    """

    def __init__(self, batches: BucketedBatchSampler) -> None:
        self.batches = batches
        self._first = (0, 0)

    @property
    def sampler(self) -> "SeededBatches":
        """As of `BucketedBatchSampler`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        self.batches.set_epoch(epoch)

    def enter(self, epoch: int, batch: int) -> None:
        """Begin that epoch at that batch, every other one at its first."""
        self._first = (epoch, batch)
        self.set_epoch(epoch)

    def __len__(self) -> int:
        """Batches of a whole epoch, wherever it is entered."""
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Draw]]:
        epoch = self.batches.epoch
        first = self._first[1] if self._first[0] == epoch else 0
        for batch in islice(self.batches, first, None):
            yield [Draw(index, mixed_seed(self.batches.seed, epoch, index)) for index in batch]
