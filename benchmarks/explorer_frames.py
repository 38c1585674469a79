"""`frames`: how long the explorer keeps its reader waiting, for each kind of use, in Chromium."""

import json
import tempfile
import time
from bisect import bisect_right
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.browser import chromium, open_explorer
from benchmarks.explorer_example import write_example
from benchmarks.explorer_uses import USES
from benchmarks.study import markdown
from detr_lite.structures import DetrLiteError

WINDOW = {"width": 1280, "height": 880}
"""Of the browser, in pixels."""
SETTLE = 500
"""Milliseconds after each use, in which the page finishes what it began."""
PHONE = 4
"""How many times slower the processor is made on which the page is opened: Lighthouse's rule for phones."""
FRAME = 50
"""Milliseconds from which on a task is called long (W3C, Long Tasks API)."""
MARK = "use: "
TASK = "RunTask"
CATEGORIES = ["toplevel", "devtools.timeline", "disabled-by-default-devtools.timeline", "blink.user_timing"]


def frames_table(file: Path | None, images: int, queries: int, classes: int) -> str:
    """Markdown: for each kind of use the longest task of the page's main thread, in milliseconds.

    While a task runs, the browser draws no frame. Without a file, a page is made of drawn images and of a model with
    random weights.

    Errors: no browser, not a page of the explorer, less than one of something.
    """
    for name, value in (("images", images), ("queries", queries), ("classes", classes)):
        if value < 1:
            raise DetrLiteError(f"--{name} is {value}; it must be at least 1")
    with chromium() as browser, tempfile.TemporaryDirectory() as folder:
        page = file or write_example(Path(folder) / "explorer.html", images, queries, classes)
        seconds = _seconds_to_open(browser, page)
        longest = _longest_tasks(browser, page)
        megabytes = page.stat().st_size / 1e6
        version = browser.version
    rows = [[name, f"{milliseconds:.1f}"] for name, milliseconds in sorted(longest.items(), key=lambda row: -row[1])]
    long = sum(milliseconds > FRAME for milliseconds in longest.values())
    note = (
        f"Chromium {version}. {long} of {len(longest)} kinds of use have a task over {FRAME} ms. The page has "
        f"{megabytes:.1f} MB and is there after {seconds:.1f} s on a processor {PHONE} times slower."
    )
    return f"{markdown(['use', 'longest task (ms)'], rows)}\n\n{note}"


def _seconds_to_open(browser: Any, file: Path) -> float:
    page = browser.new_page(viewport=WINDOW)
    page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": PHONE})
    start = time.perf_counter()
    open_explorer(page, file)
    seconds = time.perf_counter() - start
    page.close()
    return seconds


def _longest_tasks(browser: Any, file: Path) -> dict[str, float]:
    page = browser.new_page(viewport=WINDOW, reduced_motion="reduce")
    open_explorer(page, file)
    page.wait_for_timeout(2 * SETTLE)
    browser.start_tracing(page=page, categories=CATEGORIES)
    for name, use in USES.items():
        page.evaluate("name => void performance.mark(name)", MARK + name)
        use(page)
        page.wait_for_timeout(SETTLE)
    events = json.loads(browser.stop_tracing())["traceEvents"]
    page.close()
    return longest_tasks(events)


def longest_tasks(events: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Milliseconds of the longest task after each mark, up to the next one, in the thread that made the marks.

    Args:
        events: of a trace (Trace Event Format), with times in microseconds.
    """
    events = list(events)
    marks = sorted((event for event in events if event["name"].startswith(MARK)), key=lambda event: event["ts"])
    threads = {(mark["pid"], mark["tid"]) for mark in marks}
    starts = [mark["ts"] for mark in marks]
    longest = {mark["name"].removeprefix(MARK): 0.0 for mark in marks}
    names = list(longest)
    for event in events:
        if event["name"].endswith(TASK) and "dur" in event and (event["pid"], event["tid"]) in threads:
            place = bisect_right(starts, event["ts"]) - 1
            if place >= 0:
                longest[names[place]] = max(longest[names[place]], event["dur"] / 1000)
    return longest
