"""Which of several processes this is, known from the environment before torch.distributed is set up."""

import os

RANK_VARIABLES = ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK")
"""Set by torchrun, SLURM or Lightning; on rank 0, and there alone, all that are set are 0."""


def is_first_process() -> bool:
    return all(os.environ.get(name, "0") == "0" for name in RANK_VARIABLES)
