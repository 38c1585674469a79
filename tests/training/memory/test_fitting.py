"""Settings that fit, by a formula in place of an estimate."""

import pytest

from detr_lite.training.memory.fitting import Fitting, remedies, required_bytes
from detr_lite.training.memory.peak import Peak, StepSize

SIZE = StepSize(images=16, height=640, width=640, is_half=False)


def required(size):
    """100 for the model, and 1 for an image of 640 x 640, half of it in 16 bits, a third with checkpointing."""
    pixels = size.images * size.height * size.width / 640**2
    return int(100 + 60 * pixels * (0.5 if size.is_half else 1) * (0.3 if size.gradient_checkpointing else 1))


def find(memory, size=SIZE, can_recompute=True, accumulated=1):
    return remedies(Fitting(required, memory), size, 640, accumulated, can_recompute)


def test_every_setting_that_is_enough_by_itself_is_named_with_its_value():
    assert find(700) == [
        "--trainer.precision bf16-mixed",
        "--data.batch_size 8 --optim.accumulate_grad_batches 2",
        "--trainer.gradient_checkpointing true",
        "--data.image_size 480",
    ]


def test_what_is_named_fits_and_is_not_smaller_than_it_must_be():
    fitting = Fitting(required, 350)
    assert fitting.images(SIZE) == 4
    factor = fitting.scale(SIZE)
    assert 250 < required(StepSize(16, round(640 * factor), round(640 * factor), is_half=False)) <= 350
    assert fitting.scale(StepSize(1, 64, 64)) == 1


def test_accumulated_batches_keep_the_images_of_a_step():
    assert "--data.batch_size 2 --optim.accumulate_grad_batches 24" in find(230, accumulated=3)


def test_all_together_where_none_is_enough():
    (line,) = find(101, can_recompute=True)
    everything = "--data.batch_size 1 --optim.accumulate_grad_batches 16 --trainer.precision bf16-mixed"
    assert line.startswith((f"{everything} --trainer.gradient_checkpointing true", "--data.image_size"))


def test_nothing_where_the_model_alone_is_too_large():
    assert find(99) == []


@pytest.mark.parametrize("images", [1, 7])
def test_a_batch_is_divided_evenly(images):
    size = StepSize(images, 640, 640, is_half=False)
    assert Fitting(required, 170).images(size) == 1
    assert Fitting(required, 10).images(size) is None


def test_more_is_required_than_the_tensors_take():
    assert required_bytes(Peak(2**30, 0, 0, 2**30)) > 3 * 2**30
