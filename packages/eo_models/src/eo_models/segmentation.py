"""The Lightning module: loss in training, pooled IoU through the serving tile plan in validation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from eo_data.errors import UsageError
from eo_data.model.session import classify
from eo_data.tiling import Pixels, TilePlan, predict_array
from eo_data.usecase import IGNORE
from eo_models.configuration import TrainSection
from eo_models.confusion import Counts, count
from eo_models.distribution import ALONE, Processes
from eo_models.losses import Total, alone, segmentation_loss
from eo_models.precision import PrecisionName
from eo_models.random_streams import stream_seed

SELECTION = "selection"
"""The figure by which the best epoch is chosen: validation IoU, or minus the loss where no label holds the class."""


def moving_average(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """An exponential moving average that forgets the first steps quickly: their weights are next to random.

    It takes averaged tensors of one type, which it changes, the current ones, and how many were averaged before.
    What is counted, not measured, is taken as it is.
    """

    @torch.no_grad()
    def average(averaged: Sequence[Tensor], current: Sequence[Tensor], updates: Tensor | int) -> None:
        number = int(updates)
        keep = min(decay, (1 + number) / (10 + number))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(
                list(averaged), list(current), 1 - keep
            )  # as torch's own average does: one call for all
        else:
            torch._foreach_copy_(list(averaged), list(current))

    return average


def validation_plan(section: TrainSection, chip_size: int) -> TilePlan:
    """The tile plan of validation chips: the section's own, or one tile to a chip where that gives the same.

    It does where the halo covers all that the network looks at; large tiles would spend most on mirrored edges.
    """
    tiles = section.tiles
    if tiles.blend == 0 and tiles.halo >= section.radius:
        return TilePlan(min(tiles.tile, chip_size + 2 * tiles.halo), tiles.halo, 0)
    return tiles.tiling().plan()


class Segmentation(LightningModule):
    """A network in training, and the moving average of its weights, which is what is validated and exported.

    Labels are noisy and minibatches few: from step to step the weights wander. Their average stands still
    enough that the best epoch is more than a lucky one.

    Args:
        network: Reflectance x 10000 `[N, bands, H, W]` to logits `[N, classes, H, W]`.
        section: The `train` section.
        weights: Per class.
        chip_size: Height and width of a validation chip, pixels.
        target_in_validation: Whether any validation label holds the target class: only then is its IoU defined.
        precision: Of convolutions.
        processes: Who trains.
        total: Adds up over them.
    """

    def __init__(
        self,
        network: nn.Module,
        section: TrainSection,
        weights: Sequence[float],
        *,
        chip_size: int,
        target_in_validation: bool,
        precision: PrecisionName = "float32",
        processes: Processes = ALONE,
        total: Total = alone,
    ) -> None:
        super().__init__()
        self.network = network
        self.average = AveragedModel(network, multi_avg_fn=moving_average(section.averaging), use_buffers=True)
        self.average.requires_grad_(False)  # it is followed, not trained: the optimiser and DDP leave it alone
        self.section = section
        self.target_in_validation = target_in_validation
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float32))
        self._precision = precision
        self._processes = processes
        self._total = total
        self._plan = validation_plan(section, chip_size)
        self._losses: list[Tensor] = []
        self._counts = Counts()
        self._surprise: list[float] = []

    def on_train_epoch_start(self) -> None:
        """Draw what is dropped from the epoch's own seed: an epoch then does not depend on those before it."""
        torch.manual_seed(stream_seed(self.section.seed, "dropout", self.current_epoch, self._processes.rank))
        self._losses.clear()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The loss of one minibatch.

        Raises:
            UsageError: If it is no finite number.
        """
        images, labels = batch
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self._precision == "bfloat16"):
            logits = self.network(images.contiguous(memory_format=torch.channels_last))
        section = self.section
        loss = segmentation_loss(
            logits.float(), labels, self.get_buffer("weights"), section.dice, section.focal, self._total
        )
        plain = loss.detach()
        if not torch.isfinite(plain):
            raise self._diverged(f"the training loss is {float(plain)} in step {batch_idx + 1}")
        self._losses.append(plain)  # logged once an epoch: Lightning's own bookkeeping costs more per step
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Let the average follow."""
        self.average.update_parameters(self.network)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Score one chip with the averaged weights as `evaluate` and the endpoint would: through the tile plan."""
        image, label = batch[0][0].numpy(), batch[1][0].numpy()
        valid = (image != 0).any(axis=0)
        probability = predict_array(image, valid, self._predict, self._plan)
        self._counts += count(classify(probability, valid), label.astype(np.uint8))
        scored = valid & (label != IGNORE)
        if scored.any():
            hit = np.take_along_axis(probability[:, scored], label[scored][None], axis=0)
            self._surprise.append(float(-np.log(np.maximum(hit, 1e-6)).mean()))

    def on_validation_epoch_end(self) -> None:
        """Log the pooled figures of the epoch, over all processes.

        Raises:
            UsageError: If the validation loss is no finite number.
        """
        counts = self._counts
        told = torch.tensor(
            [counts.tp, counts.fp, counts.fn, counts.tn, len(self._surprise), sum(self._surprise)], dtype=torch.float64
        )
        told = self._total(told)
        counts = Counts(*(int(value) for value in told[:4]))
        loss = float(told[5] / told[4]) if told[4] else 0.0
        if not math.isfinite(loss):
            raise self._diverged(f"the validation loss is {loss} after the last step")
        iou = counts.iou
        self.log("loss", torch.stack(self._losses).mean())
        self.log("validation_loss", loss)
        self.log("validation_iou", math.nan if iou is None else iou)
        self.log(SELECTION, iou if self.target_in_validation and iou is not None else -loss)
        self._counts, self._surprise = Counts(), []

    def configure_optimizers(self) -> Any:
        """AdamW on a one-cycle schedule."""
        optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=self.section.learning_rate, weight_decay=self.section.weight_decay
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=self.section.learning_rate,
            total_steps=int(self.trainer.estimated_stepping_batches),
            pct_start=0.2,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _predict(self, tiles: Pixels) -> Pixels:
        images = torch.from_numpy(tiles).contiguous(memory_format=torch.channels_last)
        probability: Pixels = torch.softmax(self.average(images), dim=1).numpy()
        return probability

    def _diverged(self, what: str) -> UsageError:
        return UsageError(
            f"{what} of epoch {self.current_epoch + 1}",
            where="train.learning_rate",
            fix=f"Lower train.learning_rate, which is {self.section.learning_rate:g}",
        )
