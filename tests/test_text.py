"""Text for messages."""

import math

import pytest

from detr_lite.text import format_duration, shorten_list, shorten_middle


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, ""), (1, "0"), (3, "0, 1, 2"), (4, "0, 1, 2 and 1 more"), (2003, "0, 1, 2 and 2,000 more")],
)
def test_a_long_list_says_how_many_more_there_are(count: int, expected: str) -> None:
    assert shorten_list(range(count), 3) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0, "0:00"),
        (59.4, "0:59"),
        (59.6, "1:00"),
        (3599.0, "59:59"),
        (7210.0, "2:00:10"),
        (-1.0, "0:00"),
        (math.inf, "?:??"),
    ],
)
def test_durations(seconds: float, expected: str) -> None:
    assert format_duration(seconds) == expected


def test_a_long_text_keeps_its_two_ends() -> None:
    assert shorten_middle("a" * 200) == "a" * 200
    short = shorten_middle("first" + "a" * 6000 + "last")
    assert short.startswith("firsta")
    assert short.endswith("alast")
    assert len(short) == 200
