"""Several models on the same data: their metrics, how sure the differences are, and the objects that each finds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from detr_lite.evaluation.bootstrap import Difference, compare_detections
from detr_lite.evaluation.coco_map import METRICS
from detr_lite.evaluation.error_kinds import ErrorAssignment, find_errors
from detr_lite.text import printable, text_table
from detr_lite.viz.report.content import Evaluated, number

SHOWN = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")
"""Metrics of the table in the terminal."""


@dataclass(frozen=True, eq=False)
class ComparedModel:
    """A model's results, and their differences to those of the first model."""

    name: str
    metrics: Mapping[str, float]
    model: Evaluated | None
    """None where only the metrics are known."""
    differences: tuple[Difference, ...] = ()
    """Empty for the first model, and where detections of either are not known."""


@dataclass(frozen=True, eq=False)
class ComparedResults:
    """In the order given; the first is what the others are compared with."""

    models: tuple[ComparedModel, ...]

    def table(self) -> str:
        """A header and a line for each model."""
        rows = [["model", *SHOWN]]
        rows += [[printable(each.name), *(number(each.metrics[name]) for name in SHOWN)] for each in self.models]
        return text_table(rows)

    def lines(self) -> list[str]:
        """How sure each difference to the first model is, and which models are known by their metrics alone."""
        first = self.models[0].name
        sure = [
            printable(f"{each.name} against {first}: {difference.text()}")
            for each in self.models[1:]
            for difference in each.differences
            if difference.metric in ("AP", "AP50")
        ]
        return sure + self.unchecked()

    def unchecked(self) -> list[str]:
        """A line on models without detections, whose data nobody can compare."""
        names = [printable(each.name) for each in self.models if each.model is None]
        return (
            [f"only metrics are known of {', '.join(names)}: make sure that they are of the same data"] if names else []
        )


def compare_models(
    results: Sequence[tuple[str, Mapping[str, float], Evaluated | None]], samples: int = 1000
) -> ComparedResults:
    """The models in their order, each compared with the first where detections of both are known.

    Args:
        results: name, metrics and detections of each.
        samples: of the bootstrap.
    """
    first = results[0][2]
    models = []
    for place, (name, metrics, model) in enumerate(results):
        differences: tuple[Difference, ...] = ()
        if place and first is not None and model is not None:
            split = first.split
            differences = compare_detections(
                split.ground_truth, first.detections, model.detections, split.categories, samples
            )
        models.append(ComparedModel(name, {key: metrics[key] for key in METRICS}, model, differences))
    return ComparedResults(tuple(models))


def found_objects(model: Evaluated) -> ErrorAssignment:
    """Which objects the model finds at IoU 0.5 with its best score threshold, and which detection is about which."""
    return find_errors(model.split.ground_truth, model.detections, model.threshold)
