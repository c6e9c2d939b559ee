from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from eo_models.configuration import Augmentation, TrainSection, train_section
from eo_models.confusion import Counts, count, pool
from eo_models.fit import fit
from eo_models.minibatches import augment
from eo_models.segmentation import moving_average, rising_share, validation_plan
from eo_models.unet import Probability

from .conftest import World

NOTHING: Callable[[int, dict[str, float]], None] = lambda epoch, figures: None  # noqa: E731


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_learns_what_no_index_can(make_world: Callable[..., World], precision: str) -> None:
    world = make_world(train={"epochs": 10, "precision": precision})
    losses: list[float] = []
    fitted = fit(
        world.dataset,
        train_section(world.usecase),
        [],
        lambda epoch, figures: losses.append(figures["loss"]),
        progress=False,
    )
    assert len(losses) == 10
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.5 * losses[0]
    assert {value.dtype for value in fitted.network.parameters()} == {torch.float32}
    module = Probability(fitted.network).eval()
    parts: list[Counts] = []
    for chip in world.dataset.chips("train"):
        image, label = world.dataset.read(chip)
        with torch.inference_mode():
            mask = module(torch.from_numpy(image[None].astype(np.float32)))[0].argmax(dim=0).numpy()
        parts.append(count(mask.astype(np.uint8), label))
    assert (pool(parts).iou or 0) > 0.9


def test_equal_seeds_give_equal_weights(make_world: Callable[..., World]) -> None:
    world = make_world(train={"epochs": 2})
    section = train_section(world.usecase)
    first, second = (fit(world.dataset, section, [(1, 2)], NOTHING, progress=False) for _ in range(2))
    other = fit(world.dataset, section.model_copy(update={"seed": 1}), [(1, 2)], NOTHING, progress=False)
    for name, value in first.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name]), name
    assert not torch.equal(first.network.state_dict()["head.weight"], other.network.state_dict()["head.weight"])


def test_validation_without_the_class_is_chosen_by_loss(make_world: Callable[..., World]) -> None:
    world = make_world(train={"epochs": 2})
    for chip in world.dataset.chips("validation"):
        path = world.store.raster_path(f"datasets/{world.dataset.digest}/chips/{chip.shard}.labels.npy")
        np.save(path, np.zeros((1, 32, 32), dtype=np.uint8))
    manifest = world.dataset.manifest
    world.dataset.manifest = manifest.model_copy(
        update={"chips": tuple(chip.model_copy(update={"class_counts": (1024, 0)}) for chip in manifest.chips)}
    )
    seen: list[dict[str, float]] = []
    fit(world.dataset, train_section(world.usecase), [], lambda epoch, figures: seen.append(figures), progress=False)
    assert [figures["selection"] for figures in seen] == pytest.approx([-f["validation_loss"] for f in seen])


def test_moving_average_forgets_the_first_weights() -> None:
    average = moving_average(0.98)
    value, seen = torch.tensor([100.0]), torch.tensor([7])
    for step in range(200):
        average([value], [torch.tensor([1.0])], step)
        average([seen], [torch.tensor([step])], step)
    assert value.item() == pytest.approx(1.0, abs=0.2)
    assert seen.item() == 199


def test_augmentation_keeps_labels_on_their_pixels_and_gaps_empty() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (16, 8, 8), generator=generator)
    images = torch.stack([labels * 1000.0 + 500, labels * 500.0 + 100], dim=1)
    images[:, :, 0, 0] = 0
    labels[:, 0, 0] = 255
    turned, moved = augment(images, labels, Augmentation(gain=0, band_gain=0, offset=0), generator)
    assert torch.equal(turned[:, 0], torch.where(moved == 255, 0, moved * 1000.0 + 500))
    assert len({tuple(label.flatten().tolist()) for label in moved}) > 8
    lit, _ = augment(images, labels, Augmentation(gain=0.3, band_gain=0.1, offset=100), generator)
    assert (lit == 0).all(dim=1).sum() == 16
    assert not torch.equal(lit.sum(), turned.sum())


def test_pasted_rectangles_bring_their_labels_and_leave_the_chips_alone() -> None:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(4)[:, None, None].expand(4, 32, 32).contiguous()
    images = (labels[:, None] * 1000.0 + 500).expand(4, 2, 32, 32).contiguous()
    plain = Augmentation(gain=0, band_gain=0, offset=0)
    mixed, moved = augment(images, labels, plain.model_copy(update={"paste": 1.0}), generator)
    assert torch.equal(mixed, (moved[:, None] * 1000.0 + 500).expand_as(mixed))
    assert (moved != labels).any()
    assert max(len(label.unique()) for label in moved) == 2
    assert torch.equal(labels, torch.arange(4)[:, None, None].expand(4, 32, 32))
    _, unmixed = augment(images, labels, plain, generator)
    assert torch.equal(unmixed, labels)


def test_validation_chips_cost_one_tile_each() -> None:
    section = TrainSection(tiles={"tile": 320, "halo": 32})  # type: ignore[arg-type]
    assert validation_plan(section, 128).tile == 192
    blended = TrainSection(tiles={"tile": 320, "halo": 16, "blend": 16})  # type: ignore[arg-type]
    assert validation_plan(blended, 128).tile == 320


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 6, 9, 10, 11, 100])
def test_the_schedule_holds_however_few_steps_there_are(steps: int) -> None:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=steps, pct_start=rising_share(steps)
    )
    rates = []
    for _ in range(steps):
        rates.append(float(schedule.get_last_lr()[0]))
        optimizer.step()
        if len(rates) < steps:
            schedule.step()
    assert np.isfinite(rates).all()
    assert rates[-1] < 0.01
    if steps > 2:
        assert max(rates) > 0.5
