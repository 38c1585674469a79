"""Waiting for other processes."""

import time
from collections.abc import Callable

PATIENCE = 300.0
"""Seconds after which something is taken to hang: many times what it needs on a busy machine."""


def wait_for(is_so: Callable[[], object], seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
