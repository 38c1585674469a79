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

import numpy as np

from detr_lite.drawing.boxes import class_color, display_name
from detr_lite.viz.explorer.scene import PackedScene
from detr_lite.viz.guesses import GUESSES
from detr_lite.viz.heatmap import COLORMAP
from detr_lite.viz.pages.page import read_static

_STATIC = files("detr_lite.viz.explorer") / "static"
_OTHER_COLOR = (150, 150, 150)
"""Of ground-truth objects of classes that the model does not have."""


def explorer_page(
    scenes: Sequence[PackedScene],
    class_names: Sequence[str],
    threshold: float = 0.5,
    layer: int | None = None,
    head: int | None = None,
) -> str:
    """The page as text; it depends on nothing but the arguments.

    Args:
        class_names: the model's, by label.
        threshold: the initial score threshold.
        layer, head: the initial selection; None is the last layer, the mean over heads.
    """
    names = [display_name(name) for name in class_names]
    # Without class names, the detections' labels tell how many classes there are.
    labels = [label for scene in scenes for label in _labels(scene)]
    names += [f"class {label}" for label in range(len(names), max(labels, default=-1) + 1)]
    true_names = [name for scene in scenes if scene.metadata["truth"] for name in scene.metadata["truth"]["names"]]
    unknown = [name for name in dict.fromkeys(true_names) if name not in names]
    metadata = {
        "classes": [{"name": name, "color": class_color(label)} for label, name in enumerate(names)]
        + [{"name": name, "color": _OTHER_COLOR} for name in unknown],
        "threshold": threshold,
        "layer": layer,
        "head": head,
        "guesses": GUESSES,
        "colormap": _colormap(),
        "scenes": [scene.metadata for scene in scenes],
    }
    data = [f'<script type="application/json" id="metadata">{_json_for_script(metadata)}</script>']
    for number, scene in enumerate(scenes):
        # Base64 and data URIs contain no "<".
        data += [
            f'<script type="text/plain" id="scene-{number}-{key}">{text}</script>' for key, text in scene.blobs.items()
        ]
    page = _read("index.html")
    page = re.sub(r'<link rel="stylesheet" href="([\w.]+)">', lambda found: f"<style>\n{_read(found[1])}</style>", page)
    page = re.sub(r'<script src="([\w.]+)"></script>', lambda found: f"<script>\n{_read(found[1])}</script>", page)
    return page.replace("<!-- data -->", "\n".join(data), 1)


def _labels(scene: PackedScene) -> list[int]:
    own = [summary["label"] for summary in scene.metadata["querySummaries"] if summary]
    return [*own, *scene.metadata["detections"]["labels"]]


def _read(name: str) -> str:
    return read_static(name) if name == "theme.css" else (_STATIC / name).read_text(encoding="utf-8")


def _json_for_script(metadata: dict[str, Any]) -> str:
    """JSON in ASCII that cannot close the script element or open a comment, whatever names it contains."""
    text = json.dumps(metadata, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _colormap() -> str:
    """256 RGB colors as bytes, in base64."""
    colors = COLORMAP(np.arange(256), bytes=True)[:, :3]
    return base64.b64encode(colors.tobytes()).decode("ascii")
