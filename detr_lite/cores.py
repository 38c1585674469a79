"""How many CPU cores this process may use."""

import os
import time
from math import ceil
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
"""Where Linux shows the limits of containers and jobs."""
LOAD = Path("/proc/loadavg")
"""Where it shows how many threads want to compute."""
SPINS = "GOMP_SPINCOUNT"
"""Environment variable of libgomp, which torch's wheels use; read once, when torch is imported."""


def usable_cores() -> int:
    """Cores that the process is allowed to run on: a container or a job may have fewer than the machine."""
    # macOS and Windows have no affinity to ask for.
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return allowed if quota is None else max(1, min(allowed, ceil(quota)))


def cores_of_rank(processes: int) -> int:
    """Cores of each of several processes that share this machine, at least 1.

    SLURM says how many it has given to each (`--cpus-per-task`); otherwise all have the same ones and share them.
    """
    given = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if given.isdecimal() and int(given) > 0:
        return min(usable_cores(), int(given))
    return max(1, usable_cores() // processes)


def cpu_quota() -> float | None:
    """Cores' worth of time that the control groups of this process allow, such as `docker run --cpus 4`; None for no
    limit. The process may run on more cores than that, but is then stopped for a part of the time."""
    quotas = [
        quota
        for folder in _cgroup_folders()
        for quota in (_quota_v2(folder / "cpu.max"), _quota_v1(folder))
        if quota is not None and quota > 0
    ]
    return min(quotas, default=None)


def _cgroup_folders() -> list[Path]:
    """Those of the process's own group and of all above it, whose limits hold for it too, for versions 1 and 2."""
    folders = []
    for line in _read("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        root = CGROUPS if not controllers else CGROUPS / "cpu" if "cpu" in controllers.split(",") else None
        if root is not None:
            # A container sees its own group as the root, under whatever name it has outside.
            own = root / path.lstrip("/")
            folders += [each for each in (own, *own.parents) if each.is_relative_to(root)]
    return folders


def _quota_v2(file: Path) -> float | None:
    words = _read(file).split()
    return int(words[0]) / int(words[1]) if len(words) == 2 and words[0].isdecimal() else None


def _quota_v1(folder: Path) -> float | None:
    quota, period = (_read(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else None  # -1 is no limit


def _read(file: str | Path) -> str:
    try:
        return Path(file).read_text()
    except OSError:
        return ""


def limit_spinning() -> None:
    """Let waiting threads sleep after a moment if other programs share the cores; call it before torch is imported.

    libgomp's threads spin before they sleep, which is fastest where they have the cores for themselves. Where they do
    not, they keep the one that they wait for from its core: with 20000 spins a step took 8 times as long, and with 1000
    on free cores up to twice as long (docs/performance.md). A number that the user has set stays.
    """
    if SPINS not in os.environ and cores_are_shared():
        os.environ[SPINS] = "1000"


def cores_are_shared() -> bool:
    """Whether other programs compute on cores that this process may use, in most of three moments."""
    spare = (os.cpu_count() or 1) - usable_cores()  # on which others may compute
    return sum(_others_computing(moment > 0) > spare for moment in range(3)) >= 2


def _others_computing(after_a_moment: bool) -> int:
    """Threads of the machine that are running or ready to run, without this one; 0 where the system does not say."""
    if after_a_moment:
        time.sleep(0.005)
    try:
        return int(LOAD.read_text().split()[3].split("/")[0]) - 1
    except (OSError, ValueError, IndexError):
        return 0
