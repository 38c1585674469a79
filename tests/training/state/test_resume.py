"""Resuming a run: from which checkpoint, exactly where it was, and what has to be unchanged."""

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import lightning as L
import pytest
import torch

from detr_lite.config import Config, Invocation
from detr_lite.data.reading import read_split
from detr_lite.data.transforms import ResizeRule
from detr_lite.structures import Category, DetrLiteError
from detr_lite.training import run
from detr_lite.training.module import DetectionModule
from detr_lite.training.state.resume import DataFingerprint, DescribeCheckpoint, find_resume_point
from detr_lite.training.state.run_files import RUN_FILES
from detr_lite.training.state.run_folder import choose_folder
from detr_lite.weights.checkpoint import KEY, Description
from tests.helpers.run_files import assert_same_end, checkpoint_of, files_in, rows_of, timeless_rows_of, weights_of

pytestmark = pytest.mark.slow

STEPS = 16
EVALUATED = 5
"""Batches of an evaluation, one for each size of images; evaluations come after steps 6, 11 and 16."""


def small(
    config: Config,
    name: str = "lite",
    num_workers: int = 0,
    accumulate: int = 1,
    epochs: int = 4,
    augmentation: Any = "light",
) -> Config:
    """Four epochs of four batches of two, with augmentation, denoising noise, dropout and an EMA."""
    return replace(
        config,
        data=replace(config.data, augmentation=augmentation, num_workers=num_workers, batch_size=2),
        model=replace(config.model, name=name, dropout=0.1),
        optim=replace(config.optim, accumulate_grad_batches=accumulate, ema_decay=0.9),
        trainer=replace(config.trainer, max_epochs=epochs, num_evaluations=3),
    )


def signal_in(call: int, signum: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send the signal in the n-th step, counting those of evaluations."""
    calls = 0

    def counted(step: Callable[..., Any]) -> Callable[..., Any]:
        def with_signal(*words: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == call:
                os.kill(os.getpid(), signum)
            return step(*words)

        return with_signal

    for name in ("training_step", "validation_step"):
        monkeypatch.setattr(DetectionModule, name, counted(getattr(DetectionModule, name)))


@pytest.fixture(scope="module")
def uninterrupted_runs() -> dict[Any, Path]:
    return {}


@pytest.fixture
def uninterrupted_run(
    uninterrupted_runs: dict[Any, Path], tiny_config: Config, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """The folder of the uninterrupted run with these settings, trained once."""

    def make(**settings: Any) -> Path:
        key = tuple(settings.items())
        if key not in uninterrupted_runs:
            uninterrupted_runs[key] = tmp_path_factory.mktemp("uninterrupted")
            config = small(tiny_config, **settings)
            run.train(Invocation(config, "tiny", uninterrupted_runs[key], resume=None, overwrite=False))
        return uninterrupted_runs[key]

    return make


@pytest.mark.stress
@pytest.mark.usefixtures("no_finish")
@pytest.mark.parametrize(
    ("settings", "call", "signum", "step"),
    [
        ({}, 1, signal.SIGTERM, 1),
        ({}, 4, signal.SIGINT, 4),  # the last batch of an epoch
        ({}, 6, signal.SIGTERM, 6),  # after which it is evaluated
        ({}, 8, signal.SIGINT, 6),  # in the middle of that
        ({}, 6 + EVALUATED, signal.SIGTERM, 6),  # at the end of that
        ({}, 6 + EVALUATED + 3, signal.SIGINT, 9),
        ({}, 16 + 2 * EVALUATED + 2, signal.SIGTERM, 16),  # in the evaluation at the end of all
        ({"name": "detr", "num_workers": 1, "accumulate": 2}, 3, signal.SIGTERM, 2),  # between two batches of a step
        ({"name": "detr", "num_workers": 1, "accumulate": 2}, 6 + EVALUATED + 4, signal.SIGINT, 5),
        # before and after most of the augmentation is switched off
        ({"augmentation": "photographs", "num_workers": 1}, 9 + EVALUATED, signal.SIGTERM, 9),
        ({"augmentation": "photographs", "num_workers": 1}, 15 + 2 * EVALUATED, signal.SIGTERM, 15),
    ],
)
def test_a_run_that_is_stopped_and_resumed_ends_where_the_uninterrupted_one_does(
    uninterrupted_run: Callable[..., Path],
    invocation: Callable[..., Invocation],
    tiny_config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    settings: dict[str, Any],
    call: int,
    signum: int,
    step: int,
) -> None:
    """With the same data order, augmentation, noise, dropout, EMA, optimizer state, schedule and metrics.csv."""
    uninterrupted, resumed = uninterrupted_run(**settings), tmp_path / "resumed"
    config = small(tiny_config, **settings)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    capfd.readouterr()
    with monkeypatch.context() as patch:
        signal_in(call, signum, patch)
        with pytest.raises(SystemExit) as ending:
            run.train(invocation(config=config, run_dir=resumed))
    assert ending.value.code == 128 + signum
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    printed = capfd.readouterr()
    assert f"{signal.Signals(signum).name}: stopping after this step" in printed.err
    assert f"resume with: detr-lite train --config {resumed}/config.yaml --run_dir {resumed} --resume" in printed.out
    assert checkpoint_of(resumed)["global_step"] == step

    run.train(invocation(config=config, run_dir=resumed, resume="last"))
    assert_same_end(resumed, uninterrupted)
    assert weights_of(resumed, "best").keys() == weights_of(uninterrupted, "best").keys()
    assert checkpoint_of(resumed, "best")["global_step"] == checkpoint_of(uninterrupted, "best")["global_step"]


@pytest.mark.usefixtures("no_finish")
@pytest.mark.usefixtures("no_finish")
@pytest.mark.stress
def test_with_fixed_threads_and_precision_a_resumed_run_ends_bit_by_bit_where_another_one_does(
    invocation: Callable[..., Invocation], tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(tiny_config)
    config = replace(config, trainer=replace(config.trainer, threads=2, precision="32-true", max_epochs=1))
    threads = torch.get_num_threads()
    try:
        for name in ("first", "second"):
            run.train(invocation(config=config, run_dir=tmp_path / name))
            assert torch.get_num_threads() == 2
        with monkeypatch.context() as patch:
            signal_in(2, signal.SIGTERM, patch)
            with pytest.raises(SystemExit):
                run.train(invocation(config=config, run_dir=tmp_path / "resumed"))
        run.train(invocation(config=config, run_dir=tmp_path / "resumed", resume="last"))
    finally:
        torch.set_num_threads(threads)
    assert_same_end(tmp_path / "second", tmp_path / "first", atol=0.0)
    assert_same_end(tmp_path / "resumed", tmp_path / "first", atol=0.0)


@pytest.mark.stress
def test_a_checkpoint_in_an_evaluation_has_weights_and_ema_in_their_places(
    uninterrupted_run: Callable[..., Path],
    invocation: Callable[..., Invocation],
    tiny_config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """During an evaluation the EMA takes the place of the weights in the module."""
    config = small(tiny_config)
    before, stopped = tmp_path / "before", tmp_path / "stopped"
    for folder, call in ((before, 6), (stopped, 8)):
        with monkeypatch.context() as patch:
            signal_in(call, signal.SIGTERM, patch)
            with pytest.raises(SystemExit):
                run.train(invocation(config=config, run_dir=folder))
    actual, expected = checkpoint_of(stopped), checkpoint_of(before)
    for name in ("state_dict", "current_model_state"):
        for key, value in expected[name].items():
            assert torch.equal(value, actual[name][key]), (name, key)
    assert any(
        not torch.equal(value, actual["current_model_state"][key]) for key, value in actual["state_dict"].items()
    )


@pytest.mark.stress
@pytest.mark.usefixtures("no_finish")
def test_a_run_can_be_resumed_from_its_best_checkpoint(
    uninterrupted_run: Callable[..., Path], invocation: Callable[..., Invocation], tiny_config: Config, tmp_path: Path
) -> None:
    """It is written at another moment than the last one: just after an evaluation."""
    uninterrupted, other = uninterrupted_run(), tmp_path / "other"
    best = uninterrupted / "checkpoints" / "best.ckpt"
    run.train(invocation(config=small(tiny_config), run_dir=other, resume=str(best)))
    assert checkpoint_of(other)["global_step"] == STEPS
    torch.testing.assert_close(weights_of(other), weights_of(uninterrupted), atol=1e-6, rtol=0)
    steps = [row["step"] for row in timeless_rows_of(other)]
    assert steps == [row["step"] for row in timeless_rows_of(uninterrupted) if int(row["step"]) > 6]


@pytest.mark.stress
def test_a_missing_best_checkpoint_is_replaced_by_the_next(
    run_tool: Callable[..., Any], finished_run: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(finished_run, run_dir)
    best = run_dir / "checkpoints" / "best.ckpt"
    best.unlink()
    words = ("train", "--config", run_dir / "config.yaml", "--run_dir", run_dir, "--resume")
    ended = run_tool(*words)
    assert ended.code == 0, ended.err
    assert f"{best} does not exist; last.ckpt is evaluated instead" in ended.out
    assert not best.exists()
    ended = run_tool(*words, "--trainer.max_epochs", 61)
    assert ended.code == 0, ended.err
    assert best.exists()


@pytest.fixture
def stopped_run(
    invocation: Callable[..., Invocation], tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A run that was stopped after 3 of its 16 steps."""
    monkeypatch.setattr(run, "finish", lambda *_: None)
    monkeypatch.setattr("detr_lite.training.callbacks.metrics.plot_training_curves", lambda *_: None)
    with monkeypatch.context() as patch:
        signal_in(3, signal.SIGTERM, patch)
        with pytest.raises(SystemExit):
            run.train(invocation(config=small(tiny_config), run_dir=tmp_path / "stopped"))
    return tmp_path / "stopped"


@pytest.mark.stress
@pytest.mark.parametrize("left", [0, 1000, -1])
def test_a_damaged_last_checkpoint_falls_back_to_the_previous_one(
    uninterrupted_run: Callable[..., Path],
    stopped_run: Path,
    invocation: Callable[..., Invocation],
    tiny_config: Config,
    capsys: pytest.CaptureFixture[str],
    left: int,
) -> None:
    last = stopped_run / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:left])  # previous.ckpt may be a hard link to the same file
    run.train(invocation(config=small(tiny_config), run_dir=stopped_run, resume="last"))
    out = capsys.readouterr().out
    assert f"warning: {last}: not a checkpoint, or cut off" in out
    assert f"resuming from {last.with_name('previous.ckpt')} at step 0" in out
    assert_same_end(stopped_run, uninterrupted_run())


def test_if_no_checkpoint_can_be_read_it_is_refused(refusal: Callable[..., str], stopped_run: Path) -> None:
    for path in (stopped_run / "checkpoints").iterdir():
        path.write_bytes(b"nothing")
    message = refusal("train", "--config", stopped_run / "config.yaml", "--run_dir", stopped_run, "--resume")
    assert "last.ckpt: not a checkpoint" in message


def test_which_checkpoint_is_resumed(
    invocation: Callable[..., Invocation], finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resumed(**changes: Any) -> Path:
        found = find_resume_point(invocation(**changes))
        assert found is not None
        return found.path

    monkeypatch.chdir(tmp_path)
    assert find_resume_point(invocation()) is None
    assert resumed(resume="last", run_dir=finished_run) == finished_run / "checkpoints/last.ckpt"
    best = finished_run / "checkpoints/best.ckpt"
    assert resumed(resume=str(best)) == best
    with pytest.raises(DetrLiteError, match=r"runs/tiny/checkpoints/last\.ckpt does not exist"):
        find_resume_point(invocation(resume="last"))
    shutil.copytree(finished_run, "runs/tiny")
    assert resumed(resume="last") == Path("runs/tiny/checkpoints/last.ckpt")
    Path("runs/tiny/checkpoints/last.ckpt").unlink()
    assert resumed(resume="last") == Path("runs/tiny/checkpoints/previous.ckpt")
    shutil.rmtree("runs/tiny/checkpoints")
    assert find_resume_point(invocation(resume="last")) is None
    assert choose_folder(invocation(resume="last"), None) == Path("runs/tiny")
    with pytest.raises(DetrLiteError, match=r"none\.ckpt does not exist"):
        find_resume_point(invocation(resume="none.ckpt"))


@pytest.mark.stress
def test_changed_settings_are_reported_and_the_epoch_starts_again(
    stopped_run: Path, invocation: Callable[..., Invocation], tiny_config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small(tiny_config)
    changed = replace(config, data=replace(config.data, batch_size=4), optim=replace(config.optim, max_grad_norm=0.5))
    run.train(invocation(config=changed, run_dir=stopped_run, resume="last"))
    out = capsys.readouterr().out
    batch_size, norm, restart = (line for line in out.splitlines() if "(was " in line or "starts again" in line)
    assert batch_size.endswith("data.batch_size 4 (was 2)")
    assert norm.endswith("optim.max_grad_norm 0.5 (was 1.0)")
    assert restart.endswith("the batches are no longer the same, so an interrupted epoch starts again")
    # Three steps of two images, and then four epochs of two steps.
    assert checkpoint_of(stopped_run)["global_step"] == 3 + 4 * 2


@pytest.mark.stress
def test_changed_data_are_reported(
    stopped_run: Path,
    invocation: Callable[..., Invocation],
    tiny_config: Config,
    edit_annotations: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = edit_annotations("train", lambda content: content["annotations"].pop(0))
    root = edit_annotations("val", lambda content: content["annotations"][0]["bbox"].__setitem__(0, 5))
    config = small(tiny_config)
    moved = replace(config, data=replace(config.data, root=str(root)))
    run.train(invocation(config=moved, run_dir=stopped_run, resume="last"))
    out = capsys.readouterr().out
    assert f"data.root {root} (was {config.data.root})" in out
    assert "the training data: 8 images with 9 objects, hash " in out
    assert " (was 8 images with 10 objects, hash " in out
    assert "the validation data, so AP is not comparable with before: 5 images" in out
    assert "starts again" in out


@pytest.mark.stress
def test_the_same_data_in_another_folder_count_as_unchanged(
    uninterrupted_run: Callable[..., Path],
    stopped_run: Path,
    invocation: Callable[..., Invocation],
    tiny_config: Config,
    own_data: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = small(tiny_config)
    moved = replace(config, data=replace(config.data, root=str(own_data)))
    run.train(invocation(config=moved, run_dir=stopped_run, resume="last"))
    assert "starts again" not in capsys.readouterr().out
    assert_same_end(stopped_run, uninterrupted_run())


def test_each_checkpoint_is_described(tiny_data: Path) -> None:
    description = Description(Config(), (Category(7, "cat"),), ResizeRule("longest", 64), (0.5,) * 3, (0.2,) * 3)
    fingerprint = DataFingerprint.of(read_split(tiny_data, "train"), read_split(tiny_data, "val"), 1)
    checkpoint: dict[str, Any] = {"state_dict": {}}
    describe = DescribeCheckpoint({KEY: description.to_dict()}, fingerprint, restarts_epoch=False)
    describe.on_save_checkpoint(MagicMock(spec=L.Trainer), MagicMock(spec=L.LightningModule), checkpoint)
    assert Description.from_dict(checkpoint[KEY]) == description


@pytest.fixture
def copy_of_finished(finished_run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished_run, tmp_path / "copy")


def test_a_finished_run_that_is_resumed_gets_its_missing_evaluation(
    run_tool: Callable[..., Any], copy_of_finished: Path
) -> None:
    before = json.loads((copy_of_finished / "evaluation/metrics.json").read_text())
    weights, log = weights_of(copy_of_finished), (copy_of_finished / "metrics.csv").read_text()
    for name in ("evaluation/metrics.json", "evaluation/detections.json", "samples.png"):
        (copy_of_finished / name).unlink()
    ended = run_tool("train", "--config", copy_of_finished / "config.yaml", "--run_dir", copy_of_finished, "--resume")
    assert ended.code == 0, ended.err
    assert files_in(copy_of_finished) == set(RUN_FILES)
    assert json.loads((copy_of_finished / "evaluation/metrics.json").read_text()) == before
    assert (copy_of_finished / "metrics.csv").read_text() == log
    assert all(torch.equal(value, weights[key]) for key, value in weights_of(copy_of_finished).items())


@pytest.mark.usefixtures("no_finish")
def test_a_finished_run_can_be_extended(run_tool: Callable[..., Any], copy_of_finished: Path) -> None:
    words = ("--config", copy_of_finished / "config.yaml", "--run_dir", copy_of_finished)
    assert run_tool("train", *words, "--resume", "--trainer.max_epochs", 61).code == 0
    assert rows_of(copy_of_finished)[-1]["step"] == "122"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (["--model.dim", "64"], "was trained with model.dim 32, not 64"),
        (["--model.num_queries", "9"], "was trained with model.num_queries 6, not 9"),
        (["--optim.lr", "0.1"], "was trained with optim.lr 0.004, not 0.1"),
        (["--optim.optimizer", "adamw"], "was trained with optim.optimizer muon, not adamw"),
        (["--data.image_size", "96"], "was trained with data.image_size 64, not 96"),
        (["--optim.decay_all", "true"], "was trained with optim.decay_all False, not True"),
    ],
)
def test_settings_that_a_resumed_run_must_keep(
    refusal: Callable[..., str], finished_run: Path, change: list[str], expected: str
) -> None:
    words = ("--config", finished_run / "config.yaml", "--run_dir", finished_run, "--resume")
    assert expected in refusal("train", *words, *change)


def test_a_checkpoint_of_weights_cannot_be_resumed(
    refusal: Callable[..., str], finished_run: Path, tmp_path: Path
) -> None:
    content = torch.load(finished_run / "checkpoints/last.ckpt", weights_only=True)
    torch.save({name: content[name] for name in ("state_dict", KEY)}, tmp_path / "weights.ckpt")
    words = ("--config", finished_run / "config.yaml", "--run_dir", tmp_path / "run")
    message = refusal("train", *words, "--resume", tmp_path / "weights.ckpt")
    assert "holds only weights" in message
    assert "--model.init_from" in message


def test_a_run_is_not_resumed_on_other_categories(
    refusal: Callable[..., str], finished_run: Path, edit_annotations: Callable[..., Path]
) -> None:
    def rename(content: dict[str, Any]) -> None:
        content["categories"][0]["name"] = "cat"

    for split in ("train", "val"):
        root = edit_annotations(split, rename)
    words = ("--config", finished_run / "config.yaml", "--run_dir", finished_run, "--resume", "--data.root", root)
    message = refusal("train", *words)
    assert "other categories" in message
    assert "(added: cat; gone: " in message
