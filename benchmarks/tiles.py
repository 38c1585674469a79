"""What tiles find in large pictures: AP of one model with and without them, on pictures that it was not trained on."""

import json
import time
from pathlib import Path

from benchmarks.large_pictures import PictureSpec, write_pictures
from detr_lite.config import read_config
from detr_lite.structures import DetrLiteError
from detr_lite.training.evaluate import evaluate_checkpoint
from detr_lite.training.run import train

LARGE = PictureSpec(4000, 3000, small=(50, 70), large=(1, 3), large_extent=(700, 1400), may_cut=False)
TRAINING_IMAGES = 1600


def training_specs(side: int) -> tuple[PictureSpec, PictureSpec]:
    """Pictures of `side` pixels with the same objects: small ones alone, and with large ones as the whole picture and
    as its tiles show them."""
    small = PictureSpec(side, side, small=(0, 4), large=(0, 0), large_extent=(side // 6, side), may_cut=False)
    mixed = PictureSpec(side, side, small=(0, 3), large=(0, 1), large_extent=(side // 6, 2 * side), may_cut=True)
    return small, mixed


def tiles_table(
    output: Path,
    side: int,
    pictures: int,
    minutes: float,
    large_pictures: PictureSpec = LARGE,
    training_images: int = TRAINING_IMAGES,
) -> str:
    """Train on pictures of `side` pixels, evaluate on large ones as a whole and in tiles of `side` pixels.

    What is in `output` already, from the same arguments, is not made again.
    """
    wanted = {"tile": side, "pictures": pictures, "minutes": minutes}
    arguments = output / "arguments.json"
    if arguments.exists() and json.loads(arguments.read_text()) != wanted:
        raise DetrLiteError(f"{output} holds results of other arguments; give another --output")
    output.mkdir(parents=True, exist_ok=True)
    arguments.write_text(json.dumps(wanted))
    data, large, run = output / "training", output / "pictures", output / "run"
    if not (data / "annotations" / "instances_val.json").exists():
        write_pictures(data, training_specs(side), (training_images, 40))
    if not (large / "annotations" / "instances_val.json").exists():
        write_pictures(large, [large_pictures], (1, pictures), seed=1)
    best = run / "checkpoints" / "best.ckpt"
    if not (run / "evaluation" / "metrics.json").exists():
        words = ["--config", "coco_small", "--data.root", str(data), "--data.image_size", str(side)]
        words += ["--trainer.max_minutes", str(minutes), "--trainer.num_evaluations", "1", "--run_dir", str(run)]
        train(read_config([*words, "--trainer.attention_every_n_epochs", "null", "--overwrite"]))
    rows = ["| | AP | AP50 | AP small | AP large | seconds per picture |", "| --- | --- | --- | --- | --- | --- |"]
    for name, tile in (("whole picture", None), (f"and tiles of {side} pixels", side)):
        start = time.perf_counter()
        found = evaluate_checkpoint(best, large, output=output / f"evaluation-{tile or 'whole'}", tile=tile)
        seconds = (time.perf_counter() - start) / pictures
        numbers = " | ".join(f"{found.metrics[key]:.3f}" for key in ("AP", "AP50", "APs", "APl"))
        rows.append(f"| {name} | {numbers} | {seconds:.1f} |")
    return "\n".join(rows)
