"""What happens in a step."""

from collections.abc import Callable
from typing import Any

import lightning as L  # noqa: N812
import torch
from torch import Tensor, nn
from torch import distributed as dist

from detr_lite.evaluation.coco_map import CocoEvaluation, coco_results, evaluate_detections
from detr_lite.evaluation.postprocess import Postprocess
from detr_lite.data.coco import CocoSplit
from detr_lite.loss.criterion import Criterion, Losses
from detr_lite.structures import Batch, Detections


class DetectionModule(L.LightningModule):
    """Steps and logging: losses in training, COCO's numbers in validation."""

    def __init__(
        self,
        model: nn.Module,
        criterion: Criterion,
        postprocess: Postprocess,
        val: CocoSplit,
        make_optimizer: Callable[[nn.Module], torch.optim.Optimizer],
    ) -> None:
        super().__init__()
        self.model = model
        self.criterion = criterion
        self.postprocess = postprocess
        self.val = val
        self.make_optimizer = make_optimizer
        self.evaluation: CocoEvaluation | None = None
        self._detections: dict[int, Detections] = {}

    def training_step(self, batch: Batch, index: int) -> Tensor:
        assert batch.targets is not None
        losses: Losses = self.criterion(self.model(batch), batch.targets)
        # Detached tensors, not numbers: a number would wait for the device at every step.
        self.log_dict(
            {"loss": losses.total.detach()} | {f"loss_{name}": part.detach()[-1] for name, part in losses.parts.items()},
            batch_size=len(batch.targets),
        )
        return losses.total

    def validation_step(self, batch: Batch, index: int) -> None:
        assert batch.targets is not None
        found = self.postprocess(self.model(batch), [target.original_size for target in batch.targets])
        # By image id: the sampler may give ranks an image twice, so that all have as many batches.
        self._detections.update(zip((target.image_id for target in batch.targets), found, strict=True))

    def on_validation_epoch_end(self) -> None:
        ids = [category.id for category in self.val.categories]
        results = [entry for image, found in self._detections.items() for entry in coco_results(found, image, ids)]
        self._detections = {}
        if dist.is_available() and dist.is_initialized():
            results = _gather(results)
        self.evaluation = evaluate_detections(self.val.ground_truth, results, self.val.categories)
        self.log_dict({name: float(value) for name, value in self.evaluation.metrics.items()}, rank_zero_only=False)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.make_optimizer(self.model)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        return batch.to(device)
