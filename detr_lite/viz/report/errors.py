"""The sections on what costs AP: errors by kind (TIDE, arXiv 2008.08115), confused classes, duplicates."""

from collections.abc import Sequence

import numpy as np

from detr_lite.evaluation.confusion import Confusion
from detr_lite.evaluation.error_kinds import MEANINGS, ErrorCosts, ErrorKind
from detr_lite.viz.pages.charts import bar_table
from detr_lite.viz.pages.html import Html, element, join
from detr_lite.viz.report.content import Evaluated, number

TITLES: dict[ErrorKind, str] = {
    "classification": "Wrong class",
    "localization": "Badly placed",
    "both": "Wrong class and badly placed",
    "duplicate": "Duplicate",
    "background": "Background",
    "missed": "Missed",
}
"""Of the kinds of errors."""
FEW_CLASSES = 5
"""Up to which a confusion matrix fits beside another card."""
MOST_CLASSES = 16
"""Of a confusion matrix that can be read at a glance."""


def errors_section(model: Evaluated) -> Html:
    """What each kind of error costs, the confusion matrix, and what duplicates cost."""
    cards = [element("div", _costs(costs), class_="card") for costs in model.analysis.errors]
    costs = element("div", *cards, class_="columns") if cards else _nothing("no object to find, so no AP to lose")
    confusion = element("div", _confusion(model.analysis.confusion, model.class_names), class_="card")
    duplicates = element("div", _duplicates(model), class_="card")
    is_small = len(model.class_names) <= FEW_CLASSES
    return element("div", costs, element("div", confusion, duplicates, class_="columns" if is_small else "stack"))


def _costs(costs: ErrorCosts) -> Html:
    kinds = sorted(costs.costs, key=lambda kind: costs.costs[kind], reverse=True)
    table = bar_table(
        f"At IoU {costs.iou:g}: AP{100 * costs.iou:g} is {costs.AP:.3f}",
        ("Kind of error", "AP to gain without it", "Count at any score"),
        [TITLES[kind] for kind in kinds],
        [[max(0.0, costs.costs[kind]) for kind in kinds], [costs.counts[kind] for kind in kinds]],
        [[f"{costs.costs[kind]:.3f}" for kind in kinds], [f"{costs.counts[kind]:,}" for kind in kinds]],
    )
    meanings = [join(element("dt", TITLES[kind]), element("dd", MEANINGS[kind])) for kind in kinds]
    totals = (
        f"Without any false positive AP{100 * costs.iou:g} would be {costs.false_positives:.3f} higher, without any "
        f"missed object {costs.false_negatives:.3f}. The gains do not add up: mending one kind uncovers another."
    )
    more = element("details", element("summary", "What the kinds mean"), element("dl", *meanings, class_="meanings"))
    return join(table, element("p", totals, class_="note"), more)


def _confusion(confusion: Confusion, names: Sequence[str]) -> Html:
    matrix = confusion.matrix
    labels = _shown_labels(matrix)
    places = [*labels, len(names)]
    heads = [*(names[label] for label in labels), "not found" if matrix.size else ""]
    head = element("tr", element("td"), *(element("th", name, scope="col") for name in heads))
    rows = []
    for row in places:
        total = int(matrix[row].sum())
        cells = []
        for column in places:
            count = int(matrix[row, column])
            share = count / total if total else 0.0
            text = "" if row == column == len(names) else f"{count:,}"
            kind = "same" if row == column else "other"
            title = f"{count:,} of {total:,}"
            cells.append(
                element(
                    "td", text, class_=f"cell {kind}", style=f"--share: {share:.3f}", title=title if count else None
                )
            )
        name = names[row] if row < len(names) else "no object"
        rows.append(element("tr", element("th", name, scope="row"), *cells))
    caption = element("caption", "Confusion matrix: rows as annotated, columns as detected")
    table = element("table", caption, element("thead", head), element("tbody", *rows), class_="confusion")
    hidden = len(names) - len(labels)
    text = (
        f"Detections with a score of at least {confusion.threshold:g}, matched to objects of any class at IoU "
        f"{confusion.iou:g}. Shading is the share of a row. The last column counts objects that were not found, "
        "the last row detections where there is no object."
    )
    text += f" The {len(labels)} classes with the most confusions of {len(names):,} are shown." if hidden else ""
    return join(element("div", table, class_="scroll"), element("p", text, class_="note"))


def _shown_labels(matrix: np.ndarray) -> list[int]:
    """All classes, or those that are confused most, in their order."""
    classes = len(matrix) - 1
    if classes <= MOST_CLASSES:
        return list(range(classes))
    off = matrix[:classes, :classes].copy()
    np.fill_diagonal(off, 0)
    confused = off.sum(axis=0) + off.sum(axis=1)
    order = np.lexsort((-matrix[:classes].sum(axis=1), -confused))
    return sorted(order[:MOST_CLASSES].tolist())


def _duplicates(model: Evaluated) -> Html:
    cost = model.analysis.duplicates
    if cost is None:
        return _nothing("no objects, so no duplicates")
    rows = (
        ("AP", cost.AP, cost.AP_with_nms),
        ("Precision", cost.precision, cost.precision_with_nms),
        ("Recall", cost.recall, cost.recall_with_nms),
    )
    body = [
        element(
            "tr",
            element("th", name, scope="row"),
            *(element("td", number(value), class_="number") for value in (before, after)),
            element("td", f"{after - before:+.3f}" if before >= 0 <= after else "-", class_="number"),
        )
        for name, before, after in rows
    ]
    heads = ("", "as it is", f"with --nms {cost.nms:g}", "difference")
    head = element("tr", *(element("th", text, scope="col", class_="number" if text else None) for text in heads))
    caption = element("caption", "Duplicates")
    table = element("table", caption, element("thead", head), element("tbody", *body))
    objects = "detection is" if cost.count == 1 else "detections are"
    text = (
        f"{cost.count:,} {objects} a second one of an object, at a score of at least {cost.threshold:g} (IoU 0.5). "
        "--nms removes a detection that overlaps a higher-scoring one of its class by more; evaluate, predict and "
        "Detector have it, off by default."
    )
    return join(element("div", table, class_="scroll"), element("p", text, class_="note"))


def _nothing(reason: str) -> Html:
    return element("p", f"Nothing to show: {reason}.", class_="note")
