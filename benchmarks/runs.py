"""The training runs of a comparison, each in its own process. Finished runs are kept; only missing ones are started."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType
from typing import IO, Any, NoReturn

import torch

from benchmarks.result import Result, collect_result, read_result
from detr_lite.build import build_model
from detr_lite.config import Config, write_config
from detr_lite.config.schema import ADDED, SECTIONS
from detr_lite.data.records import Split
from detr_lite.structures import DetrLiteError
from detr_lite.text import format_duration, printable
from detr_lite.training.auto import device_type
from detr_lite.training.precision import choose_precision
from detr_lite.training.state.run_files import CHECKPOINTS

REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Run:
    """One training run."""

    row: str
    """Its row in the table; runs that differ in the seed alone share it."""
    config: Config
    """Complete settings, with the training length and all sizes chosen."""
    baseline: str | None = None
    """The detector of transformers; None for detr_lite's model."""

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
    """A run ended without a result; the remaining runs go on."""


Launcher = Callable[[Run, Path, int], int]
"""(run, folder, classes) -> number of parameters; trains and leaves the log of the run in the folder."""


def with_seeds(run: Run, seeds: int) -> list[Run]:
    """Copies of the run with consecutive seeds, starting at the seed of its settings."""
    first = run.config.seed
    return [replace(run, config=replace(run.config, seed=first + number)) for number in range(seeds)]


class Runs:
    """The runs of one comparison: `results/` has a small file for each finished run, `runs/` logs and curves.

    A result is identified by everything it depends on except the code: settings, data and machine. A run that is
    interrupted leaves no result.
    """

    def __init__(self, output: Path, train: Split, val: Split, launch: Launcher | None = None) -> None:
        self.output = output
        self.classes = len(train.categories)
        self.data = {split.name: hashlib.sha256(split.source.read_bytes()).hexdigest()[:16] for split in (train, val)}
        self.name = train.root.name
        self.launch = launch or launch_process

    def results(self, runs: Sequence[Run]) -> list[Result]:
        """The results of those that are finished."""
        found = (read_result(self.result_file(run)) for run in runs)
        return [result for result in found if result is not None]

    def missing(self, runs: Sequence[Run]) -> list[Run]:
        return [run for run in runs if read_result(self.result_file(run)) is None]

    def result_file(self, run: Run) -> Path:
        return self.output / "results" / f"{self._name(run)}.json"

    def print_plan(self, runs: Sequence[Run]) -> None:
        """Print which runs are finished, which are missing, and the estimated time of those."""
        missing = self.missing(runs)
        for run in runs:
            print(f"{'missing' if run in missing else 'finished'}: {printable(run.title)}, {run.length}")
        print(f"{len(missing)} of {len(runs)} runs are missing; estimated total time: {self._estimate(missing)}")

    def complete(self, runs: Sequence[Run]) -> list[str]:
        """Make the missing runs. Returns the titles of runs that failed, whose reasons are printed."""
        versions = code_versions()
        finished = self.results([run for run in runs if run.baseline is None])
        outdated = sum(result.versions != versions for result in finished)
        if outdated:
            where = printable(self.output / "results")
            print(
                f"{outdated} of {len(finished)} results are from other versions of the code; "
                f"to repeat them, delete {where}"
            )
        failures, missing = [], self.missing(runs)
        for number, run in enumerate(missing):
            remaining = self._estimate(missing[number:])
            print(
                f"[{number + 1}/{len(missing)}] {printable(run.title)}, {run.length}; "
                f"estimated time remaining: {remaining}",
                flush=True,
            )
            try:
                result = self._make(run)
            except RunError as error:
                failures.append(run.title)
                print(f"failed: {printable(error)}", flush=True)
                continue
            except (KeyboardInterrupt, SystemExit):
                print("interrupted; the same command repeats this run and continues with the rest", flush=True)
                raise
            last = result.last
            print(
                f"AP {last.metrics['AP']:.3f}, AP50 {last.metrics['AP50']:.3f} after {last.step:,} steps, "
                f"in {format_duration(result.seconds)}",
                flush=True,
            )
        return failures

    def _make(self, run: Run) -> Result:
        folder = self.output / "runs" / self._name(run)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        begin = time.monotonic()
        parameters = self.launch(run, folder, self.classes)
        try:
            result = collect_result(folder, parameters, time.monotonic() - begin, code_versions())
        except (OSError, ValueError) as error:
            raise RunError(f"the run has left no metrics ({error})") from error
        result.write(self.result_file(run), {"row": run.row, **self._identity(run)})
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)  # those of dozens of runs would fill a disk
        return result

    def _name(self, run: Run) -> str:
        digest = hashlib.sha256(json.dumps(self._identity(run), sort_keys=True).encode()).hexdigest()[:12]
        return f"{run.baseline or run.config.model.name}-{run.config.seed}-{digest}"

    def _identity(self, run: Run) -> dict[str, Any]:
        """Everything a result depends on, except the code."""
        settings = asdict(run.config)
        for name in ADDED:  # their defaults do what was done before, so that earlier results stay valid
            section, setting = name.split(".")
            default = getattr(SECTIONS[section](), setting)
            # An orientation is chosen from the data where none is given; without tags it is this one.
            if settings[section][setting] in (default, "upright"):
                del settings[section][setting]
        # A dataset that has been moved is the same dataset.
        settings["data"]["root"] = Path(run.config.data.root).name
        return {"baseline": run.baseline, "settings": settings, "data": self.data, "machine": machine(run.config)}

    def _estimate(self, missing: Sequence[Run]) -> str:
        """Time of the missing runs, with what finished runs took beyond their training time (mostly evaluation)."""
        finished = [result for file in (self.output / "results").glob("*.json") if (result := read_result(file))]
        overheads = [max(0.0, result.seconds - 60 * result.last.minutes) for result in finished]
        total = 0.0
        for run in missing:
            minutes = run.config.trainer.max_minutes
            if minutes is not None:
                total += 60 * minutes + (sum(overheads) / len(overheads) if overheads else 30 + 12 * minutes)
            elif finished:
                total += sum(result.seconds for result in finished) / len(finished)
            else:
                return "unknown until the first run is finished"
        return f"about {format_duration(total)}"


def launch_process(run: Run, folder: Path, classes: int) -> int:
    """Train in a separate process, whose output goes to `log.txt` in the folder. Returns the number of parameters.

    Raises RunError with the last line of the log if the exit code is not 0. The process is terminated when this
    program is.
    """
    settings = folder / "settings.yaml"
    write_config(run.config, settings)
    train = [str(REPOSITORY / "tools" / "train.py"), "--overwrite"]
    program = train if run.baseline is None else ["-m", "benchmarks.baseline_run", run.baseline]
    log = folder / "log.txt"
    with log.open("wb") as output:
        command = [
            sys.executable,
            *program,
            "--config",
            str(settings),
            "--run_dir",
            str(folder),
            *_hardware(run.config),
        ]
        # By default SIGTERM would end this program without a chance to terminate the training.
        before = signal.signal(signal.SIGTERM, _exit)
        try:
            code = _run(command, output)
        finally:
            signal.signal(signal.SIGTERM, before)
    if code != 0:
        lines = log.read_text(errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "no output")
        raise RunError(f"exit code {code}: {last.removeprefix('error: ')} ({log})")
    if run.baseline is not None:
        return int(json.loads((folder / "model.json").read_text())["parameters"])
    model = build_model(run.config.model, classes, for_checkpoint=True)
    return sum(parameter.numel() for parameter in model.parameters())


def _run(command: Sequence[str], output: IO[bytes]) -> int:
    """The exit code of a process that does not outlive this one."""
    # `benchmarks` is not installed, and the current folder may be another one.
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
    )
    try:
        return process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise


def _hardware(config: Config) -> list[str]:
    """What a run would choose by timing, fixed as `machine` says, so that runs which are compared have it in common."""
    words = ["--trainer.precision", choose_precision(config.trainer.precision, config.trainer.accelerator)]
    if config.trainer.threads is None and device_type(config.trainer.accelerator) == "cpu":
        words += ["--trainer.threads", str(torch.get_num_threads())]
    return words


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def machine(config: Config) -> str:
    """The device and the precision, which decide how many steps fit into a minute."""
    accelerator = config.trainer.accelerator
    kind, threads = device_type(accelerator), torch.get_num_threads()
    if kind == "cpu":
        device = f"CPU, {threads} thread{'s' if threads > 1 else ''}"
    else:
        device = torch.cuda.get_device_name() if kind == "cuda" else kind
    return f"{device}, {choose_precision(config.trainer.precision, accelerator)}"


def code_versions() -> dict[str, str]:
    """Versions of the libraries, and a digest of the package's source files."""
    versions = {}
    for name in ("torch", "timm", "transformers"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # only the baselines need transformers
            continue
    digest = hashlib.sha256()
    for path in sorted((REPOSITORY / "detr_lite").rglob("*.py")):
        digest.update(path.read_bytes())
    return {**versions, "detr_lite": digest.hexdigest()[:12]}
