"""The latency table at a toy size. How long it takes is not tested."""

import pytest

from benchmarks.latency import latency_table
from detr_lite.structures import DetrLiteError
from tests.benchmarks.test_peers import LITE


@pytest.mark.stress
def test_a_row_for_each_model_and_number_of_threads() -> None:
    lines = latency_table(LITE, side=64, threads=[1, 2], repeats=1, classes=5).splitlines()
    models = ["lite", "RT-DETRv2 of transformers", "D-FINE of transformers"]
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:8]] == [*models, *models]
    assert lines[0] == "| ms of one image, 64 x 64 | threads | torch | ONNX | ONNX int8 |"


def test_wrong_arguments() -> None:
    with pytest.raises(DetrLiteError, match="--threads and --repeats"):
        latency_table(LITE, side=64, threads=[], repeats=1)
    with pytest.raises(DetrLiteError, match="multiple of 32"):
        latency_table(LITE, side=65, threads=[1], repeats=1)
