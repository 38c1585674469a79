"""How many CPU cores this process may use."""

import os


def usable_cores() -> int:
    """Cores that the process is allowed to run on: a container or a job may have fewer than the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS and Windows have no affinity to ask for
