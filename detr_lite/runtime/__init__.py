"""Exported models without torch: numpy, Pillow and onnxruntime are all that they need."""

from detr_lite.runtime.detect import Detections, OnnxDetector

__all__ = ["Detections", "OnnxDetector"]
