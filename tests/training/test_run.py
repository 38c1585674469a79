"""A run from settings to a trained, measured detector: its folder, its end, and going on where it was."""

import contextlib
import io
import json
import shutil
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
from detr_lite.training import detection, run
from detr_lite.training.auto import device_type
from detr_lite.training.module import DetectionModule
from detr_lite.training.precision import choose_precision
from detr_lite.training.state.run_files import RUN_FILES
from detr_lite.training.state.run_folder import choose_folder, take_folder
from tests.helpers.run_files import files_in, rows_of

FILES = {
    "config.yaml",
    "data_report.json",
    "metrics.csv",
    "curves.png",
    "samples.png",
    "attention.png",
    "explorer.html",
    "report.html",
    "checkpoints/best.ckpt",
    "checkpoints/last.ckpt",
    "checkpoints/previous.ckpt",
    "evaluation/metrics.json",
    "evaluation/per_class.csv",
    "evaluation/detections.json",
    "evaluation/thresholds.json",
    "evaluation/pr_curves.png",
}


def test_the_run_folder_holds_what_it_should_and_nothing_else(finished_run: Path) -> None:
    assert files_in(finished_run) == FILES == set(RUN_FILES)


def test_it_learned(finished_run: Path) -> None:
    assert json.loads((finished_run / "evaluation/metrics.json").read_text())["AP50"] > 0.2


def test_the_settings_in_the_folder_give_the_same_run(finished_run: Path, tiny_file: Path) -> None:
    words = [
        "--config",
        str(tiny_file),
        "--trainer.max_epochs",
        "60",
        "--optim.lr",
        "4e-3",
        "--trainer.num_evaluations=3",
        "--optim.optimizer=muon",
        "--optim.backbone_lr_factor=1",
        "--optim.accumulate_grad_batches=1",
        "--data.orientation=upright",
        "--model.freeze_first_stage=false",
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
    assert [row["step"] for row in rows if row["loss"]] == ["1", *map(str, range(10, 121, 10))]
    num_evaluations = [row for row in rows if row["AP"]]
    assert [row["step"] for row in num_evaluations] == ["40", "80", "120"]
    best = max(num_evaluations, key=lambda row: float(row["AP"]))
    written = json.loads((finished_run / "evaluation/metrics.json").read_text())
    assert {name: float(best[name]) for name in METRICS} == pytest.approx(written, abs=1e-6)
    rates = [float(row["lr"]) for row in rows]
    assert max(rates) == 4e-3
    assert rates[-1] < 3e-4


def test_the_last_checkpoint_is_of_the_end_and_the_best_of_the_best(finished_run: Path) -> None:
    best_row = max((row for row in rows_of(finished_run) if row["AP"]), key=lambda row: float(row["AP"]))
    for name, step in (("last", 120), ("best", int(best_row["step"]))):
        checkpoint = torch.load(finished_run / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert checkpoint["global_step"] == step


@pytest.mark.stress
def test_the_tool_logs_the_data_the_metrics_and_the_files(
    run_tool: Callable[..., Any], tiny_file: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = run_tool("train", "--config", tiny_file, "--model.num_queries", 1, "--trainer.max_minutes", "0.01")
    assert ended.code == 0, ended.err
    folder = tmp_path / "runs" / "tiny"
    assert files_in(folder) == FILES
    for part in (
        f"{tiny_data}/annotations/instances_train.json (COCO): 8 images with 10 objects of 3 categories",
        "an image holds 2 objects but there are 1 queries",
        "lite on resnet10t (random weights)",
        *(f"\n{name:<6}" for name in METRICS),
        "blue thing",
        "look at runs/tiny/: report.html, explorer.html, attention.png, samples.png, curves.png, ",
        "steps, few to learn from; make steps cheaper",
        "--run_dir runs/tiny --resume --trainer.max_minutes 0.02\n",
    ):
        assert part in ended.out
    written = read_config(["--config", str(folder / "config.yaml")]).config.trainer
    assert (written.max_epochs, written.max_minutes) == (None, 0.01)
    assert float(rows_of(folder)[-1]["minutes"]) <= 0.5


@pytest.mark.stress
@pytest.mark.usefixtures("no_finish")
def test_minutes_are_kept(
    invocation: Callable[..., Invocation],
    tiny_config: Config,
    tmp_path: Path,
    fake_time: Callable[[float], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = DetectionModule.training_step

    def quarter_second(*arguments: Any) -> Any:
        fake_time(0.25)
        return original(*arguments)

    monkeypatch.setattr(DetectionModule, "training_step", quarter_second)
    trainer = replace(tiny_config.trainer, max_epochs=None, max_minutes=0.05, num_evaluations=1)
    run.train(invocation(config=replace(tiny_config, trainer=trainer), run_dir=tmp_path / "run"))
    rows = rows_of(tmp_path / "run")
    assert int(rows[-1]["step"]) == 12  # of a quarter of a second each
    assert float(rows[-1]["minutes"]) == 0.05
    assert float(rows[-1]["lr"]) < tiny_config.optim.lr  # the schedule is stretched to the time


@pytest.mark.stress
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
    assert choose_folder(invocation(), None) == own
    make_run(own)
    make_run(Path("runs/tiny-2"))
    assert choose_folder(invocation(), None) == Path("runs/tiny-3")
    assert choose_folder(invocation(overwrite=True), None) == own
    assert choose_folder(invocation(run_dir=free), None) == free
    assert choose_folder(invocation(run_dir=held, overwrite=True), None) == held
    with pytest.raises(DetrLiteError, match=r"holds a run; continue it with --resume or replace it with --overwrite"):
        choose_folder(invocation(run_dir=held), None)
    # A resumed run goes on in its own folder, or in the one that is asked for.
    last = held / "checkpoints" / "last.ckpt"
    assert choose_folder(invocation(resume=str(last)), last) == held.resolve()
    assert choose_folder(invocation(resume=str(last), run_dir=free), last) == free
    assert not free.exists()


def test_other_ranks_take_the_folder_as_it_is(
    invocation: Callable[..., Invocation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 0 has begun to write there when they ask."""
    monkeypatch.setattr("lightning.pytorch.utilities.rank_zero_only.rank", 1)
    held = make_run(tmp_path / "held")
    assert choose_folder(invocation(run_dir=held), None) == held


def test_overwriting_removes_a_run_and_nothing_else(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    (folder / "notes.txt").write_text("mine")
    (folder / "checkpoints" / "precious.ckpt").write_text("mine")
    take_folder(folder, overwrite=False).release()
    assert files_in(folder) == FILES | {"notes.txt", "checkpoints/precious.ckpt"}
    take_folder(folder, overwrite=True).release()
    assert files_in(folder) == {"notes.txt", "checkpoints/precious.ckpt"}


@pytest.mark.slow
def test_a_refused_run_does_not_overwrite_the_old_one(refusal: Callable[..., str], tiny_file: Path, tmp_path: Path):
    folder = make_run(tmp_path / "run")
    for slip in ("--model.backbone=resnet10", "--data.root=nowhere", "--trainer.accelerator=abacus"):
        refusal("train", "--config", tiny_file, "--run_dir", folder, "--overwrite", slip)
        assert {(folder / name).read_text() for name in FILES} == {"old"}


def test_only_weights_in_the_run_that_is_overwritten_are_refused(
    invocation: Callable[..., Invocation], tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two processes the second would read them too late; without such weights any working directory will do."""
    folder = make_run(tmp_path / "run")
    monkeypatch.chdir(folder)
    two = replace(tiny_config, trainer=replace(tiny_config.trainer, devices=2))
    assert run.resolve(invocation(config=two, run_dir=folder, overwrite=True)).world_size == 2
    for place, is_refused in ((folder / "checkpoints/best.ckpt", True), (tmp_path / "other.ckpt", False)):
        start = replace(two, model=replace(two.model, init_from=str(place)))
        if is_refused:
            with pytest.raises(DetrLiteError, match=r"is in the run that --overwrite removes"):
                run.resolve(invocation(config=start, run_dir=folder, overwrite=True))
        else:
            assert run.resolve(invocation(config=start, run_dir=folder, overwrite=True)).folder == folder


@pytest.mark.stress
@pytest.mark.usefixtures("no_finish")
@pytest.mark.parametrize("is_crowd", [False, True])
def test_without_ap_the_best_checkpoint_is_the_last_one(
    invocation: Callable[..., Invocation],
    tiny_config: Config,
    edit_annotations: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    is_crowd: bool,
) -> None:
    """AP is -1 at every evaluation, so it can neither choose a checkpoint nor stop the run early."""

    def remove_objects(content: dict[str, Any]) -> None:
        if is_crowd:
            for annotation in content["annotations"]:
                annotation["iscrowd"] = 1
        else:
            content["annotations"].clear()

    root = edit_annotations("val", remove_objects)
    config = replace(
        tiny_config,
        data=replace(tiny_config.data, root=str(root)),
        trainer=replace(tiny_config.trainer, max_epochs=3, num_evaluations=3, patience=1),
    )
    run.train(invocation(config=config, run_dir=tmp_path / "run"))
    assert {row["AP"] for row in rows_of(tmp_path / "run")} == {"", "-1.0"}
    for name in ("best", "last"):
        content = torch.load(tmp_path / "run/checkpoints" / f"{name}.ckpt", weights_only=True)
        assert content["global_step"] == 6
    lines = capsys.readouterr().out.splitlines()
    warning = next(number for number, line in enumerate(lines) if "has no objects, so there is no AP" in line)
    assert "--trainer.patience has no effect" in lines[warning]
    assert warning < next(number for number, line in enumerate(lines) if " step 1 " in line)


@pytest.fixture
def available(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Say which devices there are."""

    def make(*devices: str) -> None:
        monkeypatch.setattr("torch.cuda.is_available", lambda: "cuda" in devices)
        monkeypatch.setattr("torch.backends.mps.is_available", lambda: "mps" in devices)

    return make


def test_precision_is_that_of_the_settings_or_what_the_hardware_does_well(
    monkeypatch: pytest.MonkeyPatch, available: Callable[..., None]
) -> None:
    assert choose_precision("16-mixed", "auto") == "16-mixed"
    available()
    for capabilities, expected in (
        ({"amx_bf16": True}, "bf16-mixed"),
        ({"avx512_bf16": True, "cpu_name": "AMD EPYC"}, "bf16-mixed"),
        ({"avx512_bf16": True, "cpu_name": "Intel Xeon"}, "32-true"),
        ({"avx512_bf16": False, "avx2": True}, "32-true"),
        ({}, "32-true"),
    ):
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda found=capabilities: found, raising=False)
        assert choose_precision("auto", "auto") == choose_precision("auto", "cpu") == expected
    available("mps")
    assert choose_precision("auto", "auto") == choose_precision("auto", "mps") == "32-true"
    available("cuda")
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: True)
    assert choose_precision("auto", "auto") == choose_precision("auto", "gpu") == "bf16-mixed"
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: False)
    assert choose_precision("auto", "cuda") == "32-true"


@pytest.mark.parametrize(
    ("accelerator", "devices", "expected"),
    [
        ("auto", (), "cpu"),
        ("auto", ("cuda",), "cuda"),
        ("auto", ("mps",), "mps"),
        ("gpu", ("cuda",), "cuda"),
        ("gpu", ("mps",), "mps"),
        ("cuda", ("cuda",), "cuda"),
        ("mps", ("mps",), "mps"),
        ("cpu", ("cuda",), "cpu"),
    ],
)
def test_the_device_of_an_accelerator(
    available: Callable[..., None], accelerator: str, devices: tuple[str, ...], expected: str
) -> None:
    available(*devices)
    assert device_type(accelerator) == expected


@pytest.mark.parametrize("accelerator", ["tpu", "xpu", "gpuu", "CPU"])
def test_an_unknown_accelerator_is_no_cpu(available: Callable[..., None], accelerator: str) -> None:
    available()
    with pytest.raises(DetrLiteError, match=f"{accelerator} is unknown; valid are auto, gpu, cuda, mps, cpu"):
        device_type(accelerator)


@pytest.mark.parametrize("accelerator", ["gpu", "cuda", "mps"])
def test_an_accelerator_that_is_missing_is_no_cpu(available: Callable[..., None], accelerator: str) -> None:
    available()
    with pytest.raises(DetrLiteError, match="torch finds no such device here; give auto or cpu"):
        device_type(accelerator)


def test_the_default_data_are_drawn_on_first_use_only(
    tiny_config: Config, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Path] = []

    def draw(root: Path) -> None:
        drawn.append(root)
        shutil.copytree(tiny_data, root)

    monkeypatch.setenv("DETR_LITE_DATA", str(tmp_path))
    monkeypatch.setattr(detection, "make_coco_small", draw)
    config = Config()
    for _ in range(2):
        _, train_split, val_split = detection.read_data(config)
        assert (len(train_split.images), len(val_split.images)) == (8, 5)
    assert drawn == [tmp_path / "coco_small"]
    with pytest.raises(DetrLiteError, match="no such data folder"):
        detection.read_data(replace(config, data=replace(config.data, root=str(tmp_path / "elsewhere"))))
    assert len(drawn) == 1


def test_what_is_odd_in_the_data_is_logged(
    tiny_config: Config, edit_annotations: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = edit_annotations("train", lambda content: content["annotations"][0].update(bbox=[1, 2, 0, 4]))
    detection.read_data(replace(tiny_config, data=replace(tiny_config.data, root=str(root))))
    assert "annotations/instances_train.json: boxes without area" in capsys.readouterr().out


def test_settings_are_plain_in_the_checkpoint(finished_run: Path) -> None:
    content = torch.load(finished_run / "checkpoints/best.ckpt", weights_only=True)
    written = read_config(["--config", str(finished_run / "config.yaml")]).config
    assert content["detr_lite"]["config"] == config_to_dict(written)
