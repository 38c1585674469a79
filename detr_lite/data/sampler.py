"""Batch samplers: images of similar shape in a batch, to save padding, and a reproducible seed for each image."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import islice, pairwise
from math import ceil, isqrt
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64

CHUNK_BATCHES = 32
"""Batches whose images are sorted together. More would save padding, but put the same images together more often."""


class SeededIndex(NamedTuple):
    """The index of an image in the dataset, and what its augmentation depends on."""

    image: int
    seed: int
    is_late: bool = False
    """Belongs to the last part of a run, in which most of the augmentation is switched off."""


def derive_seed(*numbers: int) -> int:
    """A seed from several numbers, such as a run's seed, an epoch and an index; close numbers give unrelated seeds."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


class BucketedBatchSampler(torch.utils.data.Sampler[list[int]]):
    """Batches of indices into `sizes`, the (height, width) of each image after resizing.

    The shuffled images are split into chunks of many batches. Each chunk is sorted into strips of similar aspect ratio,
    each strip by area, and cut into batches, which are shuffled. Batches change from epoch to epoch and depend only on
    (seed, epoch). Without `shuffle` a batch has images of one size only, in a fixed order: padding changes what a model
    predicts at its border, and in an evaluation no image's scores may depend on the others of its batch.

    Every rank gets the same number of batches: if the number is not divisible, the first batches are repeated. A single
    rank sees every image exactly once; in training one batch may be smaller than the others. With `shuffle` the ranks
    get batches of about as many padded pixels in each step, since all wait for the slowest.
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
            raise ValueError(f"batch size {batch_size} or rank {rank} of {world_size} is not possible")
        self.sizes = np.array(sizes, dtype=np.int64).reshape(-1, 2)
        self.batch_size, self.shuffle, self.seed = batch_size, shuffle, seed
        self.rank, self.world_size = rank, world_size
        self.epoch = 0

    @property
    def sampler(self) -> "BucketedBatchSampler":
        """Itself, because Lightning calls `set_epoch` on `dataloader.batch_sampler.sampler` only."""
        return self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        """Batches of one rank."""
        return ceil(self._all_batches / self.world_size)

    def __iter__(self) -> Iterator[list[int]]:
        batches = self._batches()
        for index in range(self.rank, len(self) * self.world_size, self.world_size):
            yield batches[index % len(batches)].tolist()

    @cached_property
    def _all_batches(self) -> int:
        return ceil(len(self.sizes) / self.batch_size) if self.shuffle else len(self._equal_batches)

    def _batches(self) -> list[Int64[np.ndarray, " _"]]:
        """The epoch's batches of all ranks."""
        if not self.shuffle:
            return self._equal_batches
        random = np.random.default_rng((self.seed, self.epoch))
        order = random.permutation(len(self.sizes))
        # Chunks of about equal size, because a small last one would have too few images of similar shape.
        chunks = ceil(self._all_batches / CHUNK_BATCHES)
        ends = [self.batch_size * (self._all_batches * chunk // chunks) for chunk in range(1, chunks)]
        batches = [batch for chunk in np.split(order, ends) for batch in self._sorted_batches(chunk)]
        shuffled = [batches[index] for index in random.permutation(len(batches))]
        return shuffled if self.world_size == 1 else self._dealt_alike(shuffled, random)

    def _dealt_alike(
        self, batches: list[Int64[np.ndarray, " _"]], random: np.random.Generator
    ) -> list[Int64[np.ndarray, " _"]]:
        """The same shuffled batches in another order, in which those of one step have about as many padded pixels.

        Batches of as many steps as a chunk has batches are sorted together: of more, the largest images of all would
        meet in every epoch. What is left of the last step stays at the end.
        """
        steps = len(batches) // self.world_size
        if steps == 0:
            return batches
        costs = self._padded_pixels(batches)
        dealt = []
        for first in range(0, steps, CHUNK_BATCHES):
            places = np.arange(first * self.world_size, min(first + CHUNK_BATCHES, steps) * self.world_size)
            dealt.append(places[np.argsort(costs[places], kind="stable")].reshape(-1, self.world_size))
        # Shuffled within a step, too, or rank 0, whose batch norm statistics are kept, would have the smallest batches.
        by_step = random.permuted(random.permutation(np.concatenate(dealt)), axis=1)
        return [*(batches[place] for place in by_step.ravel()), *batches[steps * self.world_size :]]

    def _padded_pixels(self, batches: list[Int64[np.ndarray, " _"]]) -> Int64[np.ndarray, " batch"]:
        """Pixels of each batch, whose images are padded to its largest height and width."""
        counts = np.array([len(batch) for batch in batches], dtype=np.int64)
        largest = np.maximum.reduceat(self.sizes[np.concatenate(batches)], np.cumsum(counts) - counts)
        pixels: np.ndarray = counts * largest.prod(axis=1)
        return pixels

    @cached_property
    def _equal_batches(self) -> list[Int64[np.ndarray, " _"]]:
        """All images in batches of equal height and width."""
        order = np.lexsort((self.sizes[:, 1], self.sizes[:, 0]))
        changes = np.flatnonzero(np.diff(self.sizes[order], axis=0).any(axis=1)) + 1
        ends = [0, *changes.tolist(), len(order)]
        return [
            order[first : min(first + self.batch_size, end)]
            for start, end in pairwise(ends)
            for first in range(start, end, self.batch_size)
        ]

    def _sorted_batches(self, images: Int64[np.ndarray, " image"]) -> list[Int64[np.ndarray, " _"]]:
        """Split images into batches of similar shape, with as many strips as there are batches in a strip."""
        height, width = self.sizes[images].T
        images = images[np.argsort(height / width, kind="stable")]
        strip = self.batch_size * max(1, isqrt(ceil(len(images) / self.batch_size)))
        batches = []
        for start in range(0, len(images), strip):
            similar = images[start : start + strip]
            similar = similar[np.argsort(self.sizes[similar].prod(axis=1), kind="stable")]
            batches += [similar[first : first + self.batch_size] for first in range(0, len(similar), self.batch_size)]
        return batches


class SeededBatchSampler(torch.utils.data.Sampler[list[SeededIndex]]):
    """The batches of a `BucketedBatchSampler`, each image with the seed of its augmentation.

    The seed depends only on (seed, epoch, image), neither on the worker nor on earlier images, so that a resumed run
    can start at any batch of an epoch.

    Args:
        is_late: (epoch, batch) -> whether it belongs to the last part of the run; called as the batch is drawn.
    """

    def __init__(self, batches: BucketedBatchSampler, is_late: Callable[[int, int], bool] | None = None) -> None:
        self.batches = batches
        self.is_late = is_late
        self._start = (0, 0)

    @property
    def sampler(self) -> "SeededBatchSampler":
        """Itself, as in `BucketedBatchSampler`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        self.batches.set_epoch(epoch)

    def start_at(self, epoch: int, batch: int) -> None:
        """Continue with this epoch, skipping the batches before `batch`; later epochs are complete."""
        self._start = (epoch, batch)
        self.set_epoch(epoch)

    def __len__(self) -> int:
        """Batches of a complete epoch."""
        return len(self.batches)

    def __iter__(self) -> Iterator[list[SeededIndex]]:
        epoch = self.batches.epoch
        first = self._start[1] if self._start[0] == epoch else 0
        for number, batch in enumerate(islice(self.batches, first, None), start=first):
            is_late = self.is_late is not None and self.is_late(epoch, number)
            yield [SeededIndex(index, derive_seed(self.batches.seed, epoch, index), is_late) for index in batch]
