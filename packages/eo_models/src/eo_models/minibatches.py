"""Chips as torch reads them: minibatches of the training split, varied at random, and the validation chips."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch import Tensor

from eo_data.dataset import ChipRecord, Dataset, model_input
from eo_data.loader import ChipLoader, DatasetSource
from eo_data.sampling import sampling_weights
from eo_data.usecase import IGNORE
from eo_models.configuration import Augmentation, Sampling
from eo_models.random_streams import stream_seed

Sample = tuple[Tensor, Tensor]
"""Images float32 `[n, bands, H, W]`, reflectance x 10000; labels int64 `[n, H, W]`, 255 not scored."""


class TrainingMinibatches:
    """The minibatches of the training split, an epoch per iteration.

    The loader's arrays are buffers that its next minibatch overwrites, and Lightning asks for one minibatch before
    it has trained on the last. What is handed out shares no memory with them: varying a chip makes new tensors
    anyway, so it is done here, before the next minibatch is asked for, and nothing is copied for copying's sake.

    Args:
        loader: Delivers chips; its `set_epoch` is called at the start of each iteration.
        augmentation: What is varied.
        seed: Of the variation.
        epoch: Says the number of the epoch, from 0, when an iteration starts.
        share: Which chips of each minibatch this process trains on. All processes vary the whole minibatch in the
            same way, so that their shares together are what a single process would see.
    """

    def __init__(
        self,
        loader: ChipLoader,
        augmentation: Augmentation,
        *,
        seed: int,
        epoch: Callable[[], int],
        share: slice,
    ) -> None:
        self._loader = loader
        self._augmentation = augmentation
        self._seed = seed
        self._epoch = epoch
        self._share = share

    def __len__(self) -> int:
        """How many minibatches an epoch has."""
        return len(self._loader)

    def __iter__(self) -> Iterator[Sample]:
        """An epoch: images `[n, bands, H, W]` and labels `[n, H, W]` of this process's share."""
        epoch = self._epoch()
        self._loader.set_epoch(epoch)
        generator = torch.Generator().manual_seed(stream_seed(self._seed, "augmentation", epoch))
        for minibatch in self._loader:
            images, labels = torch.from_numpy(minibatch.images), torch.from_numpy(minibatch.labels)
            images, labels = augment(images, labels, self._augmentation, generator)
            yield images[self._share], labels[self._share].long()


class ValidationChips:
    """The validation chips of one process, one at a time `[1, bands, H, W]`.

    Every process gets equally many; where they do not divide, what is missing is a chip without a scored pixel.

    Args:
        dataset: Where they lie.
        chips: All of them.
        rank: Number of the process.
        size: How many processes there are.
    """

    def __init__(self, dataset: Dataset, chips: Sequence[ChipRecord], *, rank: int = 0, size: int = 1) -> None:
        self._dataset = dataset
        self._chips = chips[rank::size]
        self._spare = chips[:1] if len(self._chips) < len(chips[::size]) else []

    def __len__(self) -> int:
        """How many chips."""
        return len(self._chips) + len(self._spare)

    def __iter__(self) -> Iterator[Sample]:
        """The chips in the dataset's order."""
        for chip in self._chips:
            yield self._read(chip)
        for chip in self._spare:
            image, label = self._read(chip)
            yield image, torch.full_like(label, IGNORE)

    def _read(self, chip: ChipRecord) -> Sample:
        image, label = self._dataset.read(chip)
        pixels, _ = model_input(image)
        return torch.from_numpy(pixels)[None], torch.from_numpy(label.astype(np.int64))[None]


class Minibatches(LightningDataModule):
    """Training and validation chips of a dataset; equal seeds give equal minibatches, whatever the threads.

    Args:
        dataset: Where the chips lie.
        minibatch: Chips per step, of all processes together.
        augmentation: What is varied in training.
        sampling: How often each chip is drawn.
        seed: Of order and variation.
        threads: How many read.
        rank: Number of this process.
        size: How many processes there are.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        minibatch: int,
        augmentation: Augmentation,
        seed: int,
        sampling: Sampling | None = None,
        threads: int = 1,
        rank: int = 0,
        size: int = 1,
    ) -> None:
        super().__init__()
        self._dataset = dataset
        self._augmentation = augmentation
        self._seed = seed
        self._rank, self._size = rank, size
        source = DatasetSource(dataset, "train")
        self._loader = ChipLoader(
            source,
            source.chips,
            minibatch=minibatch,
            seed=seed,
            weights=_weights(source.records, sampling),
            threads=threads,
        )

    def train_dataloader(self) -> TrainingMinibatches:
        """Shuffled minibatches of the training split."""
        return TrainingMinibatches(
            self._loader,
            self._augmentation,
            seed=self._seed,
            epoch=lambda: 0 if self.trainer is None else self.trainer.current_epoch,
            share=slice(self._rank, None, self._size),
        )

    def val_dataloader(self) -> ValidationChips:
        """The validation chips."""
        return ValidationChips(self._dataset, self._dataset.chips("validation"), rank=self._rank, size=self._size)

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is, and a digest of what it loads."""
        return {"loader": self._loader.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where another was.

        Raises:
            UsageError: If it loaded other chips, or in another way.
        """
        self._loader.load_state_dict(state_dict["loader"])


def _weights(chips: Sequence[ChipRecord], sampling: Sampling | None) -> NDArray[np.float64] | None:
    """What the loader draws chips by; None for each of them once an epoch."""
    if sampling is None or not (sampling.balance or sampling.valid):
        return None
    return sampling_weights(chips, balance=sampling.balance, valid=sampling.valid)


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
