"""A road in three dimensions, and where a camera in a car sees it."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

NEAR, FAR = 3.0, 110.0
"""Meters in front of the camera between which markings are drawn and annotated."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera; pixels are square. Angles are in radians."""

    width: int
    height: int
    focal: float
    """In pixels."""
    above: float
    """Meters above the road."""
    pitch: float
    """Positive looks down."""
    yaw: float
    """Positive looks to the right."""

    def project(
        self, x: Float[np.ndarray, "*shape"], y: Float[np.ndarray, "*shape"], z: Float[np.ndarray, "*shape"]
    ) -> Float[np.ndarray, "*shape 2"]:
        """Pixels (from the left, from the top) of points x meters to the right, y above the road here and z ahead."""
        right = x * np.cos(self.yaw) - z * np.sin(self.yaw)
        ahead = x * np.sin(self.yaw) + z * np.cos(self.yaw)
        down = self.above - y
        depth = ahead * np.cos(self.pitch) + down * np.sin(self.pitch)
        below = down * np.cos(self.pitch) - ahead * np.sin(self.pitch)
        depth = np.maximum(depth, 0.1)
        return np.stack(
            [self.width / 2 + self.focal * right / depth, self.height / 2 + self.focal * below / depth], axis=-1
        )


@dataclass(frozen=True)
class Road:
    """The middle of a road, as functions of the distance ahead in meters."""

    offset: float
    """Of the road's middle from the car, to the right."""
    heading: float
    curvature: float
    """1 / radius."""
    clothoid: float
    """Change of the curvature per meter."""
    hill: float
    """Height of the hills, in meters; 0 for a plane."""
    hill_length: float
    hill_phase: float

    def middle(self, z: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        return self.offset + self.heading * z + self.curvature * z**2 / 2 + self.clothoid * z**3 / 6

    def elevation(self, z: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        def wave(at: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
            return np.sin(2 * np.pi * at / self.hill_length + self.hill_phase)

        start = np.zeros_like(z)
        slope = 2 * np.pi / self.hill_length * np.cos(self.hill_phase)  # the car stands on the road here
        height: Float[np.ndarray, "*shape"] = self.hill * (wave(z) - wave(start) - slope * z)
        return height


def distances(count: int = 90) -> Float[np.ndarray, " z"]:
    """From near to far, about evenly spaced in the picture."""
    return 1 / np.linspace(1 / NEAR, 1 / FAR, count)


def in_sight(rows: Float[np.ndarray, " z"]) -> Bool[np.ndarray, " z"]:
    """Which points of the road's middle are not behind a crest: those higher in the picture than all nearer ones.

    Args:
        rows: pixels from the top, from near to far.
    """
    lowest = np.minimum.accumulate(rows)
    return rows <= lowest + 1e-6


def at_rows(
    points: Float[np.ndarray, "point 2"], rows: Float[np.ndarray, " row"], width: int
) -> Float[np.ndarray, " row"]:
    """x of a line where it crosses rows of pixels; NaN beyond its ends and outside the picture.

    Args:
        points: (x, y) from the bottom of the picture to its top.
    """
    if len(points) < 2:
        return np.full(len(rows), np.nan)
    x, y = points[::-1].T
    found = np.interp(rows, y, x, left=np.nan, right=np.nan)
    return np.where((found >= 0) & (found <= width - 1), found, np.nan)
