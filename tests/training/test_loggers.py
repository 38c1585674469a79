"""What TensorBoard and Weights & Biases log, read back from their files."""

import io
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from detr_lite.config import Config
from detr_lite.evaluation.coco_map import METRICS
from detr_lite.structures import DetrLiteError
from detr_lite.training import loggers
from tests.helpers import ranks
from tests.helpers.run_files import rows_of
from tests.helpers.waiting import PATIENCE

PROJECT = Path(__file__).resolve().parents[2]

pytest.importorskip("tensorboard")
wandb = pytest.importorskip("wandb")


def series_of(rows: list[dict[str, str]]) -> dict[str, list[tuple[int, float]]]:
    """Steps and values of each column that has any."""
    series = defaultdict(list)
    for row in rows:
        for name, value in row.items():
            if name != "step" and value:
                series[name].append((int(row["step"]), pytest.approx(float(value), rel=1e-6)))
    return dict(series)


def tensorboard_of(folder: Path) -> tuple[dict[str, list[tuple[int, float]]], Any]:
    """The curves and the page of hyper-parameters."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if not tag.startswith("final/")]
    curves = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    experiment = events.summary_metadata["_hparams_/experiment"].plugin_data.content
    start = HParamsPluginData.FromString(content).session_start_info.hparams
    shown = [info.name.tag for info in HParamsPluginData.FromString(experiment).experiment.metric_infos]
    return curves, (start, shown)


@pytest.fixture
def train(run_tool: Callable[..., Any], tiny_file: Path, tmp_path: Path, no_finish: None) -> Callable[..., Path]:
    def train(*words: object, kind: str = "tensorboard") -> Path:
        folder = tmp_path / "run"
        ended = run_tool("train", "--config", tiny_file, "--run_dir", folder, "--trainer.logger", kind, *words)
        assert ended.code == 0, ended.err
        return folder

    return train


@pytest.mark.stress
def test_tensorboard_has_what_the_metrics_file_has(train: Callable[..., Path]) -> None:
    folder = train("--trainer.max_epochs", 6, "--optim.lr", 0.001)
    curves, (settings, shown) = tensorboard_of(folder)
    rows = rows_of(folder)
    assert [row["step"] for row in rows] == ["1", "6", "10", "12"]
    assert curves == series_of(rows)
    assert {"loss", "loss_class", "lr", *METRICS} <= curves.keys()
    assert [step for step, _ in curves["loss"]] == [1, 10]
    assert [step for step, _ in curves["AP"]] == [6, 12]
    assert settings["optim.lr"].number_value == 0.001
    assert settings["model.name"].string_value == "lite"
    assert settings["model.strides"].string_value == "[16]"
    assert settings["seed"].number_value == 0
    assert shown == list(METRICS)


def test_tensorboard_has_the_final_numbers_and_pictures(tmp_path: Path) -> None:
    """Also of a run that was resumed at step 5, whose later steps it hides; its curves stay."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run_logger = loggers.make_logger("tensorboard", tmp_path, resumed_step=5)
    assert run_logger is not None
    run_logger.log_metrics({"AP": 0.5}, 10)
    run_logger.finalize("success")
    Image.new("RGB", (6, 4), (200, 10, 20)).save(tmp_path / "samples.png")
    pictures = {"samples": tmp_path / "samples.png", "attention": tmp_path / "missing.png"}
    loggers.log_final(run_logger, 12, {"AP": 0.625, "error_cost/missed": 0.25}, pictures)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    scalars = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert scalars == {"AP": [(10, 0.5)], "final/AP": [(12, 0.625)], "final/error_cost/missed": [(12, 0.25)]}
    assert events.Tags()["images"] == ["final/samples"]
    (picture,) = events.Images("final/samples")
    with Image.open(io.BytesIO(picture.encoded_image_string)) as image:
        assert (image.size, image.getpixel((0, 0))) == ((6, 4), (200, 10, 20))


@pytest.mark.stress
def test_a_resumed_run_shows_no_step_twice(train: Callable[..., Path]) -> None:
    folder = train("--trainer.max_epochs", 4)
    earlier = shutil.copy(folder / "checkpoints" / "last.ckpt", folder / "checkpoints" / "earlier.ckpt")
    train("--trainer.max_epochs", 7, "--resume")
    first, _ = tensorboard_of(folder)
    assert [step for step, _ in first["loss"]] == [1, 10]
    train("--trainer.max_epochs", 6, "--resume", earlier)
    curves, _ = tensorboard_of(folder)
    assert curves == series_of(rows_of(folder))
    assert curves["epoch"][-1] == (12, 5)
    assert len(list((folder / "tensorboard").glob("events*"))) == 3


@pytest.mark.stress
def test_overwriting_removes_the_earlier_logs_and_nothing_else(train: Callable[..., Path]) -> None:
    folder = train("--trainer.max_epochs", 6)
    mine = [folder / "tensorboard" / "notes.txt", folder / "wandb" / "notes.txt", folder / "wandb" / "mine" / "a.txt"]
    old = [folder / "wandb" / name for name in ("run-1-a/run-a.wandb", "offline-run-2-b/run-b.wandb", "debug.log")]
    for path in (*mine, *old):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text")
    (folder / "wandb" / "latest-run").symlink_to("run-1-a")
    train("--trainer.max_epochs", 3, "--overwrite")
    curves, _ = tensorboard_of(folder)
    assert curves == series_of(rows_of(folder))
    assert all(path.exists() for path in mine)
    assert sorted(path.name for path in (folder / "wandb").iterdir()) == ["mine", "notes.txt"]


@pytest.mark.slow
def test_without_a_logger_nothing_is_logged(train: Callable[..., Path]) -> None:
    folder = train("--trainer.max_epochs", 1, kind="none")
    assert not (folder / "tensorboard").exists()
    assert rows_of(folder)


@pytest.mark.parametrize("kind", ["tensorboard", "wandb"])
def test_a_missing_package_is_one_line_that_says_what_to_install(
    refusal: Callable[..., str], tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setitem(loggers.REQUIREMENTS, kind, f"{kind}_that_is_not_there>=1.0")
    message = refusal("train", "--config", tiny_file, "--run_dir", tmp_path / "run", "--trainer.logger", kind)
    assert message == (
        f"trainer.logger {kind} needs a package that is not installed: pip install '{kind}_that_is_not_there>=1.0'"
    )
    assert not (tmp_path / "run").exists()


def test_the_packages_are_those_of_the_extra() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert list(loggers.REQUIREMENTS.values()) == project["optional-dependencies"]["loggers"]


@pytest.fixture
def wandb_says(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """W&B in this mode, with this `wandb.login`."""

    def say(mode: str, login: Callable[..., bool]) -> None:
        monkeypatch.setattr(wandb, "setup", lambda: SimpleNamespace(settings=SimpleNamespace(mode=mode)))
        monkeypatch.setattr(wandb, "login", login)

    return say


def test_wandb_without_a_login_is_refused_without_a_prompt(wandb_says: Callable[..., None], tmp_path: Path) -> None:
    prompts = []

    def nobody(prompt: bool) -> bool:
        prompts.append(prompt)
        return False

    wandb_says("online", nobody)
    with pytest.raises(DetrLiteError, match="nobody is logged in; run `wandb login` first, or set WANDB_MODE=offline"):
        loggers.make_logger("wandb", tmp_path)
    assert prompts == [False]
    wandb_says("offline", nobody)
    assert loggers.make_logger("wandb", tmp_path) is not None
    assert prompts == [False]


def test_a_login_that_wandb_does_not_accept_is_one_line(wandb_says: Callable[..., None], tmp_path: Path) -> None:
    def refuse(prompt: bool) -> bool:
        raise wandb.errors.AuthenticationError("The API key is\ninvalid.")

    wandb_says("online", refuse)
    with pytest.raises(DetrLiteError, match="wandb: The API key is invalid; run `wandb login`, or set WANDB_MODE=off"):
        loggers.make_logger("wandb", tmp_path)


def test_a_resumed_run_continues_the_wandb_run(wandb_says: Callable[..., None], tmp_path: Path) -> None:
    wandb_says("offline", lambda prompt: False)
    for name in ("offline-run-20260102_000000-second", "run-20260101_000000-first", "run-20260103_000000-third"):
        assert loggers.make_logger("wandb", tmp_path, resumed_step=5).version == loggers._last_wandb_id(tmp_path)
        (tmp_path / "wandb" / name).mkdir(parents=True)
    assert loggers.make_logger("wandb", tmp_path, resumed_step=5).version == "third"
    assert loggers.make_logger("wandb", tmp_path).version is None


def records_of(file: Path) -> Iterator[Any]:
    """W&B's records: protocol buffers in LevelDB's log format, blocks of 32 KiB that may cut a record in pieces."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, position, pieces = file.read_bytes(), 7, b""
    while position + 7 <= len(content):
        if 32768 - position % 32768 < 7:
            position += 32768 - position % 32768
        length, kind = int.from_bytes(content[position + 4 : position + 6], "little"), content[position + 6]
        pieces += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield Record.FromString(pieces)
            pieces = b""


@pytest.fixture
def program(tiny_file: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The tool as a program without a login."""

    def start(*words: object, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
        environment |= {"HOME": str(tmp_path), "NETRC": str(tmp_path / "none"), **variables}
        command = [sys.executable, PROJECT / "tools/train.py", "--config", tiny_file, "--run_dir", tmp_path / "run"]
        return subprocess.run(
            [*map(str, command), "--trainer.logger", "wandb", *map(str, words)],
            **{"env": environment, "capture_output": True, "text": True, "timeout": PATIENCE},
        )

    return start


@pytest.mark.stress
def test_wandb_offline_has_what_the_metrics_file_has(program: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    ended = program("--trainer.max_epochs", 6, WANDB_MODE="offline")
    assert ended.returncode == 0, ended.stderr
    assert "WARNING" not in ended.stderr
    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    series, settings, summary, exit_codes, pictures = defaultdict(list), {}, {}, [], set()
    for record in records_of(file):
        values = {item.key or item.nested_key[0]: item.value_json for item in record.history.item}
        pictures |= {name for name in values if name.startswith("final/")}
        for name in values.keys() - pictures:
            series[name].append((int(values["trainer/global_step"]), float(values[name])))
        settings |= {item.key: item.value_json for item in record.config.update if item.key}
        summary |= {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.summary.update}
        if record.WhichOneof("record_type") == "exit":
            exit_codes.append(record.exit.exit_code)
    for name, points in series_of(rows_of(folder)).items():
        assert series[name] == points, name
    assert settings["model.name"] == '"lite"'
    assert settings["trainer.max_epochs"] == "6"
    assert exit_codes == [0]
    written = json.loads((folder / "evaluation" / "metrics.json").read_text())
    assert summary["final/AP"] == pytest.approx(written["AP"])
    assert pictures == {"final/samples", "final/curves", "final/attention", "final/pr_curves"}

    ended = program("--trainer.max_epochs", 7, "--resume", WANDB_MODE="offline")
    assert ended.returncode == 0, ended.stderr
    assert {path.name for path in folder.glob("wandb/offline-run-*/*.wandb")} == {file.name}


@pytest.mark.stress
def test_wandb_online_without_a_login_ends_at_once(program: Callable[..., Any], tmp_path: Path) -> None:
    ended = program()
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert "`wandb login`" in ended.stderr
    assert "WANDB_MODE=offline" in ended.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.stress
def test_two_processes_share_one_log_one_ema_and_one_early_stop(
    start_two: Callable[..., ranks.Ranks], tiny_config: Config, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    config = replace(
        tiny_config,
        data=replace(tiny_config.data, batch_size=2),
        optim=replace(tiny_config.optim, ema_decay=0.9, lr=0.0),
        trainer=replace(
            tiny_config.trainer, devices="auto", max_epochs=8, num_evaluations=8, patience=2, logger="tensorboard"
        ),
    )
    both = start_two(config, folder, ranks.do_finish)
    assert both.codes() == [0, 0], both.err
    assert both.out[0].count("stopped early") == 1
    assert len(list((folder / "tensorboard").glob("events*"))) == 2, "the second of the end of the run"
    curves, _ = tensorboard_of(folder)
    assert curves == series_of(rows_of(folder))
    assert [step for step, _ in curves["AP"]] == [2, 4, 6]
    last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert int(last["averaging_state"]["n_averaged"]) == 1 + last["global_step"] == 7
    assert last["state_dict"].keys() == last["current_model_state"].keys()
    assert (folder / "evaluation" / "metrics.json").exists()
