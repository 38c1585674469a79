"""A run that runs out of memory ends with one line that names settings which fit."""

from dataclasses import replace

import pytest
import torch

from detr_lite.training.memory import out_of_memory
from detr_lite.training.memory.out_of_memory import is_out_of_memory, out_of_memory_error
from detr_lite.training.memory.peak import FakeStep
from detr_lite.training.module import DetectionModule

CPU = torch.device("cpu")


def line(config, shape=(4, 3, 64, 64), device=CPU):
    module = DetectionModule.__new__(DetectionModule)
    torch.nn.Module.__init__(module)
    module.images_shape, module.most_objects = shape, 2
    return str(out_of_memory_error(module, config, 3, "32-true", device))


@pytest.fixture
def by_formula(monkeypatch):
    """100 bytes, and 1 for each 1,000 pixels of an image."""

    class Formula(FakeStep):
        def __init__(self):
            pass

        def peak(self, size):
            return 100 + size.images * size.height * size.width // 1000 // (2 if size.gradient_checkpointing else 1)

    monkeypatch.setattr(out_of_memory, "fake_step", lambda *_, **__: Formula())
    monkeypatch.setattr(out_of_memory, "required_bytes", lambda peak: peak)
    monkeypatch.setattr("detr_lite.training.memory.fitting.required_bytes", lambda peak: peak)


@pytest.mark.usefixtures("by_formula")
def test_the_line_names_size_and_settings(tiny_config):
    config = replace(tiny_config, data=replace(tiny_config.data, image_size=640))
    text = line(config, (4, 3, 400, 640))
    assert text.startswith("out of memory on cpu with 4 images of 640 x 400 pixels; by estimate, one of these fits: ")
    assert "--data.batch_size 2 --optim.accumulate_grad_batches 2" in text
    assert "--trainer.gradient_checkpointing true" in text
    assert "--data.image_size 576" in text
    assert "\n" not in text


@pytest.mark.usefixtures("by_formula")
def test_on_a_gpu_its_memory_is_the_limit(tiny_config, monkeypatch):
    monkeypatch.setattr(out_of_memory, "device_memory", lambda device: 360)
    text = line(tiny_config, (4, 3, 400, 640), device=torch.device("cuda", 0))
    assert text.startswith("out of memory on cuda:0 (0.0 GiB) with 4 images")
    assert "--data.batch_size 1 --optim.accumulate_grad_batches 4" in text
    assert "checkpointing" not in text


def test_without_an_estimate_the_advice_is_general(tiny_config, monkeypatch):
    monkeypatch.setattr(out_of_memory, "fake_step", lambda *_, **__: 1 / 0)
    general = "try --data.batch_size 2 --optim.accumulate_grad_batches 2; or --trainer.gradient_checkpointing true"
    assert general in line(tiny_config)
    assert general in line(tiny_config, shape=None)


def test_what_counts():
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("shapes differ"))


@pytest.mark.parametrize("step", ["training_step", "validation_step"])
@pytest.mark.slow
def test_a_run_ends_with_that_line(tiny_file, tmp_path, monkeypatch, refusal, step):
    def fail(self, batch, index):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(DetectionModule, step, fail)
    monkeypatch.setattr(out_of_memory, "fake_step", lambda *_, **__: 1 / 0)
    text = refusal("train", "--config", tiny_file, "--run_dir", tmp_path / "run")
    assert text.startswith("out of memory on cpu with ")
    assert "images of 64 x" in text
    assert "--data.batch_size 2 --optim.accumulate_grad_batches 2" in text
