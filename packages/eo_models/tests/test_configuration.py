from __future__ import annotations

from pathlib import Path

import pytest

from eo_data.errors import UsageError
from eo_data.usecase import UseCase
from eo_models.configuration import gate_section, receptive_radius, train_section

from .conftest import SECTIONS


def usecase(section: str, **values: object) -> UseCase:
    return UseCase("made-up", {**SECTIONS, section: {**SECTIONS[section], **values}})  # type: ignore[dict-item]


@pytest.mark.parametrize("name", ["water", "water-hls", "water-l2a"])
def test_shipped_use_cases_are_possible(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERRALOOP_USECASES", str(Path(__file__).parents[3] / "usecases"))
    found = UseCase.load(name)
    assert train_section(found).tiles.halo >= receptive_radius(train_section(found).convolutions)
    assert gate_section(found).tolerance == 0.05


@pytest.mark.parametrize(
    ("section", "values", "named"),
    [
        ("train", {"epochs": 0}, "train.epochs"),
        ("train", {"epoch": 3}, "train.epoch"),
        ("train", {"tiles": {"tile": 100}}, "train.tiles.tile"),
        ("train", {"tiles": {"halo": 33}}, "train.tiles.halo"),
        ("train", {"tiles": {"tile": 64, "halo": 32}}, "train.tiles"),
        ("train", {"convolutions": [1, 1, 1]}, "train.convolutions"),
        ("train", {"convolutions": [0, 1, 1, 1]}, "convolutions"),
        ("train", {"convolutions": [2, 2, 2, 2]}, "looks 51 pixels far"),
        ("gate", {"tolerance": -0.1}, "gate.tolerance"),
        ("gate", {"min_cells": 1}, "gate.min_cells"),
    ],
)
def test_impossible_values_are_named(section: str, values: dict[str, object], named: str) -> None:
    read = train_section if section == "train" else gate_section
    with pytest.raises(UsageError, match=named):
        read(usecase(section, **values))


def test_a_halo_that_is_too_small_may_be_blended() -> None:
    tiles = {"tile": 96, "halo": 16, "blend": 16}
    assert train_section(usecase("train", tiles=tiles)).tiles.tiling().blend == 16
