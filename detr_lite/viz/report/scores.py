"""The sections on scores, which threshold to use and whether 0.8 means 80 %, and on recall by kind of object."""

import numpy as np

from detr_lite.evaluation.calibration import LOWEST
from detr_lite.evaluation.thresholds import BestScore
from detr_lite.viz.pages.charts import Marker
from detr_lite.viz.pages.html import Html, element, join
from detr_lite.viz.pages.line_chart import Line, line_chart
from detr_lite.viz.pages.tables import Cell, number_table
from detr_lite.viz.report.content import Evaluated


def scores_section(model: Evaluated) -> Html:
    """Precision, recall and F1 over the threshold; calibration."""
    thresholds = model.analysis.thresholds
    curve, best = thresholds.curve, thresholds.overall
    lines = [
        Line("F1", curve.scores, curve.f1),
        Line("precision", curve.scores, np.where(curve.recall > 0, curve.precision, np.nan)),
        Line("recall", curve.scores, curve.recall),
    ]
    markers = [Marker(0.5, "0.5")]
    if best is not None:
        markers.append(Marker(best.score, f"best {best.score:g}"))
    chart = line_chart(
        "Precision, recall and F1 over the score threshold",
        lines,
        "detections with at least this score count",
        y_range=(0.0, 1.0),
        x_range=(0.0, 1.0),
        markers=markers,
    )
    return element(
        "div",
        element("div", chart, _sentence(best, thresholds.at_half), class_="card"),
        element("div", _calibration(model), class_="card"),
        class_="columns",
    )


def _sentence(best: BestScore | None, half: BestScore | None) -> Html:
    if best is None or half is None:
        return element("p", "There is no threshold to recommend without objects and detections.", class_="note")
    text = (
        f"Best score {best.score:g}: precision {best.precision:.3f}, recall {best.recall:.3f}, F1 {best.f1:.3f}. A "
        f"threshold of 0.5 gives precision {half.precision:.3f}, recall {half.recall:.3f}, F1 {half.f1:.3f}."
    )
    hint = join(
        "All classes together, at IoU 0.5. ",
        element("code", "--threshold best"),
        " uses it in predict and visualize, class by class where a class has objects enough.",
    )
    return join(element("p", text), element("p", hint, class_="note"))


def _calibration(model: Evaluated) -> Html:
    calibration = model.analysis.calibration
    if calibration.expected_error is None:
        return element("p", "Nothing to show: no detections.", class_="note")
    has_any = calibration.counts > 0
    chart = line_chart(
        "Calibration: does the score say how often a detection is right?",
        [Line("share that is right", calibration.confidence[has_any], calibration.precision[has_any], has_dots=True)],
        "mean score of the detections in a bin",
        y_range=(0.0, 1.0),
        x_range=(0.0, 1.0),
        diagonal="as often right as the score says",
    )
    text = (
        f"Right means: of the object's class and IoU at least 0.5. Above the dashed diagonal scores are too low, below "
        f"it too high; the mean distance is {calibration.expected_error:.3f} (expected calibration error). Scores "
        f"below {LOWEST:g} do not count."
    )
    return join(chart, element("p", text, class_="note"))


def slices_section(model: Evaluated) -> Html:
    """Recall by object size, aspect and crowdedness."""
    groups = list(dict.fromkeys(each.group for each in model.analysis.slices))
    cards = []
    for group in groups:
        some = [each for each in model.analysis.slices if each.group == group and each.objects]
        if not some:
            continue
        has_ap = any(each.AP50 is not None for each in some)
        heads = [group.capitalize(), "Objects", "Recall", "at any score", *(["AP50"] if has_ap else [])]
        rows: list[list[Cell]] = []
        for each in some:
            recalls = (each.recall, f"{each.recall:.3f}", each.recall)
            any_score = (each.recall_at_any_score, f"{each.recall_at_any_score:.3f}")
            row: list[Cell] = [each.name, (float(each.objects), f"{each.objects:,}"), recalls, any_score]
            if has_ap:
                row.append((-1.0, "-") if each.AP50 is None or each.AP50 < 0 else (each.AP50, f"{each.AP50:.3f}"))
            rows.append(row)
        cards.append(element("div", number_table(f"By {group}", heads, rows), class_="card"))
    if not cards:
        return element("p", "Nothing to show: there are no objects.", class_="note")
    return element("div", *cards, class_="columns")
