"""Runs of two processes train, stop, resume and fail together."""

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from detr_lite.config import Config, Invocation
from detr_lite.structures import DetrLiteError
from detr_lite.training import run
from detr_lite.training.datamodule import DetectionData
from detr_lite.training.distributed.launch import LOST
from detr_lite.training.module import DetectionModule
from tests.helpers import fault_injection, ranks
from tests.helpers.run_files import assert_same_end, checkpoint_of, files_in, rows_of
from tests.helpers.waiting import PATIENCE

pytestmark = pytest.mark.slow


def together(config: Config, epochs: int = 2, name: str = "lite", **model: Any) -> Config:
    """Two images per process, augmentation, denoising noise and dropout, and an EMA."""
    return replace(
        config,
        data=replace(config.data, augmentation="light", batch_size=2),
        model=replace(config.model, name=name, **{"dropout": 0.1, **model}),
        optim=replace(config.optim, ema_decay=0.9),
        trainer=replace(config.trainer, devices="auto", max_epochs=epochs, num_evaluations=3),
    )


@pytest.mark.stress
@pytest.mark.parametrize(
    "settings",
    [
        {"name": "lite"},
        {"name": "detr"},
        {"name": "lite", "encoder_layers": 0, "denoising_queries": 0},
        {"name": "detr", "encoder_layers": 0, "decoder_layers": 2},
        {"name": "lite", "freeze_first_stage": True},
    ],
    ids=str,
)
def test_no_parameter_is_without_gradient_whatever_a_rank_has(
    start_two: Callable[..., ranks.Ranks], tiny_config: Config, tmp_path: Path, settings: dict[str, Any]
) -> None:
    """With one image per process, in one step a rank has no objects. Frozen parameters have no gradient anywhere."""
    config = together(tiny_config, epochs=1, **settings)
    config = replace(config, data=replace(config.data, batch_size=1))
    both = start_two(config, tmp_path / "run")
    assert both.codes() == [0, 0], both.err
    assert both.err[1] == both.out[1] == ""
    assert checkpoint_of(tmp_path / "run")["global_step"] == 4
    assert [int(row["step"]) for row in rows_of(tmp_path / "run") if row["AP"]] == [2, 3, 4]


@pytest.mark.stress
def test_minutes_end_both(start_two: Callable[..., ranks.Ranks], tiny_config: Config, tmp_path: Path) -> None:
    config = together(tiny_config)
    config = replace(config, trainer=replace(config.trainer, max_epochs=None, max_minutes=0.01))
    assert start_two(config, tmp_path / "run").codes() == [0, 0]


@pytest.fixture(scope="module")
def uninterrupted_run(tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run of two processes: three epochs of two steps."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    invocation = Invocation(together(tiny_config, epochs=3), "tiny", folder, resume=None, overwrite=False)
    assert ranks.start(folder / "ranks", 2, ranks.train, invocation).codes() == [0, 0]
    return folder


@pytest.mark.stress
@pytest.mark.parametrize(("rank", "step"), [(0, 1), (1, 3), (1, 5)])
def test_a_run_that_is_stopped_and_resumed_ends_where_the_uninterrupted_one_does(
    start_two: Callable[..., ranks.Ranks],
    uninterrupted_run: Path,
    tiny_config: Config,
    tmp_path: Path,
    rank: int,
    step: int,
) -> None:
    """Whichever process gets the signal, both stop after the same step, and rank 0 has the exit code."""
    config, folder = together(tiny_config, epochs=3), tmp_path / "run"
    both = start_two(config, folder, ranks.InStep(rank, step, ranks.be_terminated))
    assert both.codes() == [143, 0]
    assert f"stopped after step {step}; resume with: " in both.out[0]
    assert both.err[1] == both.out[1] == ""
    assert checkpoint_of(folder)["global_step"] == step
    assert checkpoint_of(folder)["detr_lite_run"]["world_size"] == 2
    both = start_two(config, folder, resume="last")
    assert both.codes() == [0, 0], both.err
    assert changes(both.out[0]) == []
    assert_same_end(folder, uninterrupted_run)


def stop_before_training(rank: int) -> None:
    """Let the signal come while the others wait for this process."""
    original = DetectionData.train_dataloader

    def with_signal(self: Any) -> Any:
        if rank == 0:
            ranks.be_terminated()
        return original(self)

    DetectionData.train_dataloader = with_signal  # type: ignore[method-assign]


@pytest.mark.stress
def test_a_signal_before_training_stops_both_after_the_first_step(
    start_two: Callable[..., ranks.Ranks], tiny_config: Config, tmp_path: Path
) -> None:
    both = start_two(together(tiny_config), tmp_path / "run", stop_before_training)
    assert both.codes() == [143, 0]
    assert "SIGTERM: stopping after this step" in both.err[0]
    assert checkpoint_of(tmp_path / "run")["global_step"] == 1


@pytest.fixture
def resume_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[Config, Path], str]:
    """Resume a run in this process; returns its output."""
    monkeypatch.setattr(run, "finish", lambda *_: None)
    monkeypatch.setattr("detr_lite.training.callbacks.metrics.plot_training_curves", lambda *_: None)

    def resume(config: Config, folder: Path) -> str:
        alone = replace(config, trainer=replace(config.trainer, devices=1))
        run.train(Invocation(alone, "tiny", folder, resume="last", overwrite=False))
        return capsys.readouterr().out

    return resume


def changes(out: str) -> list[str]:
    """Lines about what has changed since the checkpoint."""
    return [line for line in out.splitlines() if "(was " in line or "starts again" in line]


def assert_ends(lines: list[str], *ends: str) -> None:
    assert len(lines) == len(ends), lines
    assert all(map(str.endswith, lines, ends)), lines


@pytest.mark.stress
def test_with_another_number_of_processes_the_interrupted_epoch_starts_again(
    start_two: Callable[..., ranks.Ranks],
    tiny_config: Config,
    tmp_path: Path,
    resume_alone: Callable[[Config, Path], str],
) -> None:
    config, two, one = together(tiny_config, epochs=3), tmp_path / "two", tmp_path / "one"
    restart = "the batches are no longer the same, so an interrupted epoch starts again"
    # Two epochs have 2 steps of 2 + 2 images, or 4 of 2.
    assert start_two(config, two, ranks.InStep(1, 3, ranks.be_terminated)).codes() == [143, 0]
    devices, processes = "trainer.devices 1 (was auto)", "the number of processes: 1 (was 2)"
    kept = f"optim.lr stays {checkpoint_of(two)['optimizer_states'][0]['param_groups'][0]['initial_lr']:g}"
    rate = f"images in a step: 2 (was 4), for which {kept}"
    assert_ends(changes(resume_alone(config, two)), devices, processes, rate, restart)
    assert checkpoint_of(two)["global_step"] == 3 + 2 * 4
    assert checkpoint_of(two)["detr_lite_run"]["world_size"] == 1

    alone = ranks.InStep(0, 6, ranks.be_terminated)
    process = fault_injection.FORKS.Process(
        target=ranks.train, args=(Invocation(config, "tiny", one, resume=None, overwrite=False), [alone])
    )
    process.start()
    process.join(PATIENCE)
    assert process.exitcode == 143
    both = start_two(config, one, resume="last")
    assert both.codes() == [0, 0], both.err
    assert_ends(
        changes(both.out[0]),
        "the number of processes: 2 (was 1)",
        f"images in a step: 4 (was 2), for which {kept}",
        restart,
    )
    assert both.out[1] == ""
    assert checkpoint_of(one)["global_step"] == 6 + 2 * 2


def raise_user_error() -> None:
    raise DetrLiteError("image 7 is damaged")


def raise_bug() -> None:
    raise KeyError("a bug")


@pytest.mark.stress
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize(
    ("action", "code", "line"), [(raise_user_error, 2, "error: image 7 is damaged"), (raise_bug, 1, "KeyErr")]
)
def test_an_error_of_one_process_is_reported_by_it_and_ends_the_other(
    start_two: Callable[..., ranks.Ranks],
    tiny_config: Config,
    tmp_path: Path,
    rank: int,
    action: Callable[[], object],
    code: int,
    line: str,
) -> None:
    both = start_two(together(tiny_config), tmp_path / "run", ranks.lose_patience, ranks.InStep(rank, 2, action))
    codes = both.codes()
    assert codes[rank] == code
    assert line in both.err[rank]
    # No launcher watches these processes: rank 0 has to say why it ends, and the other one has nothing to report.
    lost = "error: the connection to another process is lost: it has ended, and has reported why, or the network failed"
    if rank == 0:
        assert (codes[1], both.err[1]) == (LOST, "")
    else:
        assert codes[0] == 2
        assert both.err[0].splitlines()[-1].startswith(lost)
        assert "Traceback" not in both.err[0]
    assert not (tmp_path / "run/.lock").exists()


@pytest.mark.stress
def test_a_process_that_is_killed_ends_the_others(
    start_two: Callable[..., ranks.Ranks], tiny_config: Config, tmp_path: Path
) -> None:
    both = start_two(together(tiny_config, epochs=10_000), tmp_path / "run", ranks.InStep(0, 2, fault_injection.die))
    assert both.codes() == [-signal.SIGKILL, LOST]
    assert both.err[1] == ""


def spoil(rank: int) -> None:
    """NaN in the pixels of rank 1's third batch."""
    original = DetectionModule.training_step

    def step(self: Any, batch: Any, index: int) -> Any:
        if rank == 1 and self.trainer.global_step == 2:
            batch.images.fill_(float("nan"))
        return original(self, batch, index)

    DetectionModule.training_step = step  # type: ignore[method-assign]


@pytest.mark.parametrize("name", ["lite", "detr"])
@pytest.mark.stress
def test_nan_on_one_rank_stops_both(
    start_two: Callable[..., ranks.Ranks], tiny_config: Config, tmp_path: Path, name: str
) -> None:
    both = start_two(together(tiny_config, name=name), tmp_path / "run", spoil)
    assert both.codes() == [2, 0]
    (line,) = (line for line in both.err[0].splitlines() if line.startswith("error: "))
    assert "step 3: " in line
    assert "of rank 1" in line
    assert both.err[1] == ""
    assert "nonfinite/step-3.pt" in files_in(tmp_path / "run")
    assert checkpoint_of(tmp_path / "run")["global_step"] <= 2


@pytest.mark.stress
def test_a_batch_with_nan_on_one_rank_is_saved_in_the_run_folder(
    start_two: Callable[..., ranks.Ranks], tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs/tiny").mkdir(parents=True)
    Path("runs/tiny/config.yaml").touch()
    assert start_two(together(tiny_config), None, spoil).codes() == [2, 0]
    assert files_in(tmp_path / "runs/tiny") == {"config.yaml"}
    assert "nonfinite/step-3.pt" in files_in(tmp_path / "runs/tiny-2")
