"""What a test draws at random does not depend on the tests before it."""

import random

import numpy as np
import pytest
import torch

from tests.helpers.seeds import apart, seed_by


def drawn() -> tuple[float, float, float]:
    return random.random(), np.random.rand(), torch.rand(()).item()


@pytest.fixture(scope="module")
def drawn_for_all() -> tuple[float, float, float]:
    return drawn()


def test_each_test_has_a_seed_of_its_own(request: pytest.FixtureRequest) -> None:
    first = drawn()
    seed_by(request.node.nodeid)
    assert drawn() == first
    seed_by("another test")
    assert not set(drawn()) & set(first)


def test_a_fixture_of_a_module_draws_apart_from_the_test_that_needs_it_first(
    drawn_for_all: tuple[float, float, float], request: pytest.FixtureRequest
) -> None:
    first = drawn()
    with apart("tests/test_seeds.py::drawn_for_all"):
        assert drawn() == drawn_for_all
    seed_by(request.node.nodeid)
    assert drawn() == first
