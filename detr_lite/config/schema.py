"""Settings: frozen dataclasses with one default each, and how a file and a command line become one.

The sentence under a setting is its help text. Nothing beyond `build.py` knows these classes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_type_hints

import yaml
from jsonargparse import ArgumentParser, set_parsing_settings

from detr_lite.config.parser import SettingsParser, fits
from detr_lite.structures import DetrLiteError
from detr_lite.text import shown

PROJECT = Path(__file__).resolve().parents[2]
DEFAULT_ROOT = "datasets/coco_small"


@dataclass(frozen=True)
class DataConfig:
    """What to learn from."""

    root: str = DEFAULT_ROOT
    """Folder of a COCO-format data set: annotations/instances_{train,val}.json beside train/ and val/, COCO 2017's
    names, or Roboflow's export (train/, valid/). The default one is drawn by the program on first use."""
    batch_size: int | None = None
    """Images in a step, on each device; by default few on a processor, else the more the more training images."""
    image_size: int | None = None
    """In pixels, of the side that resize names; by default chosen from the sizes of the training images and of their
    objects."""
    resize: Literal["longest", "fit", "shortest"] | None = None
    """How images are brought to image_size. "longest" scales larger ones down, to that longer side; "fit" also scales
    smaller ones up; "shortest" is COCO's custom: the shorter side, with 5/3 of it as the limit of the longer one. By
    default "longest", or "fit" where the images are too small for their smallest objects."""
    augmentation: Literal["light", "detr", "none"] = "light"
    """"light": flips and mild colours, for small images. "detr": the original's flips, scales and crops."""
    num_workers: int | None = None
    """Processes that load images; by default one for every two cores, at most 8."""


@dataclass(frozen=True)
class ModelConfig:
    """What learns."""

    name: Literal["lite", "detr"] = "lite"
    """"lite": refined anchors, denoising, every token supervised. "detr": the original."""
    backbone: str = "resnet10t"
    """Any network of timm that gives feature maps, such as resnet50.tv_in1k."""
    pretrained: bool = True
    """Start the backbone from timm's pretrained weights; its batch norm is then frozen."""
    strides: tuple[int, ...] = (16,)
    """Pixels between neighbouring tokens, the keys and values of attention. With several, such as [8, 16, 32], every
    level is asked; the encoder's self-attention is on the coarsest, and a top-down neck hands its result down."""
    dilation: bool = False
    """The backbone's last stage keeps the stride of the one before and dilates instead, as the original's DC5 models;
    its map is then that of the last of strides."""
    freeze_first_stage: bool = False
    """Do not train the backbone's stem and first stage, as the original (ResNets)."""
    init_from: str | None = None
    """Start from the weights in this checkpoint, of ours or of others; what does not fit, such as the classes of
    another data set, is made anew, and the log says what. timm's weights are fetched only if its backbone does not
    fit; batch norm is frozen as with pretrained."""
    dim: int = 128
    """Width of tokens and queries."""
    heads: int = 4
    """Attention heads; must divide dim."""
    encoder_layers: int = 1
    """Layers in which tokens look at each other."""
    decoder_layers: int = 3
    """Layers in which queries ask the image."""
    feedforward_dim: int = 512
    """Hidden width of each layer's feed-forward network."""
    dropout: float = 0.0
    """Share of values (and of attention weights) dropped in training."""
    num_queries: int | None = None
    """Object queries: the most objects that one image may hold (in lite also no more than it has tokens); by default
    chosen from the training images."""
    query_dedup_iou: float = 0.8
    """lite: of tokens whose boxes overlap more than this (IoU) only the best places a query, unless there are too few
    others; 1 for no limit."""
    relation_bias: bool = True
    """lite: queries see how their boxes lie to each other and which is surer, to leave an object to one of them."""
    box_head: Literal["regression", "fdr"] = "fdr"
    """lite: how layers after the first move a box: by four numbers, or by a distribution of steps for each edge."""
    denoising_queries: int = 60
    """lite: at most so many noisy copies of the true objects are asked beside the queries in training; 0 for none."""
    contrastive_denoising: bool = True
    """lite: half of these copies are so far off that they are to be told from objects."""


@dataclass(frozen=True)
class LossConfig:
    """What counts as wrong. L1 and GIoU have the same weights in the matching cost."""

    class_weight: float | None = None
    """Weight of the class; by default 4 for lite, 1 for detr."""
    class_cost: float | None = None
    """Weight of the class in the matching cost; by default 2 for lite, 1 for detr."""
    l1: float = 5.0
    """Weight of the boxes' L1 distance, relative to the image's size."""
    giou: float = 2.0
    """Weight of the boxes' generalized IoU."""
    fdr_weight: float = 0.15
    """lite: weight of the edges' distributions, where there are any."""
    no_object_weight: float = 0.1
    """detr: weight of the class "no object"."""
    one_to_many_topk: int = 4
    """lite: so many tokens in an object's box learn to answer for it."""
    gamma: float = 1.5
    """lite: a found object's score learns IoU to this power, and all others count by their score to this power."""


@dataclass(frozen=True)
class OptimConfig:
    """How it learns."""

    optimizer: Literal["muon", "adamw"] | None = None
    """"muon": matrices between hidden layers take orthogonal steps, all else AdamW's. By default muon for lite, AdamW
    for detr."""
    lr: float | None = None
    """Learning rate, for the batch size as given; by default chosen by model, optimizer, batch size and width."""
    backbone_lr_factor: float | None = None
    """The backbone's share of the rate; by default 1 with random weights and a small one with pretrained weights,
    which then learn by AdamW."""
    weight_decay: float = 1e-4
    """Decoupled weight decay, times the rate."""
    decay_all: bool = False
    """Decay norms and biases too, as the original does."""
    warmup_steps: int = 100
    """The rate rises from 0 over so many steps."""
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    """After the flat part: down to 0 in a half cosine, down to a tenth at once, or no change."""
    lr_hold: float = 0.5
    """Share of the run at the full rate."""
    max_grad_norm: float = 1.0
    """Largest norm of the gradients; 0 for no clipping."""
    accumulate_grad_batches: int = 1
    """Batches whose gradients are added up before a step."""
    ema_decay: float = 0.0
    """Evaluate and keep an exponential moving average of the weights with this decay, such as 0.999; 0 for none."""
    ema_tau: int = 300
    """The average's decay rises over about so many steps, so that the first, random weights are soon forgotten."""


@dataclass(frozen=True)
class TrainerConfig:
    """How long, and on what."""

    max_epochs: int | None = 50
    """Times through the training images."""
    max_minutes: float | None = None
    """Minutes of training, evaluation aside; replaces max_epochs and stretches the schedule to the time."""
    num_evaluations: int = 10
    """The validation images are evaluated so many times, spread evenly over the run; the best model is kept."""
    patience: int | None = None
    """Stop early when so many evaluations in a row have not raised the best AP; by default never."""
    attention_every_n_epochs: float | None = 0.0
    """At evaluations that lie at least so many epochs apart, attention on a few validation images is measured
    (attention.csv) and drawn (attention/, and at the end attention.webp); 0 for every one, null for none."""
    checkpoint_minutes: float = 1.0
    """A checkpoint is written at least so often (if writing it takes less than a twentieth of that), and so much work
    a power cut may cost; 0 for every step."""
    logger: Literal["none", "tensorboard", "wandb"] = "none"
    """Log there too, beside metrics.csv."""
    accelerator: str = "auto"
    """auto, cpu, gpu, mps ..."""
    devices: int | str = "auto"
    """How many devices of this machine, or "auto" for all."""
    num_nodes: int = 1
    """How many machines, each with as many devices."""
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    """"auto": bfloat16 where the hardware is fast at it, else 32 bits. The others are Lightning's names."""


SECTIONS: dict[str, type] = {
    "data": DataConfig,
    "model": ModelConfig,
    "loss": LossConfig,
    "optim": OptimConfig,
    "trainer": TrainerConfig,
}


AT_LEAST = {
    "data.batch_size": 1, "data.image_size": 16, "data.num_workers": 0,
    "model.dim": 32, "model.heads": 1, "model.encoder_layers": 0, "model.decoder_layers": 1,
    "model.feedforward_dim": 1, "model.dropout": 0, "model.num_queries": 1, "model.denoising_queries": 0,
    "model.query_dedup_iou": 0,
    "loss.class_weight": 0, "loss.class_cost": 0, "loss.l1": 0, "loss.giou": 0, "loss.fdr_weight": 0, "loss.no_object_weight": 0,
    "loss.one_to_many_topk": 1, "loss.gamma": 0,
    "optim.lr": 0, "optim.backbone_lr_factor": 0, "optim.weight_decay": 0, "optim.warmup_steps": 0, "optim.lr_hold": 0,
    "optim.max_grad_norm": 0, "optim.accumulate_grad_batches": 1, "optim.ema_decay": 0, "optim.ema_tau": 1,
    "trainer.max_epochs": 1, "trainer.max_minutes": 0, "trainer.num_evaluations": 1, "trainer.patience": 1,
    "trainer.attention_every_n_epochs": 0, "trainer.checkpoint_minutes": 0, "trainer.num_nodes": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Config:
    """All settings of a run."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    seed: int = 0
    """Of weights, data order and augmentation."""

    def __post_init__(self) -> None:
        for name, limit in AT_LEAST.items():
            section, setting = name.split(".")
            value = getattr(getattr(self, section), setting)
            if value is not None and not math.isfinite(value):
                raise DetrLiteError(f"{name} is {value}; it must be a finite number")
            if value is not None and value < limit:
                raise DetrLiteError(f"{name} is {value}; it must be at least {limit}")
        for name, value in (
            ("model.dropout", self.model.dropout),
            ("model.query_dedup_iou", self.model.query_dedup_iou),
            ("optim.lr_hold", self.optim.lr_hold),
        ):
            if value > 1:
                raise DetrLiteError(f"{name} is {value}; it is a share, at most 1")
        if self.optim.ema_decay >= 1:
            raise DetrLiteError(f"optim.ema_decay is {self.optim.ema_decay}; it must be less than 1")
        strides = self.model.strides
        if not strides or not all(0 < fine < coarse and coarse % fine == 0 for fine, coarse in pairwise((1, *strides))):
            raise DetrLiteError(
                f"model.strides is {list(strides)}; give one or more in ascending order, each a multiple of the one "
                "before: [8, 16, 32]"
            )
        # The sine codes of two coordinates are pairs of numbers.
        if self.model.dim % 4 or self.model.dim % self.model.heads:
            raise DetrLiteError(
                f"model.dim is {self.model.dim}; it must divide by 4 and by model.heads, {self.model.heads}"
            )
        if not 0 <= self.seed < 2**32:
            raise DetrLiteError(f"seed is {self.seed}; it must be at least 0 and less than 2^32")
        if self.trainer.max_epochs is None and self.trainer.max_minutes is None:
            raise DetrLiteError("trainer: say how long to train, with max_epochs or with max_minutes")


@dataclass(frozen=True)
class Invocation:
    """What one call of `tools/train.py` asks for: settings, and where to put or find the run."""

    config: Config
    config_name: str
    run_dir: Path | None
    resume: str | None
    """"last", or the path of a checkpoint."""
    overwrite: bool
    replay: Path | None = None
    """A batch to look at again; there is no run then, and the settings are its own."""
    overfit_check: bool = False
    """Learn one batch by heart first."""


def read_config(arguments: Sequence[str], program: str = "train.py") -> Invocation:
    """Settings from defaults, then the file of `--config`, then the command line, wherever its words stand.

    Errors: no or an unknown file, a key that does not exist (its nearest neighbour is named), a wrong type.
    """
    parser = _parser(program)
    given = parser.read(arguments)
    if given.replay is not None:
        others = {word.split("=")[0] for word in arguments if word.startswith("--")} - {"--replay"}
        if others:
            raise DetrLiteError(f"--replay takes all from its file; leave out {', '.join(sorted(others))}")
        return Invocation(Config(), "replay", None, None, False, replay=Path(given.replay))
    if given.config is None:
        raise DetrLiteError(f"--config is missing; give one of {_available()}, or the path of your own")
    path = find_config(given.config)
    chosen = parser.read([*parser.words_of_file(path), *arguments])
    config = _config(chosen.as_dict())

    on_command_line = {word.split("=")[0] for word in arguments}
    if {"--trainer.max_epochs", "--trainer.max_minutes"} <= on_command_line:
        raise DetrLiteError("give --trainer.max_epochs or --trainer.max_minutes, not both")
    if given.resume is not None and given.overwrite:
        raise DetrLiteError("give --resume or --overwrite, not both")
    if given.resume is not None and given.overfit_check:
        raise DetrLiteError("--overfit_check goes with a new run; leave out --overfit_check or --resume")
    how_long = config.trainer
    if "--trainer.max_epochs" in on_command_line:
        how_long = replace(how_long, max_minutes=None)
    elif how_long.max_minutes is not None:
        how_long = replace(how_long, max_epochs=None)
    return Invocation(
        config=replace(config, trainer=how_long),
        config_name=path.stem,
        run_dir=None if given.run_dir is None else Path(given.run_dir),
        resume=given.resume,
        overwrite=given.overwrite,
        overfit_check=given.overfit_check,
    )


def find_config(name: str) -> Path:
    """A path, or a bare name in the project's `configs/`."""
    for path in (Path(name), PROJECT / "configs" / name, PROJECT / "configs" / f"{name}.yaml"):
        if path.is_file():
            return path
    raise DetrLiteError(f"--config {name}: no such file; there are {_available()}")


def config_from_dict(settings: Mapping[str, Any]) -> Config:
    """Settings out of a checkpoint.

    Errors: a setting that this version does not know, or lacks.
    """
    try:
        config = _config(settings)
    except (TypeError, KeyError, AttributeError) as error:
        raise DetrLiteError(f"the settings were written by another version of detr_lite ({error})") from error
    for section, kind in SECTIONS.items():
        for name, hint in get_type_hints(kind).items():
            value = getattr(getattr(config, section), name)
            if not fits(value, hint):
                raise DetrLiteError(f"the settings are damaged: {section}.{name} is {shown(value)}")
    return config


def config_to_dict(config: Config) -> dict[str, Any]:
    return asdict(config)


def write_config(config: Config, path: Path) -> None:
    """The resolved settings, as a file that `--config` takes; an old one stays whole if this fails."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(yaml.safe_dump(asdict(config), sort_keys=False))
    part.replace(path)


def _config(settings: Mapping[str, Any]) -> Config:
    return Config(
        **{name: section(**_with_tuples(settings[name])) for name, section in SECTIONS.items()}, seed=settings["seed"]
    )


def _with_tuples(settings: Mapping[str, Any]) -> dict[str, Any]:
    """JSON gives lists, and settings that are equal must compare so."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}


def _parser(program: str) -> SettingsParser:
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    command = ArgumentParser(
        prog=program,
        description="Train a detector, evaluate it on the validation images, and draw what it learned.",
        epilog=f"Settings come from the file, then from the command line. Files: {_available()}.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    command.add_argument("--config", help="Settings: a path, or a bare name from the project's configs/.")
    command.add_argument("--run_dir", help="Folder of the run; by default runs/CONFIG, or the next free runs/CONFIG-2.")
    command.add_argument(
        "--resume", nargs="?", const="last", help="Go on from RUN_DIR's last checkpoint, or from the one given."
    )
    command.add_argument("--overwrite", action="store_true", help="Replace the run that RUN_DIR holds.")
    command.add_argument(
        "--overfit_check",
        action="store_true",
        help="Before the run, learn some of its images by heart, in under a minute; say what is wrong if that fails.",
    )
    command.add_argument(
        "--replay",
        metavar="FILE",
        help="Train nothing, but look again at a batch whose loss was not finite, which a run has put into "
        "RUN_DIR/nonfinite: part by part, with the place where it arises, and as a picture. Takes no other words.",
    )
    command.add_argument("--seed", type=int, default=Config.seed, help="Of weights, data order and augmentation.")
    return SettingsParser(command, SECTIONS, plain={"seed": int})


def _available() -> str:
    return ", ".join(sorted(path.name for path in (PROJECT / "configs").glob("*.yaml")))
