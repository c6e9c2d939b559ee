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

from eo_data.model.session import classify
from eo_data.tiling import Pixels, TilePlan, predict_array
from eo_data.usecase import IGNORE
from eo_models.configuration import TrainSection
from eo_models.confusion import Counts, count

SELECTION = "selection"
"""The figure by which the best epoch is chosen: validation IoU, or minus the loss where no label holds the class."""


def segmentation_loss(logits: Tensor, labels: Tensor, weights: Tensor, dice: float) -> Tensor:
    """Weighted cross-entropy plus Dice over the pixels that are scored; 0 where none is.

    Args:
        logits: `[N, classes, H, W]`.
        labels: `[N, H, W]`, 255 not scored.
        weights: Per class, for the cross-entropy.
        dice: Weight of the Dice loss, the mean over all classes but the first.
    """
    scored = labels != IGNORE
    known = torch.where(scored, labels, 0)
    share = weights[known] * scored
    entropy = nn.functional.cross_entropy(logits, known, reduction="none")
    loss = (entropy * share).sum() / share.sum().clamp(min=1e-6)
    if not dice:
        return loss
    probability = torch.softmax(logits, dim=1)[:, 1:] * scored[:, None]
    target = nn.functional.one_hot(known, logits.shape[1]).movedim(-1, 1)[:, 1:] * scored[:, None]
    overlap = (probability * target).sum(dim=(0, 2, 3))
    extent = (probability + target).sum(dim=(0, 2, 3))
    # One pixel more on both sides: a minibatch without the class and without a false alarm has no loss.
    return loss + dice * (1 - (2 * overlap + 1) / (extent + 1)).mean()


def class_weights(counts: Sequence[int], balance: float) -> list[float]:
    """Weights per class, frequency to the power of minus `balance`, with mean 1; 0 for a class that never occurs."""
    total = sum(counts)
    raw = [(number / total) ** -balance if number else 0.0 for number in counts]
    return [value * len(raw) / sum(raw) for value in raw]


def moving_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """An exponential moving average that forgets the first steps quickly: their weights are next to random."""

    def average(averaged: Tensor, current: Tensor, updates: Tensor | int) -> Tensor:
        number = int(updates)
        keep = min(decay, (1 + number) / (10 + number))
        return keep * averaged + (1 - keep) * current

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
    """

    def __init__(
        self,
        network: nn.Module,
        section: TrainSection,
        weights: Sequence[float],
        *,
        chip_size: int,
        target_in_validation: bool,
    ) -> None:
        super().__init__()
        self.network = network
        self.average = AveragedModel(network, avg_fn=moving_average(section.averaging), use_buffers=True)
        self.section = section
        self.target_in_validation = target_in_validation
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float32))
        self._plan = validation_plan(section, chip_size)
        self._counts = Counts()
        self._surprise: list[float] = []

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The loss of one minibatch."""
        images, labels = batch
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.section.precision == "bfloat16"):
            logits = self.network(images.contiguous(memory_format=torch.channels_last))
        loss = segmentation_loss(logits.float(), labels, self.get_buffer("weights"), self.section.dice)
        if not torch.isfinite(loss):
            raise FloatingPointError("the training loss is not finite: lower train.learning_rate")
        self.log("loss", loss, on_step=False, on_epoch=True, batch_size=len(images))
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
        """Log the pooled figures of the epoch."""
        loss = float(np.mean(self._surprise)) if self._surprise else 0.0
        iou = self._counts.iou
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
