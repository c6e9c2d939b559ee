"""Chips as torch reads them: minibatches of the training split, varied at random, and the validation chips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from eo_data.dataset import ChipRecord, Dataset, model_input
from eo_models.configuration import Augmentation

Sample = tuple[Tensor, Tensor]
"""Image float32 `[bands, H, W]`, reflectance x 10000; label int64 `[H, W]`, 255 not scored."""


class Chips(TorchDataset[Sample]):
    """The chips of one split, read when they are asked for.

    Args:
        dataset: Where they lie.
        chips: Which.
    """

    def __init__(self, dataset: Dataset, chips: Sequence[ChipRecord]) -> None:
        self._dataset = dataset
        self._chips = chips

    def __len__(self) -> int:
        """How many chips."""
        return len(self._chips)

    def __getitem__(self, index: int) -> Sample:
        """One chip."""
        image, label = self._dataset.read(self._chips[index])
        pixels, _ = model_input(image)
        return torch.from_numpy(pixels), torch.from_numpy(label.astype("int64"))


class Minibatches(LightningDataModule):
    """Training and validation chips of a dataset; equal seeds give equal minibatches.

    Args:
        dataset: Where the chips lie.
        minibatch: Chips per step.
        augmentation: What is varied in training.
        seed: Of order and variation.
    """

    def __init__(self, dataset: Dataset, *, minibatch: int, augmentation: Augmentation, seed: int) -> None:
        super().__init__()
        self._dataset = dataset
        self._minibatch = minibatch
        self._augmentation = augmentation
        self._order = torch.Generator().manual_seed(seed)
        self._variation = torch.Generator().manual_seed(seed + 1)

    def train_dataloader(self) -> DataLoader[Sample]:
        """Shuffled minibatches of the training split."""
        chips = Chips(self._dataset, self._dataset.chips("train"))
        return DataLoader(chips, batch_size=self._minibatch, shuffle=True, generator=self._order)

    def val_dataloader(self) -> DataLoader[Sample]:
        """The validation chips, one at a time."""
        return DataLoader(Chips(self._dataset, self._dataset.chips("validation")), batch_size=1)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Vary a minibatch in training."""
        images, labels = batch
        if self.trainer is None or not self.trainer.training:
            return images, labels
        return augment(images, labels, self._augmentation, self._variation)


def augment(images: Tensor, labels: Tensor, section: Augmentation, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Turn, flip, mix and relight each chip of a minibatch at random.

    The same gain and offset for all pixels of a band: what differs between dates, haze and sensors. Pixels
    without data stay 0.

    Args:
        images: `[N, bands, H, W]`, square, reflectance x 10000.
        labels: `[N, H, W]`.
        section: How much.
        generator: Of the random numbers.
    """
    number, bands = images.shape[:2]
    turns = torch.randint(0, 8, (number,), generator=generator).tolist()
    images = torch.stack([_turn(image, turn) for image, turn in zip(images, turns, strict=True)])
    labels = torch.stack([_turn(label, turn) for label, turn in zip(labels, turns, strict=True)])
    if section.paste and torch.rand((), generator=generator) < section.paste:
        images, labels = paste(images, labels, generator)
    gain = torch.randn(number, 1, 1, 1, generator=generator) * section.gain
    band_gain = torch.randn(number, bands, 1, 1, generator=generator) * section.band_gain
    offset = torch.randn(number, 1, 1, 1, generator=generator) * section.offset
    has_data = (images != 0).any(dim=1, keepdim=True)
    return (images * torch.exp(gain + band_gain) + offset) * has_data, labels


def paste(images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Put a rectangle of another chip of the minibatch into each, where it lay there; its label goes with it.

    What surrounds a place then says less of its class, and few chips make many scenes (CutMix, Yun et al. 2019,
    arXiv 1905.04899). One rectangle for all, a fifth to three quarters of a side high and wide.

    Args:
        images: `[N, bands, H, W]`.
        labels: `[N, H, W]`.
        generator: Of the random numbers.
    """
    spans = []
    for length in labels.shape[1:]:
        extent = int(torch.randint(length // 5, 3 * length // 4, (), generator=generator))
        start = int(torch.randint(0, length - extent + 1, (), generator=generator))
        spans.append(slice(start, start + extent))
    others = torch.randperm(len(images), generator=generator)
    images, labels = images.clone(), labels.clone()
    images[:, :, spans[0], spans[1]] = images[others][:, :, spans[0], spans[1]]
    labels[:, spans[0], spans[1]] = labels[others][:, spans[0], spans[1]]
    return images, labels


def _turn(values: Tensor, turn: int) -> Tensor:
    """One of the eight symmetries of a square."""
    turned = torch.rot90(values, turn % 4, (-2, -1))
    return turned.flip(-1) if turn >= 4 else turned
