"""A batch size that was left open, with memory of a chosen size in place of a GPU's."""

from dataclasses import replace

import numpy as np
import pytest

from detr_lite.config import Config, DataConfig, ModelConfig, OptimConfig, TrainerConfig
from detr_lite.structures import Category, DetrLiteError
from detr_lite.training.auto import choose_sizes, keep_choices
from detr_lite.training.memory import batch_size
from detr_lite.training.memory.batch_size import fit_batch_size, largest_step
from detr_lite.training.memory.peak import FakeStep
from tests.helpers.splits import split_of


@pytest.fixture
def train():
    sizes = [(320, 160), (160, 320), (200, 200)] * 400
    boxes = [np.array([[0, 0, 40, 40]] * (1 + index % 3), np.float32) for index in range(len(sizes))]
    labels = [np.zeros(len(each), np.int64) for each in boxes]
    return split_of(sizes, boxes, labels, (Category(1, "ant"), Category(5, "bear")))


@pytest.fixture
def on_gpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)


class Needs(FakeStep):
    """In place of the estimate: 100 bytes, and 10 for an image."""

    def __init__(self, monkeypatch):
        self.sizes = []
        monkeypatch.setattr(batch_size, "fake_step", lambda *_, **__: self)
        monkeypatch.setattr("detr_lite.training.memory.fitting.required_bytes", lambda peak: peak)

    def peak(self, size):
        self.sizes.append(size)
        return 100 + 10 * size.images // (2 if size.gradient_checkpointing else 1)


def choose(given, train, memory, processes=1):
    config, _ = choose_sizes(given, train)
    return fit_batch_size(config, given, train, "32-true", processes, memory)


@pytest.mark.usefixtures("on_gpu")
@pytest.mark.parametrize(("memory", "size", "times"), [(180, 8, 1), (179, 4, 2), (139, 2, 4), (110, 1, 8)])
def test_the_largest_batch_that_fits_is_accumulated_to_what_was_asked(monkeypatch, train, caplog, memory, size, times):
    Needs(monkeypatch)
    caplog.set_level("INFO", logger="detr_lite")
    config = choose(Config(), train, memory)
    assert (config.data.batch_size, config.optim.accumulate_grad_batches) == (size, times)
    assert config.optim.lr == choose_sizes(Config(), train)[0].optim.lr
    told = f"chose --data.batch_size {size}: more images do not fit" in caplog.text
    assert told == (size < 8)
    assert (f"--optim.accumulate_grad_batches {times} a step still has 8" in caplog.text) == (size < 8)


@pytest.mark.usefixtures("on_gpu")
def test_what_was_given_stays(monkeypatch, train):
    needs = Needs(monkeypatch)
    assert choose(Config(data=DataConfig(batch_size=8)), train, 101).data.batch_size == 8
    assert needs.sizes == []
    config = choose(Config(optim=OptimConfig(accumulate_grad_batches=3)), train, 140)
    assert (config.data.batch_size, config.optim.accumulate_grad_batches) == (4, 3)


def test_nothing_changes_on_a_processor(monkeypatch, train):
    needs = Needs(monkeypatch)
    given = Config(trainer=TrainerConfig(accelerator="cpu"))
    assert choose(given, train, 1) == choose_sizes(given, train)[0]
    assert needs.sizes == []


@pytest.mark.usefixtures("on_gpu")
def test_a_single_image_that_does_not_fit_is_refused(monkeypatch, train):
    Needs(monkeypatch)
    with pytest.raises(
        DetrLiteError, match=r"single image does not fit .* give --trainer\.gradient_checkpointing true"
    ):
        choose(Config(), train, 105)
    with pytest.raises(DetrLiteError, match=r"single image does not fit .* give a smaller --data\.image_size"):
        choose(Config(), train, 50)


@pytest.mark.usefixtures("on_gpu")
def test_without_an_estimate_the_run_starts(monkeypatch, train):
    monkeypatch.setattr(batch_size, "fake_step", lambda *_, **__: 1 / 0)
    assert choose(Config(), train, 1) == choose_sizes(Config(), train)[0]


@pytest.mark.usefixtures("on_gpu")
def test_a_resumed_run_keeps_both_numbers(monkeypatch, train):
    Needs(monkeypatch)
    before = choose(Config(), train, 139)
    kept = keep_choices(Config(), before)
    assert (kept.data.batch_size, kept.optim.accumulate_grad_batches) == (2, 4)
    assert fit_batch_size(kept, kept, train, "32-true", 1, 10**9) == kept


def test_the_largest_step_is_that_of_a_batch(train):
    config, _ = choose_sizes(Config(data=DataConfig(batch_size=4, image_size=320, resize="longest")), train)
    size = largest_step(config, train, "bf16-mixed")
    assert (size.images, size.objects, size.is_half) == (4, 3, True)
    assert 200 * 200 <= size.height * size.width <= 320 * 320
    detr = largest_step(replace(config, data=replace(config.data, augmentation="detr")), train, "32-true")
    assert (detr.height, detr.width, detr.is_half) == (320, 320, False)


@pytest.mark.stress
@pytest.mark.usefixtures("on_gpu")
def test_an_estimate_decides(train):
    model = ModelConfig(pretrained=False, dim=32, heads=2, decoder_layers=1, num_queries=20)
    given = Config(model=model, data=DataConfig(image_size=320))
    assert choose(given, train, 2**36).data.batch_size == 8
    few = choose(given, train, 2**30 + 2**27)
    assert few.data.batch_size < 8
    assert few.data.batch_size * few.optim.accumulate_grad_batches == 8
