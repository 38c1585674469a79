"""The page that compares models: side by side, class by class, with pictures of what one finds and another misses."""

from collections import Counter

import numpy as np
from jaxtyping import Bool

from detr_lite.evaluation.bootstrap import Difference
from detr_lite.evaluation.coco_map import MEANINGS, METRICS
from detr_lite.evaluation.error_kinds import ErrorAssignment
from detr_lite.structures import GroundTruth
from detr_lite.text import printable
from detr_lite.viz.pages.gallery import Example, Group, gallery
from detr_lite.viz.pages.html import Html, element
from detr_lite.viz.pages.layout import Section, page_body
from detr_lite.viz.pages.page import render_page
from detr_lite.viz.pages.pictures import Mark, PictureBudget
from detr_lite.viz.pages.split_views import corners, image_name, view_of
from detr_lite.viz.pages.tables import Cell, number_table
from detr_lite.viz.report.compared import ComparedModel, ComparedResults, found_objects
from detr_lite.viz.report.content import Evaluated, number
from detr_lite.viz.report.errors import TITLES
from detr_lite.viz.report.page import KIND, PAGE_BYTES, big_number

_TEXT_BYTES = 1_500_000
_PICTURES = 24


def comparison_page(compared: ComparedResults, size: int = PAGE_BYTES) -> str:
    """The page as text, of at most about `size` bytes."""
    sections = [Section("metrics", "Metrics", _metrics_table(compared), _METRICS)]
    models = [each.model for each in compared.models if each.model is not None]
    if len(models) > 1:
        sections.append(Section("classes", "Classes", _class_table(compared)))
        sections.append(Section("errors", "What costs AP50", _error_table(compared), _ERRORS, "Errors"))
        groups = _found_and_missed(compared)
        pictures = PictureBudget(max(0, size - _TEXT_BYTES))
        shown: Html | str = gallery(groups, pictures) if groups else "Both find the same objects."
        sections.append(Section("found", "Found by one and missed by another", shown, _FOUND, "Pictures"))
    names = " and ".join(printable(each.name) for each in compared.models[:3])
    more = f" and {len(compared.models) - 3} more" if len(compared.models) > 3 else ""
    subtitle = printable(models[0].split.describe()) if models else "metrics alone"
    footer = "Written by detr-lite report. The page is one file and loads nothing."
    return render_page(KIND, f"{names}{more}", subtitle, page_body(_verdict(compared), "Summary", sections, footer))


_METRICS = (
    "Differences to the first model, with the 95 % interval of a paired bootstrap over images: how much they would "
    "vary with other images of the same kind. If the interval holds 0 (marked ≈), these images do not tell the models "
    "apart. It does not cover the randomness of training: for that, train with several seeds."
)
_ERRORS = "How much higher AP50 would be without the errors of one kind (TIDE, arXiv 2008.08115)."
_FOUND = (
    "Objects found at IoU 0.5, each model at its own best score threshold. Yellow and solid: the objects; blue and "
    "dashed: detections at them; thin: all other detections."
)


def _verdict(compared: ComparedResults) -> Html:
    first, *others = compared.models
    best = max(compared.models, key=lambda each: each.metrics["AP"])
    told = {
        each.name: next((difference for difference in each.differences if difference.metric == "AP"), None)
        for each in others
    }
    if len(others) == 1 and (difference := told[others[0].name]) is not None:
        heading = f"{printable(others[0].name)} against {printable(first.name)}: {difference.text()}"
    else:
        heading = f"{printable(best.name)} has the highest AP, {number(best.metrics['AP'])}"
    numbers = [
        big_number(printable(each.name), number(each.metrics["AP"]), f"AP; AP50 {number(each.metrics['AP50'])}")
        for each in compared.models
    ]
    lines = [
        element("li", printable(f"{name} against {first.name}: {difference.text()}"))
        for name, difference in told.items()
        if difference is not None and len(others) > 1
    ]
    lines += [element("li", f"{line[:1].upper()}{line[1:]}.") for line in compared.unchecked()]
    return element(
        "section",
        element("h2", heading),
        element("dl", *numbers, class_="numbers"),
        element("ul", *lines, class_="findings") if lines else None,
        class_="card verdict",
        id="verdict",
        aria_label="Summary",
    )


def _metrics_table(compared: ComparedResults) -> Html:
    rows: list[list[Cell]] = []
    for name, meaning in zip(METRICS, MEANINGS, strict=True):
        row: list[Cell] = [f"{name}, {meaning}"]
        for each in compared.models:
            row.append(_cell(each.metrics[name]))
            difference = next((one for one in each.differences if one.metric == name), None)
            if each.differences:
                row.append("" if difference is None else (difference.difference, _interval(difference)))
        rows.append(row)
    heads = ["Metric"]
    for each in compared.models:
        heads.append(printable(each.name))
        if each.differences:
            heads.append("difference, 95 %")
    return element("div", number_table("COCO's metrics", heads, rows), class_="card wide")


def _interval(difference: Difference) -> str:
    sign = "" if difference.is_told_apart else " ≈"
    return f"{difference.difference:+.3f} ({difference.low:+.3f} .. {difference.high:+.3f}){sign}"


def _class_table(compared: ComparedResults) -> Html:
    known = [(each.name, each.model) for each in compared.models if each.model is not None]
    first = known[0][1]
    rows: list[list[Cell]] = []
    names = first.class_names
    for label in first.ranked_labels:
        values = [model.evaluation.per_class[label].AP for _, model in known]
        objects = first.evaluation.per_class[label].objects
        row: list[Cell] = [names[label], (float(objects), f"{objects:,}"), *map(_cell, values)]
        row += [
            (value - values[0], f"{value - values[0]:+.3f}") if min(value, values[0]) >= 0 else "-"
            for value in values[1:]
        ]
        rows.append(row)
    heads = ["Class", "Objects", *(printable(name) for name, _ in known)]
    heads += [f"{printable(name)} minus {printable(known[0][0])}" for name, _ in known[1:]]
    return element("div", number_table("AP by class", heads, rows), class_="card wide")


def _error_table(compared: ComparedResults) -> Html:
    known = [
        (each.name, each.model) for each in compared.models if each.model is not None and each.model.analysis.errors
    ]
    rows: list[list[Cell]] = []
    for kind, title in TITLES.items():
        costs = [model.analysis.errors[0].costs[kind] for _, model in known]
        rows.append([title, *((cost, f"{cost:.3f}", cost) for cost in costs)])
    return element(
        "div",
        number_table("Cost of errors", ["Kind", *(printable(name) for name, _ in known)], rows),
        class_="card wide",
    )


def _found_and_missed(compared: ComparedResults) -> list[Group]:
    known = [each for each in compared.models if each.model is not None]
    first, groups = known[0], []
    for other in known[1:]:
        for a, b in ((other, first), (first, other)):
            group = _group(a, b)
            if group is not None:
                groups.append(group)
    return groups


def _group(finder: ComparedModel, misser: ComparedModel) -> Group | None:
    """Objects that the one finds and the other misses; images with the most of them first."""
    assert finder.model is not None
    assert misser.model is not None
    split = finder.model.split
    models = (finder.model, misser.model)
    errors = [found_objects(model) for model in models]
    is_lost = errors[0].is_found & ~errors[1].is_found
    if not is_lost.any():
        return None
    counts = Counter(split.ground_truth.image_index[is_lost].tolist())
    examples = []
    for image, count in counts.most_common(_PICTURES):
        views = tuple(
            view_of(
                split, image, (*_detections(model, each, image, is_lost), *_objects(split.ground_truth, image, is_lost))
            )
            for model, each in zip(models, errors, strict=True)
        )
        caption = f"{count} {'object' if count == 1 else 'objects'}"
        examples.append(Example(views, caption, image_name(split, image)))
    entries = tuple(f"{image_name(split, image)}: {count}" for image, count in counts.most_common())
    one, other = printable(finder.name), printable(misser.name)
    return Group(
        f"found_by_{one}",
        "look",
        f"Found by {one}, missed by {other}",
        "",
        f"Left the detections of {one}, right those of {other}.",
        int(is_lost.sum()),
        entries,
        tuple(examples),
    )


def _objects(truth: GroundTruth, image: int, is_marked: Bool[np.ndarray, " object"]) -> list[Mark]:
    places = np.flatnonzero((truth.image_index == image) & is_marked).tolist()
    return [Mark(corners(truth.boxes_xywh[place]), "annotated") for place in places]


def _detections(
    model: Evaluated, errors: ErrorAssignment, image: int, is_lost: Bool[np.ndarray, " object"]
) -> list[Mark]:
    """Those above the threshold; the ones that are about the lost objects stand out."""
    found = model.detections
    is_about = (errors.objects >= 0) & is_lost[errors.objects]
    is_shown = (found.image_index == image) & (found.scores >= model.threshold)
    marks = [
        Mark(
            corners(found.boxes_xywh[place]),
            "other" if is_about[place] else "context",
            f"{model.class_names[found.labels[place]]} {found.scores[place]:.2f}",
        )
        for place in np.flatnonzero(is_shown).tolist()
    ]
    return sorted(marks, key=lambda mark: mark.style != "context")


def _cell(value: float) -> Cell:
    return (value, number(value)) if value >= 0 else (-1.0, number(value))
