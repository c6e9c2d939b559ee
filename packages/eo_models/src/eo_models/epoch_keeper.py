"""What is kept of each epoch: its figures, the weights if they are the ones to keep, a checkpoint of everything."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import CheckpointIO
from torch import Tensor
from tqdm import tqdm

from eo_data.step import write_atomically
from eo_models.checkpoints import KEEPER, Checkpoints
from eo_models.segmentation import SELECTION

log = logging.getLogger(__name__)

EpochFigures = Callable[[int, dict[str, float]], None]
"""Called after each epoch with its number from 1 and its figures."""


class Keeper(Checkpoint):
    """Notes each epoch's figures and the weights to keep, writes a checkpoint, then tells of the epoch.

    In this order: what was told of has been kept.

    Args:
        on_epoch: Told of each epoch.
        best: Whether the weights of the best epoch are kept, not those of the last.
        epochs: How many there are to be.
        notes: What the checkpoint says besides (`precision`).
        checkpoints: Where checkpoints go; None for nowhere.
        member: Whose they are.
        chief: Whether this process sees to the folder.

    Attributes:
        history: The figures of each epoch so far.
        epoch: Whose weights are kept, from 1.
        weights: Those weights, the averaged network's.
    """

    def __init__(
        self,
        on_epoch: EpochFigures,
        *,
        best: bool,
        epochs: int,
        notes: Mapping[str, str],
        checkpoints: Checkpoints | None,
        member: int,
        chief: bool,
    ) -> None:
        self._on_epoch = on_epoch
        self._best = best
        self._epochs = epochs
        self._notes = dict(notes)
        self._checkpoints = checkpoints
        self._member = member
        self._chief = chief
        self._over = False
        self.history: list[dict[str, float]] = []
        self.epoch = 0
        self.weights: dict[str, Tensor] = {}

    @property
    def state_key(self) -> str:
        """The name under which a checkpoint holds the state."""
        return KEEPER

    def state_dict(self) -> dict[str, Any]:
        """Everything that a training which goes on, or is over, must know."""
        return {
            "identity": self._checkpoints.identity if self._checkpoints else {},
            "member": self._member,
            "notes": self._notes,
            "history": self.history,
            "epoch": self.epoch,
            "weights": self.weights,
            "over": self._over,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what another noted."""
        self.history = list(state_dict["history"])
        self.epoch, self.weights = state_dict["epoch"], state_dict["weights"]
        self._over = state_dict["over"]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the epoch. Lightning calls this after early stopping has decided."""
        figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
        best = max((past[SELECTION] for past in self.history), default=-float("inf"))
        self.history.append(figures)
        if not self._best or self.epoch == 0 or figures[SELECTION] > best:
            self.epoch = len(self.history)
            averaged = pl_module.average.module.state_dict()  # type: ignore[union-attr]  # it is a Segmentation
            self.weights = {name: value.detach().clone() for name, value in averaged.items()}
        self._over = trainer.should_stop or len(self.history) >= self._epochs
        if self._checkpoints is not None:
            path = self._checkpoints.path(self._member, len(self.history))
            trainer.save_checkpoint(path)  # in every process: they wait for each other in it
            if self._chief and path.exists():
                self._checkpoints.written(path, self._member)
                if self._over:
                    self._checkpoints.finished(path, self._member)
        self._on_epoch(len(self.history), figures)


class WholeFiles(CheckpointIO):
    """Checkpoints that are whole or absent, on disk before they have their name, read without any pickle.

    A disk that is full costs the checkpoint, not the training.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write one."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        try:
            write_atomically(Path(path), buffer.getvalue())
        except OSError as error:
            log.warning("train: no checkpoint of this epoch, %s cannot be written (%s)", path, error.strerror)

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read one that `checkpoints.read_checkpoint` has verified."""
        content: dict[str, Any] = torch.load(path, map_location=map_location or "cpu", weights_only=True)
        return content

    def remove_checkpoint(self, path: Any) -> None:
        """Remove one."""
        Path(path).unlink(missing_ok=True)


class Bar(Callback):
    """A bar of epochs on stderr.

    Args:
        epochs: How many there are.
        shown: Whether it shows at all.
    """

    def __init__(self, epochs: int, *, shown: bool) -> None:
        self._epochs = epochs
        self._shown = shown

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start at the epochs that an earlier process has trained."""
        self._bar = tqdm(
            total=self._epochs,
            initial=trainer.current_epoch,
            desc="train",
            unit="epoch",
            disable=not self._shown,
            file=sys.stderr,
        )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move on."""
        figures = trainer.callback_metrics
        shown = {"loss": f"{figures['loss']:.3f}", "validation IoU": f"{figures['validation_iou']:.3f}"}
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """End the line."""
        if hasattr(self, "_bar"):
            self._bar.close()
