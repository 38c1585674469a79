"""Relevance, occlusion and curves of detections, made by hand, to compare pages with."""

import numpy as np
import torch

from detr_lite.evaluation.attribution import ImageAttribution

FRACTIONS = np.array([0, 0.01, 0.05, 0.2, 0.5, 1])
STEEPNESS = {"attention": 6, "relevance": 12, "occlusion": 30, "box": 8, "random": 1}
"""Of the curves of the first detection: how soon the score falls in deletion and rises in insertion."""


def curves(steepness, objects):
    """(deletion, insertion) of each method; those of later detections are flatter."""
    rates = {name: rate / (1 + np.arange(objects)[:, None]) for name, rate in steepness.items()}
    falling = {name: np.exp(-rate * FRACTIONS) * (1 - FRACTIONS**4) for name, rate in rates.items()}
    return falling, {name: 1 - fall for name, fall in falling.items()}


def attribution(queries=(3, 1), labels=(0, 1), tokens=100, grid=(6, 8), seed=5, steepness=None):
    """Of the detections of `fake_attention.found`; occlusion is negative in places."""
    generator = torch.Generator().manual_seed(seed)
    deletion, insertion = curves(steepness or STEEPNESS, len(queries))
    return ImageAttribution(
        queries,
        labels,
        grid,
        relevance=1e-3 * torch.rand(len(queries), tokens, generator=generator) ** 4,
        occlusion=torch.rand(len(queries), grid[0] * grid[1], generator=generator) - 0.25,
        fractions=FRACTIONS,
        deletion=deletion,
        insertion=insertion,
    )
