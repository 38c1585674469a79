#!/usr/bin/env python
"""Draw the figures of docs/attention.md: `python docs/draw_attention.py [--checkpoint ... --image ...]`."""

import argparse
from pathlib import Path
from typing import Any

from drawing.detector import draw_heads_of_detector, draw_queries_of_detector
from drawing.grids import draw_mask, draw_words
from drawing.plots import draw_heads, draw_hiker, draw_layer, draw_scale
from drawing.snippets import read_snippets, run_snippet

DOCS = Path(__file__).resolve().parent
DPI = 140  # 8 inches become 1120 pixels: sharp on a page that is 800 pixels wide
FIGURES = {
    "scale": draw_scale,
    "hiker": draw_hiker,
    "heads": draw_heads,
    "mask": draw_mask,
    "layer": draw_layer,
    "words": draw_words,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--output", type=Path, default=DOCS / "images/attention", help="folder (default: docs/images/attention)")
    add("--checkpoint", type=Path, help="trained model; without one the figures of the detector stay as they are")
    add("--image", type=Path, help="image for the figures of the detector")
    arguments = parser.parse_args()
    if (arguments.checkpoint is None) != (arguments.image is None):
        parser.error("--checkpoint and --image go together")
    arguments.output.mkdir(parents=True, exist_ok=True)
    lesson = run_lesson(DOCS / "attention.md")
    for name, draw in FIGURES.items():
        draw(lesson).savefig(arguments.output / f"{name}.png", dpi=DPI)
    if arguments.checkpoint is not None:
        for name, draw_detector in (("heads", draw_heads_of_detector), ("queries", draw_queries_of_detector)):
            figure = draw_detector(arguments.checkpoint, arguments.image)
            figure.savefig(arguments.output / f"detector_{name}.jpg", dpi=DPI, pil_kwargs={"quality": 85})


def run_lesson(page: Path) -> dict[str, Any]:
    """Run the page's snippets up to the one that needs a trained detector. Returns their variables."""
    lesson: dict[str, Any] = {}
    for snippet in read_snippets(page):
        if "from_checkpoint" in snippet.code:
            break
        run_snippet(snippet, page, lesson)
    return lesson


if __name__ == "__main__":
    main()
