"""Settings as frozen dataclasses: one default each, its help text beneath it, and the check of values."""

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from detr_lite.config.own_settings import refuse_own_settings
from detr_lite.errors import DetrLiteError

DEFAULT_ROOT = "datasets/coco_small"


@dataclass(frozen=True)
class DataConfig:
    """The dataset and how it is loaded."""

    root: str = DEFAULT_ROOT
    """A dataset in COCO format: annotations/instances_{train,val}.json with train/ and val/, COCO 2017's names, or a
    Roboflow export (train/, valid/). The default dataset is drawn on first use, into $DETR_LITE_DATA or datasets/."""
    batch_size: int | None = None
    """Images per device and step; by default (auto) 2 or 4 on the CPU, elsewhere 4 to 16, growing with the dataset, of
    which a CUDA GPU takes as many at once as fit, and accumulate_grad_batches makes up for the rest."""
    image_size: int | None = None
    """Pixels of the side that resize scales; by default chosen from the sizes of the training images and objects."""
    resize: Literal["longest", "fit", "shortest", "stretch"] | None = None
    """"longest": scale down to this longer side; "fit": also scale up; "shortest": as usual for COCO, scale to this
    shorter side, the longer one at most 5/3 of it; "stretch": to a square. By default "longest", or "fit" if objects
    would be too small, and for models of transformers what their source was trained with."""
    augmentation: Literal["light", "photographs", "detr", "none"] | None = "light"
    """"light": flips, mild contrast and brightness; "photographs": also scales, crops, zoom-out, colors, blur and JPEG;
    "detr": the flips, scales and crops of the DETR paper. The settings below change single parts of it. null:
    "photographs" for up to 512 images and a pretrained backbone, else "light"."""
    horizontal_flip: float | None = None
    """Probability of a horizontal flip; by default 0.5, and 0 for "none". 0 where left and right differ, as in text."""
    vertical_flip: float = 0.0
    """Probability of a vertical flip, for pictures without an up: microscopes, circuit boards, from above."""
    scale_jitter: float | None = None
    """Scale images by a random factor from 1 / (1 + this) to 1 + this, and crop what exceeds the image size, keeping
    an object; by default 0.5 for "photographs", else 0."""
    zoom_out: float | None = None
    """Probability of scaling an image down, to half at most, inside of a plain border; by default 0.15 for
    "photographs", else 0."""
    color_jitter: float | None = None
    """Strength of random brightness, contrast, saturation and hue; by default 0.2 for "photographs". "light" has
    contrast and brightness alone, which this replaces."""
    blur: float | None = None
    """Probability of Gaussian blur; by default 0.05 for "photographs", else 0."""
    jpeg: float | None = None
    """Probability of JPEG compression; by default 0.1 for "photographs", else 0."""
    mosaic: float | None = None
    """Probability of putting four images together in place of one; by default 0."""
    mixup: float | None = None
    """Probability of laying another image over an image; by default 0."""
    copy_paste: float | None = None
    """Probability of pasting up to three objects of another image, as rectangles; by default 0."""
    augmentation_stop: float | None = None
    """Share of the run after which flips and mild contrast and brightness are all that is left; 1 for never. By default
    0.85, and 1 for "detr"."""
    num_workers: int | None = None
    """Data loading processes; by default one per two cores, at most 8."""
    on_fault: Literal["repair", "skip", "refuse"] = "repair"
    """Faults in the data: "repair" what has one meaning and skip the rest, up to a tenth of the images or objects;
    "skip" all that is faulty; "refuse" the dataset."""
    orientation: Literal["upright", "stored"] | None = None
    """EXIF orientation of images where the annotated sizes do not settle it, and in prediction: "upright" as viewers
    show them, or "stored" without turning. By default "stored" if that is what all sizes that settle it say."""


@dataclass(frozen=True)
class ModelConfig:
    """The model."""

    name: Literal["lite", "detr", "transformers"] = "lite"
    """"lite": anchor queries with iterative box refinement and denoising; "detr": the original DETR; "transformers":
    any detector of the transformers library, see source."""
    source: str | None = None
    """transformers: a detector on the Hugging Face hub, such as ustc-community/dfine-small-coco, or a folder that
    save_pretrained has written."""
    backbone: str = "resnet10t"
    """A timm model that gives feature maps, such as resnet50.tv_in1k."""
    pretrained: bool | str = True
    """true: timm's pretrained weights for the backbone; FILE: those of a safetensors file or of torch.save, with timm's
    names; either way its batch norm is frozen. false: random weights."""
    strides: tuple[int, ...] = (16,)
    """Strides of the feature maps, such as [8, 16, 32]. Queries attend to all levels; encoder self-attention is on the
    coarsest one, and a top-down path carries its output to the finer ones."""
    dilation: bool = False
    """Dilate the backbone's last stage instead of its stride, as DETR-DC5."""
    freeze_first_stage: bool | None = None
    """Freeze the backbone's stem and first stage, which ends at stride 4, as the original DETR; by default if its
    weights are trained already."""
    init_from: str | None = None
    """Initialize from this checkpoint, of detr_lite or another supported project. Layers that do not match, such as the
    class layer of another dataset, are initialized anew and logged; batch norm is frozen as with pretrained."""
    dim: int = 128
    """Embedding dimension of tokens and queries."""
    heads: int = 4
    """Attention heads; dim must be divisible by it."""
    encoder_layers: int = 1
    """Encoder layers (self-attention of the tokens)."""
    decoder_layers: int = 3
    """Decoder layers (cross-attention of the queries to the image)."""
    feedforward_dim: int = 512
    """Hidden dimension of the feed-forward networks."""
    dropout: float = 0.0
    """Dropout probability, of attention weights too."""
    num_queries: int | None = None
    """Object queries, the upper limit of objects found in an image; by default chosen from the training images."""
    query_dedup_iou: float = 0.8
    """lite: of tokens whose boxes overlap by more than this IoU, only the highest-scoring becomes a query, unless there
    are too few others; 1 for no limit."""
    relation_bias: bool = True
    """lite: bias the queries' self-attention by the relative position and score of their boxes."""
    box_head: Literal["regression", "fdr"] = "fdr"
    """lite: "regression" refines boxes by four offsets; "fdr" by a distribution of offsets per edge (D-FINE)."""
    denoising_queries: int = 60
    """lite: at most this many denoising queries, noised ground-truth boxes, in training; 0 for none."""
    contrastive_denoising: bool = True
    """lite: half of the denoising queries are negatives, noised so much that they are no object (DINO)."""
    denoising_noise: float = 0.4
    """lite: noise of denoising boxes, above 0 and at most 1: the largest change of their size, as a share of it, and of
    their center, as a share of half the size (DN-DETR). 0.7 moves edges as far as RT-DETR's box_noise_scale 1.0."""


@dataclass(frozen=True)
class LossConfig:
    """The loss. The weights of L1 and GIoU are also those of the matching cost."""

    class_weight: float | None = None
    """Weight of the classification loss; by default 4 for lite, 1 for detr."""
    class_cost: float | None = None
    """Weight of the class in the matching cost; by default 2 for lite, 1 for detr."""
    l1: float = 5.0
    """Weight of the L1 loss of the normalized boxes."""
    giou: float = 2.0
    """Weight of the generalized IoU loss."""
    fdr_weight: float = 0.15
    """lite: weight of the distribution loss of box_head fdr."""
    no_object_weight: float = 0.1
    """detr: weight of the "no object" class."""
    one_to_many_topk: int = 4
    """lite: encoder tokens matched to each object (one-to-many)."""
    gamma: float = 1.5
    """lite: exponent of the classification loss: of the IoU in targets, and of the score in weights of negatives."""


@dataclass(frozen=True)
class OptimConfig:
    """Optimizer and learning rate schedule."""

    optimizer: Literal["muon", "adamw"] | None = None
    """"muon": Muon for hidden matrices, AdamW for the rest. By default muon for lite, adamw for detr."""
    lr: float | None = None
    """Learning rate; by default chosen from model, optimizer, batch size and dim."""
    backbone_lr_factor: float | None = None
    """Learning rate of the backbone relative to lr; by default 1 for random weights, 0.1 (adamw) or 0.05 (muon) for
    pretrained weights, which AdamW trains."""
    weight_decay: float = 1e-4
    """Decoupled weight decay."""
    decay_all: bool = False
    """Apply weight decay to norms and biases too, as the original DETR."""
    warmup_steps: int = 100
    """Steps of linear warmup."""
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    """Learning rate after the hold: cosine decay to 0, one step down to a tenth, or constant."""
    lr_hold: float = 0.5
    """Fraction of the run before the learning rate decays."""
    max_grad_norm: float = 1.0
    """Clip gradients to this norm; 0 for no clipping."""
    accumulate_grad_batches: int | None = None
    """Accumulate gradients over this many batches; by default 1, or what makes up for a batch_size that fits."""
    ema_decay: float = 0.0
    """Evaluate and save an exponential moving average of the weights with this decay, such as 0.999; 0 for none."""
    ema_tau: int = 300
    """Time constant, in steps, of the rise of the EMA decay."""


@dataclass(frozen=True)
class TrainerConfig:
    """Length of the run, evaluation, logging and hardware."""

    max_epochs: int | None = 50
    """Epochs of training."""
    max_minutes: float | None = None
    """Minutes of training without evaluation; replaces max_epochs, and the schedule follows the time."""
    num_evaluations: int = 10
    """Evaluations on the validation images, spread evenly over the run; the best checkpoint is kept."""
    patience: int | None = None
    """Stop after this many evaluations without a higher AP; by default never."""
    attention_every_n_epochs: float | None = 0.0
    """Least epochs between evaluations at which attention is measured (attention.csv) and drawn (attention/,
    attention.webp); 0 for every evaluation, null for none."""
    checkpoint_minutes: float = 1.0
    """Minutes between checkpoints (more if saving one takes over a twentieth of that); 0 for every step."""
    logger: Literal["none", "tensorboard", "wandb"] = "none"
    """Logger beside metrics.csv."""
    accelerator: str = "auto"
    """Lightning accelerator: auto, cpu, gpu, mps ..."""
    devices: int | str = "auto"
    """Devices per machine, or "auto" for all."""
    num_nodes: int = 1
    """Machines, each with that many devices."""
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    """"auto": bf16-mixed where the hardware is fast at it, else 32-true; on a CPU timed, chosen once and stored."""
    threads: int | None = None
    """CPU threads of a step; by default OMP_NUM_THREADS if set, else the fastest number, which follows the machine."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them: less memory, about a third more time."""
    compile: bool = False
    """Train with torch.compile where the first steps are faster with it; images are padded to a few sizes."""


ADDED = frozenset({
    "data.on_fault", "data.orientation", "data.horizontal_flip", "data.vertical_flip", "data.scale_jitter",
    "data.zoom_out", "data.color_jitter", "data.blur", "data.jpeg", "data.mosaic", "data.mixup",
    "data.copy_paste", "data.augmentation_stop", "model.denoising_noise", "model.source",
    "trainer.threads", "trainer.gradient_checkpointing", "trainer.compile",
})  # fmt: skip
"""Settings that are not in all checkpoints of the current format; their defaults do what was done before."""

SECTIONS: dict[str, type] = {
    "data": DataConfig,
    "model": ModelConfig,
    "loss": LossConfig,
    "optim": OptimConfig,
    "trainer": TrainerConfig,
}


AT_LEAST = {
    "data.batch_size": 1, "data.image_size": 16, "data.num_workers": 0, "data.horizontal_flip": 0,
    "data.vertical_flip": 0, "data.scale_jitter": 0, "data.zoom_out": 0, "data.color_jitter": 0, "data.blur": 0,
    "data.jpeg": 0, "data.mosaic": 0, "data.mixup": 0, "data.copy_paste": 0, "data.augmentation_stop": 0,
    "model.dim": 32, "model.heads": 1, "model.encoder_layers": 0, "model.decoder_layers": 1,
    "model.feedforward_dim": 1, "model.dropout": 0, "model.num_queries": 1, "model.denoising_queries": 0,
    "model.query_dedup_iou": 0, "model.denoising_noise": 0,
    "loss.class_weight": 0, "loss.class_cost": 0, "loss.l1": 0, "loss.giou": 0, "loss.fdr_weight": 0,
    "loss.no_object_weight": 0, "loss.one_to_many_topk": 1, "loss.gamma": 0,
    "optim.lr": 0, "optim.backbone_lr_factor": 0, "optim.weight_decay": 0, "optim.warmup_steps": 0, "optim.lr_hold": 0,
    "optim.max_grad_norm": 0, "optim.accumulate_grad_batches": 1, "optim.ema_decay": 0, "optim.ema_tau": 1,
    "trainer.max_epochs": 1, "trainer.max_minutes": 0, "trainer.num_evaluations": 1, "trainer.patience": 1,
    "trainer.attention_every_n_epochs": 0, "trainer.checkpoint_minutes": 0, "trainer.num_nodes": 1,
    "trainer.threads": 1,
}  # fmt: skip

AT_MOST_1 = (
    "data.horizontal_flip", "data.vertical_flip", "data.zoom_out", "data.color_jitter", "data.blur", "data.jpeg",
    "data.mosaic", "data.mixup", "data.copy_paste", "data.augmentation_stop",
    "model.dropout", "model.query_dedup_iou", "model.denoising_noise", "optim.lr_hold",
)  # fmt: skip


@dataclass(frozen=True)
class Config:
    """All settings of a run."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    seed: int = 0
    """Seed of weights, data order and augmentation."""

    def __post_init__(self) -> None:
        for name, limit in AT_LEAST.items():
            section, setting = name.split(".")
            value = getattr(getattr(self, section), setting)
            if value is not None and not math.isfinite(value):
                raise DetrLiteError(f"{name} is {value}; it must be a finite number")
            if value is not None and value < limit:
                raise DetrLiteError(f"{name} is {value}; it must be at least {limit}")
        for name in AT_MOST_1:
            section, setting = name.split(".")
            value = getattr(getattr(self, section), setting)
            if value is not None and value > 1:
                raise DetrLiteError(f"{name} is {value}; it must be at most 1")
        if (self.model.name == "transformers") != (self.model.source is not None):
            raise DetrLiteError(
                "a source, such as ustc-community/dfine-small-coco, goes with --model.name transformers"
            )
        if self.model.source is not None:
            refuse_own_settings(self.model.source, self.model, ModelConfig(), self.loss, LossConfig())
        if self.model.denoising_noise == 0:
            raise DetrLiteError(
                "model.denoising_noise is 0; give more, or --model.denoising_queries 0 for no denoising"
            )
        if self.optim.ema_decay >= 1:
            raise DetrLiteError(f"optim.ema_decay is {self.optim.ema_decay}; it must be less than 1")
        strides = self.model.strides
        if not strides or not all(0 < fine < coarse and coarse % fine == 0 for fine, coarse in pairwise((1, *strides))):
            raise DetrLiteError(f"model.strides is {list(strides)}; give ascending multiples, such as [8, 16, 32]")
        # Sine embeddings have pairs of sine and cosine for each of two coordinates.
        if self.model.dim % 4 or self.model.dim % self.model.heads:
            raise DetrLiteError(
                f"model.dim is {self.model.dim}; it must be divisible by 4 and by model.heads ({self.model.heads})"
            )
        if not 0 <= self.seed < 2**32:
            raise DetrLiteError(f"seed is {self.seed}; it must be at least 0 and less than 2^32")
        if self.trainer.max_epochs is None and self.trainer.max_minutes is None:
            raise DetrLiteError("trainer: give max_epochs or max_minutes")
