"""`detr-lite export --format onnx`: the exported folder, and what smaller variants of the model cost."""

import logging
from pathlib import Path

from detr_lite import __version__
from detr_lite.structures import DetrLiteError
from detr_lite.training.onnx_cost import Cost, calibration_split, measure_AP, measure_speed, prepare_cost, sample_pixels
from detr_lite.weights.any_model import load_any_model
from detr_lite.weights.files import refuse_existing
from detr_lite.weights.onnx_export import METADATA, MODEL, SCRIPT, write_onnx
from detr_lite.weights.onnx_graph import require_onnx
from detr_lite.weights.onnx_variants import HALF, INT8, write_half, write_int8

logger = logging.getLogger(__name__)

CALIBRATION_IMAGES = 100
"""Images from which the ranges of activations are taken for int8."""


def export_onnx(
    checkpoint: Path,
    output: Path,
    overwrite: bool = False,
    half: bool = False,
    int8: bool = False,
    root: Path | None = None,
) -> None:
    """Write model.onnx, model.json and detect.py, and the variants that are asked for.

    Args:
        output: a folder.
        half, int8: also write model_half.onnx, model_int8.onnx, and say what they cost in AP and gain in time.
        root: dataset for both; by default the one that the checkpoint was trained on.

    Errors: existing files without `overwrite`, a model that cannot be exported, data without a validation split.
    """
    require_onnx()
    if output.suffix:
        raise DetrLiteError(f"--output {output}: of --format onnx it is a folder; name one without a suffix")
    if root is not None and not (half or int8):
        raise DetrLiteError("--data.root is for --half and --int8, which are measured on it; give one of them")
    variants = {HALF: half, INT8: int8}
    for name in (MODEL, METADATA, SCRIPT, *(name for name, is_asked in variants.items() if is_asked)):
        refuse_existing(output / name, overwrite)
    model, description = load_any_model(checkpoint)
    for line in write_onnx(output, model, description, f"detr_lite {__version__}"):
        logger.info(line)
    logger.info(f"wrote {output}/{MODEL}, {METADATA} and {SCRIPT}")
    if any(variants.values()):
        _write_variants(output, [name for name, is_asked in variants.items() if is_asked], root)


def _write_variants(folder: Path, names: list[str], root: Path | None) -> None:
    float32 = folder / MODEL
    prepared = prepare_cost(float32, root, folder)
    exact = measure_AP(prepared)
    logger.info(f"{MODEL}: AP {exact:.3f} on {prepared.data.describe()}")
    for name in names:
        path = folder / name
        if name == HALF:
            write_half(float32, path)
        else:
            split, note = calibration_split(prepared)
            logger.info(f"calibrating {name} on up to {CALIBRATION_IMAGES} images: {note}")
            rule = prepared.detector.description.resize.to_dict()
            write_int8(float32, sample_pixels(rule, split, CALIBRATION_IMAGES), path)
        speed, milliseconds = measure_speed(path, float32, prepared.data)
        cost = Cost(measure_AP(prepare_cost(path, root, folder)), exact, speed, milliseconds)
        logger.info(f"{name}: {path.stat().st_size / float32.stat().st_size:.0%} of the size, {cost}")
