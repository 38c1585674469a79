"""Common parts of the comparisons of trained models: settings with all sizes chosen, and the files of the output."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

from benchmarks.curves import Curve, plot_curves
from benchmarks.runs import Launcher, Run, Runs, machine
from detr_lite.build import require
from detr_lite.config import Config, read_config
from detr_lite.io import atomic_write
from detr_lite.structures import DetrLiteError
from detr_lite.text import printable
from detr_lite.training.detection import read_data


@dataclass(frozen=True)
class Request:
    """The options that all comparisons share."""

    config: str
    root: str | None
    minutes: float | None
    epochs: int | None
    """Instead of minutes, for a machine that does other work at the same time."""
    seeds: int
    output: Path
    list_only: bool

    def __post_init__(self) -> None:
        if (self.minutes is None) == (self.epochs is None):
            raise DetrLiteError("give --minutes or --epochs, not both")
        for name in ("minutes", "epochs", "seeds"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise DetrLiteError(f"--{name} is {value}; it must be more than 0")

    def describe_seeds(self) -> str:
        return "one seed" if self.seeds == 1 else f"{self.seeds} seeds: mean (min .. max)"

    def arguments(self) -> list[str]:
        """As arguments of `tools/train.py`."""
        root = [] if self.root is None else ["--data.root", self.root]
        if self.minutes is not None:
            return ["--config", self.config, *root, "--trainer.max_minutes", str(self.minutes)]
        return ["--config", self.config, *root, "--trainer.max_epochs", str(self.epochs)]


class Study:
    """A comparison: the settings that its runs share, and the runs themselves."""

    def __init__(
        self,
        request: Request,
        adapt: Callable[[Config], Config] = lambda config: config,
        launch: Launcher | None = None,
    ) -> None:
        """`adapt` changes the requested settings before the open ones are chosen."""
        self.request = request
        requested = read_config(request.arguments(), program="benchmark.py").config
        self.config: Config
        self.config, self.train, val = read_data(adapt(requested))
        """With all sizes chosen, once for all runs."""
        self.runs = Runs(request.output, self.train, val, launch)

    def complete(self, runs: Sequence[Run]) -> list[str] | None:
        """Make the missing runs. Returns the titles of runs that failed, or None with `--list`, which makes none."""
        if self.request.list_only:
            self.runs.print_plan(runs)
            return None
        return self.runs.complete(runs)

    def conditions(self) -> str:
        """A sentence below the table: data, sizes, length, machine and seeds."""
        data, request = self.config.data, self.request
        length = f"{request.epochs} epochs" if request.minutes is None else f"{request.minutes:g} minutes of training"
        return (
            f"`{printable(Path(data.root).name)}`, {describe_sizes(self.config)}; {length} each "
            f"({machine(self.config)}); {request.describe_seeds()}."
        )


def describe_sizes(config: Config) -> str:
    """Image size, batch size and number of queries, whether given or chosen from the data."""
    queries = require("model.num_queries", config.model.num_queries)
    return f"{config.data.image_size} pixels, batch size {config.data.batch_size}, {queries} queries"


def steps_of_epoch(config: Config, images: int) -> int:
    """Optimizer steps of an epoch on one device."""
    batches = ceil(images / require("data.batch_size", config.data.batch_size))
    return ceil(batches / (config.optim.accumulate_grad_batches or 1))


def with_epochs(config: Config, epochs: int) -> Config:
    """The settings for a run of that many epochs, whatever length they have."""
    return replace(config, trainer=replace(config.trainer, max_epochs=epochs, max_minutes=None))


def write_report(request: Request, table: str, curves: Sequence[Curve], title: str, failures: Sequence[str]) -> None:
    """Print and write the table, plot the curves. Raises DetrLiteError if runs have failed."""
    output = request.output
    print(f"\n{table}\n")
    atomic_write(output / "table.md", lambda file: file.write(f"{table}\n".encode()))
    if curves:
        plot_curves(curves, title, "steps" if request.minutes is None else "minutes", output / "curves.png")
    print(
        f"wrote table.md and curves.png to {printable(output)}" if curves else f"wrote table.md to {printable(output)}"
    )
    if failures:
        raise DetrLiteError(
            f"{len(failures)} of the runs failed: {'; '.join(failures)}; their logs are in {output / 'runs'}; run the "
            "same command again to repeat them"
        )


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table; a `|` within a cell becomes `/`."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
