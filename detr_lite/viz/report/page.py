"""The report of one model: what it reaches, what costs most, at which threshold, and pictures of what went wrong."""

from collections.abc import Sequence

from detr_lite.text import printable
from detr_lite.viz.explorer.read_page import ReadPage
from detr_lite.viz.pages.gallery import gallery
from detr_lite.viz.pages.html import Html, element, join
from detr_lite.viz.pages.label_groups import label_groups
from detr_lite.viz.pages.layout import Section, page_body
from detr_lite.viz.pages.page import render_page
from detr_lite.viz.pages.pictures import PictureBudget
from detr_lite.viz.pages.tables import fact_table
from detr_lite.viz.report.content import Evaluated, RunFacts, number
from detr_lite.viz.report.errors import errors_section
from detr_lite.viz.report.explored import ExploredImages
from detr_lite.viz.report.results import history_section, metrics_section
from detr_lite.viz.report.scores import scores_section, slices_section
from detr_lite.viz.report.worst import worst_section

KIND = "report"

PAGE_BYTES = 10_000_000
"""Most bytes of the page."""
_TEXT_BYTES = 1_200_000
"""Kept for everything but the pictures."""
_LINES = 4
"""Most lines of the diagnosis in the summary; all kinds of errors are in the next section."""
_LABEL_BYTES = 3_000_000
"""Most bytes of the pictures of likely label errors."""


def report_page(model: Evaluated, run: RunFacts, size: int = PAGE_BYTES, explorer: ReadPage | None = None) -> str:
    """The page as text, of at most about `size` bytes.

    Args:
        explorer: the explorer's page beside it, to which pictures are linked.
    """
    pictures = max(0, size - _TEXT_BYTES)
    explored = ExploredImages(model, explorer)
    labels = label_groups(model.split, model.analysis.label_errors, explored.links_of_label)
    for_labels = min(_LABEL_BYTES, pictures // 3) if labels else 0
    label_content = gallery(labels, PictureBudget(for_labels)) if labels else None
    worst = worst_section(model, PictureBudget(pictures - for_labels), run.explore, explored)
    sections = [
        Section("errors", "What costs AP", errors_section(model), _ERRORS, "Errors"),
        Section("worst", "Worst images", worst, _worst_intro(model)),
        Section("scores", "Score threshold", scores_section(model), link="Threshold"),
        Section("metrics", "Metrics and classes", metrics_section(model), link="Metrics"),
        Section("slices", "Which objects are found", slices_section(model), _slices_intro(model), "Objects"),
    ]
    if label_content is not None:
        sections.append(Section("labels", "Labels that are likely wrong", label_content, _LABELS, "Labels"))
    history = None if run.history is None else history_section(run.history)
    if history is not None:
        sections.append(Section("history", "Training", history))
    sections.append(Section("settings", "Settings and data", _settings(run), link="Settings"))
    footer = "Written by detr-lite report. The page is one file and loads nothing."
    body = page_body(_verdict(model, run), "Summary", sections, footer)
    return render_page(KIND, f"Report: {model.name}", _subtitle(model), body)


def big_number(name: str, value: str, meaning: str) -> Html:
    """A number that is seen first."""
    return element("div", element("dt", name), element("dd", value), element("p", meaning, class_="note"), class_="big")


def command_list(commands: Sequence[tuple[str, str]]) -> Html | None:
    """What each command does, and the command, ready to be copied."""
    if not commands:
        return None
    items = [join(element("p", what), element("pre", element("code", command))) for what, command in commands]
    return element("details", element("summary", "How to go on"), *items, class_="commands")


_ERRORS = (
    "How much higher AP would be without the errors of one kind (TIDE, arXiv 2008.08115): what to work on first, and "
    "what not to bother with."
)
_LABELS = (
    "Confident detections that the annotations contradict, and objects that no detection is near: either the model is "
    "wrong, or the annotation. Yellow and solid: as annotated; blue and dashed: as detected."
)


def _worst_intro(model: Evaluated) -> str:
    return (
        f"Left as annotated, right as detected with a score of at least {model.threshold:g}. Thin: correct; blue and "
        "dashed: false detections; yellow and solid: objects that were missed, and those that a false detection is at. "
        "Select a picture to enlarge it; arrow keys go on to the next."
    )


def _slices_intro(model: Evaluated) -> str:
    return (
        f"Recall: share of the objects that a detection with a score of at least {model.threshold:g} finds at IoU 0.5."
    )


def _subtitle(model: Evaluated) -> str:
    return printable(model.split.describe())


def _verdict(model: Evaluated, run: RunFacts) -> Html:
    metrics, best = model.evaluation.metrics, model.analysis.thresholds.overall
    numbers = [
        big_number(name, number(metrics[name]), meaning)
        for name, meaning in (("AP", "mean of IoU 0.50 to 0.95"), ("AP50", "at IoU 0.50"), ("AP75", "at IoU 0.75"))
    ]
    if best is not None:
        meaning = f"precision {best.precision:.2f}, recall {best.recall:.2f}"
        numbers.append(big_number("Best score threshold", f"{best.score:g}", meaning))
    diagnosis = model.analysis.diagnosis
    lines = [element("li", line) for line in (*run.notes, *diagnosis.lines[1:_LINES])]
    return element(
        "section",
        element("h2", diagnosis.first),
        element("dl", *numbers, class_="numbers"),
        element("ul", *lines, class_="findings") if lines else None,
        command_list(run.commands),
        class_="card verdict",
        id="verdict",
        aria_label="Summary",
    )


def _settings(run: RunFacts) -> Html:
    facts = element("div", fact_table("Data, model and versions", run.facts), class_="card")
    settings = [(name, element("code", value)) for name, value in run.settings]
    table = element("div", fact_table("Settings", settings), class_="card") if settings else None
    return element("div", facts, table, class_="columns")
