"""The sections with COCO's metrics, the table of classes, and the curves of the run."""

from collections.abc import Mapping

import numpy as np

from detr_lite.evaluation.coco_map import MEANINGS, METRICS, iou_name
from detr_lite.viz.pages.html import Html, element
from detr_lite.viz.pages.line_chart import Line, line_chart
from detr_lite.viz.pages.tables import Cell, number_table
from detr_lite.viz.report.content import Evaluated, number


def metrics_section(model: Evaluated) -> Html:
    """The twelve metrics beside precision and recall, and the classes."""
    evaluation = model.evaluation
    rows = [(name, evaluation.metrics[name], meaning) for name, meaning in zip(METRICS, MEANINGS, strict=True)]
    if evaluation.APmax is not None:
        meaning = f"AP with {evaluation.max_detections:,} detections per class and image"
        rows.append(("APmax", evaluation.APmax, meaning))
    for iou, value in zip(evaluation.ious, evaluation.AP_at_iou, strict=True):
        rows.append((iou_name(iou), value, f"average precision at IoU {iou:g}"))
    body = [
        element(
            "tr",
            element("th", name, scope="row"),
            element("td", number(value), class_="number"),
            element("td", meaning, class_="meaning"),
        )
        for name, value, meaning in rows
    ]
    caption = element("caption", "COCO's metrics")
    table = element("div", element("table", caption, element("tbody", *body), class_="metrics"), class_="scroll")
    reason = evaluation.missing_reason()
    note = element("p", f"- {reason}", class_="note") if reason else None
    return element(
        "div",
        element(
            "div",
            element("div", table, note, class_="card"),
            element("div", _precision_recall(model), class_="card"),
            class_="columns",
        ),
        element("div", _classes(model), class_="card wide"),
    )


def history_section(history: Mapping[str, np.ndarray]) -> Html | None:
    """Loss, AP and learning rate over the steps; None if nothing of them was logged."""
    charts = []
    losses = ["loss", *sorted(each for each in history if each.startswith("loss_"))]
    lines = [
        Line("total" if name == "loss" else name.removeprefix("loss_").replace("_", " "), *_series(history, name))
        for name in losses
    ]
    lines = [line for line in lines if len(line.x)]
    if lines:
        is_log = all(float(line.y.min()) > 0 for line in lines)
        charts.append(line_chart("Training loss", lines[:6], "step", is_log=is_log))
    metrics = [Line(name, *_series(history, name, 0.0), has_dots=True) for name in ("AP", "AP50", "AP75")]
    metrics = [line for line in metrics if len(line.x)]
    if metrics:
        charts.append(line_chart("AP on the validation images", metrics, "step", y_range=(0.0, 1.0)))
    rates = [Line(name, *_series(history, name)) for name in history if name.startswith("lr")]
    rates = [line for line in rates if len(line.x)]
    if rates:
        most = max(float(line.y.max()) for line in rates)
        charts.append(line_chart("Learning rate", rates[:6], "step", y_range=(0.0, most or 1.0)))
    if not charts:
        return None
    return element("div", *(element("div", chart, class_="card") for chart in charts), class_="columns")


def _series(history: Mapping[str, np.ndarray], name: str, least: float = -np.inf) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of the rows that have both; values below `least` stand for none."""
    values = history.get(name, np.zeros(0))
    steps = history.get("step", np.zeros(0))
    if len(values) != len(steps):
        return np.zeros(0), np.zeros(0)
    is_kept = np.isfinite(values) & np.isfinite(steps) & (values >= least)
    return steps[is_kept].astype(np.float64), values[is_kept].astype(np.float64)


def _classes(model: Evaluated) -> Html:
    thresholds, rows = model.analysis.thresholds, []
    names = model.class_names
    for label in model.ranked_labels:
        result = model.evaluation.per_class[label]
        best = thresholds.per_class[label]
        row: list[Cell] = [
            names[label],
            (float(result.objects), f"{result.objects:,}"),
            _metric(result.AP, is_bar=True),
            _metric(result.AP50),
            _metric(result.AR100),
        ]
        row += [_metric(value) for value in result.AP_at_iou]
        numbers = (None,) * 4 if best is None else (best.score, best.precision, best.recall, best.f1)
        row += map(_metric, numbers)
        rows.append(row)
    heads = ["Class", "Objects", "AP", "AP50", "AR100", *map(iou_name, model.evaluation.ious)]
    heads += ["Best score", "Precision", "Recall", "F1"]
    intro = (
        "Precision, recall and F1 at IoU 0.5 are those at the class's best score, the one with the highest F1. Select "
        "a heading to sort."
    )
    return number_table("Classes", heads, rows, intro)


def _precision_recall(model: Evaluated) -> Html:
    evaluation = model.evaluation
    has_objects = np.array([result.AP50 >= 0 for result in evaluation.per_class], dtype=bool)
    if not has_objects.any():
        return element("p", "There are no objects to find, so there is no precision or recall.", class_="note")
    present = evaluation.precision[:, :, has_objects].mean(axis=2)
    recall = evaluation.recall_thresholds
    lines = [
        Line(f"IoU 0.50 (AP50 {evaluation.metrics['AP50']:.3f})", recall, present[0]),
        Line(f"IoU 0.75 (AP75 {evaluation.metrics['AP75']:.3f})", recall, present[5]),
        Line(f"mean of 0.50 to 0.95 (AP {evaluation.metrics['AP']:.3f})", recall, present.mean(axis=0)),
    ]
    title = "Precision over recall, mean of the classes"
    return line_chart(title, lines, "recall", y_range=(0.0, 1.0), x_range=(0.0, 1.0))


def _metric(value: float | None, is_bar: bool = False) -> Cell:
    if value is None or value < 0:
        return -1.0, "-"
    return (value, number(value), value) if is_bar else (value, number(value))
