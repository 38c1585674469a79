"""`ProcessSupervisor`: when one process hangs while another has ended, and errors before training."""

import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from detr_lite.config import Config, Invocation
from detr_lite.structures import DetrLiteError
from detr_lite.training.distributed import launch
from detr_lite.training.distributed.launch import LOST, MAIN, ProcessSupervisor
from tests.helpers import fault_injection, ranks
from tests.helpers.launches import is_running
from tests.helpers.run_files import checkpoint_of
from tests.helpers.waiting import PATIENCE, wait_for

GONE = "the connection to another process is lost: it has ended, and has reported why, or the network failed"
KILLED = "the process of rank 1 was killed by SIGKILL, perhaps because memory ran out; continue with --resume"


def child(command: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(["sh", "-c", command])


def hang(command: str | None, err: Path) -> None:
    """Run as rank 0 whose child runs the command, or as a child whose parent is gone; never notice anything."""
    os.dup2(os.open(err, os.O_WRONLY | os.O_CREAT), 2)
    launch.NOTICE = 0.5
    if command is None:
        os.environ.update({MAIN: str(os.getpid()), "LOCAL_RANK": "1"})
    with ProcessSupervisor() as supervisor:
        if command is not None:
            supervisor._children = [child(command), child("sleep 1000")]
            supervisor._start_watch()
        time.sleep(1000)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "code", "message"),
    [("exit 2", 2, ""), ("kill -KILL $$", 1, f"error: {KILLED}\n"), (None, 1, "")],
    ids=["a failed child", "a killed child", "an orphan"],
)
def test_a_process_that_hangs_ends_when_it_cannot_continue(
    tmp_path: Path, command: str | None, code: int, message: str
) -> None:
    process = fault_injection.FORKS.Process(target=hang, args=(command, tmp_path / "err"))
    process.start()
    process.join(PATIENCE)
    process.kill()
    assert process.exitcode == code
    assert (tmp_path / "err").read_text() == message


@pytest.mark.parametrize(
    ("error", "commands", "expected"),
    [
        (RuntimeError("[gloo] Connection closed by peer"), ["sleep 1000", "sleep 0.3; exit 2"], SystemExit(2)),
        (RuntimeError("[gloo] Connection closed by peer"), ["kill -KILL $$", f"exit {LOST}"], DetrLiteError(KILLED)),
        (RuntimeError("[gloo] Connection closed by peer"), [f"exit {LOST}"], DetrLiteError(GONE)),
        (RuntimeError("out of memory"), ["exit 1"], SystemExit(1)),
        (RuntimeError("out of memory"), ["sleep 1000"], None),
        (KeyError("a bug"), ["sleep 1000"], None),
        (SystemExit(143), ["sleep 0.3"], None),
    ],
)
@pytest.mark.slow
def test_rank_0_reports_the_errors_of_others_and_ends_them(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, commands: list[str], expected: BaseException | None
) -> None:
    """None: rank 0's own error is raised. In any case the other processes have ended."""
    # Where a child's end is waited for, it comes; else the time is used up.
    monkeypatch.setattr(launch, "NOTICE", 2.0 if str(expected) == GONE else 2 * PATIENCE)
    supervisor = ProcessSupervisor()
    supervisor._is_distributed = True
    supervisor._children = [child(command) for command in commands]
    for started, command in zip(supervisor._children, commands, strict=True):
        if not command.startswith("sleep"):
            os.waitid(os.P_PID, started.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(BaseException) as caught, supervisor:  # noqa: PT011
        raise error
    assert type(caught.value) is type(expected or error)
    assert str(caught.value).startswith(str(expected or error))
    assert all(each.returncode is not None for each in supervisor._children)
    assert MAIN not in os.environ
    if isinstance(error, SystemExit):  # a child that stops on the same signal is not killed
        assert supervisor._children[0].returncode == 0


def report_waiting(rank: int) -> None:
    sleep = time.sleep

    def report(seconds: float) -> None:
        os.write(1, b"waits")
        sleep(seconds)

    time.sleep = report


def without_data(config: Config, place: Path) -> Config:
    """For as many processes as there are: the hardware is checked before the data."""
    trainer, data = replace(config.trainer, devices="auto"), replace(config.data, root=str(place / "nowhere"))
    return replace(config, trainer=trainer, data=data)


@pytest.mark.slow
def test_an_error_that_all_meet_before_training_is_reported_once(tiny_config: Config, tmp_path: Path) -> None:
    invocation = Invocation(without_data(tiny_config, tmp_path), "tiny", tmp_path / "run", resume=None, overwrite=False)
    both = ranks.start(tmp_path / "ranks", 2, ranks.train, invocation, [report_waiting])
    wait_for(lambda: both.out[1] == "waits")
    os.kill(both.processes[1].pid, signal.SIGTERM)  # as torchrun and SLURM do when rank 0 has ended
    assert both.codes() == [2, 143]
    assert "nowhere" in both.err[0]
    assert both.err[1] == ""


@pytest.mark.slow
def test_an_error_that_one_meets_before_training_is_reported(tiny_config: Config, tmp_path: Path) -> None:
    invocation = Invocation(without_data(tiny_config, tmp_path), "tiny", tmp_path / "run", resume=None, overwrite=False)
    both = ranks.start(tmp_path / "ranks", 2, ranks.train, invocation, [ranks.lose_patience])
    assert both.codes() == [2, 2]
    assert "nowhere" in both.err[1]


def be_torchrun(invocation: Invocation, place: Path) -> None:
    """Start one process, and die once it trains."""
    pid = os.fork()
    if pid == 0:
        ranks.enter(0, 1, 0, (place / "out", place / "err"), ranks.train, (invocation,))
    else:
        (place / "pid").write_text(str(pid))
        wait_for((place / "run/metrics.csv").exists)
        fault_injection.die()


@pytest.mark.slow
def test_without_torchrun_a_run_stops_with_a_checkpoint(tiny_config: Config, tmp_path: Path) -> None:
    config = replace(tiny_config, trainer=replace(tiny_config.trainer, max_epochs=10_000))
    invocation = Invocation(config, "tiny", tmp_path / "run", resume=None, overwrite=False)
    process = fault_injection.FORKS.Process(target=be_torchrun, args=(invocation, tmp_path))
    process.start()
    process.join(PATIENCE)
    assert process.exitcode == -signal.SIGKILL
    wait_for(lambda: not is_running(int((tmp_path / "pid").read_text())))
    step = checkpoint_of(tmp_path / "run")["global_step"]
    assert f"stopped after step {step:,}; resume with: " in (tmp_path / "out").read_text()


def test_a_run_may_start_another_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that is started from a run is not one of its ranks."""
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setenv(MAIN, "1")
    with ProcessSupervisor() as supervisor:
        assert supervisor._parent is None
    assert MAIN not in os.environ
