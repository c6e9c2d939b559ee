"""What a training step is given: whose memory it is, in which order it comes, and how several processes share it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from eo_data.errors import UsageError
from eo_data.loader import ChipLoader, DatasetSource
from eo_models.configuration import Augmentation, Sampling
from eo_models.minibatches import Minibatches, TrainingMinibatches, ValidationChips

from .conftest import World

Epoch = list[tuple[Tensor, Tensor]]


def minibatches(world: World, **changes: object) -> Minibatches:
    settings = {"minibatch": 4, "augmentation": Augmentation(paste=0.5), "seed": 3, **changes}
    return Minibatches(world.dataset, **settings)  # type: ignore[arg-type]


def epoch(module: Minibatches) -> Epoch:
    return list(module.train_dataloader())


def assert_equal(first: Epoch, second: Epoch) -> None:
    assert len(first) == len(second)
    for (images, labels), (others, their_labels) in zip(first, second, strict=True):
        assert torch.equal(images, others)
        assert torch.equal(labels, their_labels)


def test_equal_seeds_give_equal_minibatches_with_any_number_of_threads(world: World) -> None:
    one = epoch(minibatches(world, threads=1))
    assert_equal(one, epoch(minibatches(world, threads=3)))
    assert [len(images) for images, _ in one] == [4, 4, 4]
    assert (one[0][0].dtype, one[0][1].dtype) == (torch.float32, torch.int64)
    other = epoch(minibatches(world, seed=4))
    assert not torch.equal(one[0][0], other[0][0])


def test_minibatches_are_kept_while_the_loader_goes_on_in_the_same_buffers(world: World) -> None:
    source = DatasetSource(world.dataset, "train")

    def load(*, copy: bool) -> tuple[TrainingMinibatches, ChipLoader]:
        loader = ChipLoader(source, source.chips, minibatch=4, seed=3, copy=copy)
        return TrainingMinibatches(loader, Augmentation(), seed=3, epoch=lambda: 0, share=slice(None)), loader

    buffers = {minibatch.images.__array_interface__["data"][0] for minibatch in load(copy=False)[1]}
    assert len(buffers) == 1  # the loader does overwrite: the test would see an alias
    shared, _ = load(copy=False)
    apart, _ = load(copy=True)
    held = list(shared)  # all of an epoch is asked for before any of it is looked at
    assert_equal(held, list(apart))
    assert not {images.data_ptr() for images, _ in held} & buffers


def test_each_chip_comes_once_an_epoch_and_epochs_differ(world: World) -> None:
    plain = Augmentation(gain=0, band_gain=0, offset=0)
    module = minibatches(world, augmentation=plain)
    loader = module.train_dataloader()
    sums = [[float(image.sum()) for images, _ in loader for image in images] for _ in range(2)]
    expected = [float(world.dataset.read(chip)[0].astype(np.float64).sum()) for chip in world.dataset.chips("train")]
    assert sorted(sums[0]) == pytest.approx(sorted(expected), rel=1e-6)
    assert sums[0] == sums[1]  # no trainer has moved on: still the first epoch
    again = TrainingMinibatches(module._loader, plain, seed=3, epoch=lambda: 1, share=slice(None))
    later = [float(image.sum()) for images, _ in again for image in images]
    assert sorted(later) == pytest.approx(sorted(expected), rel=1e-6)
    assert later != sums[0]


def test_shares_of_two_processes_make_up_the_minibatch_of_one(world: World) -> None:
    whole = epoch(minibatches(world, minibatch=5))
    shares = [epoch(minibatches(world, minibatch=5, rank=rank, size=2)) for rank in range(2)]
    for (images, labels), (first, one), (second, two) in zip(whole, *shares, strict=True):
        assert torch.equal(images[0::2], first)
        assert torch.equal(images[1::2], second)
        assert torch.equal(labels[0::2], one)
        assert torch.equal(labels[1::2], two)


def test_sampling_by_class_shows_the_rare_one_more_often(make_world: Callable[..., World]) -> None:
    world = make_world(counts={"train": 40, "validation": 1, "holdout": 1, "test": 1})

    def share(sampling: Sampling | None) -> float:
        module = minibatches(world, minibatch=8, sampling=sampling, augmentation=Augmentation(paste=0))
        labels = torch.cat([labels for _, labels in module.train_dataloader()])
        return float((labels == 1).sum() / (labels != 255).sum())

    assert share(Sampling()) == share(None)
    assert share(Sampling(balance=1)) > share(None) + 0.02


def test_a_state_of_other_chips_is_refused(world: World) -> None:
    module = minibatches(world)
    state = module.state_dict()
    module.load_state_dict(state)
    with pytest.raises(UsageError, match="differ from the loader's"):
        minibatches(world, minibatch=3).load_state_dict(state)


def test_validation_chips_are_shared_evenly_and_none_counts_twice(make_world: Callable[..., World]) -> None:
    world = make_world(counts={"train": 4, "validation": 5, "holdout": 1, "test": 1})
    chips = world.dataset.chips("validation")
    alone = list(ValidationChips(world.dataset, chips))
    shares = [list(ValidationChips(world.dataset, chips, rank=rank, size=3)) for rank in range(3)]
    assert [len(share) for share in shares] == [2, 2, 2]
    scored = [label for share in shares for _, label in share if (label != 255).any()]
    assert len(scored) == len(alone) == 5
    for number, (image, label) in enumerate(alone):
        shared = shares[number % 3][number // 3]
        assert torch.equal(shared[0], image)
        assert torch.equal(shared[1], label)
