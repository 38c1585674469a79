"""The AP that training has logged, and why an evaluation afterwards shows another one."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class LoggedAP:
    """The AP that a training has logged for a checkpoint, and how it computed the detections."""

    AP: float
    tf32: bool
    """Whether matrices were multiplied in TF32."""
    device: str
    """Its type, such as "cuda"."""

    def explain_difference(self, AP: float, device: torch.device) -> str | None:  # noqa: N803
        """Why an evaluation in one process on `device` shows another number; None if it shows the same."""
        if f"{AP:.3f}" == f"{self.AP:.3f}":
            return None
        causes = []
        if self.tf32:
            causes.append("multiplied matrices in TF32, and this evaluation in full float32")
        if self.device != device.type:
            causes.append(f"ran on {self.device}, and this evaluation on {device.type}")
        reason = " and ".join(causes) or "added up floating-point numbers in another order"
        return f"training logged AP {self.AP:.3f} for this checkpoint, not {AP:.3f}: it {reason}"
