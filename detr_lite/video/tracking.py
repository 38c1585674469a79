"""The same object in one frame after the other: ByteTrack (arXiv 2110.06864) of the package `trackers`."""

import importlib.util
from typing import Any

import numpy as np

from detr_lite.errors import DetrLiteError
from detr_lite.structures import Detections

LOW_SHARE = 0.3
"""Of the score threshold: from there on a detection continues a track, though it cannot begin one."""
GAP_SECONDS = 1.0
"""How long an object may be unseen and keep its id."""


def require_trackers() -> None:
    """Errors: the package is not installed."""
    if importlib.util.find_spec("trackers") is None:
        raise DetrLiteError(
            "trackers is not installed, which --track needs; install it with: pip install 'detr_lite[video]', or in a "
            "checkout with: pip install -e '.[video]'"
        )


class Tracker:
    """Gives detections of consecutive frames the ids of the objects that they show.

    Args:
        threshold: score from which on a detection begins a track.
        rate: frames a second that are looked at.
    """

    def __init__(self, threshold: float, rate: float) -> None:
        require_trackers()
        from trackers import ByteTrackTracker

        self.threshold = threshold
        self.low = LOW_SHARE * threshold
        self.tracker: Any = ByteTrackTracker(
            lost_track_buffer=round(30 * GAP_SECONDS),  # in frames of a video of 30 frames a second
            frame_rate=rate,
            track_activation_threshold=threshold,
            high_conf_det_threshold=threshold,
            minimum_consecutive_frames=1,
        )

    def update(self, detections: Detections) -> tuple[Detections, list[int | None]]:
        """Those that belong to a track, with its id, and those above the threshold that belong to none yet."""
        import supervision

        candidates = detections.above(self.low)
        found = self.tracker.update(
            supervision.Detections(
                xyxy=candidates.boxes_xyxy.numpy().astype(np.float32),
                confidence=candidates.scores.numpy(),
                class_id=candidates.labels.numpy(),
                data={"place": np.arange(len(candidates))},
            )
        )
        ids: list[int | None] = [None] * len(candidates)
        if len(found):
            for place, identity in zip(found.data["place"].tolist(), found.tracker_id.tolist(), strict=True):
                ids[place] = identity if identity >= 0 else None
        scores = candidates.scores.tolist()
        kept = [place for place, score in enumerate(scores) if ids[place] is not None or score >= self.threshold]
        mask = np.zeros(len(candidates), dtype=bool)
        mask[kept] = True
        return candidates[_tensor(mask)], [ids[place] for place in kept]


def _tensor(mask: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(mask)
