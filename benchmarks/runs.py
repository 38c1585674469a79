"""Many runs, each in a process of its own and each made once: what is finished is kept, and only the rest is made."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType
from typing import IO, Any, NoReturn

import torch

from benchmarks.result import Result, read_result, result_of
from detr_lite.build import build_model
from detr_lite.config import Config, write_config
from detr_lite.data.coco import CocoSplit
from detr_lite.structures import DetrLiteError
from detr_lite.text import printable
from detr_lite.training.hardware import choose_precision, device_type
from detr_lite.training.state.run_folder import CHECKPOINTS

PROJECT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Run:
    """One training."""

    row: str
    """What it is called in the table; its seeds share it."""
    config: Config
    """Settings with all sizes chosen, and the length."""
    peer: str | None = None
    """Which model of transformers; None for ours."""

    @property
    def title(self) -> str:
        return f"{self.row}, seed {self.config.seed}"

    @property
    def length(self) -> str:
        trainer = self.config.trainer
        if trainer.max_minutes is not None:
            return f"{trainer.max_minutes:g} min"
        return f"{trainer.max_epochs} epochs"


class RunError(DetrLiteError):
    """A run that has ended without a result; the others are made nevertheless."""


Start = Callable[[Run, Path, int], int]
"""(run, folder, classes) -> parameters of the model; makes the run and leaves its log in the folder."""


def with_seeds(run: Run, seeds: int) -> list[Run]:
    """The same run with so many seeds, the first of them that of the settings."""
    first = run.config.seed
    return [replace(run, config=replace(run.config, seed=first + number)) for number in range(seeds)]


class Runs:
    """The runs of one comparison, and what is kept of them: `results/` one small file each, `runs/` logs and curves.

    A result is found again by all that it depends on: settings, data, machine. Nothing is kept of the run that is
    under way when the program is stopped.
    """

    def __init__(self, output: Path, train: CocoSplit, val: CocoSplit, start: Start | None = None) -> None:
        self.output = output
        self.classes = len(train.categories)
        self.data = {
            split.name: hashlib.sha256(split.annotation_file.read_bytes()).hexdigest()[:16] for split in (train, val)
        }
        self.name = train.root.name
        self.start = start or start_process

    def outcomes(self, runs: Sequence[Run]) -> list[Result]:
        """Of those that are finished."""
        found = (read_result(self.result_file(run)) for run in runs)
        return [outcome for outcome in found if outcome is not None]

    def missing(self, runs: Sequence[Run]) -> list[Run]:
        return [run for run in runs if read_result(self.result_file(run)) is None]

    def result_file(self, run: Run) -> Path:
        return self.output / "results" / f"{self._name(run)}.json"

    def tell(self, runs: Sequence[Run]) -> None:
        """Say which are finished, which are to be made, and how long that will take."""
        missing = self.missing(runs)
        for run in runs:
            print(f"{'to make' if run in missing else 'kept':<10} {printable(run.title)}, {run.length}")
        print(f"{len(missing)} of {len(runs)} runs are to be made; time in all: {self._time_of(missing)}")

    def make(self, runs: Sequence[Run]) -> list[str]:
        """Make those that are missing; gives the titles of those that have failed, and says why."""
        now = made_with()
        old = [made for made in self.outcomes([run for run in runs if run.peer is None]) if made.made_with != now]
        if old:
            where = printable(self.output / "results")
            print(f"note       results by other code than today's: {len(old)}; for new ones remove {where}")
        failures, missing = [], self.missing(runs)
        for number, run in enumerate(missing):
            left = self._time_of(missing[number:])
            print(
                f"[{number + 1}/{len(missing)}] {printable(run.title)}, {run.length}; time left in all: {left}",
                flush=True,
            )
            try:
                outcome = self._make(run)
            except RunError as error:
                failures.append(run.title)
                print(f"      failed: {printable(error)}", flush=True)
                continue
            except (KeyboardInterrupt, SystemExit):
                print("stopped    nothing of this run is kept; the same command goes on with it", flush=True)
                raise
            last = outcome.last
            print(
                f"      AP {last.numbers['AP']:.3f}, AP50 {last.numbers['AP50']:.3f} after {last.step:,} steps; "
                f"took {_clock(outcome.seconds)}",
                flush=True,
            )
        return failures

    def _make(self, run: Run) -> Result:
        folder = self.output / "runs" / self._name(run)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        begin = time.monotonic()
        parameters = self.start(run, folder, self.classes)
        try:
            outcome = result_of(folder, parameters, time.monotonic() - begin, made_with())
        except (OSError, ValueError) as error:
            raise RunError(f"it has left no numbers ({error})") from error
        outcome.write(self.result_file(run), {"row": run.row, **self._facts(run)})
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)  # of dozens of runs they would fill a disk
        return outcome

    def _name(self, run: Run) -> str:
        key = hashlib.sha256(json.dumps(self._facts(run), sort_keys=True).encode()).hexdigest()[:12]
        return f"{run.peer or run.config.model.name}-{run.config.seed}-{key}"

    def _facts(self, run: Run) -> dict[str, Any]:
        """All that a result depends on, but for the code."""
        settings = asdict(run.config)
        # Data that have moved are the same data.
        settings["data"]["root"] = Path(run.config.data.root).name
        return {"peer": run.peer, "settings": settings, "data": self.data, "machine": machine(run.config)}

    def _time_of(self, missing: Sequence[Run]) -> str:
        """An estimate: what finished runs took beside their minutes of training, evaluations above all."""
        known = [outcome for file in (self.output / "results").glob("*.json") if (outcome := read_result(file))]
        beside = [max(0.0, outcome.seconds - 60 * outcome.last.minutes) for outcome in known]
        total = 0.0
        for run in missing:
            minutes = run.config.trainer.max_minutes
            if minutes is not None:
                total += 60 * minutes + (sum(beside) / len(beside) if beside else 30 + 12 * minutes)
            elif known:
                total += sum(outcome.seconds for outcome in known) / len(known)
            else:
                return "known after the first"
        return f"about {_clock(total)}"


def start_process(run: Run, folder: Path, classes: int) -> int:
    """Train in a process of its own, whose words go to `log.txt` in the folder.

    Raises RunError with the last of them if it ends otherwise than well. When this program is stopped, so is it.
    """
    settings = folder / "settings.yaml"
    write_config(run.config, settings)
    train = [str(PROJECT / "tools" / "train.py"), "--overwrite"]
    program = train if run.peer is None else ["-m", "benchmarks.baseline_run", run.peer]
    log = folder / "log.txt"
    with log.open("wb") as output:
        words = [sys.executable, *program, "--config", str(settings), "--run_dir", str(folder)]
        # SIGTERM would end this program at once, and leave the other to train on alone.
        before = signal.signal(signal.SIGTERM, _end)
        try:
            code = _run(words, output)
        finally:
            signal.signal(signal.SIGTERM, before)
    if code != 0:
        lines = log.read_text(errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "it has said nothing")
        raise RunError(f"exit code {code}: {last.removeprefix('error: ')} ({log})")
    if run.peer is not None:
        return int(json.loads((folder / "model.json").read_text())["parameters"])
    model = build_model(run.config.model, classes, for_checkpoint=True)
    return sum(parameter.numel() for parameter in model.parameters())


def _run(words: Sequence[str], output: IO[bytes]) -> int:
    """The exit code of a program that ends with this one, if not before."""
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    try:
        return process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def machine(config: Config) -> str:
    """What computes, and in which precision: how far a run comes in its minutes depends on it."""
    accelerator = config.trainer.accelerator
    kind, threads = device_type(accelerator), torch.get_num_threads()
    if kind == "cpu":
        device = f"processor, {threads} thread{'s' if threads > 1 else ''}"
    else:
        device = torch.cuda.get_device_name() if kind == "cuda" else kind
    return f"{device}, {choose_precision(config.trainer.precision, accelerator)}"


def made_with() -> dict[str, str]:
    """Versions of the libraries, and a digest of our code but for this room."""
    versions = {}
    for name in ("torch", "timm", "transformers"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # transformers is not needed for runs of ours
            continue
    digest = hashlib.sha256()
    for path in sorted((PROJECT / "detr_lite").rglob("*.py")):
        if path.relative_to(PROJECT / "detr_lite").parts[0] != "benchmark":
            digest.update(path.read_bytes())
    return {**versions, "detr_lite": digest.hexdigest()[:12]}


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(max(0.0, seconds))))
