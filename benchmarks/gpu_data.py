"""`gpu`: images a second by loading process, and a minute of learning beside RT-DETRv2."""

import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

from benchmarks.gpu import Row
from benchmarks.gpu_part import Part
from benchmarks.images import photograph_dataset
from detr_lite.config import Config
from detr_lite.cores import usable_cores
from detr_lite.data.reading import read_split
from detr_lite.data.records import Split
from detr_lite.training.auto import choose_sizes
from detr_lite.training.datamodule import allow_open_files
from detr_lite.training.detection import make_data

BASELINE, BASELINE_LR = "rtdetr_v2", 1e-3
"""The rate at which it is best in `converge`."""
OVERHEAD_SECONDS = 20.0
"""Of starting a run, its evaluations and its end."""


def measure_loading(part: Part) -> None:
    """Photographs of 640 x 480 with the augmentation of COCO's recipe, copied to the device."""
    allow_open_files()
    with photograph_dataset(8 if part.settings.toy else 512) as root:
        train = read_split(root, "train")
        config, _ = choose_sizes(_loading_config(part), train)
        cores = usable_cores()
        counts = [number for number in (0, 1, 2, 4, 8, 16, 32) if number <= cores]
        counts = [0, 1] if part.settings.toy else counts
        part.each(
            [{"loading processes": count} for count in counts],
            lambda **row: _measure_loading(part, config, train, row["loading processes"]),
        )


def _loading_config(part: Part) -> Config:
    config = part.config()
    if part.settings.toy:
        config = replace(config, data=replace(config.data, image_size=64, batch_size=2, augmentation="light"))
    return config


def _measure_loading(part: Part, config: Config, train: Split, processes: int) -> Row:
    """Epoch after epoch, once the batches are used that the processes had made while they started."""
    data = make_data(config, train, train)
    data.num_workers = processes
    loader = data.train_dataloader()
    skipped, images, start, seconds = max(1, 2 * processes), 0, 0.0, 0.0  # each process is two batches ahead
    for number, batch in enumerate(batch for _ in count() for batch in loader):
        moved = batch.to(part.device)
        part.synchronize()
        if number < skipped:
            start = time.perf_counter()
            continue
        images, seconds = images + len(moved.images), time.perf_counter() - start
        if seconds > part.seconds or part.left < 2:
            break
    rate = images / max(seconds, 1e-9)
    return {"images/s": rate, "of each process": rate / max(1, processes)}


def measure_learning(part: Part) -> None:
    """`lite` and RT-DETRv2 on `coco_small`, drawn anew, for as many minutes, both in the precision that is chosen."""
    with tempfile.TemporaryDirectory(prefix="detr_lite_gpu_") as folder:
        root = Path(folder) / "coco_small"
        start = time.perf_counter()
        _draw(part, root)
        part.emit({"model": "(drawing the data)", "seconds": time.perf_counter() - start})
        minutes = part.settings.learning_minutes
        if not part.settings.toy:
            minutes = min(minutes, (part.left / 2 - OVERHEAD_SECONDS) / 60)
        runs = {
            "lite": [sys.executable, "-m", "detr_lite", "train"],
            "RT-DETRv2": [sys.executable, "-m", "benchmarks.baseline_run", BASELINE],
        }
        part.each(
            [{"model": model} for model in runs],
            lambda model: _measure_run(runs[model], model, Path(folder), root, part, minutes),
        )


def _draw(part: Part, root: Path) -> None:
    from detr_lite.data.synthetic.coco_small import make_coco_small

    counts = {"train_images": 8, "val_images": 4} if part.settings.toy else {}
    make_coco_small(root, **counts)


def _measure_run(command: Sequence[str], model: str, folder: Path, root: Path, part: Part, minutes: float) -> Row:
    if minutes <= 0.05 and not part.settings.toy:
        return {"error": f"{part.left:.0f} s were left, too few for a run"}
    run = folder / model
    options = [
        "--config", "coco_small.yaml", "--data.root", str(root), "--run_dir", str(run),
        "--trainer.max_minutes", f"{minutes:.4f}", "--trainer.num_evaluations", "2",
        "--trainer.accelerator", "gpu" if part.is_cuda else "cpu",
    ]  # fmt: skip
    if model != "lite":
        options += ["--optim.optimizer", "adamw", "--optim.lr", f"{BASELINE_LR:g}"]
    if part.settings.toy:
        options += ["--data.image_size", "64", "--data.num_workers", "0", "--model.dim", "32", "--model.heads", "2"]
        options += ["--model.num_queries", "10", "--model.decoder_layers", "2", "--model.denoising_queries", "0"]
    start = time.perf_counter()
    environment = {**os.environ, "DETR_LITE_CACHE": str(folder / "cache")}
    ended = subprocess.run([*command, *options], env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if ended.returncode:
        raise RuntimeError((ended.stderr.strip() or f"code {ended.returncode}").splitlines()[-1])
    step, ap = last_evaluation(run / "metrics.csv")
    return {"minutes": minutes, "steps": step, "AP": ap, "seconds": seconds}


def last_evaluation(file: Path) -> tuple[int, float]:
    """Step and AP of the last row of a run's metrics that has an AP."""
    with file.open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row.get("AP")]
    return int(rows[-1]["step"]), float(rows[-1]["AP"])
