"""A run from settings to a trained, measured detector: its folder, its end, and going on where it was."""

import contextlib
import csv
import io
import json
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detr_lite.config import Config, Invocation, config_to_dict, read_config
from detr_lite.evaluation.coco_map import METRICS
from detr_lite.structures import DetrLiteError
from detr_lite.training import run
from detr_lite.training.module import DetectionModule
from detr_lite.weights.checkpoint import KEY

FILES = {
    "config.yaml",
    "metrics.csv",
    "curves.png",
    "samples.png",
    "attention.png",
    "checkpoints/best.ckpt",
    "checkpoints/last.ckpt",
    "evaluation/metrics.json",
    "evaluation/per_class.csv",
    "evaluation/detections.json",
    "evaluation/pr_curves.png",
}


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def weights_of(folder: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]


@pytest.fixture
def no_finish(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training alone, without the evaluation and the pictures, which take longer than the few steps."""
    monkeypatch.setattr(run, "finish", lambda *_: None)
    monkeypatch.setattr("detr_lite.training.callbacks.plot_training_curves", lambda *_: None)


@pytest.fixture
def invocation(tiny_config: Config) -> Callable[..., Invocation]:
    def make(**changes: Any) -> Invocation:
        given = Invocation(tiny_config, config_name="tiny", run_dir=None, resume=None, overwrite=False)
        return replace(given, **changes)

    return make


def test_the_run_folder_holds_what_it_should_and_nothing_else(finished_run: Path) -> None:
    assert files_in(finished_run) == FILES == set(run.WRITTEN)


def test_it_learned(finished_run: Path) -> None:
    assert json.loads((finished_run / "evaluation/metrics.json").read_text())["AP50"] > 0.2


def test_the_settings_in_the_folder_give_the_same_run(finished_run: Path, tiny_file: Path) -> None:
    words = [
        "--config",
        str(tiny_file),
        "--trainer.max_epochs",
        "120",
        "--optim.lr",
        "1.5e-3",
        "--trainer.evaluations=3",
        "--optim.backbone_factor=1",
    ]
    assert read_config(["--config", str(finished_run / "config.yaml")]).config == read_config(words).config


def test_the_numbers_are_those_of_pycocotools_on_the_written_detections(finished_run: Path, tiny_data: Path) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(tiny_data / "annotations/instances_val.json"))
        evaluation = COCOeval(truth, truth.loadRes(str(finished_run / "evaluation/detections.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    written = json.loads((finished_run / "evaluation/metrics.json").read_text())
    assert list(written) == list(METRICS)
    assert list(written.values()) == evaluation.stats.tolist()
    assert written["AP"] > 0


def test_the_log_has_losses_and_each_evaluation_and_agrees_with_the_end(finished_run: Path) -> None:
    rows = rows_of(finished_run)
    assert [row["step"] for row in rows if row["loss"]] == ["1", *map(str, range(10, 241, 10))]
    evaluations = [row for row in rows if row["AP"]]
    assert [row["step"] for row in evaluations] == ["80", "160", "240"]
    best = max(evaluations, key=lambda row: float(row["AP"]))
    written = json.loads((finished_run / "evaluation/metrics.json").read_text())
    assert {name: float(best[name]) for name in METRICS} == pytest.approx(written, abs=1e-6)
    rates = [float(row["lr"]) for row in rows]
    assert max(rates) == 1.5e-3
    assert rates[-1] < 1e-4


def test_the_last_checkpoint_is_of_the_end_and_the_best_of_the_best(finished_run: Path) -> None:
    best_row = max((row for row in rows_of(finished_run) if row["AP"]), key=lambda row: float(row["AP"]))
    for name, step in (("last", 240), ("best", int(best_row["step"]))):
        checkpoint = torch.load(finished_run / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert checkpoint["global_step"] == step


def test_the_tool_tells_the_data_the_numbers_and_where_to_look(
    run_tool: Callable[..., Any], tiny_file: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = run_tool("train", "--config", tiny_file, "--model.num_queries", 1, "--trainer.max_minutes", "0.01")
    assert ended.code == 0, ended.err
    folder = tmp_path / "runs" / "tiny"
    assert files_in(folder) == FILES
    for part in (
        f"{tiny_data}/annotations/instances_train.json: 8 images with 10 objects of 3 categories",
        "an image holds 2 objects but there are 1 queries",
        "lite on resnet10t (random weights)",
        *(f"\n{name:<6}" for name in METRICS),
        "blue thing",
        "curves.png, samples.png, attention.png, evaluation/pr_curves.png",
        "best.ckpt",
    ):
        assert part in ended.out
    written = read_config(["--config", str(folder / "config.yaml")]).config.trainer
    assert (written.max_epochs, written.max_minutes) == (None, 0.01)
    assert float(rows_of(folder)[-1]["minutes"]) <= 0.5


@pytest.mark.usefixtures("no_finish")
def test_minutes_are_kept(invocation: Callable[..., Invocation], tiny_config: Config, tmp_path: Path) -> None:
    trainer = replace(tiny_config.trainer, max_epochs=None, max_minutes=0.05, evaluations=1)
    start = time.monotonic()
    run.train(invocation(config=replace(tiny_config, trainer=trainer), run_dir=tmp_path / "run"))
    assert time.monotonic() - start > 2.5
    rows = rows_of(tmp_path / "run")
    assert 0.04 <= float(rows[-1]["minutes"]) <= 0.06
    assert float(rows[-1]["lr"]) < tiny_config.optim.lr  # the schedule is stretched to the time


@pytest.mark.usefixtures("no_finish")
def test_a_second_run_goes_to_a_folder_of_its_own(
    run_tool: Callable[..., Any], tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("train", "--config", tiny_file, "--trainer.max_epochs", 1)
    assert "holds a run" not in run_tool(*words).out
    first = (tmp_path / "runs/tiny/checkpoints/last.ckpt").read_bytes()
    assert "runs/tiny holds a run already; this one goes to runs/tiny-2" in run_tool(*words).out
    assert (tmp_path / "runs/tiny-2/checkpoints/last.ckpt").exists()
    assert (tmp_path / "runs/tiny/checkpoints/last.ckpt").read_bytes() == first
    assert run_tool(*words, "--overwrite").code == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["tiny", "tiny-2"]


def make_run(folder: Path) -> Path:
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("old")
    return folder


def test_which_folder_a_run_gets(
    invocation: Callable[..., Invocation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own, free, held = Path("runs/tiny"), tmp_path / "free", make_run(tmp_path / "held")
    assert run.choose_folder(invocation(), None) == own
    make_run(own)
    make_run(Path("runs/tiny-2"))
    assert run.choose_folder(invocation(), None) == Path("runs/tiny-3")
    assert run.choose_folder(invocation(overwrite=True), None) == own
    assert run.choose_folder(invocation(run_dir=free), None) == free
    assert run.choose_folder(invocation(run_dir=held, overwrite=True), None) == held
    with pytest.raises(DetrLiteError, match=r"holds a run; continue it with --resume or replace it with --overwrite"):
        run.choose_folder(invocation(run_dir=held), None)
    # A resumed run goes on in its own folder, or in the one that is asked for.
    last = held / "checkpoints" / "last.ckpt"
    assert run.choose_folder(invocation(resume=str(last)), last) == held.resolve()
    assert run.choose_folder(invocation(resume=str(last), run_dir=free), last) == free
    assert not free.exists()


def test_other_ranks_take_the_folder_as_it_is(
    invocation: Callable[..., Invocation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 0 has begun to write there when they ask."""
    monkeypatch.setattr("lightning.pytorch.utilities.rank_zero_only.rank", 1)
    held = make_run(tmp_path / "held")
    assert run.choose_folder(invocation(run_dir=held), None) == held


def test_overwriting_removes_a_run_and_nothing_else(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    (folder / "notes.txt").write_text("mine")
    (folder / "checkpoints" / "precious.ckpt").write_text("mine")
    run.prepare_folder(folder, overwrite=False)
    assert files_in(folder) == FILES | {"notes.txt", "checkpoints/precious.ckpt"}
    run.prepare_folder(folder, overwrite=True)
    assert files_in(folder) == {"notes.txt", "checkpoints/precious.ckpt"}


def test_a_refused_run_does_not_overwrite_the_old_one(refusal: Callable[..., str], tiny_file: Path, tmp_path: Path):
    folder = make_run(tmp_path / "run")
    for slip in ("--model.backbone=resnet10", "--data.root=nowhere", "--trainer.accelerator=abacus"):
        refusal("train", "--config", tiny_file, "--run_dir", folder, "--overwrite", slip)
        assert {(folder / name).read_text() for name in FILES} == {"old"}


def test_which_checkpoint_is_resumed(
    invocation: Callable[..., Invocation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    held = make_run(tmp_path / "held")
    assert run.find_resumed(invocation()) is None
    assert run.find_resumed(invocation(resume="last", run_dir=held)) == held / "checkpoints/last.ckpt"
    best = held / "checkpoints/best.ckpt"
    assert run.find_resumed(invocation(resume=str(best))) == best
    with pytest.raises(DetrLiteError, match=r"runs/tiny/checkpoints/last\.ckpt does not exist"):
        run.find_resumed(invocation(resume="last"))
    make_run(Path("runs/tiny"))
    assert run.find_resumed(invocation(resume="last")) == Path("runs/tiny/checkpoints/last.ckpt")
    with pytest.raises(DetrLiteError, match=r"none\.ckpt does not exist"):
        run.find_resumed(invocation(resume="none.ckpt"))


def interrupt_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    training_step = DetectionModule.training_step

    def step_or_stop(module: DetectionModule, batch: Any, index: int) -> torch.Tensor:
        if module.trainer.global_step == step:
            raise RuntimeError("power cut")
        return training_step(module, batch, index)

    monkeypatch.setattr(DetectionModule, "training_step", step_or_stop)


@pytest.mark.usefixtures("no_finish")
@pytest.mark.parametrize(
    ("name", "augmentation", "workers", "accumulate"),
    [("lite", "none", 0, 1), ("lite", "light", 0, 1), ("detr", "none", 1, 2)],
)
def test_a_resumed_run_ends_where_the_uninterrupted_one_does(
    invocation: Callable[..., Invocation],
    tiny_config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    augmentation: str,
    workers: int,
    accumulate: int,
) -> None:
    """Random numbers (noisy queries, dropout, augmentation) included, as far as this process draws them."""
    config = replace(
        tiny_config,
        data=replace(tiny_config.data, augmentation=augmentation, workers=workers, batch_size=2),
        model=replace(tiny_config.model, name=name, dropout=0.1),
        optim=replace(tiny_config.optim, accumulate=accumulate),
        trainer=replace(tiny_config.trainer, max_epochs=4, evaluations=4),
    )
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run.train(invocation(config=config, run_dir=whole))
    with monkeypatch.context() as patch:
        interrupt_at(8 // accumulate + 1, patch)  # of the third epoch's steps the first is done
        with pytest.raises(RuntimeError, match="power cut"):
            run.train(invocation(config=config, run_dir=parts))
    assert torch.load(parts / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 8 // accumulate
    run.train(invocation(config=config, run_dir=parts, resume="last"))

    expected = weights_of(whole)
    for key, value in weights_of(parts).items():
        torch.testing.assert_close(value, expected[key], atol=1e-6, rtol=0, msg=key)
    timeless = [
        [{key: value for key, value in row.items() if key != "minutes"} for row in rows_of(folder)]
        for folder in (whole, parts)
    ]
    assert timeless[0] == timeless[1]
    for folder in (whole, parts):
        checkpoint = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
        assert checkpoint["global_step"] == 16 // accumulate
        assert checkpoint["callbacks"]["RunClock"]["seconds"] > 0


@pytest.mark.usefixtures("no_finish")
def test_ctrl_c_is_not_lightnings_exit_code_1(
    invocation: Callable[..., Invocation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(DetectionModule, "training_step", stop)
    handler = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(KeyboardInterrupt):
            run.train(invocation(run_dir=tmp_path / "run"))
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning turns it off


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
    assert files_in(copy_of_finished) == FILES
    assert json.loads((copy_of_finished / "evaluation/metrics.json").read_text()) == before
    assert (copy_of_finished / "metrics.csv").read_text() == log
    assert all(torch.equal(value, weights[key]) for key, value in weights_of(copy_of_finished).items())


@pytest.mark.usefixtures("no_finish")
def test_a_finished_run_can_go_on_for_longer(run_tool: Callable[..., Any], copy_of_finished: Path) -> None:
    words = ("--config", copy_of_finished / "config.yaml", "--run_dir", copy_of_finished)
    assert run_tool("train", *words, "--resume", "--trainer.max_epochs", 121).code == 0
    assert rows_of(copy_of_finished)[-1]["step"] == "242"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (["--model.dim", "64"], "was trained with model.dim 32, not 64"),
        (["--model.num_queries", "9"], "was trained with model.num_queries 6, not 9"),
        (["--optim.lr", "0.1"], "was trained with optim.lr 0.0015, not 0.1"),
        (["--data.image_size", "96"], "was trained with data.image_size 64, not 96"),
        (["--optim.decay_all", "true"], "was trained with optim.decay_all False, not True"),
    ],
)
def test_settings_that_a_resumed_run_must_keep(
    refusal: Callable[..., str], finished_run: Path, change: list[str], expected: str
) -> None:
    words = ("--config", finished_run / "config.yaml", "--run_dir", finished_run, "--resume")
    assert expected in refusal("train", *words, *change)


def test_weights_alone_are_not_resumed(refusal: Callable[..., str], finished_run: Path, tmp_path: Path) -> None:
    content = torch.load(finished_run / "checkpoints/last.ckpt", weights_only=True)
    torch.save({name: content[name] for name in ("state_dict", KEY)}, tmp_path / "weights.ckpt")
    words = ("--config", finished_run / "config.yaml", "--run_dir", tmp_path / "run")
    told = refusal("train", *words, "--resume", tmp_path / "weights.ckpt")
    assert "holds weights alone" in told
    assert "--model.init_from" in told


def test_a_run_is_not_resumed_on_other_categories(
    refusal: Callable[..., str], finished_run: Path, edit_annotations: Callable[..., Path]
) -> None:
    def rename(content: dict[str, Any]) -> None:
        content["categories"][0]["name"] = "cat"

    for split in ("train", "val"):
        root = edit_annotations(split, rename)
    words = ("--config", finished_run / "config.yaml", "--run_dir", finished_run, "--resume", "--data.root", root)
    assert "other categories" in refusal("train", *words)


def test_precision_is_what_was_asked_for_or_what_the_hardware_does_well(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run.choose_precision("16-mixed", "auto") == "16-mixed"
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for capabilities, expected in (
        ({"amx_bf16": True}, "bf16-mixed"),
        ({"avx512_bf16": True}, "bf16-mixed"),
        ({"avx512_bf16": False, "avx2": True}, "32-true"),
        ({}, "32-true"),
    ):
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda found=capabilities: found, raising=False)
        assert run.choose_precision("auto", "auto") == run.choose_precision("auto", "cpu") == expected
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    assert run.choose_precision("auto", "auto") == run.choose_precision("auto", "mps") == "32-true"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: True)
    assert run.choose_precision("auto", "auto") == run.choose_precision("auto", "gpu") == "bf16-mixed"
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: False)
    assert run.choose_precision("auto", "cuda") == "32-true"


def test_the_default_data_are_drawn_on_first_use_only(
    tiny_config: Config, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Path] = []

    def draw(root: Path) -> None:
        drawn.append(root)
        shutil.copytree(tiny_data, root)

    monkeypatch.setattr("detr_lite.training.evaluate.PROJECT", tmp_path)
    monkeypatch.setattr(run, "make_coco_small", draw)
    config = Config()
    for _ in range(2):
        _, train_split, val_split = run.read_data(config)
        assert (len(train_split.images), len(val_split.images)) == (8, 5)
    assert drawn == [tmp_path / "datasets/coco_small"]
    with pytest.raises(DetrLiteError, match="no such data folder"):
        run.read_data(replace(config, data=replace(config.data, root=str(tmp_path / "elsewhere"))))
    assert len(drawn) == 1


def test_what_is_odd_in_the_data_is_noted(
    tiny_config: Config, edit_annotations: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = edit_annotations("train", lambda content: content["annotations"][0].update(bbox=[1, 2, 0, 4]))
    run.read_data(replace(tiny_config, data=replace(tiny_config.data, root=str(root))))
    assert "note       annotations/instances_train.json: boxes without area" in capsys.readouterr().out


def test_settings_are_plain_in_the_checkpoint(finished_run: Path) -> None:
    content = torch.load(finished_run / "checkpoints/best.ckpt", weights_only=True)
    written = read_config(["--config", str(finished_run / "config.yaml")]).config
    assert content["detr_lite"]["config"] == config_to_dict(written)
