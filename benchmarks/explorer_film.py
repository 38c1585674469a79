"""`film`: a short animation of the explorer, recorded in Chromium, as the README shows it."""

import io
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.browser import chromium, open_explorer
from detr_lite.io import atomic_write

WINDOW = (1280, 880)
"""Width and height of the browser's window in pixels."""
WIDTH = 880
"""Pixels of the film."""

_CURSOR = """([x, y]) => { let mark = document.getElementById("film-cursor");
    if (!mark) { mark = document.createElement("div"); mark.id = "film-cursor"; document.body.append(mark);
        Object.assign(mark.style, {position: "fixed", width: "16px", height: "16px", borderRadius: "50%", zIndex: 99,
        border: "3px solid #fff", boxShadow: "0 0 0 2px #000", margin: "-8px", pointerEvents: "none"}); }
    mark.style.left = `${x}px`; mark.style.top = `${y}px`; }"""


class _Recorder:
    def __init__(self, page: Any) -> None:
        self.page = page
        self.frames: list[Image.Image] = []
        self.milliseconds: list[int] = []

    def shoot(self, milliseconds: int) -> None:
        self.page.wait_for_timeout(150)
        picture = Image.open(io.BytesIO(self.page.screenshot()))
        height = round(WIDTH * WINDOW[1] / WINDOW[0])
        self.frames.append(picture.convert("RGB").resize((WIDTH, height), Image.Resampling.LANCZOS))
        self.milliseconds.append(milliseconds)

    def point(self, x: float, y: float) -> None:
        self.page.mouse.move(x, y)
        self.page.evaluate(_CURSOR, [x, y])

    def press(self, *keys: str, milliseconds: int = 900) -> None:
        for key in keys:
            self.page.keyboard.press(key)
            self.shoot(milliseconds)


def record_film(page_file: Path, output: Path, image: int = 0) -> int:
    """Write the film of a page of one or two models as WebP; returns its size in bytes.

    Detections are pointed at, one is chosen and seen layer by layer, magnified, drawn as contours, compared, and left
    for a point of the image.

    Errors: no playwright, no Chromium, not a page of the explorer.
    """
    with chromium() as browser:
        page = browser.new_page(viewport={"width": WINDOW[0], "height": WINDOW[1]}, color_scheme="dark")
        open_explorer(page, page_file, f"image={image}")
        recorder = _Recorder(page)
        for part in (_point_at_detections, _go_through_layers, _look_closer, _compare, _ask_a_point):
            part(recorder)
    first, *others = recorder.frames
    file = io.BytesIO()
    options: dict[str, Any] = {"duration": recorder.milliseconds, "loop": 0, "quality": 72, "method": 6}
    first.save(file, "WEBP", save_all=True, append_images=others, **options)
    atomic_write(output, lambda target: target.write(file.getvalue()), durable=False)
    return len(file.getvalue())


def _point_at_detections(recorder: _Recorder) -> None:
    recorder.shoot(1200)
    rectangles = "all => all.map(one => one.getBoundingClientRect())"
    middles = f"all => ({rectangles})(all).map(({{x, y, width, height}}) => [x + width / 2, y + height / 2])"
    boxes = recorder.page.locator("#boxes .box").evaluate_all(middles)
    for x, y in boxes[-5:]:
        recorder.point(x, y)
        recorder.shoot(700)


def _go_through_layers(recorder: _Recorder) -> None:
    recorder.point(-50, -50)
    recorder.press("n", "n")
    layers = recorder.page.locator("#overview .row").count()
    recorder.press(*["["] * (layers - 1), milliseconds=500)
    recorder.press(*["]"] * (layers - 1), milliseconds=800)
    recorder.press("ArrowRight", "ArrowRight", "m", milliseconds=600)


def _look_closer(recorder: _Recorder) -> None:
    recorder.press("z", "v", milliseconds=1200)
    recorder.press("v", "v", "z", milliseconds=700)


def _compare(recorder: _Recorder) -> None:
    """With the other model, if there is one."""
    compare = recorder.page.locator("#compare")
    values: list[str] = compare.locator("option").evaluate_all("all => all.map(one => one.value)")
    compare.select_option(values[-1])
    recorder.page.wait_for_timeout(400)
    recorder.shoot(1600)
    recorder.press("n", milliseconds=1600)
    compare.select_option("none")


def _ask_a_point(recorder: _Recorder) -> None:
    recorder.press("f", milliseconds=300)
    for share in (0.35, 0.5, 0.65):
        recorder.point(*_in_stage(recorder, share))
        recorder.page.mouse.click(*_in_stage(recorder, share))
        recorder.shoot(900)


def _in_stage(recorder: _Recorder, share: float) -> tuple[float, float]:
    box = recorder.page.locator("#stage").bounding_box()
    return box["x"] + share * box["width"], box["y"] + share * box["height"]
