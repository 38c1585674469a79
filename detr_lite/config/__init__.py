"""Settings: frozen dataclasses with one default each, and how a file and a command line become one."""

from detr_lite.config.schema import (
    DEFAULT_ROOT,
    PROJECT,
    SECTIONS,
    Config,
    DataConfig,
    Invocation,
    LossConfig,
    ModelConfig,
    OptimConfig,
    TrainerConfig,
    config_from_dict,
    config_to_dict,
    find_config,
    read_config,
    write_config,
)

__all__ = [
    "DEFAULT_ROOT",
    "PROJECT",
    "SECTIONS",
    "Config",
    "DataConfig",
    "Invocation",
    "LossConfig",
    "ModelConfig",
    "OptimConfig",
    "TrainerConfig",
    "config_from_dict",
    "config_to_dict",
    "find_config",
    "read_config",
    "write_config",
]
