"""Opening a dataset of a million images from the cache, and what it costs each process that loads images."""

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.study import markdown

REPOSITORY = Path(__file__).resolve().parents[1]
MEGABYTE = 1_000_000
CLASSES = 80
TOUCHED = 20_000
"""Images whose records each loading process reads, spread over the dataset; more change nothing in the end."""
METHODS = ("fork", "spawn")
"""Ways to start loading processes, on Linux the only system on which this runs."""


def million_table(images: int, objects: int) -> str:
    """Write a dataset with empty image files and its cache into a temporary folder, and open it in other processes.

    The cache is written from arrays: what the JSON file of such a dataset takes is measured by `reading`.
    """
    with tempfile.TemporaryDirectory(prefix="detr_lite_million_") as folder:
        root = Path(folder)
        _in_process("write", str(root), str(images), str(objects))
        size = (root / "split.npz").stat().st_size
        found = _in_process("open", str(root))
    lines = [
        ["opening from the cache", f"{found['seconds']:.1f} s, of a processor {found['cpu_seconds']:.1f} s"],
        ["memory of its own that the process keeps", f"{found['own'] / MEGABYTE:,.0f} MB"],
        ["most memory while it opens, with imports", f"{found['peak'] / MEGABYTE:,.0f} MB"],
        ["the same process without a dataset", f"{found['before'] / MEGABYTE:,.0f} MB"],
    ]
    for method in METHODS:
        more = found[method] - found[f"{method}_without"]
        lines.append([f"a loading process started by {method}, more than with a dataset of 8 images", _megabytes(more)])
        lines.append(
            [f"of the file in a process started by {method}, shared by all", _megabytes(found[f"{method}_file"])]
        )
    title = f"{images:,} images, {objects:,} objects, cache of {size / MEGABYTE:,.0f} MB"
    return markdown([title, ""], lines)


def write_cache(root: Path, images: int, objects: int) -> None:
    """A split of random objects with empty image files, a thousand in a folder, as the cache holds it."""
    from detr_lite.data.packed import ImageId
    from detr_lite.data.records import RawSplit, make_split
    from detr_lite.data.report import SplitReport
    from detr_lite.data.split_cache import save_split
    from detr_lite.structures import Category

    random = np.random.default_rng(0)
    paths = [str(root / "images" / f"{number // 1000:06d}" / f"{number:012d}.jpg") for number in range(images)]
    for number, path in enumerate(paths):
        if number % 1000 == 0:
            Path(path).parent.mkdir(parents=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    ids: list[ImageId] = list(range(images))
    boxes_xywh = random.uniform(8, 200, (objects, 4))
    raw = RawSplit(
        categories=tuple(Category(number + 1, f"class {number + 1}") for number in range(CLASSES)),
        image_ids=ids,
        names=paths,
        paths=paths,
        sizes_wh=np.tile([640.0, 480.0], (images, 1)),
        image_index=np.sort(random.integers(0, images, objects)),
        labels=random.integers(0, CLASSES, objects),
        boxes_xywh=boxes_xywh,
        areas=boxes_xywh[:, 2:].prod(axis=1),
        is_crowd=np.zeros(objects, dtype=bool),
        origin=np.arange(objects),
        name_annotation=str,
    )
    annotations = root / "annotations.json"
    annotations.write_text("{}")
    split = make_split(root, "train", annotations, "COCO", raw, SplitReport("annotations.json"))
    save_split(root / "split.npz", split, [str(annotations)], paths)


def measure_opening(root: Path) -> dict[str, float]:
    """Seconds and bytes of opening in this process, and bytes of loading processes that it starts.

    "own" is memory that no other process shares: not what is mapped from the file.
    """
    from detr_lite.data import dataset, split_cache  # not part of what opening takes

    before, start, cpu_start = _memory(), time.perf_counter(), time.process_time()
    split = split_cache.load_split(root / "split.npz", [str(root / "annotations.json")])
    assert split is not None
    found: dict[str, float] = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu_start}
    after = _memory()
    found |= {"own": after["own"] - before["own"], "peak": after["peak"], "before": before["peak"]}
    images = dataset.DetectionDataset(split, _no_transform)
    small = dataset.DetectionDataset(split, _no_transform)
    few = np.arange(len(split.images)) < 8
    small.images = _copy_of_first(split.images, int(few.sum()))
    for method in METHODS:
        loaded, without = _memory_of_worker(method, images), _memory_of_worker(method, small)
        found |= {method: loaded["own"], f"{method}_without": without["own"], f"{method}_file": loaded["file"]}
    return found


def _copy_of_first(records: Any, count: int) -> Any:
    from detr_lite.data.packed import PackedStrings
    from detr_lite.data.records import ImageRecords

    objects = records.ends[count]
    return ImageRecords(
        PackedStrings(records.paths[:count]),
        records.sizes_wh[:count].copy(),
        records.boxes_xyxy[:objects].copy(),
        records.labels[:objects].copy(),
        records.ends[: count + 1].copy(),
    )


def _memory_of_worker(method: str, images: Any) -> dict[str, int]:
    context: Any = multiprocessing.get_context(method)
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(images, sending))
    process.start()
    found: dict[str, int] = receiving.recv()
    process.join()
    return found


def _work(images: Any, connection: Connection) -> None:
    """What a loading process does but for pixels: records and their tensors."""
    import torch

    before = _memory()["file"]
    for index in np.linspace(0, len(images) - 1, TOUCHED).astype(int).tolist():
        record = images.images[index]
        torch.tensor(record.boxes_xyxy), torch.tensor(record.labels)
    memory = _memory()
    connection.send({**memory, "file": memory["file"] - before})


def _no_transform(image: Any, boxes: Any, labels: Any) -> tuple[Any, Any, Any]:
    return image, boxes, labels


def _memory() -> dict[str, int]:
    """Bytes: most and present memory of this process, and the part of it that is not shared and in no file."""
    shown = {"Pss": 0, "Private_Dirty": 0, "Private_Clean": 0, "Anonymous": 0, "Rss": 0}
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split()[:2]
        if name[:-1] in shown:
            shown[name[:-1]] = 1024 * int(value)
    status = Path("/proc/self/status").read_text()
    peak = 1024 * int(status.split("VmHWM:")[1].split()[0])
    own = _private_anonymous()
    return {"own": own, "file": shown["Rss"] - shown["Anonymous"], "peak": peak}


def _private_anonymous() -> int:
    """Bytes of pages that are in no file and that no other process shares, of all mappings."""
    total, private = 0, 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "Private_Dirty":
            private = 1024 * int(value.split()[0])
        elif name == "Anonymous":
            total += min(private, 1024 * int(value.split()[0]))
    return total


def _megabytes(size: float) -> str:
    return f"{size / MEGABYTE:,.1f} MB"


def _in_process(*arguments: str) -> Any:
    command = [sys.executable, "-m", "benchmarks.million", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    if ended.returncode:
        raise RuntimeError(ended.stderr)
    return json.loads(ended.stdout or "null")


def main() -> None:
    task, root, *sizes = sys.argv[1:]
    if task == "write":
        write_cache(Path(root), *map(int, sizes))
    else:
        print(json.dumps(measure_opening(Path(root))))


if __name__ == "__main__":
    main()
