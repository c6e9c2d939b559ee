"""Fitting the network with Lightning: seeded, on a fixed number of threads, best epoch by validation IoU."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eo_data.dataset import Dataset
from eo_models.configuration import TrainSection
from eo_models.confusion import TARGET

if TYPE_CHECKING:
    from lightning.pytorch import Callback, Trainer
    from torch import nn

EpochFigures = Callable[[int, dict[str, float]], None]
"""Called after each epoch with its number from 1 and its figures."""


@dataclass(frozen=True)
class Fitted:
    """A trained network.

    Attributes:
        network: With the weights of the epoch that `section.keep` names.
        epoch: Which that was, from 1.
        epochs: How many there were.
        loss: Training loss of the last epoch.
        weights: How many numbers were fitted.
    """

    network: nn.Module
    epoch: int
    epochs: int
    loss: float
    weights: int


def fit(
    dataset: Dataset, section: TrainSection, pairs: list[tuple[int, int]], on_epoch: EpochFigures, *, progress: bool
) -> Fitted:
    """Train the network of a `train` section on a dataset.

    Equal datasets, sections, code, libraries and processors give equal weights.

    Args:
        dataset: Its training split is learned from, its validation split chooses the epoch.
        section: How.
        pairs: Indexes of the band pairs whose normalised difference the network reads.
        on_epoch: Told of each epoch.
        progress: Whether to show a progress bar on stderr.
    """
    # Threads that wait do not spin: on shared cores spinning threads hold up those that work. OpenMP reads it once.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch
    from lightning.pytorch import Trainer
    from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

    from eo_models.minibatches import Minibatches
    from eo_models.networks import build_network
    from eo_models.segmentation import SELECTION, Segmentation, class_weights
    from eo_models.unet import Reflectance

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # devices and tips: nothing that a user of ours could act on
    torch.set_num_threads(section.threads)
    torch.manual_seed(section.seed)
    statistics = dataset.statistics
    network = build_network(Reflectance(statistics.mean, statistics.std, pairs), len(dataset.manifest.classes), section)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack this form
    module = Segmentation(
        network,
        section,
        class_weights(statistics.class_counts, section.class_balance),
        chip_size=dataset.manifest.chip_size,
        target_in_validation=any(chip.class_counts[TARGET] for chip in dataset.chips("validation")),
    )
    minibatches = Minibatches(
        dataset, minibatch=section.minibatch, augmentation=section.augmentation, seed=section.seed
    )
    with tempfile.TemporaryDirectory(prefix="terraloop-train-") as folder, warnings.catch_warnings():
        # Chips come from memory-mapped files, one thread trains: loader processes would only cost.
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        # Lightning 2.6 asks torch 2.13 in a way that torch has deprecated.
        warnings.filterwarnings("ignore", ".*treespec, LeafSpec.*", FutureWarning)
        by_validation = section.keep == "best"
        kept = ModelCheckpoint(
            folder,
            monitor=SELECTION if by_validation else None,
            mode="max",
            save_weights_only=True,
            filename="kept",
        )
        stopping = [EarlyStopping(SELECTION, mode="max", patience=section.patience)] if by_validation else []
        trainer = Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=section.epochs,
            deterministic=True,
            callbacks=[
                kept,
                *stopping,
                epoch_reporter(section.epochs, on_epoch, progress=progress),
            ],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
            default_root_dir=folder,
        )
        trainer.fit(module, minibatches)
        state = torch.load(Path(kept.best_model_path), map_location="cpu", weights_only=True)
        module.load_state_dict(state["state_dict"])
    return Fitted(
        network=module.average.module.eval(),
        epoch=int(state["epoch"]) + 1,
        epochs=int(trainer.current_epoch),
        loss=float(trainer.callback_metrics["loss"]),
        weights=sum(parameter.numel() for parameter in network.parameters()),
    )


def epoch_reporter(epochs: int, on_epoch: EpochFigures, *, progress: bool) -> Callback:
    """A callback that shows a bar of epochs on stderr and hands on each epoch's figures."""
    from lightning.pytorch import Callback
    from tqdm import tqdm

    class Reporter(Callback):
        def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
            self._bar = tqdm(total=epochs, desc="train", unit="epoch", disable=not progress, file=sys.stderr)

        def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
            figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
            shown = {"loss": f"{figures['loss']:.3f}", "validation IoU": f"{figures['validation_iou']:.3f}"}
            self._bar.set_postfix(shown, refresh=False)
            self._bar.update()
            on_epoch(trainer.current_epoch + 1, figures)

        def teardown(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
            self._bar.close()

    return Reporter()
