import numpy as np
import pytest

from benchmarks.balance import coco_sizes, deal
from detr_lite.data.transforms import ResizeRule


@pytest.mark.parametrize(
    ("rule", "batch_size"), [(ResizeRule("longest", 640), 16), (ResizeRule("shortest", 800, 1333), 2)]
)
def test_processes_get_about_as_many_pixels_in_each_step(rule: ResizeRule, batch_size: int) -> None:
    sizes_wh = coco_sizes(3000)
    in_turn = deal(sizes_wh, rule, "light", batch_size, processes=8, is_alike=False)
    alike = deal(sizes_wh, rule, "light", batch_size, processes=8)
    assert in_turn.slowest > 1.12
    assert alike.slowest <= 1.03
    assert alike.padding == pytest.approx(in_turn.padding, rel=0.05)  # the same batches but for the last steps
    assert np.ptp(alike.padded.sum(axis=0)) < 0.03 * alike.padded.sum(axis=0).mean()
