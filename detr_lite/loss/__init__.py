"""Matching and losses."""

from detr_lite.loss.criterion import Losses, official_criterion

__all__ = ["Losses", "official_criterion"]
