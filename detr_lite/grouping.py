"""Places of equal numbers in an array, without a look at the whole array for each of them."""

from itertools import pairwise

import numpy as np
from jaxtyping import Int, Int64


def places_of_each(numbers: Int[np.ndarray, " entry"], count: int) -> list[Int64[np.ndarray, " _"]]:
    """Where 0, 1, ... `count` - 1 stand in the array, in ascending order."""
    order = np.argsort(numbers, kind="stable")
    ends = np.searchsorted(numbers[order], np.arange(count + 1))
    return [order[start:stop] for start, stop in pairwise(ends.tolist())]
