from dataclasses import replace

import numpy as np
import pytest

from detr_lite.config import Config, DataConfig, ModelConfig, OptimConfig, TrainerConfig
from detr_lite.data.records import Split
from detr_lite.structures import Category
from detr_lite.training.auto import choose_sizes, keep_choices
from detr_lite.training.default_lr import RATES
from tests.helpers.splits import split_of


def split(images: int, side: int, extents: dict[int, float], objects: int = 4) -> Split:
    """Images of side x side / 2, each with `objects` square objects, whose labels and extents come in turn."""
    kinds = sorted(extents)
    all_boxes, all_labels = [], []
    for index in range(images):
        labels = np.array(
            [kinds[(index + number) % len(kinds)] for number in range(objects)] if kinds else [], np.int64
        )
        size = np.array([extents[label] for label in labels.tolist()], np.float32)
        corner = np.zeros_like(size)
        all_boxes.append(np.stack([corner, corner, size, size], axis=1).reshape(-1, 4))
        all_labels.append(labels)
    categories = (Category(1, "ant"), Category(5, "bear"))
    return split_of([(side, side // 2)] * images, all_boxes, all_labels, categories)


def chosen(train: Split, **data: object) -> Config:
    return choose_sizes(Config(data=DataConfig(**data)), train)[0]


def test_what_is_given_stays_and_needs_no_reason():
    config = Config(
        data=DataConfig(batch_size=3, image_size=77, resize="longest", orientation="upright"),
        model=ModelConfig(num_queries=9, freeze_first_stage=True),
        optim=OptimConfig(optimizer="adamw", lr=1e-3, backbone_lr_factor=0.5, accumulate_grad_batches=1),
    )
    assert choose_sizes(config, split(5, 400, {0: 20.0})) == (config, [])


@pytest.mark.parametrize(
    ("extents", "stride", "size"),
    [
        ({0: 50.0, 1: 300.0}, 8, 256),  # 20 of 256 pixels are two and a half tokens of 8
        ({0: 49.0, 1: 300.0}, 8, 288),
        ({0: 50.0, 1: 300.0}, 16, 512),
        ({0: 300.0}, 8, 128),
        ({0: 5.0, 1: 300.0}, 8, 640),
    ],
)
def test_the_class_with_the_smallest_objects_spans_some_tokens(extents, stride, size):
    config = Config(model=ModelConfig(strides=(stride, 2 * stride), pretrained=False))
    resolved, reasons = choose_sizes(config, split(100, 640, extents))
    assert resolved.data.image_size == size
    assert any(f"--data.image_size {size}" in reason for reason in reasons)
    if len(extents) == 2:
        assert any("ant, the class with the smallest objects" in reason for reason in reasons)


@pytest.mark.parametrize(
    ("side", "extent", "size", "resize"),
    [
        (96, 25.0, 160, "fit"),  # 40 of 154 pixels are two and a half tokens of 16
        (96, 42.0, 96, "longest"),
        (100, 38.0, 128, "longest"),  # not for the few pixels by which a size is rounded
        (96, 1.0, 640, "fit"),
        (640, 10.0, 640, "longest"),
        (6000, 10.0, 640, "longest"),  # not all of a large photograph is used
    ],
)
def test_images_are_enlarged_where_their_smallest_objects_need_it(side, extent, size, resize):
    data = chosen(split(10, side, {0: extent, 1: side / 2})).data
    assert (data.image_size, data.resize) == (size, resize)


def test_what_is_given_decides_how_images_are_resized():
    train = split(10, 96, {0: 25.0})
    assert chosen(train, resize="longest").data.image_size == 96
    assert chosen(train, resize="shortest").data.image_size == 96  # 25 of 48 pixels
    assert chosen(train, resize="fit").data.image_size == 160
    assert chosen(train, image_size=256).data.resize == "fit"
    assert chosen(train, image_size=64).data.resize == "longest"
    assert chosen(split(10, 256, {0: 50.0}), image_size=320).data.resize == "longest"


def test_small_images_among_large_ones_do_not_set_the_size():
    mixed = [*split(60, 100, {0: 30.0}).images, *split(40, 4000, {1: 160.0}).images]
    train = split_of(
        [(record.width, record.height) for record in mixed],
        [record.boxes_xyxy for record in mixed],
        [record.labels for record in mixed],
        (Category(1, "ant"), Category(5, "bear")),
    )
    assert chosen(train).data.image_size > 128


def test_the_reason_says_what_limits():
    def reasons(train, **data):
        return " ".join(choose_sizes(Config(data=DataConfig(**data)), train)[1])

    assert "--data.resize fit: nine of ten images have no more than 96 pixels" in reasons(split(10, 96, {0: 5.0}))
    assert "images are no larger" in reasons(split(10, 96, {0: 5.0}), resize="longest")
    assert "cost more" in reasons(split(10, 4000, {0: 20.0}))
    assert "at most 300" in reasons(split(3, 320, {0: 50.0}, objects=120))
    assert "at least 20" in reasons(split(3, 320, {0: 50.0}, objects=0))


def test_a_class_of_boxes_next_to_nothing_still_gives_a_size():
    assert chosen(split(3, 320, {0: 1e-25})).data.image_size == 320
    assert chosen(split(3, 320, {0: 1e-25, 1: 50.0})).data.image_size == 256


@pytest.mark.parametrize("pretrained", [True, "weights.safetensors"])
def test_pretrained_weights_get_images_of_the_size_they_have_seen(pretrained):
    large = {0: 300.0}
    for side, size in ((640, 224), (200, 224), (150, 160)):  # the last two are enlarged at most to a multiple of 32
        config, reasons = choose_sizes(
            Config(model=ModelConfig(pretrained=pretrained, strides=(8, 16))), split(100, side, large)
        )
        assert config.data.image_size == size
        assert any("less than 224 is never chosen for pretrained weights" in line for line in reasons) == (size == 224)


@pytest.mark.parametrize(
    ("settings", "is_frozen"),
    [
        (ModelConfig(), True),
        (ModelConfig(backbone="tf_efficientnet_lite0", pretrained="weights.safetensors"), True),
        (ModelConfig(pretrained=False, init_from="best.ckpt"), True),
        (ModelConfig(backbone="vit_tiny_patch16_224"), False),  # has no stages
        (ModelConfig(pretrained=False), False),
        (ModelConfig(freeze_first_stage=False), False),
    ],
)
def test_the_first_stage_of_a_trained_backbone_is_frozen(settings, is_frozen):
    config, reasons = choose_sizes(Config(model=settings), split(3, 320, {0: 50.0}))
    assert config.model.freeze_first_stage == is_frozen
    assert any("--model.freeze_first_stage true" in reason for reason in reasons) == is_frozen


@pytest.mark.parametrize(
    ("settings", "augmentation"),
    [
        (ModelConfig(), "photographs"),
        (ModelConfig(pretrained="weights.safetensors"), "photographs"),
        (ModelConfig(pretrained=False, init_from="best.ckpt"), "photographs"),
        (ModelConfig(pretrained=False), "light"),
    ],
)
def test_open_augmentation_follows_the_weights(settings, augmentation):
    data = split(3, 320, {0: 50.0})
    config, reasons = choose_sizes(Config(model=settings, data=DataConfig(augmentation=None)), data)
    assert config.data.augmentation == augmentation
    assert any(f"--data.augmentation {augmentation}: " in reason for reason in reasons)
    many, _ = choose_sizes(Config(model=settings, data=DataConfig(augmentation=None)), split(513, 320, {0: 50.0}))
    assert many.data.augmentation == "light"
    config, reasons = choose_sizes(Config(model=settings, data=DataConfig(augmentation="none")), data)
    assert config.data.augmentation == "none"
    assert not any("--data.augmentation" in reason for reason in reasons)


@pytest.mark.parametrize(
    ("settings", "factor"),
    [
        (ModelConfig(), 0.05),
        (ModelConfig(name="detr"), 0.1),
        (ModelConfig(pretrained=False), 1.0),
        (ModelConfig(pretrained=False, init_from="best.ckpt"), 0.05),
    ],
)
def test_a_trained_backbone_gets_a_lower_learning_rate(settings, factor):
    config, reasons = choose_sizes(Config(model=settings), split(3, 320, {0: 50.0}))
    assert config.optim.backbone_lr_factor == factor
    assert any("are trained already" in reason for reason in reasons) == (factor < 1)


def test_the_rate_follows_model_optimizer_batch_and_width():
    def rate(name: str = "lite", optimizer: str | None = None, batch: int = 8, dim: int = 128, times: int = 1) -> float:
        config = Config(
            data=DataConfig(batch_size=batch),
            model=ModelConfig(name=name, dim=dim),
            optim=OptimConfig(optimizer=optimizer, accumulate_grad_batches=times),
        )
        resolved, reasons = choose_sizes(config, split(50, 320, {0: 30.0}))
        assert any(f"--optim.lr {resolved.optim.lr:g}: {resolved.optim.optimizer}" in reason for reason in reasons)
        return resolved.optim.lr

    assert rate() == RATES["lite", "muon"]
    assert rate("detr") == RATES["detr", "adamw"]
    assert rate(optimizer="adamw") == RATES["lite", "adamw"]
    assert rate(batch=32) == pytest.approx(2 * rate())
    assert rate(times=4) == pytest.approx(2 * rate())
    assert rate(dim=512) == pytest.approx(rate() / 2)


def test_the_rate_is_for_the_images_that_all_processes_have_in_a_step():
    config = Config(data=DataConfig(batch_size=8))
    alone, _ = choose_sizes(config, split(50, 320, {0: 30.0}))
    together, reasons = choose_sizes(config, split(50, 320, {0: 30.0}), processes=4)
    assert together.optim.lr == pytest.approx(2 * alone.optim.lr)
    assert any("32 images in a step (4 processes x 8)" in reason for reason in reasons)
    accumulating = replace(config, optim=OptimConfig(accumulate_grad_batches=2))
    together, reasons = choose_sizes(accumulating, split(50, 320, {0: 30.0}), processes=8)
    assert together.optim.lr == pytest.approx(4 * alone.optim.lr)
    assert any("128 images in a step (8 processes x 2 accumulated x 8)" in reason for reason in reasons)


def test_a_resumed_run_keeps_what_was_chosen_and_what_is_given_now_wins():
    before = choose_sizes(Config(), split(50, 320, {0: 30.0}))[0]
    assert keep_choices(Config(), before) == before
    assert keep_choices(Config(data=DataConfig(batch_size=3)), before).data.batch_size == 3


def test_the_shorter_side_is_meant_where_the_rule_is_of_the_shorter_side():
    train = split(10, 640, {0: 25.0})
    assert chosen(train, resize="shortest").data.image_size == 512
    assert chosen(train).data.image_size == 640


@pytest.mark.parametrize(
    ("images", "batch"), [(1, 4), (292, 4), (1_023, 4), (1_024, 8), (2_047, 8), (2_048, 16), (9_000, 16)]
)
def test_small_data_gets_small_batches(images, batch, monkeypatch):
    train = split(images, 320, {0: 50.0}, objects=1)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert chosen(train).data.batch_size == batch


@pytest.mark.parametrize(
    ("images", "extent", "batch"), [(1, 50.0, 4), (9_000, 50.0, 4), (1, 15.0, 4), (1, 14.0, 2), (9_000, 5.0, 2)]
)
def test_on_a_processor_steps_are_small_and_smaller_where_images_are_large(images, extent, batch):
    config = Config(trainer=TrainerConfig(accelerator="cpu"), model=ModelConfig(strides=(8, 16)))
    resolved, reasons = choose_sizes(config, split(images, 320, {0: extent}, objects=1))
    assert resolved.data.batch_size == batch
    assert any(f"--data.batch_size {batch}: on a processor" in reason for reason in reasons)


@pytest.mark.parametrize(("objects", "queries"), [(0, 20), (1, 20), (12, 50), (30, 120), (900, 300)])
def test_lite_has_a_query_for_each_token_that_learns_an_object(objects, queries):
    assert chosen(split(3, 320, {0: 50.0}, objects=objects)).model.num_queries == queries


@pytest.mark.parametrize(("objects", "queries"), [(0, 20), (13, 20), (14, 30), (30, 50)])
def test_the_original_has_half_as_many_queries_again_as_the_fullest_image_has_objects(objects, queries):
    config = Config(model=ModelConfig(name="detr"))
    assert choose_sizes(config, split(3, 320, {0: 50.0}, objects=objects))[0].model.num_queries == queries


def test_data_without_objects_gets_sizes_too():
    config = chosen(split(3, 300, {}, objects=0))
    assert (config.data.image_size, config.data.batch_size, config.model.num_queries) == (320, 4, 20)


def test_choosing_again_changes_nothing():
    train = split(50, 320, {0: 30.0})
    once = chosen(train)
    assert choose_sizes(replace(once), train) == (once, [])
