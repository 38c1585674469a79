from collections import Counter

import numpy as np
import pytest
import torch
from lightning.fabric.utilities.data import _set_sampler_epoch

from detr_lite.data.sampler import BucketedBatchSampler, SeededBatchSampler


def random_sizes(images: int, seed: int = 0) -> list[tuple[int, int]]:
    return [(int(h), int(w)) for h, w in np.random.default_rng(seed).integers(128, 257, (images, 2))]


def padding_share(sizes: list[tuple[int, int]], batches: list[list[int]]) -> float:
    shapes = [np.array([sizes[index] for index in batch]) for batch in batches]
    total = sum(len(shape) * shape[:, 0].max() * shape[:, 1].max() for shape in shapes)
    return float(1 - sum(shape.prod(axis=1).sum() for shape in shapes) / total)


@pytest.mark.parametrize("images", [0, 1, 7, 16, 17, 2001])
@pytest.mark.parametrize("shuffle", [True, False])
def test_a_single_rank_sees_every_image_once(images: int, shuffle: bool) -> None:
    sampler = BucketedBatchSampler(random_sizes(images), 16, shuffle)
    batches = list(sampler)
    assert len(batches) == len(sampler)
    assert sorted(index for batch in batches for index in batch) == list(range(images))
    assert all(type(index) is int for batch in batches for index in batch)
    assert all(1 <= len(batch) <= 16 for batch in batches)
    if shuffle:
        assert len(batches) == -(-images // 16)
        assert sum(len(batch) < 16 for batch in batches) <= 1


@pytest.mark.parametrize("batch_size", [1, 4, 1000])
def test_without_shuffle_images_of_a_batch_have_one_size(batch_size: int) -> None:
    """Padding would change their scores. There are no more batches than that needs."""
    kinds = [(64, 48), (48, 64), (64, 64), (63, 64)]
    sizes = [kinds[index] for index in np.random.default_rng(0).integers(0, 4, 101)]
    batches = list(BucketedBatchSampler(sizes, batch_size, shuffle=False))
    assert all(len({sizes[index] for index in batch}) == 1 for batch in batches)
    assert len(batches) == sum(-(-sizes.count(kind) // batch_size) for kind in kinds)
    assert padding_share(sizes, batches) == 0


@pytest.mark.parametrize("images", [1, 100, 333])
@pytest.mark.parametrize("world_size", [2, 3, 8])
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_rank_gets_the_same_number_of_batches(images: int, world_size: int, shuffle: bool) -> None:
    sizes = random_sizes(images)
    single = list(BucketedBatchSampler(sizes, 4, shuffle, seed=5))
    ranks = [BucketedBatchSampler(sizes, 4, shuffle, 5, rank, world_size) for rank in range(world_size)]
    per_rank = [list(sampler) for sampler in ranks]
    assert {len(batches) for batches in per_rank} == {len(ranks[0])} == {-(-len(single) // world_size)}
    # Together the ranks have the single rank's batches, and start over at the end.
    steps = list(zip(*per_rank, strict=True))
    together = [tuple(batch) for step in steps for batch in step]
    assert Counter(together[: len(single)]) == Counter(map(tuple, single))
    assert together[len(single) :] == [together[place % len(single)] for place in range(len(single), len(together))]
    if not shuffle:
        assert together[: len(single)] == [tuple(batch) for batch in single]
    if len(single) >= world_size:  # no batch counts twice in a step
        assert all(len(set(map(tuple, step))) == world_size for step in steps)


def test_order_depends_on_seed_and_epoch_only() -> None:
    sizes = random_sizes(300)

    def batches(seed: int, epoch: int) -> list[list[int]]:
        sampler = BucketedBatchSampler(sizes, 8, shuffle=True, seed=seed)
        sampler.set_epoch(epoch)
        torch.rand(seed + epoch + 1)  # the global generator has no influence
        order = list(sampler)
        assert list(sampler) == order
        return order

    assert batches(1, 2) == batches(1, 2)
    orders = [batches(1, 2), batches(1, 3), batches(2, 2), batches(2, 1)]
    compositions = [{tuple(sorted(batch)) for batch in order} for order in orders]
    for first in range(4):
        for second in range(first):
            assert len(compositions[first] & compositions[second]) <= 2


def test_ranks_change_places_and_companions_from_step_to_step_and_epoch_to_epoch() -> None:
    sizes = random_sizes(1280)
    pixels = np.prod(sizes, axis=1)
    ranks = [BucketedBatchSampler(sizes, 4, True, 1, rank, 4) for rank in range(4)]
    means, companions = [], []
    for epoch in range(2):
        for sampler in ranks:
            sampler.set_epoch(epoch)
        per_rank = [list(sampler) for sampler in ranks]
        assert per_rank == [list(sampler) for sampler in ranks]
        means.append([np.mean([pixels[batch].mean() for batch in batches]) for batches in per_rank])
        companions.append([{image for batch in step for image in batch} for step in zip(*per_rank, strict=True)])
    assert np.max(means) / np.min(means) < 1.03  # no rank always has the small ones
    costs = [[pixels[list(step)].mean() for step in epoch] for epoch in companions]
    assert all(abs(np.corrcoef(cost, range(len(cost)))[0, 1]) < 0.3 for cost in costs)  # steps are in no order of size
    assert max(len(first & second) for first in companions[0] for second in companions[1]) < 10  # of 16


def test_without_shuffle_the_epoch_changes_nothing() -> None:
    sampler = BucketedBatchSampler(random_sizes(100), 8, shuffle=False)
    before = list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) == before


def test_an_image_is_batched_with_many_others() -> None:
    sampler = BucketedBatchSampler(random_sizes(2000), 16, shuffle=True)
    partners: set[int] = set()
    for epoch in range(10):
        sampler.set_epoch(epoch)
        (batch,) = [batch for batch in sampler if 0 in batch]
        partners |= set(batch) - {0}
    assert len(partners) > 60  # of 150 possible; sorting all 2,000 at once would give 15


def test_images_of_one_size_are_shuffled_freely() -> None:
    sampler = BucketedBatchSampler([(480, 640)] * 640, 16, shuffle=True)
    first = next(iter(sampler))
    assert max(first) - min(first) > 300


def test_similar_shapes_save_padding() -> None:
    sizes = random_sizes(2000)
    order = np.random.default_rng(1).permutation(2000).tolist()
    unbucketed = padding_share(sizes, [order[start : start + 16] for start in range(0, 2000, 16)])
    bucketed = padding_share(sizes, list(BucketedBatchSampler(sizes, 16, shuffle=True)))
    assert unbucketed > 0.38
    assert bucketed < 0.14


def test_lightning_sets_the_epoch() -> None:
    sampler = BucketedBatchSampler(random_sizes(40), 4, shuffle=True)
    loader = torch.utils.data.DataLoader(range(40), batch_sampler=sampler)  # type: ignore[arg-type]
    _set_sampler_epoch(loader, 9)
    assert sampler.epoch == 9


@pytest.mark.parametrize(("batch_size", "rank", "world_size"), [(0, 0, 1), (4, 2, 2), (4, -1, 2)])
def test_impossible_settings_are_refused(batch_size: int, rank: int, world_size: int) -> None:
    with pytest.raises(ValueError, match="is not possible"):
        BucketedBatchSampler(random_sizes(4), batch_size, True, 0, rank, world_size)


def test_the_last_part_of_a_run_is_known_by_epoch_and_batch() -> None:
    batches = BucketedBatchSampler([(480, 640)] * 20, 4, shuffle=True, seed=1)
    asked: list[tuple[int, int]] = []

    def is_late(epoch: int, batch: int) -> bool:
        asked.append((epoch, batch))
        return (epoch, batch) >= (2, 3)

    sampler = SeededBatchSampler(batches, is_late)
    sampler.start_at(2, 1)
    found = list(sampler)
    assert asked == [(2, 1), (2, 2), (2, 3), (2, 4)]
    assert [{draw.is_late for draw in batch} for batch in found] == [{False}, {False}, {True}, {True}]
    plain = SeededBatchSampler(batches)
    plain.start_at(2, 1)
    assert [[draw[:2] for draw in batch] for batch in found] == [[draw[:2] for draw in batch] for batch in plain]
    assert not any(draw.is_late for batch in plain for draw in batch)
