"""The learning rate where none is given, for the images that a step has on all processes together."""

from math import sqrt

from detr_lite.build import require
from detr_lite.config import Config

RATES = {
    ("lite", "muon"): 4e-3,
    ("lite", "adamw"): 1.5e-3,
    ("detr", "muon"): 5e-4,
    ("detr", "adamw"): 1.5e-4,
    ("transformers", "muon"): 5e-4,
    # 1e-4 for 16 images, with a tenth of it for the backbone, as DETR, Conditional DETR, DAB-DETR and RT-DETR publish.
    ("transformers", "adamw"): 7e-5,
}
"""For steps of `RATE_IMAGES` images and a width of `RATE_DIM`; of models of transformers for their own width."""
RATE_IMAGES, RATE_DIM = 8, 128


def default_lr(config: Config, processes: int = 1) -> float:
    """The default learning rate for a model, optimizer, batch size and width, all of which must be chosen.

    It grows with the square root of the batch size, since the gradients' noise falls with it (arXiv 2205.10287, for
    Adam), and falls with the square root of the width, since updates of equal size per element change a wider matrix's
    output more (arXiv 2310.17813, section 2). That holds for Muon's orthogonal updates; for AdamW it is untested.
    """
    assert config.optim.optimizer is not None
    lr = RATES[config.model.name, config.optim.optimizer]
    scaled = lr * sqrt(images_in_step(config, processes) / RATE_IMAGES * RATE_DIM / config.model.dim)
    return float(f"{scaled:.2g}")  # two digits, so that people can read it and pass it on the command line


def images_in_step(config: Config, processes: int) -> int:
    """Images of which the gradients of one optimizer step are the mean."""
    return processes * require("data.batch_size", config.data.batch_size) * (config.optim.accumulate_grad_batches or 1)


def batch_text(config: Config, processes: int) -> str:
    """Such as "16 images in a step (2 processes x 8)"."""
    factors = [f"{processes} processes"] * (processes > 1)
    accumulated = config.optim.accumulate_grad_batches or 1
    if accumulated > 1:
        factors.append(f"{accumulated} accumulated")
    product = f" ({' x '.join([*factors, str(config.data.batch_size)])})" if factors else ""
    return f"{images_in_step(config, processes):,} images in a step{product}"
