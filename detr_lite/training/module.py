"""What happens in a training step, and in an evaluation."""

from collections.abc import Callable

import lightning as L
import torch
from torch import Tensor, nn
from torch import distributed as dist

from detr_lite.data.collate import pad_to_multiple
from detr_lite.data.records import Split
from detr_lite.evaluation.coco_map import CocoEvaluation, evaluate_detections, most_objects
from detr_lite.evaluation.packing import detection_rows, merge_detections, pack_detections
from detr_lite.evaluation.postprocess import Postprocess
from detr_lite.loss.criterion import Criterion
from detr_lite.structures import Batch, DetectionArrays, Detections, DetrLiteError
from detr_lite.training.checks.nan_guard import NaNGuard
from detr_lite.training.distributed.control import ControlGroup
from detr_lite.training.distributed.gathering import gather_detections
from detr_lite.training.in_32_bits import in_32_bits
from detr_lite.training.optim import clip_gradients


class DetectionModule(L.LightningModule):
    """Logs losses in training and COCO's metrics in validation.

    Args:
        val: the validation split, whose ground truth the detections are evaluated on.
        max_grad_norm: largest norm of the gradients; 0 for no clipping.
        guard: checks each step before it is applied.
        control_group: in which the other processes wait for the evaluation on rank 0, however long that takes.
    """

    def __init__(
        self,
        model: nn.Module,
        criterion: Criterion,
        postprocess: Postprocess,
        val: Split,
        make_optimizer: Callable[[nn.Module], torch.optim.Optimizer],
        max_grad_norm: float,
        guard: NaNGuard | None = None,
        control_group: ControlGroup | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.criterion = criterion
        self.postprocess = postprocess.covering(most_objects(val.ground_truth))
        self.val = val
        self.make_optimizer = make_optimizer
        self.max_grad_norm = max_grad_norm
        self.guard = guard
        self.control_group = control_group
        self.detections: dict[int, Detections] = {}
        """Of this rank in the current evaluation, by image index."""
        self.pad_multiple: int | None = None
        """Training images are padded until their sides are multiples of it, for a model compiled for few sizes."""
        self.images_shape: tuple[int, ...] | None = None
        self.most_objects = 0
        """Shape of the last batch's images, and the objects of the fullest, for what is said when memory runs out."""

    def training_step(self, batch: Batch, index: int) -> Tensor:
        assert batch.targets is not None
        losses = self.criterion(self.model(batch), batch.targets)
        if self.guard is not None:
            ids = [target.image_id for target in batch.targets]
            self.guard.record(self.trainer, index, ids, losses)
        # Tensors, not numbers, which would synchronize with the device at every step; of each part the last layer's.
        parts = {f"loss_{name}": part[-1].detach() for name, part in losses.parts.items()}
        # Loggers get them from `MetricsFile`, so that all logs have the same steps.
        self.log_dict({"loss": losses.total.detach(), **parts}, batch_size=len(batch.targets), logger=False)
        return losses.total

    def validation_step(self, batch: Batch, index: int) -> None:
        assert batch.targets is not None
        with in_32_bits(self.device):
            detections = self.postprocess(self.model(batch), [target.original_size for target in batch.targets])
        # By image: the sampler repeats images on some ranks, so that all ranks have as many batches.
        self.detections.update(zip((target.image_id for target in batch.targets), detections, strict=True))

    def on_validation_epoch_end(self) -> None:
        evaluation = self._evaluate_on_rank_0()
        self.detections = {}
        # In double precision, as pycocotools computes them.
        metrics = {name: torch.tensor(value, dtype=torch.float64) for name, value in evaluation.as_dict().items()}
        if self.device.type == "mps":  # which has no double precision
            metrics = {name: value.float() for name, value in metrics.items()}
        self.log_dict(metrics, logger=False)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.make_optimizer(self.model)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        norm = clip_gradients(self.model, self.max_grad_norm)
        if self.guard is not None:
            self.guard.before_update(self.trainer, optimizer, norm)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        self.images_shape = tuple(batch.images.shape)
        self.most_objects = max((len(target.labels) for target in batch.targets or ()), default=0)
        batch = batch.to(device)
        return pad_to_multiple(batch, self.pad_multiple) if self.pad_multiple and self.training else batch

    def _evaluate_on_rank_0(self) -> CocoEvaluation:
        """Evaluate the detections of all ranks: gather them, and broadcast the result."""
        if not (dist.is_available() and dist.is_initialized()):
            return self._evaluate([pack_detections(self.detections)])
        gathered = gather_detections(detection_rows(self.detections), self.device)
        result: list[CocoEvaluation | DetrLiteError | None] = [None]
        if gathered is not None:
            try:
                result = [self._evaluate([pack_detections(part) for part in gathered])]
            except DetrLiteError as error:  # broadcast, since the other ranks wait for a result
                result = [error]
        if self.control_group is not None:
            self.control_group.wait_for_all()
        dist.broadcast_object_list(result)
        if isinstance(result[0], DetrLiteError):
            raise result[0]
        assert result[0] is not None
        return result[0]

    def _evaluate(self, parts: list[DetectionArrays]) -> CocoEvaluation:
        return evaluate_detections(self.val.ground_truth, merge_detections(parts), self.val.categories)
