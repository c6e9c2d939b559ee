from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from eo_data.dataset import model_input
from eo_models.configuration import train_section
from eo_models.ensemble import Members
from eo_models.export import check_export, export_network
from eo_models.fit import fit
from eo_models.members import SEED_STEP, fit_members
from eo_models.training import train_network

from .conftest import BANDS, World


def test_members_are_the_networks_of_their_seeds_averaged_in_one_graph(make_world: Callable[..., World]) -> None:
    world = make_world(train={"epochs": 2, "members": 2})
    section = train_section(world.usecase)
    told: list[int] = []
    both = fit_members(world.dataset, section, [(1, 2)], lambda epoch, figures: told.append(epoch), progress=False)
    assert told == [1, 2, 3, 4]
    assert both.epochs == 4
    alone = [
        fit(world.dataset, section.model_copy(update={"seed": seed}), [(1, 2)], lambda *_: None, progress=False)
        for seed in (0, SEED_STEP)
    ]
    assert both.weights == sum(one.weights for one in alone)
    chips = np.stack([model_input(world.dataset.read(chip)[0])[0] for chip in world.dataset.chips("test")])
    with torch.inference_mode():
        first, second = (one.network(torch.from_numpy(chips)) for one in alone)
        found = both.network(torch.from_numpy(chips))
    assert not torch.allclose(first, second, atol=0.01)
    torch.testing.assert_close(found, (first + second) / 2)
    assert check_export(both.network, export_network(both.network, len(BANDS)), chips) < 1e-4


def test_one_member_is_the_plain_network(make_world: Callable[..., World]) -> None:
    world = make_world(train={"epochs": 1})
    fitted = fit_members(world.dataset, train_section(world.usecase), [], lambda *_: None, progress=False)
    assert not isinstance(fitted.network, Members)


def test_a_version_of_several_members_says_what_it_holds(make_world: Callable[..., World]) -> None:
    world = make_world(train={"epochs": 1, "members": 2})
    section = train_section(world.usecase)
    steps: list[int] = []
    artifact = train_network(
        world.usecase, world.dataset, section, [], lambda figures, epoch: steps.append(epoch), progress=False
    )
    assert steps == [1, 2]
    assert artifact.description.parameters["train"]["members"] == 2
    artifact.model().self_test()


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_kept_epoch_is_the_best_or_the_last(make_world: Callable[..., World], keep: str) -> None:
    world = make_world(train={"epochs": 5, "patience": 2, "keep": keep})
    for chip in world.dataset.chips("validation"):  # the other way round: what is learned makes these figures worse
        path = world.store.raster_path(f"datasets/{world.dataset.digest}/chips/{chip.shard}.labels.npy")
        labels = np.load(path)
        np.save(path, np.where(labels == 255, 255, 1 - labels).astype(np.uint8))
    seen: list[float] = []
    fitted = fit(
        world.dataset,
        train_section(world.usecase),
        [],
        lambda epoch, figures: seen.append(figures["selection"]),
        progress=False,
    )
    if keep == "last":
        assert fitted.epoch == fitted.epochs == len(seen) == 5
        assert seen[-1] < max(seen)
    else:
        assert fitted.epoch == 1 + int(np.argmax(seen)) < len(seen)
