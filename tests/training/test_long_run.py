"""Memory and open files do not grow over a long run."""

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import pytest

from detr_lite.config import Config, Invocation
from tests.helpers import fault_injection
from tests.helpers.run_files import rows_of

STEPS = 600


@dataclass(frozen=True)
class Sample:
    """Resources of the processes of a run at one moment."""

    step: int
    main: float
    """Memory of the training process, in MB."""
    worker: float
    """The same of the largest of its loading processes."""
    files: int
    """Open files of all of them."""


def memory_of(pid: int) -> float:
    """Resident and swapped memory in MB, shared or not: what is shared changes as loading processes start and end."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssShmem", "VmSwap"))) / 1024


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def sample(pid: int, folder: Path) -> Sample | None:
    """None before the first row of metrics.csv, and while processes start or end."""
    try:
        rows = rows_of(folder)
        workers = children_of(pid)
        files = sum(len([*Path(f"/proc/{process}/fd").iterdir()]) for process in (pid, *workers))
        return Sample(int(rows[-1]["step"]), memory_of(pid), max(map(memory_of, workers)), files)
    except (FileNotFoundError, ProcessLookupError, IndexError, KeyError, ValueError):
        return None


@pytest.mark.stress
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_memory_and_open_files_do_not_grow(tiny_config: Config, tmp_path: Path) -> None:
    """Over 600 steps with a loading process, many epochs, evaluations and checkpoints."""
    config = replace(
        tiny_config,
        data=replace(tiny_config.data, augmentation="light", num_workers=1, batch_size=2),
        optim=replace(tiny_config.optim, ema_decay=0.99),
        trainer=replace(tiny_config.trainer, max_epochs=STEPS // 4, num_evaluations=5, checkpoint_minutes=0.05),
    )
    process = fault_injection.start(Invocation(config, "tiny", tmp_path / "run", resume=None, overwrite=False))
    samples: list[Sample] = []
    assert process.pid is not None
    while process.is_alive():
        taken = sample(process.pid, tmp_path / "run")
        samples += [taken] if taken else []
        time.sleep(0.1)
    assert process.exitcode == 0
    assert rows_of(tmp_path / "run")[-1]["step"] == str(STEPS)

    early = [taken for taken in samples if STEPS / 4 <= taken.step < STEPS / 2]
    late = [taken for taken in samples if taken.step >= 3 * STEPS / 4]
    assert min(len(early), len(late)) >= 10
    # Medians, as an evaluation briefly needs more, and each tensor on its way from a worker is an open file.
    # Were the batch of each step kept, it would be 15 MB and 900 files more. A forked worker also copies pages of its
    # parent as it touches them (13 MB were seen), so what it keeps shows in its open files.
    for what, growth in (("main", 8), ("worker", 40), ("files", 12)):
        before, after = (median(getattr(taken, what) for taken in part) for part in (early, late))
        assert after <= before + growth, f"{what}: {before:.1f}, then {after:.1f}"
