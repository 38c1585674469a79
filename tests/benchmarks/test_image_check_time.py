"""The benchmark of the check of images: its rows, and that the second time takes the cache. Times are not tested."""

import re
from collections.abc import Callable
from typing import Any


def test_first_second_and_changed(run_tool: Callable[..., Any]) -> None:
    ended = run_tool("benchmark", "images", "--images", 12)
    assert ended.code == 0, ended.err
    assert re.findall(r"^\| ([a-z ]+) \| \d+\.\d\d \|", ended.out, flags=re.MULTILINE) == [
        "first time",
        "second time",
        "after a change of one file",
    ]
    assert ended.out.count("reading and checking") == 2, "the second time nothing is read"
    size = re.search(r"12 photographs of 640 x 480, (\d+) kB each", ended.out)
    assert size is not None
    assert 90 < int(size[1]) < 200


def test_no_images(refusal: Callable[..., str]) -> None:
    assert refusal("benchmark", "images", "--images", 0) == "--images is 0; it must be at least 1"
