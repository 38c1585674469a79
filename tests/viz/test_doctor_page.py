"""The doctor's page in a real browser: verdict, filter, pictures, keys, both themes, a phone's width, hostile names."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detr_lite.data.analysis.near_duplicates import ImagePairs
from detr_lite.data.analysis.outliers import OddBox
from detr_lite.data.records import RawSplit, Split, make_split
from detr_lite.data.report import SplitReport
from detr_lite.data.transforms import ResizeRule
from detr_lite.evaluation.label_errors import LabelError
from detr_lite.structures import Category
from detr_lite.viz.doctor.duplicates import Repeats, repeated_groups, shared_groups
from detr_lite.viz.doctor.groups import fault_groups, odd_groups, one_color_groups, rare_classes
from detr_lite.viz.doctor.overview import Choice, hidden_groups
from detr_lite.viz.doctor.page import PAGE_BYTES, Checkup, doctor_page
from detr_lite.viz.pages.gallery import PICTURES
from detr_lite.viz.pages.label_groups import label_groups
from tests.helpers.explorer_checks import wait
from tests.helpers.page_checks import CONTRASTS, WIDER

pytestmark = pytest.mark.slow

NASTY = "</script><img src=x onerror=window.hurt=1>"
SIDE = 120
LONG_SETTING = "--optim.backbone_lr_factor 0.05: the backbone's weights are trained already, which is a reason"


def raw_split(folder: Path, count: int) -> RawSplit:
    folder.mkdir(parents=True)
    generator = np.random.default_rng(len(folder.name))
    names = [f"frame_{number:03}.png" for number in range(count - 1)] + [f"{NASTY.replace('/', '')}.png"]
    for name in names:
        Image.fromarray(generator.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)).save(folder / name)
    boxes = np.concatenate([generator.uniform(0, 60, (2 * count, 2)), generator.uniform(5, 50, (2 * count, 2))], axis=1)
    return RawSplit(
        categories=(Category(1, "plate"), Category(2, NASTY), Category(3, "spoon")),
        image_ids=list(range(count)),
        names=names,
        paths=[str(folder / name) for name in names],
        sizes_wh=np.full((count, 2), float(SIDE)),
        image_index=np.arange(count).repeat(2),
        labels=np.tile([0, 1], count),
        boxes_xywh=boxes,
        areas=boxes[:, 2:].prod(axis=1),
        is_crowd=np.zeros(2 * count, dtype=bool),
        origin=np.arange(2 * count),
        name_annotation=lambda origin: f"annotation {origin + 1}",
    )


def split_of(root: Path, name: str, count: int, report: SplitReport) -> tuple[Split, RawSplit]:
    raw = raw_split(root / name, count)
    return make_split(root, name, root / f"{name}.json", "COCO", raw, report), raw


def checkup(root: Path) -> Checkup:
    report = SplitReport("train.json")
    report.refuse("unknown_class", f"has objects of {NASTY}; add the class")
    report.repair("inverted_box", "boxes of negative size", "are turned round", ["annotation 3", "annotation 4"])
    report.note("text_ids", "image ids are text", [f"frame_{number:03}.png" for number in range(5)])
    train, raw = split_of(root, "train", 40, report)
    val, _ = split_of(root, "val", 6, SplitReport("val.json"))
    near = ImagePairs(np.array([0, 1]), np.array([3, 2]), np.array([0.9, 0.8], dtype=np.float32))
    odd = [OddBox(number, 2 * number, "aspect", f"plate number {number}", 2.0) for number in range(30)]
    box = (10.0, 10.0, 50.0, 50.0)
    errors = [
        LabelError("wrong_class", 0, box, 2, 0.9, 0),
        LabelError("missing_label", 1, box, 1, 0.8, None),
        LabelError("unfound", 2, box, 0, 0.0, 4),
    ]
    choice = Choice(
        ResizeRule("longest", 64), 16, ("--data.image_size 64: they are small", LONG_SETTING, f"--optim.lr 1: {NASTY}")
    )
    groups = [
        *fault_groups("train", report, lambda: raw),
        *shared_groups(Repeats(val, train, [(2, 5)], near)),
        *repeated_groups(Repeats(train, train, [(0, 9)], near)),
        *one_color_groups(train, [39, 2]),
        *odd_groups(train, odd),
        *rare_classes(train),
        *hidden_groups(train, choice),
        *label_groups(train, errors),
    ]
    return Checkup(NASTY, "COCO", {"train": train, "val": val}, groups, ["All images can be opened"], choice)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Checkup:
    return checkup(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def explorer_pages(tmp_path_factory: pytest.TempPathFactory, made: Checkup) -> Path:
    """In the place of the explorer's pages, so that `visit` opens these and watches for errors and requests."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "all.html").write_text(doctor_page(made))
    (folder / "empty.html").write_text(doctor_page(Checkup("nothing", "COCO", {}, [], [], None)))
    return folder


TEXTS = ["h1", "h2", ".intro", ".level h3", ".level li", ".where", ".lead", ".caption", ".detail", "summary", ".chip"]
TEXTS += ["td", "th", ".legend", ".note", ".tag", ".contents a", "footer"]


FOCUSED = "(document.activeElement.querySelector('.caption')?.textContent ?? document.activeElement.tagName)"
CLOSED = "!document.getElementById('large').open"


def focused(page) -> str:
    return page.evaluate(FOCUSED)


def test_the_verdict_leads_to_what_was_found(visit, made: Checkup) -> None:
    page = visit(reduced_motion="reduce")
    assert (
        page.locator("h2").first.inner_text() == "Training would refuse this dataset: one thing must be mended first."
    )
    assert page.locator("h1").inner_text() == "Data doctor"
    columns = page.locator(".level")
    assert [columns.nth(place).locator("h3").inner_text().split()[-1] for place in range(3)] == [
        "mended",
        "look",
        "Fine",
    ]
    assert columns.nth(0).locator("li").count() == 1
    assert "All images can be opened" in columns.nth(2).inner_text()
    for group in made.ordered():
        link = page.locator(f'.level a[href="#{group.anchor}"]')
        assert link.inner_text() == group.title
    last = columns.nth(1).locator("a").last
    last.click()
    wait(page, "location.hash && document.querySelector(location.hash).getBoundingClientRect().top < 200")
    title = page.evaluate("document.querySelector(location.hash).querySelector('.group-title').textContent")
    assert title == last.inner_text()


def test_the_filter_shows_one_kind(visit) -> None:
    page = visit()
    chip = page.locator('.chip[data-kind="odd_aspect"]')
    assert chip.inner_text().split()[-1] == "30"
    chip.click()
    assert page.locator(".group:visible").count() == 1
    assert page.locator(".group:visible .picture").count() == PICTURES
    assert f"Pictures of {PICTURES} of 30" in page.locator(".group:visible").inner_text()
    assert chip.get_attribute("aria-pressed") == "true"
    page.locator(".level a", has_text="Likely wrong classes").click()
    # A link to a hidden group shows all again.
    wait(page, "[...document.querySelectorAll('.group')].filter(one => one.offsetParent).length > 5")


def test_arrow_keys_go_from_picture_to_picture(visit) -> None:
    page = visit()
    cards = page.locator(".group[data-kind='odd_aspect'] .picture")
    cards.first.focus()
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    page.keyboard.press("ArrowRight")
    assert focused(page) == "plate number 1"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "the focus is visible"
    first, second = (cards.nth(place).bounding_box() for place in (0, 1))
    assert second["x"] > first["x"]
    page.keyboard.press("ArrowDown")
    below = page.evaluate("document.activeElement.getBoundingClientRect().top")
    assert below > cards.nth(1).bounding_box()["y"]
    page.keyboard.press("ArrowUp")
    assert focused(page) == "plate number 1"
    page.keyboard.press("End")
    assert focused(page) == f"plate number {PICTURES - 1}"
    page.keyboard.press("ArrowRight")
    assert focused(page) == f"plate number {PICTURES - 1}", "there is no next one"
    page.keyboard.press("Home")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY", "one tab stop for all pictures of a group"


def test_a_picture_is_enlarged(visit) -> None:
    page = visit()
    cards = page.locator(".group[data-kind='odd_aspect'] .picture")
    cards.nth(1).focus()
    page.keyboard.press("Enter")
    dialog = page.locator("#large")
    assert dialog.is_visible()
    assert "plate number 1" in dialog.inner_text()
    assert f"(2 of {PICTURES})" in dialog.inner_text()
    wait(page, "document.querySelector('#large img').complete")
    small, large = cards.nth(1).locator("img").bounding_box(), dialog.locator("img").bounding_box()
    assert large["width"] > 1.5 * small["width"]
    box, drawn = dialog.locator("svg").bounding_box(), dialog.locator("img").bounding_box()
    assert box == pytest.approx(drawn, abs=1), "boxes lie on the picture"
    page.keyboard.press("ArrowRight")
    assert "plate number 2" in dialog.inner_text()
    page.keyboard.press("Escape")
    wait(page, CLOSED)
    assert not dialog.is_visible()
    wait(page, f"{FOCUSED} === 'plate number 2'")  # the focus is where the view was closed
    cards.first.click()
    dialog.locator("[data-do=previous]").click()
    assert f"plate number {PICTURES - 1}" in dialog.inner_text()
    dialog.locator("[data-do=close]").click()
    wait(page, CLOSED)
    assert not dialog.is_visible()


def test_boxes_are_drawn_where_they_are(visit, made: Checkup) -> None:
    page = visit()
    card = page.locator(".group[data-kind='odd_aspect'] .picture").nth(4)
    image, drawn = card.locator("img").bounding_box(), card.locator("rect.annotated").bounding_box()
    x, y, width, height = made.splits["train"].ground_truth.boxes_xywh[8].tolist()
    scale = image["width"] / SIDE
    expected = (image["x"] + x * scale, image["y"] + y * scale, width * scale, height * scale)
    assert (drawn["x"], drawn["y"], drawn["width"], drawn["height"]) == pytest.approx(expected, abs=2.5)


def test_pairs_stand_side_by_side(visit) -> None:
    page = visit()
    frames = page.locator(".group[data-kind='near_in_both'] .picture").first.locator(".frame")
    assert frames.count() == 2
    left, right = (frames.nth(place).bounding_box() for place in (0, 1))
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] <= right["x"] + 1


def test_the_names_of_a_pair_stand_under_each_other_and_break_at_their_parts(visit) -> None:
    card = visit().locator(".group[data-kind='near_in_both'] .picture").first
    captions = card.locator(".caption")
    assert captions.all_inner_texts() == ["val/frame_000.png", "train/frame_003.png"]
    assert [captions.nth(place).get_attribute("title") for place in (0, 1)] == captions.all_inner_texts()
    first, second = (captions.nth(place).bounding_box() for place in (0, 1))
    assert first["y"] + first["height"] <= second["y"] + 1
    assert captions.first.inner_html() == "val/<wbr>frame_<wbr>000.png"


def test_images_of_one_color_are_shown_with_their_objects(visit) -> None:
    group = visit().locator(".group[data-kind='one_color']")
    assert group.locator(".detail").all_inner_texts() == ["2 objects", "2 objects"]
    assert "frame_002.png" in group.locator(".caption").first.inner_text()
    assert group.locator("rect.context").count() == 4


@pytest.mark.parametrize("width", [390, 700, 960, 1100, 1400])
def test_settings_do_not_reach_into_their_reasons(visit, width: int) -> None:
    page = visit(viewport={"width": width, "height": 800})
    rows = page.locator(".settings tbody tr")
    for place in range(rows.count()):
        code, reason = (rows.nth(place).locator(part).bounding_box() for part in ("code", "td"))
        beside = code["x"] + code["width"] <= reason["x"] + 1
        assert beside or code["y"] + code["height"] <= reason["y"] + 1


@pytest.mark.parametrize("width", [320, 390, 768, 1400])
def test_nothing_is_wider_than_the_window(visit, width: int) -> None:
    page = visit(viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(WIDER, "body *") == []
    page.locator(".picture").first.click()
    assert page.evaluate(WIDER, "#large *") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_both_themes(visit, scheme: str) -> None:
    """Contrast of at least 4.5, as level AA asks for."""
    page = visit(color_scheme=scheme)
    ratios = page.evaluate(CONTRASTS, TEXTS)
    assert [(selector, round(ratio, 2)) for selector, ratio in ratios if ratio < 4.5] == []
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(", "))) > 380) == (scheme == "light")


def test_names_stay_text(visit) -> None:
    page = visit()
    assert page.evaluate("window.hurt") is None
    assert page.locator("img[src=x]").count() == 0
    assert NASTY in page.locator("header").inner_text()
    assert page.locator("table th", has_text=NASTY).count() > 0


def test_a_page_of_nothing(visit) -> None:
    page = visit(name="empty")
    assert page.locator("h2").inner_text() == "Ready to train; nothing was found."


def test_without_scripts_everything_is_there(visit) -> None:
    page = visit(java_script_enabled=False)
    assert page.locator(".group").count() > 8
    assert page.locator(".picture img").count() > 30


def test_the_page_is_at_most_ten_megabytes(made: Checkup) -> None:
    assert PAGE_BYTES == 10_000_000
    whole = doctor_page(made)
    assert len(whole.encode()) < PAGE_BYTES
    size = 550_000
    assert len(whole) > size
    assert len(doctor_page(made, size).encode()) < size
    assert doctor_page(made) == whole
