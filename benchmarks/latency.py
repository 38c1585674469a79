"""Latency of `lite`, RT-DETRv2 and D-FINE on a CPU, by torch and as exported: ONNX in float32, and in int8."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from benchmarks.peer_models import lite_and_peers
from benchmarks.peers import fastest, torch_threads
from benchmarks.study import markdown
from detr_lite.config import Config
from detr_lite.data.transforms import MEAN, STD, ResizeRule
from detr_lite.families.network import FamilyDetr
from detr_lite.model.detr import Detr
from detr_lite.runtime import OnnxDetector
from detr_lite.structures import Category, DetrLiteError
from detr_lite.weights.checkpoint import Description
from detr_lite.weights.onnx_export import MODEL, write_onnx
from detr_lite.weights.onnx_graph import OnnxGraph, takes_floats
from detr_lite.weights.onnx_variants import INT8, write_int8

CALIBRATION_IMAGES = 4
FORMS = ("torch", "ONNX", "ONNX int8")


def latency_table(config: Config, side: int, threads: Sequence[int], repeats: int, classes: int = 80) -> str:
    """Markdown: milliseconds of one image, from pixels to boxes, the fastest of some calls that alternate.

    All models have random weights, the backbone, strides, queries and decoder layers of `config`, and are exported by
    the same code. Reading and resizing the image do not count.

    Errors: no threads or repeats, and a side that RT-DETRv2 does not accept.
    """
    if not threads or min(threads) < 1 or repeats < 1:
        raise DetrLiteError("--threads and --repeats must be at least 1")
    if side < 32 or side % 32:
        raise DetrLiteError("--side must be a multiple of 32")
    torch.manual_seed(0)
    models = list(_models(config, classes))
    with tempfile.TemporaryDirectory() as folder:
        graphs = {name: _export(model, config, classes, side, Path(folder) / name) for name, model in models}
        rows = [[name, str(count), *cells] for count in threads for name, cells in _measure(graphs, count, repeats)]
    head = [f"ms of one image, {side} x {side}", "threads", *FORMS]
    versions = f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}"
    note = f"{config.model.backbone}, random weights, {versions}, on the CPU. In brackets: times as fast as torch."
    return f"{markdown(head, rows)}\n\n{note}"


def _models(config: Config, classes: int) -> Iterator[tuple[str, Detr | FamilyDetr]]:
    for contender in lite_and_peers(config, classes):
        model: nn.Module = contender.model
        yield contender.name, model if isinstance(model, Detr) else FamilyDetr(model)


def _export(model: Detr | FamilyDetr, config: Config, classes: int, side: int, folder: Path) -> "_Exported":
    categories = tuple(Category(number, f"class {number}") for number in range(classes))
    architecture = None if isinstance(model, Detr) else model.network.config.to_dict()
    resize = ResizeRule("stretch", side)
    description = Description(config, categories, resize, MEAN, STD, architecture=architecture)
    write_onnx(folder, model, description)
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (1, side, side, 3), dtype=np.uint8) for _ in range(CALIBRATION_IMAGES)]
    write_int8(folder / MODEL, images, folder / INT8)
    graph = OnnxGraph(model.eval(), description, takes_floats(resize)).eval()
    return _Exported(graph, folder, images[0])


class _Exported:
    """One model in all forms, called with one image."""

    def __init__(self, graph: OnnxGraph, folder: Path, pixels: np.ndarray) -> None:
        self.graph = graph
        self.folder = folder
        self.pixels = pixels

    def runs(self, threads: int) -> dict[str, Callable[[], object]]:
        """What to call, by the names of `FORMS`."""
        files = {"ONNX": MODEL, "ONNX int8": INT8}
        sessions = {form: OnnxDetector(self.folder / file, threads=threads) for form, file in files.items()}
        image = torch.from_numpy(self.pixels)
        return {
            "torch": partial(self._call, image),
            **{form: partial(each.run, self.pixels) for form, each in sessions.items()},
        }

    @torch.inference_mode()
    def _call(self, image: Tensor) -> object:
        return self.graph(image)


def _measure(graphs: dict[str, _Exported], threads: int, repeats: int) -> Iterator[tuple[str, list[str]]]:
    runs = {f"{name}, {form}": run for name, exported in graphs.items() for form, run in exported.runs(threads).items()}
    with torch_threads(threads):
        seconds = fastest(runs, repeats)
    for name in graphs:
        times = [seconds[f"{name}, {form}"] for form in FORMS]
        yield name, [f"{1e3 * times[0]:.0f}", *(f"{1e3 * time:.0f} ({times[0] / time:.2f})" for time in times[1:])]
