"""One dataset in every format, through the commands that read data: train, evaluate and doctor."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tqdm import tqdm

from benchmarks.dataset_formats import WRITERS, draw
from detr_lite.structures import DetrLiteError

TINY = (
    *("--config", "finetune_small.yaml", "--trainer.accelerator", "cpu", "--trainer.devices", "1"),
    *("--trainer.precision", "32-true", "--trainer.max_epochs", "12", "--optim.lr", "2e-3"),
    *("--data.image_size", "128", "--data.batch_size", "4", "--data.num_workers", "0"),
    *("--model.pretrained", "false", "--model.backbone", "resnet10t", "--model.dim", "64", "--model.heads", "4"),
    *("--model.encoder_layers", "1", "--model.decoder_layers", "2", "--model.feedforward_dim", "64"),
    *("--model.num_queries", "10"),
)
"""Settings of a model that learns something of the drawn data in a quarter of a minute."""

TOOLS = Path(__file__).resolve().parents[1] / "tools"


def formats_table(output: Path | None = None) -> str:
    """A markdown table: whether each command works on each format, and the AP of one model in all of them.

    Args:
        output: where the datasets and runs are kept; by default a temporary folder that is removed.

    Raises `DetrLiteError` if the model of the first format cannot be trained.
    """
    if output is None:
        with tempfile.TemporaryDirectory(prefix="detr_lite_formats_") as folder:
            return formats_table(Path(folder))
    drawn = draw()
    for name, write in WRITERS.items():
        if not _root(output, name).exists():
            write(_root(output, name), drawn)
    rows = ["| format | train | evaluate | AP of one model | doctor |", "| --- | --- | --- | --- | --- |"]
    checkpoint: Path | None = None
    first: float | None = None
    for name in tqdm(WRITERS, desc="formats", leave=False, disable=None):
        run = output / "runs" / _root(output, name).name
        trained = _run("train", *TINY, "--data.root", _root(output, name), "--run_dir", run, "--overwrite")
        checkpoint = checkpoint or run / "checkpoints" / "best.ckpt"
        if not checkpoint.exists():
            raise DetrLiteError(f"no model to evaluate: training on {name} ended with: {trained}")
        results = output / "evaluations" / run.name
        evaluated = _run(
            "evaluate", "--checkpoint", checkpoint, "--data.root", _root(output, name), "--output", results
        )
        page = output / "doctor" / f"{run.name}.html"
        page.parent.mkdir(exist_ok=True)
        examined = _run("doctor", _root(output, name), "--output", page)
        ap = float(json.loads((results / "metrics.json").read_text())["AP"]) if evaluated == "ok" else None
        first = ap if first is None else first
        rows.append(f"| {name} | {trained} | {evaluated} | {_compare(ap, first)} | {examined} |")
    return "\n".join(rows)


def _root(output: Path, name: str) -> Path:
    return output / "data" / name.lower().replace(" ", "_")


def _compare(ap: float | None, first: float | None) -> str:
    if ap is None or first is None:
        return "-"
    return f"{ap:.6f}, {'identical' if ap == first else f'not {first:.6f}'}"


def _run(tool: str, *words: object) -> str:
    """ "ok", or the last line that the tool wrote on stderr."""
    ended = subprocess.run(
        [sys.executable, str(TOOLS / f"{tool}.py"), *map(str, words)], capture_output=True, text=True, check=False
    )
    if ended.returncode == 0:
        return "ok"
    lines = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"]
    return lines[-1].removeprefix("error: ").replace("|", "\\|")
