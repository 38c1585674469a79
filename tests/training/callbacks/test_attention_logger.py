"""The attention log of a run: what is written, that a resumed run continues it, and that training is the same."""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from detr_lite.build import build_criterion
from detr_lite.config import Config, Invocation
from detr_lite.data.dataset import DetectionDataset
from detr_lite.data.reading import read_split
from detr_lite.data.transforms import ResizeRule, evaluation_transform
from detr_lite.structures import Detections
from detr_lite.training import run
from detr_lite.training.callbacks import attention_logger
from detr_lite.training.callbacks.attention_logger import AttentionLogger
from detr_lite.training.matched_attention import measure_attention
from detr_lite.training.schedule import TrainingProgress
from detr_lite.viz.figures.attention_frames import ImageAttention, ObjectAttention, animate, attention_frame
from detr_lite.weights.checkpoint import load_model
from tests.helpers import ranks
from tests.helpers.run_files import checkpoint_of, files_in, weights_of

pytestmark = [pytest.mark.usefixtures("no_finish"), pytest.mark.slow]


@pytest.fixture
def config(tiny_config: Config) -> Config:
    """Three epochs of two steps, an evaluation after each; an average of the weights, and dropout, which is random."""
    return replace(
        tiny_config,
        model=replace(tiny_config.model, dropout=0.1),
        optim=replace(tiny_config.optim, ema_decay=0.9, ema_tau=2, schedule="constant"),
        trainer=replace(tiny_config.trainer, max_epochs=3, num_evaluations=3, attention_every_n_epochs=0.0),
    )


def train(config: Config, folder: Path, resume: str | None = None, overwrite: bool = False) -> None:
    run.train(Invocation(config, config_name="tiny", run_dir=folder, resume=resume, overwrite=overwrite))


def with_trainer(config: Config, **changes: Any) -> Config:
    return replace(config, trainer=replace(config.trainer, **changes))


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "attention.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def frames_in(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "attention").iterdir())


@pytest.mark.stress
def test_each_evaluation_has_its_row_and_picture_and_all_are_joined(config: Config, tmp_path: Path) -> None:
    train(config, tmp_path)
    rows = rows_of(tmp_path)
    assert [row["step"] for row in rows] == ["0", "2", "4", "6"]
    assert [row["AP"] == "" for row in rows] == [True, False, False, False]
    assert {row["objects"] for row in rows} == {"5"}
    assert frames_in(tmp_path) == [f"step-{step:06}.png" for step in (0, 2, 4, 6)]
    sizes = {Image.open(path).size for path in (tmp_path / "attention").iterdir()}
    assert len(sizes) == 1
    animation = Image.open(tmp_path / "attention.webp")
    assert animation.n_frames == 4
    assert animation.size == sizes.pop()


@pytest.mark.stress
@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_training_knows_nothing_of_it(config: Config, tmp_path: Path, ema: float) -> None:
    """Bit for bit: weights, average, optimizer, with random dropout and noisy queries on the way."""
    config = replace(config, optim=replace(config.optim, ema_decay=ema))
    train(config, tmp_path / "with")
    train(with_trainer(config, attention_every_n_epochs=None), tmp_path / "without")
    assert files_in(tmp_path / "with") - files_in(tmp_path / "without") == {
        "attention.csv", "attention.webp", *(f"attention/step-{step:06}.png" for step in (0, 2, 4, 6))}  # fmt: skip
    ours, theirs = checkpoint_of(tmp_path / "with"), checkpoint_of(tmp_path / "without")
    states = ["state_dict", *(["current_model_state"] if ema else [])]
    for state in states:
        assert ours[state].keys() == theirs[state].keys()
        assert all(torch.equal(value, theirs[state][name]) for name, value in ours[state].items())
    moments, expected = (content["optimizer_states"][0]["state"] for content in (ours, theirs))
    torch.testing.assert_close(moments, expected, rtol=0, atol=0)


@pytest.mark.stress
def test_it_looks_with_the_weights_that_are_evaluated(config: Config, tmp_path: Path, tiny_data: Path) -> None:
    """The averaged ones: a checkpoint measured by itself says the same as the row of its step."""
    train(config, tmp_path)
    model, description = load_model(tmp_path / "checkpoints/last.ckpt")
    split = read_split(tiny_data, "val")
    images = DetectionDataset(split, evaluation_transform(description.resize, description.mean, description.std))
    batches = [attention_logger.collate([images[index]]) for index in range(len(images))]
    cost = build_criterion(config, 3).cost
    expected = measure_attention(model, cost, batches, torch.device("cpu"))
    last = rows_of(tmp_path)[-1]
    assert float(last["inside"]) == pytest.approx(expected.inside[-1, -1].item(), abs=1e-5)
    assert float(last["entropy"]) == pytest.approx(expected.entropy[-1, -1].item(), abs=1e-4)
    assert float(last["box_area"]) == pytest.approx(expected.box_area)
    content = checkpoint_of(tmp_path)
    assert any(
        not torch.equal(value, content["current_model_state"][name]) for name, value in content["state_dict"].items()
    )


@pytest.mark.stress
def test_a_resumed_run_goes_on_with_it(config: Config, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(config, whole)
    train(with_trainer(config, max_epochs=2, num_evaluations=2), parts)
    # As of a run that was killed after an evaluation which its checkpoint does not know of.
    (parts / "attention/step-000005.png").write_bytes(b"later")
    with (parts / "attention.csv").open("a") as file:
        file.write("5" + "," * (len(rows_of(parts)[0]) - 1) + "\r\n")
    train(config, parts, resume="last")
    assert frames_in(parts) == frames_in(whole)
    without_time = [[{k: v for k, v in row.items() if k != "minutes"} for row in rows_of(f)] for f in (whole, parts)]
    assert without_time[0] == without_time[1]
    assert Image.open(parts / "attention.webp").n_frames == 4
    for step in (0, 6):
        first, second = (Image.open(folder / f"attention/step-{step:06}.png") for folder in (whole, parts))
        assert first.tobytes() == second.tobytes()


@pytest.mark.stress
def test_a_new_run_in_the_folder_begins_anew(config: Config, tmp_path: Path) -> None:
    train(config, tmp_path)
    train(with_trainer(config, max_epochs=1, num_evaluations=1), tmp_path, overwrite=True)
    assert [row["step"] for row in rows_of(tmp_path)] == ["0", "2"]
    assert frames_in(tmp_path) == ["step-000000.png", "step-000002.png"]
    train(with_trainer(config, attention_every_n_epochs=None), tmp_path, overwrite=True)
    assert not {name for name in files_in(tmp_path) if name.startswith("attention")}


@pytest.mark.stress
def test_evaluations_that_come_too_soon_are_passed_over(config: Config, tmp_path: Path) -> None:
    train(with_trainer(config, attention_every_n_epochs=2.0), tmp_path)
    assert [row["step"] for row in rows_of(tmp_path)] == ["0", "4"]


@pytest.mark.stress
@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("attention_frame", OSError("disk full")),
        ("animate", OSError("disk full")),
        ("match_attention", torch.OutOfMemoryError("disk full")),
    ],
)
def test_an_expected_fault_is_logged_once_and_the_run_continues(
    config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    place: str,
    error: Exception,
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(attention_logger, place, fail)
    train(config, tmp_path / "run")
    assert capsys.readouterr().out.count("warning: attention is not logged at this step: disk full") == 1
    assert checkpoint_of(tmp_path / "run")["global_step"] == 6
    train(with_trainer(config, attention_every_n_epochs=None), tmp_path / "without")
    weights, expected = weights_of(tmp_path / "run"), weights_of(tmp_path / "without")
    assert all(torch.equal(value, expected[name]) for name, value in weights.items())


@pytest.mark.parametrize("error", [torch.AcceleratorError, RuntimeError, TypeError])
def test_any_other_fault_ends_the_run(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """After a failure of the device, for instance, no step can be trusted any more."""

    def fail(*_: Any) -> None:
        raise error("device-side assert triggered")

    monkeypatch.setattr(attention_logger, "match_attention", fail)
    with pytest.raises(error, match="device-side assert"):
        train(config, tmp_path / "run")


def test_each_module_has_its_own_mode_back() -> None:
    model = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.BatchNorm1d(2))
    model.train()
    model[1].eval()
    with attention_logger._eval_mode(model):
        assert not any(module.training for module in model.modules())
    assert (model.training, model[0].training, model[1].training) == (True, True, False)


@pytest.mark.stress
def test_data_without_objects_are_measured_as_none_and_not_drawn(
    config: Config, edit_annotations: Callable[..., Path], tmp_path: Path
) -> None:
    root = edit_annotations("val", lambda content: content["annotations"].clear())
    train(replace(config, data=replace(config.data, root=str(root))), tmp_path / "run")
    assert [(row["objects"], row["inside"]) for row in rows_of(tmp_path / "run")] == [("0", "nan")] * 4
    assert not (tmp_path / "run/attention").exists()
    assert not (tmp_path / "run/attention.webp").exists()


@pytest.mark.stress
@pytest.mark.parametrize("name", ["lite", "detr"])
def test_more_objects_than_queries(config: Config, tmp_path: Path, name: Any) -> None:
    """Of an image of two objects one has no query, and its panel says so."""
    model = replace(config.model, name=name, num_queries=1)
    train(replace(config, model=model), tmp_path)
    assert {row["objects"] for row in rows_of(tmp_path)} == {"4"}
    assert len(frames_in(tmp_path)) == 4


def test_the_same_images_and_their_largest_objects_are_drawn(tiny_data: Path, config: Config, tmp_path: Path) -> None:
    split = read_split(tiny_data, "val")
    images = DetectionDataset(split, evaluation_transform(ResizeRule("longest", 64)))
    progress = TrainingProgress(max_epochs=1, max_minutes=None, num_evaluations=1)
    watch = AttentionLogger(tmp_path, images, build_criterion(config, 3).cost, ("a", "b", "c"), progress)
    assert watch.measured == [0, 1, 2, 3, 4]
    assert watch.drawn == [0, 2, 3]  # the second has no object


def seen(heat: Any, inside: float) -> ImageAttention:
    truth = Detections(
        torch.tensor([[2.0, 2.0, 20.0, 20.0], [30.0, 4.0, 50.0, 40.0]]),
        torch.ones(2), torch.tensor([0, 1]), torch.tensor([0, 0]), ("one", "two"),
    )  # fmt: skip
    return ImageAttention(
        Image.new("RGB", (64, 48), (120, 130, 140)), truth, (ObjectAttention(heat, (8.0, 6.0), inside), None)
    )


def test_a_frame_is_hot_where_the_query_looked() -> None:
    heat = torch.zeros(6, 8).numpy()
    heat[1, 1] = 1.0
    frame = attention_frame([seen(heat, 0.5)], "step 3")
    # The second panel of three, 256 pixels wide, begins at 10 + 266 and below the title's 34.
    panel = frame.crop((276, 34, 276 + 256, 34 + 192))
    assert min(panel.getpixel((48, 48))) > 120  # inferno's brightest
    assert max(panel.getpixel((200, 150))) < 100
    third = frame.crop((542, 34, 542 + 256, 34 + 192)).getpixel((128, 96))
    assert third[0] == third[1] == third[2]  # no query: the image alone, in grey
    assert frame.width == 808
    assert attention_frame([seen(heat * 0.01, 0.1)], "another").size == frame.size


@pytest.mark.parametrize("count", [1, 3])
def test_frames_become_one_moving_picture_in_their_order(tmp_path: Path, count: int) -> None:
    paths = []
    for number in range(count):
        paths.append(tmp_path / f"{number}.png")
        Image.new("RGB", (20, 10), (80 * number, 200 - 80 * number, 40)).save(paths[-1])
    animate(paths, tmp_path / "all.webp")
    with Image.open(tmp_path / "all.webp") as moving:
        assert moving.n_frames == count
        for number in range(count):
            moving.seek(number)
            color = moving.convert("RGB").getpixel((5, 5))
            assert color == pytest.approx((80 * number, 200 - 80 * number, 40), abs=12)  # which loses a little


@pytest.mark.stress
def test_of_two_processes_the_first_one_looks_and_nobody_waits(
    start_two: Callable[..., ranks.Ranks], config: Config, tmp_path: Path
) -> None:
    several = with_trainer(config, devices="auto", max_epochs=2, num_evaluations=2)
    both = start_two(replace(several, data=replace(several.data, batch_size=2)), tmp_path / "run")
    assert both.codes() == [0, 0], both.err
    assert [row["step"] for row in rows_of(tmp_path / "run")] == ["0", "2", "4"]
    assert len(frames_in(tmp_path / "run")) == 3
    assert Image.open(tmp_path / "run/attention.webp").n_frames == 3
    assert "attention is not logged" not in both.out[0]
