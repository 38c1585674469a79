"""Random numbers that depend on the test alone, not on those that the same process has run before."""

import random
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_by(name: str) -> None:
    """Each test has a seed of its own, or what two of them draw would be alike by accident."""
    seed = zlib.crc32(name.encode())
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@contextmanager
def apart(name: str) -> Iterator[None]:
    """Draw from a seed of its own, and continue afterwards as if nothing had been drawn."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seed_by(name)
    yield
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
