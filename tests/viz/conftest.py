"""The explorer's pages in a real browser."""

import shutil
from dataclasses import replace

import pytest
import torch

from detr_lite.structures import Detections
from detr_lite.viz.explorer.page import explorer_page
from detr_lite.viz.explorer.scene import pack_scene
from tests.helpers.explorer_checks import ATTENTION, NASTY, OTHER, SAMPLED
from tests.helpers.fake_attention import NAMES, found, maps, picture, truth
from tests.helpers.fake_attribution import attribution
from tests.helpers.waiting import PATIENCE


@pytest.fixture(scope="module")
def browser():
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium: apt-get install chromium")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'"
    )
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def explorer_pages(tmp_path_factory):
    """`all.html` with three images, `bare.html` of a model with one of everything, `empty.html` without detections,
    `small.html` with a part of the attention, `sampled.html` of a deformable model, `maps.html` with relevance and
    occlusion of two detections of the first of its images."""
    folder = tmp_path_factory.mktemp("pages")
    names = (*NAMES[:2], NASTY)
    scenes = [
        pack_scene("first.jpg", picture(), found(names=names), ATTENTION, truth()),
        pack_scene("second.jpg", picture(120, 120), found((0.95, 0.3), names), OTHER),
        pack_scene(NASTY, picture(), found((0.4,), names), maps(seed=2)),
    ]
    (folder / "all.html").write_text(explorer_page(scenes, names))
    bare = maps(1, 1, 1, 0, grids=((3, 4),), spans=((4.0, 3.0),))
    one = found((0.9,))
    bare_scene = pack_scene("bare.jpg", picture(), replace(one, queries=torch.tensor([0])), bare)
    (folder / "bare.html").write_text(explorer_page([bare_scene], NAMES))
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long(), torch.zeros(0).long(), NAMES)
    (folder / "empty.html").write_text(explorer_page([pack_scene("empty.jpg", picture(), nothing, maps())], NAMES))
    small = pack_scene("small.jpg", picture(), found(), maps(), budget=246_000)
    (folder / "small.html").write_text(explorer_page([small], NAMES))
    deformable = pack_scene("sampled.jpg", picture(), found(), SAMPLED)
    (folder / "sampled.html").write_text(explorer_page([deformable], NAMES))
    known = pack_scene("known.jpg", picture(), found(), ATTENTION, attribution=attribution())
    unknown = pack_scene("unknown.jpg", picture(), found(), maps(seed=2))
    (folder / "maps.html").write_text(explorer_page([known, unknown], NAMES))
    return folder


@pytest.fixture
def visit(browser, explorer_pages):
    """Open a page; at the end of the test there must be no errors, warnings or requests."""
    contexts, problems = [], []

    def open_page(hash="", name="all", prelude=None, **options):
        context = browser.new_context(**{"viewport": {"width": 1000, "height": 700}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(1000 * PATIENCE)
        page.on(
            "console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or problems.append(request.url))
        if prelude:
            page.add_init_script(prelude)
        page.goto((explorer_pages / f"{name}.html").as_uri() + hash)
        page.evaluate("window.explorer && explorer.ready")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []
