"""The explorer: one HTML file in which attention is looked at with the mouse, a finger or the keyboard.

The page's own parts lie in the folder `static/` as plain HTML, CSS and JavaScript; here they become one text, with
the data in it, that needs no network and no other file.
"""

import base64
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import numpy as np

from detr_lite.viz.draw import class_color, written
from detr_lite.viz.explorer.scene import PackedScene
from detr_lite.viz.heatmap import COLORMAP

_PARTS = files("detr_lite.viz.explorer") / "static"
_OTHER_COLOR = (150, 150, 150)
"""Of true objects of classes that the model does not know."""


def explorer_page(
    scenes: Sequence[PackedScene],
    class_names: Sequence[str],
    threshold: float = 0.5,
    layer: int | None = None,
    head: int | None = None,
) -> str:
    """The whole page. The same scenes give the same text.

    Args:
        class_names: of the model, by label.
        threshold: the least score that is shown at first.
        layer, head: shown at first; None is the last layer, the mean over heads.
    """
    names = [written(name) for name in class_names]
    # Without names, labels are all that there is; their number is what the detections show.
    labels = [label for scene in scenes for label in scene.facts["found"]["labels"]]
    names += [f"class {label}" for label in range(len(names), max(labels, default=-1) + 1)]
    true_names = [name for scene in scenes if scene.facts["truth"] for name in scene.facts["truth"]["names"]]
    foreign = [name for name in dict.fromkeys(true_names) if name not in names]
    facts = {
        "classes": [{"name": name, "color": class_color(label)} for label, name in enumerate(names)]
        + [{"name": name, "color": _OTHER_COLOR} for name in foreign],
        "threshold": threshold,
        "layer": layer,
        "head": head,
        "colormap": _colormap(),
        "scenes": [scene.facts for scene in scenes],
    }
    data = [f'<script type="application/json" id="facts">{_harmless(facts)}</script>']
    for number, scene in enumerate(scenes):
        # Base64 and data URIs hold no "<".
        data += [
            f'<script type="text/plain" id="scene-{number}-{key}">{text}</script>' for key, text in scene.texts.items()
        ]
    page = _read("index.html")
    page = re.sub(r'<link rel="stylesheet" href="([\w.]+)">', lambda found: f"<style>\n{_read(found[1])}</style>", page)
    page = re.sub(r'<script src="([\w.]+)"></script>', lambda found: f"<script>\n{_read(found[1])}</script>", page)
    return page.replace("<!-- data -->", "\n".join(data), 1)


def _read(name: str) -> str:
    return (_PARTS / name).read_text(encoding="utf-8")


def _harmless(facts: dict[str, Any]) -> str:
    """JSON in ASCII that ends no script and begins no comment, whatever names stand in it."""
    text = json.dumps(facts, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _colormap() -> str:
    """256 times red, green, blue as bytes, in base64."""
    colors = COLORMAP(np.arange(256), bytes=True)[:, :3]
    return base64.b64encode(colors.tobytes()).decode("ascii")
