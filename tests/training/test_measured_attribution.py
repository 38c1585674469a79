"""`evaluate --attribution`: which objects it measures, and what it writes."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from detr_lite.data.reading import read_split
from detr_lite.detector import Detector
from detr_lite.training import measured_attribution
from detr_lite.training.measured_attribution import measure_attribution, report_attribution


@pytest.fixture
def checkpoint(finished_run, tmp_path):
    path = tmp_path / "run" / "checkpoints" / "best.ckpt"
    path.parent.mkdir(parents=True)
    return shutil.copy(finished_run / "checkpoints" / "best.ckpt", path)


class Finding(Detector):
    """Detects the first object of each image with a score of 0.8, among others that are wrong."""

    truth: dict[tuple[int, int], tuple[torch.Tensor, int]]

    def explain(self, image, selection=None):
        explained = super().explain(image, selection)
        box, label = self.truth[image.size]
        detections = explained.detections[:3]
        wrong = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
        detections = replace(
            detections,
            boxes_xyxy=torch.cat([wrong, box[None], box[None]]),
            scores=torch.tensor([0.9, 0.8, 0.1]),
            labels=torch.tensor([label, label, label]),
        )
        return replace(explained, detections=detections)


@pytest.fixture
def detector(checkpoint, tiny_data):
    detector = Finding.from_checkpoint(checkpoint, "cpu")
    split = read_split(tiny_data, "val")
    detector.truth = {
        (record.width, record.height): (torch.tensor(record.boxes_xyxy[0]).float(), int(record.labels[0]))
        for record in split.images
        if len(record.labels)
    }
    return detector


@pytest.mark.stress
def test_found_objects_are_measured_one_in_each_image(detector, tiny_data, tmp_path, caplog):
    split = read_split(tiny_data, "val")
    with_objects = sum(len(record.labels) > 0 for record in split.images)
    found = measure_attribution(detector, split, 100, threshold=0.5)
    assert len(found) == with_objects
    for each in found:
        assert len(each.queries) == 1
    assert len(measure_attribution(detector, split, 1, threshold=0.5)) == 1
    assert measure_attribution(detector, split, 1, threshold=0.85) == []  # only the wrong one scores as much
    with caplog.at_level("INFO"):
        report_attribution(found, 100, tmp_path)
    content = json.loads((tmp_path / "attribution.json").read_text())
    assert content["objects"] == with_objects
    assert (tmp_path / "attribution.png").stat().st_size > 10_000
    assert f"only {with_objects} images have an object that is found, of 100 asked for" in caplog.text
    assert "occlusion" in caplog.text


def test_without_found_objects_nothing_is_claimed(tmp_path, caplog):
    report_attribution([], 5, tmp_path)
    assert json.loads((tmp_path / "attribution.json").read_text())["objects"] == 0
    assert "no annotated object of these images is found" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("tiles", [(), ("--tile", 48)], ids=["whole", "tiles"])
def test_the_tool_measures_as_many_as_it_is_told(run_tool, checkpoint, tmp_path, monkeypatch, tiles):
    asked = []
    monkeypatch.setattr(
        "detr_lite.training.evaluate.measure_attribution",
        lambda detector, split, objects, threshold: asked.append(objects) or [],
    )
    words = ("--checkpoint", checkpoint, "--num_workers", 0, "--attribution", 3, "--output", tmp_path / "out", *tiles)
    ended = run_tool("evaluate", *words)
    assert ended.code == 0, ended.err
    assert ("of whole pictures, not of tiles" in ended.out) == bool(tiles)
    assert asked == [3]
    assert {*measured_attribution.ATTRIBUTION_FILES} <= {path.name for path in (tmp_path / "out").iterdir()}


def test_a_number_below_one_is_refused(refusal, checkpoint):
    message = refusal("evaluate", "--checkpoint", checkpoint, "--attribution", 0)
    assert message == "--attribution is 0; it must be at least 1"
