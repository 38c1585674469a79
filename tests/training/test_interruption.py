"""What a run loses by a kill, a full disk, impatience, or a second run in its folder: nothing that was finished."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import faults
import pytest
import torch
from runs import assert_same_end, checkpoint_of, files_in, rows_of

from detr_lite.config import Config, Invocation
from detr_lite.io import atomic_write, backup_file
from detr_lite.structures import DetrLiteError
from detr_lite.training import run
from detr_lite.training.state.lock import RunLock
from detr_lite.training.state.run_folder import take_folder

PROJECT = Path(__file__).resolve().parents[2]


def random_moments(count: int) -> list[faults.Moment]:
    """Anywhere in a run of 8 steps, 3 evaluations and a checkpoint after each step; the same ones each time."""
    dice = random.Random(5)
    most = {"training step": 16, "evaluation step": 9, "evaluation": 3, "row of the log": 5}
    most |= dict.fromkeys(("fsync", "replace", "link"), 14)
    places = [*most, *dice.choices(list(most), k=count - len(most))]
    drawn = [(place, dice.randint(1, most[place]), dice.randint(0, 1)) for place in places]
    return [("fsync", 1, 0), *drawn[1:]]


@pytest.fixture(scope="module")
def eager(tiny_config: Config) -> Config:
    """All that is random, a worker, accumulated gradients, an average, and a checkpoint after each step."""
    return replace(
        tiny_config,
        data=replace(tiny_config.data, augmentation="light", num_workers=1, batch_size=2),
        model=replace(tiny_config.model, dropout=0.1),
        optim=replace(tiny_config.optim, accumulate_grad_batches=2, ema_decay=0.9),
        trainer=replace(tiny_config.trainer, max_epochs=4, num_evaluations=3, checkpoint_minutes=0.0),
    )


@pytest.fixture(scope="module")
def uninterrupted(eager: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    process = faults.start(Invocation(eager, "tiny", folder, resume=None, overwrite=False))
    process.join(120)
    assert process.exitcode == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("moment", random_moments(10), ids=lambda moment: f"{moment[0]} {moment[1]} {moment[2]}")
def test_a_killed_run_goes_on_where_it_was(
    eager: Config, uninterrupted: Path, tmp_path: Path, moment: faults.Moment
) -> None:
    """Killed in the act of anything, of writing a checkpoint too, it ends as if nothing had happened."""
    invocation = Invocation(eager, "tiny", tmp_path / "run", resume=None, overwrite=False)
    process = faults.start(invocation, faults.die, moment)
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    if moment != ("fsync", 1, 0):  # in the act of writing the first one of all
        assert checkpoint_of(tmp_path / "run")["global_step"] <= 8  # there is one, and it is whole
    # At once, while loading processes of the killed run may still be there.
    process = faults.start(replace(invocation, resume="last"))
    process.join(120)
    assert process.exitcode == 0
    assert_same_end(tmp_path / "run", uninterrupted)
    assert not [name for name in files_in(tmp_path / "run") if Path(name).name.startswith(".")]


def wait_for(is_so: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def sleep_long() -> None:
    time.sleep(100)


@pytest.fixture
def busy_run(tiny_config: Config, tmp_path: Path) -> Iterator[tuple[Any, Invocation]]:
    """A run that sleeps in its second step, with a loading process."""
    config = replace(tiny_config, data=replace(tiny_config.data, num_workers=1))
    invocation = Invocation(config, "tiny", tmp_path / "run", resume=None, overwrite=False)
    process = faults.start(invocation, sleep_long, ("training step", 2, 0))
    wait_for(lambda: (tmp_path / "run/metrics.csv").exists() and rows_of(tmp_path / "run"))
    yield process, invocation
    process.kill()
    process.join()


def test_a_second_ctrl_c_ends_at_once(busy_run: tuple[Any, Invocation]) -> None:
    process, invocation = busy_run
    os.kill(process.pid, signal.SIGINT)
    process.join(1)
    assert process.is_alive()
    start = time.monotonic()
    os.kill(process.pid, signal.SIGINT)
    process.join(10)
    assert process.exitcode == 130
    assert time.monotonic() - start < 5
    assert invocation.run_dir is not None
    assert checkpoint_of(invocation.run_dir)["global_step"] == 0


def test_a_second_run_in_a_folder_is_refused_and_a_dead_one_blocks_nobody(
    busy_run: tuple[Any, Invocation], refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    process, invocation = busy_run
    folder = invocation.run_dir
    assert folder is not None
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    for word in ("--resume", "--overwrite"):
        told = refusal("train", "--config", folder / "config.yaml", "--run_dir", folder, word)
        assert told == f"{folder}: process {process.pid} is training there; wait for its end, or give another --run_dir"
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before

    process.kill()
    process.join()
    assert (folder / ".lock").exists()
    monkeypatch.setattr(run, "finish", lambda *_: None)
    run.train(replace(invocation, resume="last"))
    assert checkpoint_of(folder)["global_step"] == 4
    assert not (folder / ".lock").exists()


def test_the_lock_survives_the_end_of_its_holder_only_as_a_file(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("not a number")
    lock = RunLock(tmp_path)
    lock.acquire()
    assert (tmp_path / ".lock").read_text() == f"{os.getpid()}\n"
    lock.release()
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_half_written_files_of_killed_runs_are_removed(tmp_path: Path) -> None:
    for name in (".1.part", "checkpoints/.17.part", "evaluation/.17.part", "checkpoints/mine.part"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("half")
    take_folder(tmp_path, overwrite=False).release()
    assert files_in(tmp_path) == {"checkpoints/mine.part"}


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fill_disk(file: Any) -> None:
        file.write(b"ne")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(DetrLiteError, match=r"file: cannot be written \(No space left on device\); make room"):
        atomic_write(path, fill_disk)
    assert files_in(tmp_path) == {"file"}
    assert path.read_text() == "old"


@pytest.mark.parametrize("has_links", [True, False])
def test_the_checkpoint_before_keeps_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
) -> None:
    if not has_links:
        monkeypatch.setattr(os, "link", lambda *_, **__: (_ for _ in ()).throw(PermissionError(1, "no links here")))
    last, previous = tmp_path / "last", tmp_path / "previous"
    backup_file(last, previous)
    assert files_in(tmp_path) == set()
    for number in range(3):
        backup_file(last, previous)
        atomic_write(last, lambda file, number=number: file.write(f"{number}".encode()))
    assert (previous.read_text(), last.read_text()) == ("1", "2")
    assert files_in(tmp_path) == {"last", "previous"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MB in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", place], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"a file system cannot be mounted here ({made.stderr.strip() or made.returncode})")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def test_a_full_disk_is_told_and_leaves_the_old_checkpoint_whole(
    small_disk: Path, refusal: Callable[..., str], tiny_file: Path
) -> None:
    """The first checkpoint fits, the second beside it does not."""
    told = refusal("train", "--config", tiny_file, "--run_dir", small_disk / "run", "--trainer.checkpoint_minutes", 0)
    assert told.startswith(f"{small_disk}/run/checkpoints/")
    assert told.endswith("cannot be written (No space left on device); make room on the disk")
    assert checkpoint_of(small_disk / "run")["global_step"] < 4
    assert not list((small_disk / "run/checkpoints").glob(".*"))


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_exit_code_is_that_of_the_signal(tiny_file: Path, tmp_path: Path, signum: int, code: int) -> None:
    folder = tmp_path / "run"
    words = ["--config", tiny_file, "--run_dir", folder, "--trainer.max_epochs", 10_000, "--data.num_workers", 1]
    command = [sys.executable, PROJECT / "tools/train.py", *words]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for((folder / "metrics.csv").exists, 120)
    process.send_signal(signum)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "stopped after step" in out
    assert "Traceback" not in err
    step = checkpoint_of(folder)["global_step"]
    assert f"stopped after step {step:,}; resume with: " in out
    assert torch.load(folder / "checkpoints/previous.ckpt", weights_only=True)["global_step"] < step
