"""The seam to the product: what is trained, as `eo_models.fit` trains it. Where fit changes, this file follows."""

from __future__ import annotations

import itertools
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from eo_data.dataset import Dataset
from eo_models.configuration import TrainSection
from eo_models.losses import segmentation_loss
from eo_models.minibatches import Minibatches
from eo_models.segmentation import Segmentation

__all__ = [
    "Batch",
    "Repeated",
    "fit_with_lightning",
    "make_minibatches",
    "make_module",
    "segmentation_loss",
    "training_batches",
]

Batch = tuple[Tensor, Tensor]
"""Images `[N, bands, H, W]`, labels `[N, H, W]`."""


@dataclass(frozen=True)
class Repeated:
    """The same minibatch again and again. Lightning would take a list for several loaders."""

    batch: Batch
    times: int

    def __len__(self) -> int:
        """How often."""
        return self.times

    def __iter__(self) -> Iterator[Batch]:
        """An epoch."""
        return itertools.repeat(self.batch, self.times)


def make_module(network: nn.Module, section: TrainSection, weights: Sequence[float], chip_size: int) -> Segmentation:
    """The product's module: network, loss, optimiser, schedule and moving average."""
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack this form
    return Segmentation(network, section, weights, chip_size=chip_size, target_in_validation=True)


def make_minibatches(dataset: Dataset, section: TrainSection) -> Minibatches:
    """The product's data module."""
    return Minibatches(
        dataset,
        minibatch=section.minibatch,
        augmentation=section.augmentation,
        sampling=section.sampling,
        seed=section.seed,
        threads=section.threads,
    )


def training_batches(dataset: Dataset, section: TrainSection) -> Iterator[Batch]:
    """The first epoch of that data module, without Lightning: the same minibatches, varied in the same way."""
    return iter(make_minibatches(dataset, section).train_dataloader())


def fit_with_lightning(module: Segmentation, batches: Minibatches | Repeated, device: torch.device) -> None:
    """One epoch by Lightning's loop: fit's Trainer, without what fit does once an epoch (validation, keeping)."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    settings: dict[str, Any] = {
        "accelerator": "gpu" if device.type == "cuda" else "cpu",
        "devices": 1,
        "max_epochs": 1,
        "deterministic": True,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "enable_checkpointing": False,
        "use_distributed_sampler": False,
        "limit_val_batches": 0,
    }
    with tempfile.TemporaryDirectory(prefix="terraloop-bench-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in fit: what torch has deprecated; and loaders without workers
        trainer = Trainer(**settings, default_root_dir=folder)
        if isinstance(batches, Minibatches):
            trainer.fit(module, datamodule=batches)
        else:
            trainer.fit(module, train_dataloaders=batches)
