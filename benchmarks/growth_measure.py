"""Time and memory of a function at sizes that double, each in a process of its own."""

import gc
import json
import math
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from detr_lite.allocator import give_back_freed_memory

REPEATS = 7
SECONDS = 0.4
"""Of processor time for the repeats of one size, if it takes so long; at least two are made."""
LEAST_BYTES = 16_000_000
"""Memory below which its growth is not told from that of the blocks that the allocator has or takes at once."""
TOLERANCE = 0.2
"""By how much a measured exponent may exceed 1 where the growth is linear: caches of the processor fill up."""


@dataclass(frozen=True)
class Case:
    """A part of the program, and one number that it may grow with."""

    name: str
    axis: str
    ends: tuple[int, int]
    """The smallest and the largest size, a power of two apart."""
    prepare: Callable[[int, Path], Callable[[], object]]
    """(size, an empty folder) -> what is measured."""
    reason: str = ""
    """Why it may grow faster than linearly."""

    def sizes(self, shrink: int = 1) -> list[int]:
        """Doubling sizes; `shrink` leaves out the largest ones."""
        count = round(math.log2(self.ends[1] / self.ends[0])) + 1
        return [self.ends[0] << step for step in range(max(2, count - shrink + 1))]


@dataclass(frozen=True)
class Growth:
    """What was measured of a case."""

    case: Case
    sizes: list[int]
    seconds: list[float]
    """Processor time, the least of the repeats."""
    bytes: list[int]
    """Most memory of the first call, beyond what the process had before."""

    @property
    def time_exponent(self) -> float:
        return exponent(self.sizes, self.seconds)

    @property
    def memory_exponent(self) -> float | None:
        """None where there is too little memory to tell."""
        upper = self.bytes[len(self.bytes) // 2 :]
        return exponent(self.sizes, self.bytes) if min(upper) >= LEAST_BYTES else None

    @property
    def is_above_linear(self) -> bool:
        return max(self.time_exponent, self.memory_exponent or 0) > 1 + TOLERANCE


def exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    """The slope of the logarithms in the upper half of the sizes, by least squares."""
    upper = len(sizes) // 2
    points = [(math.log(size), math.log(max(value, 1e-9))) for size, value in zip(sizes, values, strict=True)][upper:]
    if len(points) < 2:
        points = [(math.log(size), math.log(max(value, 1e-9))) for size, value in zip(sizes, values, strict=True)]
    mean_x, mean_y = (sum(column) / len(points) for column in zip(*points, strict=True))
    return float(sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points))


def measure_growth(case: Case, sizes: Sequence[int]) -> Growth:
    """Errors: whatever the case raises, as `RuntimeError`."""
    found = [_in_fork(case, size) for size in sizes]
    return Growth(case, list(sizes), [seconds for seconds, _ in found], [size for _, size in found])


def _in_fork(case: Case, size: int) -> tuple[float, int]:
    """A fork has the imports already, and its memory holds nothing of other measurements."""
    reading, writing = os.pipe()
    gc.collect()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            with tempfile.TemporaryDirectory(prefix="detr_lite_growth_") as folder:
                result: object = _measure(case.prepare(size, Path(folder)))
        except BaseException:
            result = traceback.format_exc()
        with os.fdopen(writing, "w") as stream:
            json.dump(result, stream)
        sys.stdout.flush()
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        answer = stream.read()
    os.waitpid(child, 0)
    found = json.loads(answer) if answer else "the process was killed"
    if isinstance(found, str):
        raise RuntimeError(f"{case.name}, {size:,} {case.axis}: {found}")
    return found[0], found[1]


def _measure(function: Callable[[], object]) -> tuple[float, int]:
    gc.collect()
    before = _reset_peak()
    start = time.process_time()
    kept = function()
    seconds = [time.process_time() - start]
    most = _peak() - before
    del kept
    while len(seconds) < 3 or (len(seconds) < REPEATS and sum(seconds) < SECONDS):
        start = time.process_time()
        function()
        seconds.append(time.process_time() - start)
    return min(seconds[1:]), most


def _reset_peak() -> int:
    """The memory that this process holds; from here on its peak is counted anew (proc(5), clear_refs).

    What the allocator keeps of memory freed before is given back: a call that takes it again would seem to need none.
    """
    give_back_freed_memory()
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _peak() -> int:
    return _status("VmHWM")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])
