"""Kills, full disks, a second Ctrl-C and a second run in the same folder cost no finished work."""

import errno
import fcntl
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from detr_lite.config import Config, Invocation
from detr_lite.structures import DetrLiteError
from detr_lite.training import run
from detr_lite.training.state.run_folder import RunLock, take_folder
from tests.helpers import fault_injection
from tests.helpers.run_files import assert_same_end, checkpoint_of, files_in
from tests.helpers.waiting import PATIENCE, wait_for

PROJECT = Path(__file__).resolve().parents[3]


def random_moments(count: int) -> list[fault_injection.Moment]:
    """Moments in a run of 8 steps, 3 evaluations and a checkpoint after each step; the same ones each time."""
    generator = random.Random(5)
    most = {"training step": 16, "evaluation step": 9, "evaluation": 3, "row of the log": 5}
    most |= dict.fromkeys(("fsync", "replace", "link"), 14)
    places = [*most, *generator.choices(list(most), k=count - len(most))]
    drawn = [(place, generator.randint(1, most[place]), generator.randint(0, 1)) for place in places]
    return [("fsync", 1, 0), *drawn[1:]]


@pytest.fixture(scope="module")
def eager(tiny_config: Config) -> Config:
    """Augmentation and dropout, a worker, accumulated gradients, an EMA, and a checkpoint after each step."""
    return replace(
        tiny_config,
        data=replace(tiny_config.data, augmentation="light", num_workers=1, batch_size=2),
        model=replace(tiny_config.model, dropout=0.1),
        optim=replace(tiny_config.optim, accumulate_grad_batches=2, ema_decay=0.9),
        trainer=replace(tiny_config.trainer, max_epochs=4, num_evaluations=3, checkpoint_minutes=0.0),
    )


@pytest.fixture(scope="module")
def uninterrupted(eager: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "uninterrupted"
    process = fault_injection.start(Invocation(eager, "tiny", folder, resume=None, overwrite=False))
    process.join(PATIENCE)
    assert process.exitcode == 0
    return folder


@pytest.mark.stress
@pytest.mark.parametrize("moment", random_moments(10), ids=lambda moment: f"{moment[0]} {moment[1]} {moment[2]}")
def test_a_killed_run_resumes_where_it_was(
    eager: Config, uninterrupted: Path, tmp_path: Path, moment: fault_injection.Moment
) -> None:
    """Wherever it is killed, also while it writes a checkpoint, the resumed run ends like an uninterrupted one."""
    invocation = Invocation(eager, "tiny", tmp_path / "run", resume=None, overwrite=False)
    process = fault_injection.start(invocation, fault_injection.die, moment)
    process.join(PATIENCE)
    assert process.exitcode == -signal.SIGKILL
    if moment != ("fsync", 1, 0):  # while the very first one is written
        assert checkpoint_of(tmp_path / "run")["global_step"] <= 8  # there is one, and it can be read
    # At once, while loading processes of the killed run may still be running.
    process = fault_injection.start(replace(invocation, resume="last"))
    process.join(PATIENCE)
    assert process.exitcode == 0
    assert_same_end(tmp_path / "run", uninterrupted)
    assert not [name for name in files_in(tmp_path / "run") if Path(name).name.startswith(".")]


def sleep_long(place: Path) -> None:
    """In a step. What it says of signals goes to a file, which is there once it sleeps."""
    os.dup2(os.open(place, os.O_WRONLY | os.O_CREAT), 2)
    time.sleep(1000)


@pytest.fixture
def busy_run(tiny_config: Config, tmp_path: Path) -> Iterator[tuple[Any, Invocation]]:
    """A run with a loading process that sleeps in its second step, and says on `sleeping` what it gets."""
    config = replace(tiny_config, data=replace(tiny_config.data, num_workers=1))
    invocation = Invocation(config, "tiny", tmp_path / "run", resume=None, overwrite=False)
    asleep = partial(sleep_long, tmp_path / "sleeping")
    process = fault_injection.start(invocation, asleep, ("training step", 2, 0))
    wait_for((tmp_path / "sleeping").exists)
    yield process, invocation
    process.kill()
    process.join()


@pytest.mark.slow
def test_a_second_ctrl_c_ends_at_once(busy_run: tuple[Any, Invocation], tmp_path: Path) -> None:
    process, invocation = busy_run
    os.kill(process.pid, signal.SIGINT)
    wait_for(lambda: "Ctrl-C once more ends at once" in (tmp_path / "sleeping").read_text())
    process.join(0.5)
    assert process.is_alive()
    os.kill(process.pid, signal.SIGINT)
    process.join(PATIENCE)  # the step sleeps for longer
    assert process.exitcode == 130
    assert invocation.run_dir is not None
    assert checkpoint_of(invocation.run_dir)["global_step"] == 0


@pytest.mark.stress
def test_a_second_run_in_a_folder_is_refused_and_a_killed_one_blocks_nobody(
    busy_run: tuple[Any, Invocation], refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    process, invocation = busy_run
    folder = invocation.run_dir
    assert folder is not None
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    for word in ("--resume", "--overwrite"):
        message = refusal("train", "--config", folder / "config.yaml", "--run_dir", folder, word)
        assert message == (
            f"{folder}: process {process.pid} is training there; wait until it ends, or give another --run_dir"
        )
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before

    process.kill()
    process.join()
    assert (folder / ".lock").exists()
    monkeypatch.setattr(run, "finish", lambda *_: None)
    run.train(replace(invocation, resume="last"))
    assert checkpoint_of(folder)["global_step"] == 4
    assert not (folder / ".lock").exists()


def test_a_leftover_lock_file_blocks_nobody_and_is_removed_on_release(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("no process id, and longer than one")
    lock = RunLock(tmp_path)
    lock.acquire()
    assert (tmp_path / ".lock").read_text() == f"{os.getpid()}\n"
    lock.release()
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_a_second_lock_on_a_folder_is_refused_at_once(tmp_path: Path) -> None:
    first, second = RunLock(tmp_path), RunLock(tmp_path)
    first.acquire()
    with pytest.raises(DetrLiteError, match=f"process {os.getpid()} is training there"):
        second.acquire()
    (tmp_path / ".lock").write_text("")
    with pytest.raises(DetrLiteError, match="another process is training there"):
        second.acquire()
    first.release()
    second.acquire()
    second.release()


def test_without_locks_in_the_file_system_there_is_only_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", fail)
    take_folder(tmp_path, overwrite=False).release()
    expected = f"warning: {tmp_path}: a second run there would not be noticed (No locks available)\n"
    assert capsys.readouterr().out == expected


LEFT = "0123456789abcdef"
"""What names a temporary file: any 16 hexadecimal digits."""


def test_half_written_files_of_killed_runs_are_removed(tmp_path: Path) -> None:
    for name in (
        f".{LEFT}.part",
        f"checkpoints/.{LEFT}.part",
        f"evaluation/.{LEFT}.part",
        "checkpoints/mine.part",
        ".other.part",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("half")
    take_folder(tmp_path, overwrite=False).release()
    assert files_in(tmp_path) == {"checkpoints/mine.part", ".other.part"}


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


def test_a_full_disk_is_reported_and_leaves_the_old_checkpoint_intact(
    small_disk: Path, refusal: Callable[..., str], tiny_file: Path
) -> None:
    """The first checkpoint fits, the second beside it does not."""
    message = refusal(
        "train", "--config", tiny_file, "--run_dir", small_disk / "run", "--trainer.checkpoint_minutes", 0
    )
    assert message.startswith(f"{small_disk}/run/checkpoints/")
    assert message.endswith("cannot be written (No space left on device); make room on the disk")
    assert checkpoint_of(small_disk / "run")["global_step"] < 4
    assert not list((small_disk / "run/checkpoints").glob(".*"))


@pytest.mark.stress
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_exit_code_is_that_of_the_signal(tiny_file: Path, tmp_path: Path, signum: int, code: int) -> None:
    folder = tmp_path / "run"
    words = ["--config", tiny_file, "--run_dir", folder, "--trainer.max_epochs", 10_000, "--data.num_workers", 1]
    command = [sys.executable, PROJECT / "tools/train.py", *words]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for((folder / "metrics.csv").exists)
    process.send_signal(signum)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == code
    assert "stopped after step" in out
    assert "Traceback" not in err
    step = checkpoint_of(folder)["global_step"]
    assert f"stopped after step {step:,}; resume with: " in out
    assert torch.load(folder / "checkpoints/previous.ckpt", weights_only=True)["global_step"] < step


@pytest.mark.stress
def test_a_run_whose_output_nobody_reads_any_more_ends_with_a_checkpoint(tiny_file: Path, tmp_path: Path) -> None:
    """As when `tee` or `head` at the other end of a pipe has ended."""
    folder = tmp_path / "run"
    words = ["--config", tiny_file, "--run_dir", folder, "--trainer.max_epochs", 10_000]
    command = [sys.executable, PROJECT / "tools/train.py", *words, "--trainer.num_evaluations", 5_000]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    # Before its second checkpoint a run may end at its very first line, with the checkpoint of step 0.
    wait_for((folder / "checkpoints/previous.ckpt").exists)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(PATIENCE) == 141
    assert checkpoint_of(folder)["global_step"] > 0
