"""The attention explorer: one HTML file that shows the attention maps of some images interactively.

Its HTML, CSS and JavaScript are in the folder `static/`. They are inlined together with the data, so that the page
needs no network and no other file.
"""

import base64
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import matplotlib
import numpy as np

from detr_lite.drawing.boxes import class_color, display_name
from detr_lite.evaluation.error_kinds import MEANINGS
from detr_lite.viz.explorer.models import ExploredModel, TrainingFrame, joined_classes, relabeled
from detr_lite.viz.explorer.scene import PackedScene
from detr_lite.viz.guesses import GUESSES
from detr_lite.viz.heatmap import COLORMAP
from detr_lite.viz.pages.page import read_static
from detr_lite.viz.report.errors import TITLES

_STATIC = files("detr_lite.viz.explorer") / "static"
COLORMAPS = (COLORMAP.name, "viridis", "cividis")
"""Perceptually uniform; the last one is made for color-blind eyes."""
DIFFERENCE = "PuOr_r"
"""Diverging, for color-blind eyes too."""
_OTHER_COLOR = (150, 150, 150)
"""Of ground-truth objects of classes that the model does not have."""


def explorer_page(
    scenes: Sequence[PackedScene],
    class_names: Sequence[str],
    threshold: float = 0.5,
    layer: int | None = None,
    head: int | None = None,
    models: Sequence[ExploredModel] = (),
    history: Sequence[TrainingFrame] = (),
) -> str:
    """The page as text; it depends on nothing but the arguments.

    Args:
        class_names: the model's, by label.
        threshold: the initial score threshold.
        layer, head: the initial selection; None is the last layer, the mean over heads.
        models: with several, each image has a scene of each, one after the other, to be seen side by side; their class
            names count, not `class_names`.
        history: attention at the evaluations of a run.
    """
    if len(scenes) % max(1, len(models)):
        raise ValueError(f"{len(scenes)} scenes of {len(models)} models")
    names = [display_name(name) for name in class_names]
    metadatas = [scene.metadata for scene in scenes]
    if len(models) > 1:
        names, places = joined_classes(models)
        metadatas = [relabeled(each, places[number % len(models)]) for number, each in enumerate(metadatas)]
    # Without class names, the detections' labels tell how many classes there are.
    labels = [label for each in metadatas for label in _labels(each)]
    names += [f"class {label}" for label in range(len(names), max(labels, default=-1) + 1)]
    annotated = [each.get(kind) for each in metadatas for kind in ("truth", "crowds")]
    true_names = [name for boxes in annotated if boxes for name in boxes["names"]]
    unknown = [name for name in dict.fromkeys(true_names) if name not in names]
    metadata = {
        "classes": [{"name": name, "color": class_color(label)} for label, name in enumerate(names)]
        + [{"name": name, "color": _OTHER_COLOR} for name in unknown],
        "threshold": threshold,
        "layer": layer,
        "head": head,
        "guesses": GUESSES,
        "colormaps": {name: _colors(name) for name in COLORMAPS},
        "differenceColors": _colors(DIFFERENCE),
        "models": [{"name": model.name, "facts": list(model.facts)} for model in models],
        "history": [{"step": frame.step, "note": frame.note} for frame in history],
        "errorKinds": {kind: {"title": title, "meaning": MEANINGS[kind]} for kind, title in TITLES.items()},
        "scenes": metadatas,
    }
    data = [f'<script type="application/json" id="metadata">{_json_for_script(metadata)}</script>']
    later: list[str] = []
    for number, scene in enumerate(scenes):
        into = data if number < max(1, len(models)) else later
        is_first = number % max(1, len(models)) == 0  # the picture of an image is in the page once
        # Base64 and data URIs contain no "<".
        into += [
            f'<script type="text/plain" id="scene-{number}-{key}">{text}</script>'
            for key, text in scene.blobs.items()
            if is_first or key != "picture"
        ]
        into.append(f'<i id="scene-{number}-end" hidden></i>')
    for number, frame in enumerate(history):
        later.append(f'<script type="text/plain" id="history-{number}">{frame.picture}</script>')
    page = _read("index.html")
    page = re.sub(r'<link rel="stylesheet" href="([\w.]+)">', lambda found: f"<style>\n{_read(found[1])}</style>", page)
    page = re.sub(r'<script src="([\w.]+)"></script>', lambda found: f"<script>\n{_read(found[1])}</script>", page)
    page = page.replace("<!-- more data -->", "\n".join(later), 1)
    return page.replace("<!-- data -->", "\n".join(data), 1)


def _labels(metadata: dict[str, Any]) -> list[int]:
    own = [summary["label"] for summary in metadata["querySummaries"] if summary]
    return [*own, *metadata["detections"]["labels"]]


def _read(name: str) -> str:
    return read_static(name) if name == "theme.css" else (_STATIC / name).read_text(encoding="utf-8")


def _json_for_script(metadata: dict[str, Any]) -> str:
    """JSON in ASCII that cannot close the script element or open a comment, whatever names it contains."""
    text = json.dumps(metadata, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _colors(name: str) -> str:
    """256 RGB colors of a color map as bytes, in base64."""
    colors = matplotlib.colormaps[name](np.arange(256), bytes=True)[:, :3]
    return base64.b64encode(colors.tobytes()).decode("ascii")
