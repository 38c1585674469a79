"""Freed memory is reused: in a process of its own, as the setting is that of the whole process."""

import os
import subprocess
import sys

import pytest

from detr_lite import allocator

FAULTS = """
import resource, sys
import torch
from detr_lite.allocator import keep_freed_memory

print(keep_freed_memory() if sys.argv[1] == "keep" else None)

def use():
    parts = [torch.ones(10_000_000) for _ in range(4)]  # 40 MB each

for _ in range(5):
    use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(word, **variables):
    environment = {name: value for name, value in os.environ.items() if name not in allocator.VARIABLES}
    words = [sys.executable, "-c", FAULTS, word]
    result = subprocess.run(words, capture_output=True, text=True, check=True, env=environment | variables)
    kept, faults = result.stdout.split()
    return kept, int(faults)


@pytest.mark.stress
@pytest.mark.skipif(sys.platform != "linux" or "glibc" not in str(os.confstr("CS_GNU_LIBC_VERSION")), reason="glibc")
def test_large_tensors_reuse_the_memory_of_earlier_ones():
    kept, faults = run("keep")
    assert kept == "True"
    assert faults < run("leave")[1] / 4


def test_what_the_user_has_set_stays(monkeypatch):
    for name in allocator.VARIABLES:
        monkeypatch.setenv(name, "1")
        assert not allocator.keep_freed_memory()
        monkeypatch.delenv(name)


def test_other_c_libraries_stay_as_they_are(monkeypatch):
    for name in allocator.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _: object())
    assert not allocator.keep_freed_memory()
