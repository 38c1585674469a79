"""Settings of a run: frozen dataclasses, and how a settings file and a command line fill them."""

from detr_lite.config.invocation import Invocation, read_config
from detr_lite.config.parsing import config_from_dict, config_to_dict, write_config, write_settings
from detr_lite.config.presets import available_presets, data_root, find_config
from detr_lite.config.schema import (
    DEFAULT_ROOT,
    SECTIONS,
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    TrainerConfig,
)

__all__ = [
    "DEFAULT_ROOT",
    "SECTIONS",
    "Config",
    "DataConfig",
    "Invocation",
    "LossConfig",
    "ModelConfig",
    "OptimConfig",
    "TrainerConfig",
    "available_presets",
    "config_from_dict",
    "config_to_dict",
    "data_root",
    "find_config",
    "read_config",
    "write_config",
    "write_settings",
]
