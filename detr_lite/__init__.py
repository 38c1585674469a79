"""A small, readable DETR."""

import os

# Before torch is loaded: its threads that wait shall sleep, not spin. On a processor that is shared with data loading
# or with other programs, spinning threads keep the very one waiting that they wait for (steps became 70 times slower).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
