"""Overfitting a few images before a run: it passes on good data, changes nothing, and names what is wrong."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import nn

from detr_lite.build import build_criterion, build_model, build_postprocess, build_resize
from detr_lite.config import Config, ModelConfig, read_config
from detr_lite.data.reading import read_split
from detr_lite.data.records import Split
from detr_lite.data.transforms import evaluation_transform
from detr_lite.structures import DetrLiteError
from detr_lite.training.checks import overfit_check as module_under_test
from detr_lite.training.checks.overfit_check import Attempt, choose_images, find_fault, overfit_check
from detr_lite.training.checks.prediction_stats import ClassStats, DetectionStats
from detr_lite.training.datamodule import DetectionData
from detr_lite.training.module import DetectionModule

CPU = torch.device("cpu")


def parts(config: Config, split: Split) -> tuple[DetectionModule, DetectionData]:
    torch.manual_seed(config.seed)
    classes = len(split.categories)
    module = DetectionModule(
        model=build_model(config.model, classes),
        criterion=build_criterion(config, classes),
        postprocess=build_postprocess(config.model, [category.name for category in split.categories]),
        val=split,
        make_optimizer=lambda model: torch.optim.SGD(model.parameters(), 1.0),
        max_grad_norm=1.0,
    )
    resize = build_resize(config.data)
    transform = evaluation_transform(resize)
    return module, DetectionData(split, split, transform, transform, resize, batch_size=4, num_workers=0, seed=0)


@pytest.fixture
def split(tiny_data: Path) -> Split:
    return read_split(tiny_data, "train")


def error_of(config: Config, split: Split, *given: Any, seconds: float = 5.0) -> str:
    module, data = given or parts(config, split)
    with pytest.raises(DetrLiteError) as caught:
        overfit_check(module, data, config, "32-true", CPU, seconds)
    message = str(caught.value)
    assert message.startswith("overfit check: ")
    assert "\n" not in message
    return message


@pytest.mark.stress
@pytest.mark.parametrize("name", ["lite", "detr"])
def test_it_passes_on_good_data_and_changes_nothing(name, tiny_config: Config, split: Split, capsys) -> None:
    config = replace(tiny_config, model=ModelConfig(name=name, pretrained=False, num_queries=12))
    module, data = parts(config, split)
    weights, random = copy.deepcopy(module.state_dict()), torch.get_rng_state()
    overfit_check(module, data, config, "32-true", CPU)
    logged = capsys.readouterr().out
    assert logged.startswith("overfit check passed: AP50 ")
    assert " on 4 of your images after " in logged
    assert torch.equal(torch.get_rng_state(), random)
    assert module.training
    for key, value in module.state_dict().items():
        assert torch.equal(value, weights[key]), key
        assert value.grad is None


def test_frozen_weights_are_named(tiny_config: Config, split: Split) -> None:
    module, data = parts(tiny_config, split)
    module.model.requires_grad_(False)
    assert "all weights of the model are frozen" in error_of(tiny_config, split, module, data)


@pytest.mark.stress  # it needs time for as many steps as allow a conclusion
def test_a_model_that_does_not_learn_is_named(tiny_config: Config, split: Split, monkeypatch) -> None:
    monkeypatch.setitem(module_under_test.RATES, "lite", 0.0)
    assert "the loss does not fall" in error_of(tiny_config, split, seconds=10.0)


def test_a_weight_that_is_not_finite_is_named(tiny_config: Config, split: Split) -> None:
    module, data = parts(tiny_config, split)
    name, weight = next(iter(module.model.named_parameters()))
    nn.init.constant_(weight, torch.nan)
    assert f"weights are not finite before the first step ({name}, ...)" in error_of(tiny_config, split, module, data)


def test_pixels_that_are_not_finite_are_named(tiny_config: Config, split: Split) -> None:
    module, data = parts(tiny_config, split)
    transform = data.val_transform

    def with_nan(*given: Any) -> Any:
        image, *rest = transform(*given)
        image[0, 3, 3] = torch.nan
        return image, *rest

    data.val_transform = with_nan
    assert "pixels of 00" in error_of(tiny_config, split, module, data)


def test_a_loss_that_is_not_finite_is_named(tiny_config: Config, split: Split) -> None:
    module, data = parts(tiny_config, split)
    original = module.criterion
    module.criterion = lambda output, targets: replace(original(output, targets), total=output.logits.sum() * torch.nan)
    assert "the loss is not finite in step 1, with images 00" in error_of(tiny_config, split, module, data)


@pytest.mark.stress
def test_too_few_queries_are_named(tiny_config: Config, split: Split) -> None:
    full = with_objects(split, 9)
    config = replace(tiny_config, model=replace(tiny_config.model, num_queries=1))
    message = error_of(config, full, seconds=3.0)
    assert "hold up to 9 objects, but there are 1 queries" in message
    assert message.endswith("set --model.num_queries 18 or more")


def test_no_object_at_all(tiny_config: Config, split: Split) -> None:
    empty = with_objects(split, 0)
    assert error_of(tiny_config, empty) == "overfit check: no training image has an object"


def with_objects(split: Split, count: int) -> Split:
    """With so many boxes side by side in each image that are not in the picture."""
    low = np.stack([np.linspace(0, 30, count), np.linspace(0, 30, count)], axis=1)
    boxes_xyxy = np.concatenate([low, low + 8], axis=1).astype(np.float32)
    images = len(split.images)
    changed = replace(
        split.images,
        boxes_xyxy=np.tile(boxes_xyxy, (images, 1)),
        labels=np.zeros(images * count, dtype=np.int64),
        ends=count * np.arange(images + 1),
    )
    return replace(split, images=changed)


@pytest.mark.stress
def test_labels_at_random_are_named(edit_annotations: Callable[..., Path], tiny_config: Config) -> None:
    """The same image under many names, its three objects alike, and their classes drawn."""
    ids = (7, 3, 90)

    def shuffle(content: dict[str, Any]) -> None:
        first = content["images"][2]
        content["images"] = [{**first, "id": 100 + number} for number in range(6)]
        content["annotations"] = [
            {"id": 3 * image + place + 1, "image_id": 100 + image, "category_id": ids[(image + place) % 3],
             "bbox": [4 + 20 * place, 4 + 20 * place, 16, 16], "area": 256, "iscrowd": 0}
            for image in range(6) for place in range(3)
        ]  # fmt: skip
        for number, image in enumerate(content["images"]):
            image["file_name"] = f"same{number}.png"

    root = edit_annotations("train", shuffle)
    picture = Image.new("RGB", (64, 64), (190, 190, 190))
    for place in range(3):
        ImageDraw.Draw(picture).rectangle(
            (4 + 20 * place, 4 + 20 * place, 19 + 20 * place, 19 + 20 * place), fill="red"
        )
    for number in range(6):
        picture.save(root / "train" / f"same{number}.png")
    config = replace(tiny_config, model=ModelConfig(name="detr", pretrained=False, num_queries=6))
    message = error_of(config, read_split(root, "train"), seconds=16.0)
    assert "regardless of class) but the classes are not" in message
    assert "category_id of the objects in same0.png, " in message


FALLING = tuple(np.linspace(30, 10, 200))
ENDED = tuple([30.0] * 5 + [15.0] * 195)
SEEN = ClassStats(found=0, right=0, most_frequent=0)


@pytest.mark.parametrize(
    ("attempt", "words"),
    [
        (
            Attempt(ENDED, DetectionStats(0.1, 0.2, SEEN), 0.2, 40.0),
            "the boxes are not learned (AP50 0.20 regardless of class)",
        ),
        (
            Attempt(ENDED, DetectionStats(0.1, 0.2, SEEN), 0.9, 40.0),
            "the classes are learned but the boxes are not learned",
        ),
        (Attempt(ENDED, DetectionStats(0.3, 0.9, ClassStats(20, 8, 8)), 0.4, 40.0), "(8 of 20 right)"),
        (Attempt(ENDED[:25], DetectionStats(0.1, 0.2, SEEN), 0.2, 40.0), None),
        (Attempt(FALLING, DetectionStats(0.1, 0.2, SEEN), 0.2, 40.0), None),
        (Attempt(FALLING, DetectionStats(0.5, 0.9, ClassStats(20, 19, 18)), 0.2, 40.0), None),
    ],
)
def test_the_likely_cause(attempt: Attempt, words: str | None, tiny_config: Config, split: Split) -> None:
    _, data = parts(tiny_config, split)
    records = choose_images(split, 4)
    fault = find_fault(attempt, records, data, replace(tiny_config, model=replace(tiny_config.model, strides=(8,))))
    assert fault is None if words is None else words in str(fault)


def test_objects_smaller_than_a_token_are_named_with_a_remedy(tiny_config: Config, split: Split) -> None:
    _, data = parts(tiny_config, split)
    tiny = [replace(record, boxes_xyxy=record.boxes_xyxy * 0 + np.float32([2, 2, 8, 8])) for record in split.images]
    records = [record for record in tiny if len(record.labels)][:2]
    attempt = Attempt(ENDED, DetectionStats(0.1, 0.2, SEEN), 0.2, 40.0)
    message = str(find_fault(attempt, records, data, tiny_config))
    assert "objects are smaller than a token of 16 pixels (000.png, 002.png)" in message
    # The images are no larger, and the rule of the settings would leave them so.
    assert message.endswith("set --data.image_size 448 --data.resize fit or --model.strides '[8,16]'")
    large = [replace(record, width=2000, height=2000, boxes_xyxy=record.boxes_xyxy * 20) for record in records]
    assert "set --data.image_size 672 or --model.strides" in str(find_fault(attempt, large, data, tiny_config))


def test_images_with_many_classes_come_first(split: Split) -> None:
    chosen = choose_images(split, 3)
    assert len({label for record in chosen for label in record.labels.tolist()}) == 3
    assert len(chosen[0].labels) == 2
    assert len(choose_images(split, 99)) == 7  # one has no object
    assert len(choose_images(split, 99, objects=1)) == 2


def test_it_goes_with_a_new_run_only(tiny_file: Path) -> None:
    assert read_config(["--config", str(tiny_file), "--overfit_check"]).overfit_check
    assert not read_config(["--config", str(tiny_file)]).overfit_check
    with pytest.raises(DetrLiteError, match="is for new runs"):
        read_config(["--config", str(tiny_file), "--overfit_check", "--resume"])
