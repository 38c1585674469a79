"""How many cores a process may use."""

import os
from pathlib import Path

import pytest

from detr_lite import cores
from detr_lite.cores import SPINS, cores_are_shared, cores_of_rank, cpu_quota, limit_spinning, usable_cores


@pytest.fixture(autouse=True)
def no_limits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither control groups nor SLURM, whatever the tests run in."""
    monkeypatch.setattr(cores, "CGROUPS", tmp_path)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)


def allow(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(count)) if pid == 0 else set(), raising=False)


def in_cgroup(monkeypatch: pytest.MonkeyPatch, lines: str) -> None:
    read = cores._read
    monkeypatch.setattr(cores, "_read", lambda file: lines if file == "/proc/self/cgroup" else read(file))


def test_the_affinity_of_the_process_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    allow(monkeypatch, 3)
    assert usable_cores() == 3


@pytest.mark.parametrize(("count", "expected"), [(6, 6), (None, 1)])
def test_where_there_is_no_affinity_all_cores_count(
    monkeypatch: pytest.MonkeyPatch, count: int | None, expected: int
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: count)
    assert usable_cores() == expected


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.max": "400000 100000"}, 4),
        ({"job/cpu.max": "max 100000", "cpu.max": "250000 100000"}, 2.5),
        ({"job/task/cpu.max": "600000 100000", "job/cpu.max": "200000 100000"}, 2),  # the narrowest of all above it
        ({"other/cpu.max": "100000 100000"}, None),
        ({"cpu.max": ""}, None),
    ],
)
def test_control_groups_limit_the_cores(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: dict[str, str], quota: float | None
) -> None:
    in_cgroup(monkeypatch, "0::/job/task\n")
    allow(monkeypatch, 64)
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{content}\n")
    assert cpu_quota() == quota
    assert usable_cores() == {None: 64, 2.5: 3}.get(quota, quota)


@pytest.mark.parametrize(("microseconds", "quota"), [("-1", None), ("150000", 1.5)])
def test_so_do_those_of_the_first_version(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, microseconds: str, quota: float | None
) -> None:
    in_cgroup(monkeypatch, "3:cpuset:/\n2:cpu,cpuacct:/docker/abc\n")
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text(f"{microseconds}\n")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert cpu_quota() == quota


def test_a_machine_without_control_groups_has_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    in_cgroup(monkeypatch, "")
    assert cpu_quota() is None


@pytest.mark.parametrize(("processes", "expected"), [(1, 64), (8, 8), (7, 9), (100, 1)])
def test_processes_share_the_cores(monkeypatch: pytest.MonkeyPatch, processes: int, expected: int) -> None:
    allow(monkeypatch, 64)
    assert cores_of_rank(processes) == expected


@pytest.mark.parametrize(("allowed", "given", "expected"), [(8, "8", 8), (64, "8", 8), (4, "8", 4), (64, "", 16)])
def test_slurm_gives_each_process_cores_of_its_own(
    monkeypatch: pytest.MonkeyPatch, allowed: int, given: str, expected: int
) -> None:
    allow(monkeypatch, allowed)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", given)
    assert cores_of_rank(4) == expected


def with_load(monkeypatch: pytest.MonkeyPatch, *running: object) -> None:
    """As many threads run at each moment; the last number stays."""
    moments = [f"0.10 0.20 0.30 {each}/80 123\n" for each in running]

    class Load:
        def read_text(self) -> str:
            return moments.pop(0) if len(moments) > 1 else moments[0]

    monkeypatch.setattr(cores, "LOAD", Load())


@pytest.mark.parametrize(
    ("allowed", "running", "expected"),
    [
        (2, (1,), False),  # this thread alone
        (2, (2,), True),
        (2, (2, 1, 1), False),  # something that ended at once
        (2, (2, 1, 2), True),
        (1, (2,), False),  # on the other core
        (1, (3,), True),
        (2, ("?",), False),
    ],
)
def test_cores_are_shared_where_others_compute(
    monkeypatch: pytest.MonkeyPatch, allowed: int, running: tuple[object, ...], expected: bool
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    allow(monkeypatch, allowed)
    with_load(monkeypatch, *running)
    assert cores_are_shared() == expected
    monkeypatch.delenv(SPINS, raising=False)
    limit_spinning()
    assert os.environ.pop(SPINS, None) == ("1000" if expected else None)


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    with_load(monkeypatch, 50)
    monkeypatch.setenv(SPINS, "7")
    limit_spinning()
    assert os.environ[SPINS] == "7"


def test_systems_that_do_not_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cores, "LOAD", tmp_path / "loadavg")
    assert not cores_are_shared()
