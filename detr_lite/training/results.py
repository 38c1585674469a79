"""Finds the results of a run, an evaluation, or another program, and the data that they are of."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detr_lite.build import build_reading
from detr_lite.config import Config, data_root, read_config
from detr_lite.data.reading import Reading, read_split, read_stored
from detr_lite.data.records import Split
from detr_lite.data.results_file import read_results
from detr_lite.evaluation.analysis import analyze
from detr_lite.evaluation.coco_map import METRICS, evaluate_detections
from detr_lite.structures import DetrLiteError
from detr_lite.text import printable, shorten_list, shown
from detr_lite.training.next_steps import paste_command
from detr_lite.viz.report.content import Evaluated
from detr_lite.weights.files import read_json

logger = logging.getLogger(__name__)

DETECTIONS, NUMBERS, THRESHOLDS = "detections.json", "metrics.json", "thresholds.json"
COCO = "COCO"
"""The format whose images have ids of their own."""


@dataclass(frozen=True, eq=False)
class Results:
    """What is known of a model: its metrics, and with its detections everything else."""

    name: str
    metrics: Mapping[str, float]
    model: Evaluated | None
    """None where there is a metrics.json alone."""
    run: Path | None
    """The run folder, where it is one."""
    config: Config | None
    nms: float | None = None
    """IoU of the non-maximum suppression that the evaluation applied."""


@dataclass(frozen=True)
class _Place:
    """Where the files of one argument lie."""

    name: str
    detections: Path | None
    numbers: Path | None
    run: Path | None
    config: Config | None


def find_results(given: Path, truth: Path | None = None, split: str | None = None) -> Results:
    """The results at a path.

    Args:
        given: a run folder, an evaluation folder, its metrics.json or detections.json, or a file in COCO's results
            format of another program.
        truth: the dataset that the detections are compared with, a folder or an annotation file; by default the one
            that the evaluation was made on.
        split: of that dataset; by default that of the evaluation, "val".

    Errors: nothing of this kind at the path; detections without a known dataset; data without annotations.
    """
    place = _locate(given)
    if place.detections is None:
        assert place.numbers is not None
        return Results(place.name, _metrics(place.numbers), None, place.run, place.config)
    data = _read_data(place, given, truth, split)
    if not len(data.ground_truth.labels):
        raise DetrLiteError(
            f"{data.report.source}: has no annotations, so there is nothing to compare detections with; give data with "
            "objects with --truth, or another split with --split"
        )
    source = f"{printable(data.source)}, split {data.name}"
    # Formats without ids number the images from 1 here, which no other program knows.
    is_foreign = place.numbers is None and place.run is None
    is_named = is_foreign and data.format != COCO
    names = [Path(path).name for path in data.images.paths] if is_named else None
    detections, notes = read_results(place.detections, data.image_ids, data.categories, source, names)
    for note in notes:
        logger.warning("%s: %s", printable(place.detections), note)
    evaluation = evaluate_detections(data.ground_truth, detections, data.categories, ious=_ious(place.numbers))
    if truth is None and place.numbers is not None:
        _warn_of_change(place.numbers, evaluation.metrics["AP"], source)
    analysis = analyze(data.ground_truth, detections, data.categories)
    model = Evaluated(place.name, data, detections, evaluation, analysis)
    return Results(place.name, evaluation.metrics, model, place.run, place.config, _nms(place.numbers))


def _locate(given: Path) -> _Place:
    if given.is_dir():
        folder = given / "evaluation" if (given / "evaluation").is_dir() else given
        if (folder / DETECTIONS).is_file() or (folder / NUMBERS).is_file():
            return _in_folder(folder)
        if (given / "checkpoints").is_dir():
            best = given / "checkpoints" / "best.ckpt"
            raise DetrLiteError(
                f"{printable(given)}: a run without evaluation/{DETECTIONS}; make it with: "
                f"{paste_command('evaluate', '--checkpoint', best)}"
            )
        raise DetrLiteError(
            f"{printable(given)}: neither a run nor an evaluation folder: it has no {DETECTIONS} and no {NUMBERS}; "
            "give the folder that evaluate or train wrote"
        )
    if not given.is_file():
        raise DetrLiteError(
            f"{printable(given)}: no such file or folder; give a run folder, an evaluation folder, a metrics.json, or "
            "a file in COCO's results format"
        )
    if given.name in (NUMBERS, DETECTIONS):
        place = _in_folder(given.parent)
        if place.detections is not None or given.name == NUMBERS:
            return place
    return _Place(given.stem, given, None, None, None)


def _in_folder(folder: Path) -> _Place:
    detections, numbers = folder / DETECTIONS, folder / NUMBERS
    whole = folder if folder.name else folder.resolve()  # "." has no name
    home = whole.parent if whole.name == "evaluation" else whole
    home = home if home.name else home.resolve()
    settings = home / "config.yaml"
    is_run = settings.is_file()
    return _Place(
        home.name,
        detections if detections.is_file() else None,
        numbers if numbers.is_file() else None,
        home if is_run else None,
        _read_settings(settings) if is_run else None,
    )


def _read_settings(file: Path) -> Config | None:
    """None for those of another version, without which there is still enough to report."""
    try:
        return read_config(["--config", str(file)]).config
    except DetrLiteError as error:
        logger.warning("its settings are not shown: %s", error)
        return None


def _read_data(place: _Place, given: Path, truth: Path | None, split: str | None) -> Split:
    if truth is not None and not truth.exists():
        raise DetrLiteError(
            f"--truth {printable(truth)}: no such file or folder; give the dataset's folder or its annotation file"
        )
    recorded = _recorded_data(place)
    is_chosen, split = split is not None, split or recorded.get("split", "val")
    reading = Reading() if place.config is None else build_reading(place.config.data)
    if truth is not None:
        if truth.is_file():
            return _one_split(truth, split, reading, is_chosen)
        return read_split(truth, split, reading)
    root = Path(recorded["root"]) if recorded else None
    if (root is None or not root.exists()) and place.config is not None:
        gone, root = root, data_root(place.config.data.root)
        if gone is not None:
            logger.warning("%s is gone; the data of the run's settings are used, %s", printable(gone), printable(root))
    if root is not None and not root.exists():
        raise DetrLiteError(
            f"{printable(given)}: the data that it was evaluated on, {printable(root)}, do not exist; give the "
            "dataset's folder, or its annotation file, with --truth"
        )
    if root is None:
        raise DetrLiteError(
            f"{printable(given)}: it is not known which dataset these detections are of; give the dataset's folder, or "
            "its annotation file, with --truth"
        )
    return read_split(root, split, reading)


def _one_split(file: Path, split: str, reading: Reading, is_chosen: bool) -> Split:
    """The images that an annotation file lists.

    Args:
        is_chosen: whether the user has named the split; else a file of one split is that, whatever it is called.
    """
    stored = read_stored(file, reading)
    own = [each for each in stored.values() if len(stored) == 1 or each.source.resolve() == file.resolve()]
    if not is_chosen and len(own) == 1:
        data = own[0]
    elif split in stored:
        data = stored[split]
    else:
        raise DetrLiteError(
            f"{printable(file)}: has no split {printable(split)}; it has {', '.join(stored)}; name one with --split"
        )
    if reasons := data.report.refusals():
        raise DetrLiteError(f"{data.report.source}: {' | '.join(reasons)}")
    return data


def _recorded_data(place: _Place) -> dict[str, str]:
    """Root and split of the evaluated data, as the evaluation has written them."""
    if place.detections is None:
        return {}
    file = place.detections.with_name(THRESHOLDS)
    if place.detections.name != DETECTIONS or not file.is_file():
        return {}
    data = read_json(file).get("data")
    is_whole = isinstance(data, dict) and all(isinstance(data.get(key), str) for key in ("root", "split"))
    return {"root": data["root"], "split": data["split"]} if is_whole and isinstance(data, dict) else {}


def _ious(numbers: Path | None) -> tuple[float, ...]:
    """The thresholds of `evaluate --iou`."""
    further: Any = {} if numbers is None else read_json(numbers).get("AP_at_iou", {})
    try:
        return tuple(float(iou) for iou in further) if isinstance(further, dict) else ()
    except ValueError as error:
        raise DetrLiteError(
            f"{printable(numbers)}: AP_at_iou has {shorten_list([*map(shown, further)])}, not all of which are "
            "thresholds of IoU; evaluate again, or remove the file"
        ) from error


def _warn_of_change(numbers: Path, AP: float, source: str) -> None:  # noqa: N803 (COCO's name)
    """The data may have changed since the evaluation, without a trace in any file."""
    before: Any = read_json(numbers).get("AP")
    if _is_metric(before) and abs(before - AP) > 5e-4:
        logger.warning(
            "%s has AP %.3f, but the same detections have AP %.3f on %s: the data have changed since, or are other "
            "data; evaluate again, or name the data with --truth",
            *(printable(numbers), before, AP, source),
        )


def _nms(numbers: Path | None) -> float | None:
    value: Any = None if numbers is None else read_json(numbers).get("nms")
    return float(value) if isinstance(value, int | float) else None


def _metrics(numbers: Path) -> dict[str, float]:
    content = read_json(numbers)
    missing = [name for name in METRICS if not _is_metric(content.get(name))]
    if missing:
        raise DetrLiteError(
            f"{printable(numbers)}: has no {', '.join(missing)}; it is no metrics.json that evaluate wrote"
        )
    return {name: float(content[name]) for name in METRICS}


def _is_metric(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1 <= value <= 1


def same_data(results: list[Results]) -> None:
    """Errors: detections in different data, which cannot be compared."""
    splits = [each.model.split for each in results if each.model is not None]
    for other in splits[1:]:
        first = splits[0]
        if not _are_same(first, other):
            raise DetrLiteError(
                f"the detections are of different data ({printable(first.source)}, split {first.name}, and "
                f"{printable(other.source)}, split {other.name}); give one dataset for all with --truth"
            )


def _are_same(first: Split, second: Split) -> bool:
    """Images, categories and every annotation: the same ids may stand for a corrected copy."""
    if first.image_ids != second.image_ids or first.categories != second.categories:
        return False
    names = ("image_index", "labels", "boxes_xywh", "areas", "is_crowd")
    return all(np.array_equal(getattr(first.ground_truth, name), getattr(second.ground_truth, name)) for name in names)
