"""A small, readable DETR."""

import os

# Before torch is loaded: its threads that wait shall spin for a moment only, then sleep. On a processor shared with
# data loading or other programs, threads that spin on keep the very one waiting that they wait for: a small step took
# 70 times as long. Sleeping at once costs a sixth of the speed on an idle machine; this costs none.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")
