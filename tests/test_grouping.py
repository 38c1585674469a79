"""Places of equal numbers, as a search for each would find them."""

import numpy as np
import pytest

from detr_lite.grouping import places_of_each


@pytest.mark.parametrize("entries", [0, 1, 7, 200])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_places_are_those_of_a_search(entries: int, count: int) -> None:
    numbers = np.random.default_rng(entries).integers(0, 6, entries)
    found = places_of_each(numbers, count)
    assert len(found) == count
    for number, places in enumerate(found):
        np.testing.assert_array_equal(places, np.flatnonzero(numbers == number))
