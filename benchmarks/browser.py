"""A page of the explorer in Chromium."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detr_lite.structures import DetrLiteError


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser of playwright.

    Errors: no playwright, no Chromium.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise DetrLiteError("playwright is not installed; install it with: pip install -e '.[dev]'") from error
    file = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if file is None:
        raise DetrLiteError("there is no Chromium; install it, for instance with: apt-get install chromium")
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=file, args=["--no-sandbox"])
        yield browser
        browser.close()


def open_explorer(page: Any, file: Path, view: str = "") -> None:
    """Wait until the explorer shows its first image; `view` is the part of the address after #.

    Errors: not a page of the explorer.
    """
    page.goto(f"{file.resolve().as_uri()}#{view}")
    if not page.evaluate("Boolean(window.explorer) && explorer.ready.then(() => true)"):
        raise DetrLiteError(f"{file}: not a page of the explorer; make one with visualize --explore")
