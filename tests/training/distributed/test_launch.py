"""Runs of two processes started by Lightning, torchrun and SLURM, and how they end."""

import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from detr_lite.config import read_config
from detr_lite.data.reading import read_split
from detr_lite.data.sampler import BucketedBatchSampler
from detr_lite.data.transforms import ResizeRule
from tests.helpers import ranks
from tests.helpers.launches import PROJECT, SCONTROL, SQUEUE, SRUN, TRAIN, Forked, Launched, is_running
from tests.helpers.run_files import checkpoint_of, files_in, rows_of
from tests.helpers.spoiled_images import spoil_after_the_check
from tests.helpers.waiting import wait_for

TWO = ("--data.batch_size", 2, "--trainer.devices", 2)
ENDLESS = (*TWO, "--data.num_workers", 1, "--trainer.max_epochs", 10_000)


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Launched]]:
    """Start a program that does not outlive the test."""
    started: list[Launched] = []

    def begin(*words: object, kind: type[Launched] = Launched, **settings: object) -> Launched:
        started.append(kind(tmp_path / f"launch {len(started)}", *words, **settings))
        return started[-1]

    yield begin
    for each in started:
        each.kill()


def last_row(folder: Path) -> int:
    """Step of the last row in metrics.csv; 0 before there is one."""
    rows = rows_of(folder) if (folder / "metrics.csv").exists() else []
    return int(rows[-1]["step"]) if rows else 0


@pytest.mark.stress
def test_signals_end_both_processes_after_the_same_step(
    launch: Callable[..., Launched], tiny_file: Path, tmp_path: Path
) -> None:
    """Ctrl-C comes to all processes of a terminal, SIGTERM to the one that was started."""
    folder, step = tmp_path / "run", 0
    words = ("--config", tiny_file, "--run_dir", folder, *ENDLESS)
    for signum, code, more in ((signal.SIGINT, 130, ()), (signal.SIGTERM, 143, ("--resume",))):
        run = launch(*words, *more, kind=Forked)
        run.until(lambda step=step: last_row(folder) > step)
        family = run.family()
        if signum == signal.SIGINT:
            os.killpg(run.pid, signum)
        else:
            os.kill(run.pid, signum)
        assert run.code() == code
        wait_for(lambda family=family: not any(map(is_running, family)))
        last = checkpoint_of(folder)
        assert last["global_step"] > step
        step = last["global_step"]
        assert run.out.count(f"stopped after step {step:,}; resume with: ") == 1
        assert run.err.count(f"{signal.Signals(signum).name}: stopping after this step") == 1
        assert "Traceback" not in run.err
        assert last["detr_lite_run"]["world_size"] == 2
        assert files_in(folder / "checkpoints") == {"last.ckpt", "previous.ckpt"}


@pytest.mark.stress
def test_an_image_that_only_one_process_cannot_read_is_reported_once(
    launch: Callable[..., Launched], tiny_file: Path, own_data: Path, tmp_path: Path
) -> None:
    train = read_split(own_data, "train")
    sizes = [ResizeRule("longest", 64).target_size(image.height, image.width) for image in train.images]
    batches = list(BucketedBatchSampler(sizes, batch_size=2, shuffle=True, rank=1, world_size=2))
    path = train.images[batches[1][0]].path
    spoil_after_the_check(path)
    words = ("--config", tiny_file, "--run_dir", tmp_path / "run", "--data.root", own_data, *TWO)
    run = launch(*words, "--data.num_workers", 1, kind=Forked)
    run.until(run.ranks)
    (other,) = run.ranks()
    assert run.code() == 2
    (line,) = run.err.splitlines()
    assert line.startswith("error: ")
    assert path.name in line
    wait_for(lambda: not is_running(other))
    assert checkpoint_of(tmp_path / "run")["global_step"] == 0


@pytest.mark.stress
def test_the_death_of_a_killed_process_is_reported(
    launch: Callable[..., Launched], tiny_file: Path, tmp_path: Path
) -> None:
    """Also while its loading processes keep its connections open for some seconds."""
    run = launch("--config", tiny_file, "--run_dir", tmp_path / "run", *ENDLESS, kind=Forked)
    run.until(run.ranks)
    (other,) = run.ranks()
    run.until(lambda: last_row(tmp_path / "run"))
    os.kill(other, signal.SIGKILL)
    assert run.code() == 2
    killed = "the process of rank 1 was killed by SIGKILL, perhaps because memory ran out; continue with --resume"
    assert run.err == f"error: {killed}\n"


@pytest.mark.stress
def test_torchrun(
    launch: Callable[..., Launched], start_two: Callable[..., ranks.Ranks], tiny_file: Path, tmp_path: Path
) -> None:
    """Its SIGTERM reaches loading processes, too, and its number of processes needs no setting."""
    folder = tmp_path / "run"
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", TRAIN)
    words = ("--config", tiny_file, "--run_dir", folder, "--data.batch_size", 2, "--trainer.devices", "auto")
    run = launch(*torchrun, *words, "--data.num_workers", 1, "--trainer.max_epochs", 10_000)
    run.until(lambda: last_row(folder))
    family = run.family()
    os.kill(run.pid, signal.SIGTERM)
    assert run.code() != 0
    step = checkpoint_of(folder)["global_step"]
    assert f"stopped after step {step:,}; resume with: " in run.out
    assert run.out.count("training lite on ") == 1
    wait_for(lambda: not any(map(is_running, family)))

    epochs = step // 2 + 1
    more = map(str, (*words, "--data.num_workers", 0, "--trainer.max_epochs", epochs, "--resume"))
    rest = start_two(read_config([*more]).config, folder, ranks.do_finish, resume="last")
    assert rest.codes() == [0, 0], rest.err
    assert "starts again" not in rest.out[0]
    assert checkpoint_of(folder)["global_step"] == 2 * epochs
    assert len(json.loads((folder / "evaluation/metrics.json").read_text())) == 12


@pytest.fixture
def slurm(tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    """Make a project's folder where a job of two tasks runs; gives, for a `srun`, how to start it."""
    project, programs = tmp_path / "project", tmp_path / "bin"
    project.mkdir()
    (project / "tools").symlink_to(PROJECT / "tools")
    job = {"JOB_ID": os.getpid(), "JOB_NAME": "detr_lite", "NODELIST": "localhost", "NNODES": 1, "CPUS_PER_TASK": 1}
    job |= {"NTASKS": 2, "NTASKS_PER_NODE": 2}
    env = {
        **os.environ,
        **{f"SLURM_{name}": str(value) for name, value in job.items()},
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHON": sys.executable,
        "STATE": "RUNNING",
    }

    def settings(srun: str) -> dict[str, Any]:
        programs.mkdir()
        for name, text in (("srun", srun), ("scontrol", SCONTROL), ("squeue", SQUEUE)):
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        return {"cwd": project, "env": env}

    return settings


@pytest.mark.stress
def test_slurm(launch: Callable[..., Launched], slurm: Callable[[str], dict[str, Any]], tiny_file: Path) -> None:
    """A job whose time is over continues in the next one, from our checkpoint and no other."""
    settings = slurm(SRUN)
    project = settings["cwd"]
    (project / "hpc_ckpt_1.ckpt").write_text("Lightning would take this for its own checkpoint")
    words = ("bash", "tools/slurm.sh", "runs/it", "--config", tiny_file, "--data.batch_size", 2)
    words = (*words, "--trainer.devices", "auto", "--trainer.max_epochs")
    folder = project / "runs/it"
    run = launch(*words, 10_000, **settings)
    run.until(lambda: last_row(folder))
    for pid in re.findall(r"\d+", re.search(r"^tasks (.*)$", run.out, re.MULTILINE)[1]):
        os.kill(int(pid), signal.SIGTERM)
    assert run.code() == 143, (run.out, run.err)
    step = checkpoint_of(folder)["global_step"]
    assert run.out.count(f"stopped after step {step:,}; resume with: ") == 1
    assert run.out.splitlines()[-1] == f"scontrol requeue {os.getpid()}"
    assert {"srun --kill-on-bad-exit=1", "srun --wait=0"} <= {*run.out.splitlines()}
    assert checkpoint_of(folder)["detr_lite_run"]["world_size"] == 2
    assert {path.name for path in project.iterdir()} == {"tools", "runs", "hpc_ckpt_1.ckpt"}

    epochs = step // 2 + 1
    run = launch(*words, epochs, **settings)
    assert run.code() == 0, run.err
    assert "starts again" not in run.out
    assert "scontrol" not in run.out
    assert checkpoint_of(folder)["global_step"] == 2 * epochs
    assert (folder / "evaluation/metrics.json").exists()


@pytest.mark.parametrize(
    ("code", "state", "is_requeued"), [(143, "RUNNING", True), (143, "COMPLETING", False), (2, "RUNNING", False)]
)
def test_only_a_job_that_was_stopped_and_still_runs_is_requeued(
    launch: Callable[..., Launched],
    slurm: Callable[[str], dict[str, Any]],
    code: int,
    state: str,
    is_requeued: bool,
) -> None:
    settings = slurm(f'#!/bin/sh\necho srun "$@"\nexit {code}\n')
    settings["env"]["STATE"] = state
    (settings["cwd"] / "runs/it").mkdir(parents=True)
    run = launch("bash", "tools/slurm.sh", "runs/it", "--config", "two words.yaml", **settings)
    assert run.code() == code
    lines = run.out.splitlines()
    assert lines[0].endswith("tools/train.py --config two words.yaml --run_dir runs/it")  # not --resume
    assert ("scontrol requeue" in run.out) == is_requeued
    assert run.err == ""


FIRST_TASK = {"SLURM_PROCID": 0, "SLURM_LOCALID": 0, "SLURM_NODEID": 0}


@pytest.mark.parametrize(
    ("settings", "words", "expected"),
    [
        (
            {"TORCHELASTIC_RUN_ID": "x", "RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 4, "LOCAL_WORLD_SIZE": 2},
            ("--trainer.devices", 3),
            "torchrun started 2 processes on each of 2 nodes, but --trainer.devices and --trainer.num_nodes ask for "
            "3 processes on each of 2 nodes; leave both out",
        ),
        (
            {"SLURM_NTASKS": 4, "SLURM_NTASKS_PER_NODE": 4, "SLURM_NNODES": 1, **FIRST_TASK},
            ("--trainer.devices", "auto", "--trainer.num_nodes", 2),
            "SLURM started 4 processes on one node, but --trainer.devices and --trainer.num_nodes ask for "
            "4 processes on each of 2 nodes; leave both out",
        ),
        ({"SLURM_NTASKS": 4, **FIRST_TASK}, (), "--ntasks-per-node=4"),
    ],
    ids=["torchrun", "SLURM", "SLURM without a number for each node"],
)
def test_settings_that_contradict_the_launcher_are_refused(
    refusal: Callable[..., str],
    tiny_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, object],
    words: tuple[object, ...],
    expected: str,
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, str(value))
    assert expected in refusal("train", "--config", tiny_file, "--run_dir", tmp_path / "run", *words)
    assert not (tmp_path / "run").exists()
