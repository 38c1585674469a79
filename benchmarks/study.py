"""What comparisons of trained models share: settings with sizes from the data, and the files they leave."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.curves import Curve, plot_curves
from benchmarks.runs import Run, Runs, Start, machine
from detr_lite.build import require
from detr_lite.config import Config, read_config
from detr_lite.io import atomic_write
from detr_lite.structures import DetrLiteError
from detr_lite.text import printable
from detr_lite.training.detection import read_data


@dataclass(frozen=True)
class Request:
    """What a comparison is asked for."""

    config: str
    root: str | None
    minutes: float | None
    epochs: int | None
    """In place of minutes, for a machine that does other work as well."""
    seeds: int
    output: Path
    only_list: bool

    def __post_init__(self) -> None:
        if (self.minutes is None) == (self.epochs is None):
            raise DetrLiteError("give --minutes or --epochs, not both")
        for name in ("minutes", "epochs", "seeds"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise DetrLiteError(f"--{name} is {value}; it must be more than 0")

    def seeds_in_words(self) -> str:
        return "one seed" if self.seeds == 1 else f"{self.seeds} seeds: mean (least .. most)"

    def words(self) -> list[str]:
        """As words for `tools/train.py`."""
        root = [] if self.root is None else ["--data.root", self.root]
        if self.minutes is not None:
            return ["--config", self.config, *root, "--trainer.max_minutes", str(self.minutes)]
        return ["--config", self.config, *root, "--trainer.max_epochs", str(self.epochs)]


class Study:
    """A comparison: settings that its runs have in common, and a place for them."""

    def __init__(
        self, request: Request, adapt: Callable[[Config], Config] = lambda config: config, start: Start | None = None
    ) -> None:
        """`adapt` changes the settings of the request before the open ones are chosen."""
        self.request = request
        given = read_config(request.words(), program="benchmark.py").config
        self.config: Config
        self.config, self.train, val = read_data(adapt(given))
        """With all sizes chosen, once for all runs."""
        self.runs = Runs(request.output, self.train, val, start)

    def make(self, runs: Sequence[Run]) -> list[str] | None:
        """Make what is missing; gives the titles of runs that failed, or None if it was only to be told."""
        if self.request.only_list:
            self.runs.tell(runs)
            return None
        return self.runs.make(runs)

    def conditions(self) -> str:
        """Under which all runs were made."""
        data, request = self.config.data, self.request
        length = f"{request.epochs} epochs" if request.minutes is None else f"{request.minutes:g} minutes of training"
        return (
            f"`{printable(Path(data.root).name)}`, {sizes(self.config)}; {length} each "
            f"({machine(self.config)}); {request.seeds_in_words()}."
        )


def sizes(config: Config) -> str:
    """What was chosen from the data, or given."""
    queries = require("model.num_queries", config.model.num_queries)
    return f"{config.data.image_size} pixels, batches of {config.data.batch_size}, {queries} queries"


def finish(request: Request, table: str, curves: Sequence[Curve], title: str, failures: Sequence[str]) -> None:
    """Print and write the table, draw the curves. Raises DetrLiteError if runs have failed."""
    output = request.output
    print(f"\n{table}\n")
    atomic_write(output / "table.md", lambda file: file.write(f"{table}\n".encode()))
    if curves:
        plot_curves(curves, title, "steps" if request.minutes is None else "minutes", output / "curves.png")
    print(f"written to {printable(output)}: table.md, curves.png")
    if failures:
        raise DetrLiteError(
            f"{len(failures)} of the runs failed: {'; '.join(failures)}; their logs are in {output / 'runs'}, and "
            "the same command tries again"
        )


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; what somebody else wrote ends no cell."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
