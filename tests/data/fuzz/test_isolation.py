"""The process that watches the fuzz sees what it is there to see."""

import os
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import isolation


def misbehave(number: int) -> None:
    if number == 1:
        raise ValueError("first\nsecond")
    if number == 2:
        while True:
            pass
    if number == 3:
        np.ones(300 * 2**20, dtype=np.uint8)  # more than a busy machine may have taken from the process by then
    if number == 4:
        print("a line", file=sys.stderr)
    if number == 5:
        os.write(2, b"from C")
    if number == 6:
        warnings.warn("unusual", RuntimeWarning, stacklevel=1)
    if number == 7:
        os.abort()


@pytest.mark.slow
def test_each_fault_is_named_with_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "MAX_SECONDS", 2.0)
    monkeypatch.setattr(isolation, "MAX_BYTES", 50 * 2**20)
    faults = isolation.run_isolated(misbehave, range(9), tmp_path)
    expected = ["1: ValueError", "2: more than 2", "3: ", "4: on stderr: 'a line", "5: on stderr: 'from C'"]
    expected += ["6: on stderr: 'warning: unusual", "7: the process ended with status"]
    assert len(faults) == len(expected), faults
    for fault, start in zip(faults, expected, strict=True):
        assert fault.startswith(start), fault
    assert "MB of memory" in faults[2]


def test_good_work_has_no_faults(tmp_path: Path) -> None:
    assert isolation.run_isolated(lambda number: None, range(20), tmp_path) == []
