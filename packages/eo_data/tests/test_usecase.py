"""The use case file: what is refused, under which path, and how it is found (design 4.5)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import Field

from eo_data.errors import UsageError
from eo_data.section import Section
from eo_data.usecase import SPLITS, UseCase

from .conftest import ROOT

WATER: dict[str, Any] = yaml.safe_load((ROOT / "usecases" / "water" / "usecase.yaml").read_text())


def changed(path: str, value: Any) -> dict[str, Any]:
    """The water use case with one value replaced."""
    sections = copy.deepcopy(WATER)
    *parents, last = path.split(".")
    place: Any = sections
    for part in parents:
        place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
    if isinstance(place, list):
        place[int(last)] = value
    else:
        place[last] = value
    return sections


@pytest.mark.parametrize(("name", "bands", "inputs"), [("water", 13, 6), ("water-hls", 7, 7), ("water-l2a", 13, 6)])
def test_the_shipped_files_load(name: str, bands: int, inputs: int) -> None:
    usecase = UseCase.load(name)
    assert usecase.name == name
    assert usecase.title.startswith("Surface water")
    assert len(usecase.data.bands) == bands
    assert tuple(band.name for band in usecase.data.input_bands) == usecase.data.inputs
    assert len(usecase.data.inputs) == inputs
    assert [definition.name for definition in usecase.data.classes] == ["land", "water"]
    assert set(usecase.data.split.fractions) == set(SPLITS)


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("data.bandz", 1, "data.bandz"),
        ("data.split.salt", None, "data.split.salt"),
        ("data.split.fractions", {"train": 0.5, "test": 0.4}, "data.split.fractions"),
        ("data.split.fractions", {"train": 1.5, "test": -0.5}, "data.split.fractions"),
        ("data.split.fractions", {}, "data.split.fractions"),
        ("data.split.fractions", {"training": 1.0}, "data.split.fractions"),
        ("data.split.lists", {"val": {"train": 0.5}}, "data.split.lists"),
        ("data.split.lists", {"val": "somewhere"}, "data.split.lists"),
        ("data.split.lists", {"../val": "test"}, "data.split.lists"),
        ("data.split.cell", 0, "data.split.cell"),
        ("data.split.cell", float("inf"), "data.split.cell"),
        ("data.chip.size", 100, "data.chip.size"),
        ("data.chip.size", 2048, "data.chip.size"),
        ("data.chip.sise", 128, "data.chip.sise"),
        ("data.reflectance.scale", 0, "data.reflectance.scale"),
        ("data.reflectance.nodata", float("nan"), "data.reflectance.nodata"),
        ("data.classes", [WATER["data"]["classes"][0]], "data.classes"),
        ("data.classes.1.color", "blue", "data.classes.1.color"),
        ("data.classes.1.name", "land", "data.classes"),
        ("data.classes.1.label_values", [0], "data.classes"),
        ("data.classes.1.label_values", [], "data.classes.1.label_values"),
        ("data.ignore_label_values", [1], "data.ignore_label_values"),
        ("data.ignore_label_values", [9, 9], "data.ignore_label_values"),
        ("data.inputs", ["B02", "B99"], "data.inputs"),
        ("data.inputs", ["B02", "blue"], "data.inputs"),
        ("data.inputs", [], "data.inputs"),
        ("data.bands.1.name", "B1", "data.bands"),
        ("data.bands.1.name", " ", "data.bands.1.name"),
        ("data.bands.1.aliases", ["nir"], "data.bands"),
        ("data.folders.0.image", "images/*.tif", "data.folders.0.image"),
        ("data.folders.0.image", "../{id}.tif", "data.folders.0.image"),
        ("data.folders.0.label", "/labels/{id}.tif", "data.folders.0.label"),
        ("data.folders.0.image", "{id}/*.tif", "data.folders.0.image"),
        ("data.folders.0.image", "{id}/{scene}.tif", "data.folders.0.image"),
        ("data.folders.0.image", "S2/{band}.tif", "data.folders.0.image"),
        ("data.folders.0.label", "{id}/{band}.tif", "data.folders.0.label"),
        ("data.folders.0.label", "*/{id}.tif", "data.folders.0.label"),
        ("data.folders.0.label", "[ab]/{id}.tif", "data.folders.0.label"),
        ("data.expectations.quantile_range", [5, -5], "data.expectations.quantile_range"),
        ("data.expectations.max_size", 8, "data.chip"),
        ("data.expectations.min_size", 50_000, "data.expectations.max_size"),
        ("data.expectations.crs", "maybe", "data.expectations.crs"),
        ("data.reflectance.offset_by_values.band", "B99", "data.reflectance"),
        ("data.reflectance.offset_by_values.below", 900, "data.reflectance.offset_by_values.below"),
        ("data.simulator", "landsat", "data.simulator"),
        ("data", [1], "data"),
        ("data", None, "data.sensor"),
    ],
)
def test_what_is_impossible_is_refused_by_its_path(path: str, value: Any, named: str) -> None:
    with pytest.raises(UsageError) as refusal:
        UseCase("water", changed(path, value), "usecase.yaml")
    assert f"usecase.yaml: {named}" in str(refusal.value)
    assert refusal.value.what.startswith(f"{named}: ") or refusal.value.what.startswith(f"{named}.")
    assert refusal.value.fix


def test_every_fault_is_told_at_once() -> None:
    sections = changed("data.chip.size", 100)
    sections["data"]["split"]["cell"] = -1
    with pytest.raises(UsageError, match=r"data\.chip\.size.*data\.split\.cell"):
        UseCase("water", sections)


@pytest.mark.parametrize("strange", [{"dada": {}}, {1: {}, "x": {}}])
def test_an_unknown_section_is_refused(strange: dict[Any, Any]) -> None:
    with pytest.raises(UsageError, match=r"unknown section '(dada|1)'"):
        UseCase("water", WATER | strange)


class Training(Section):
    epochs: int = Field(ge=1, default=3)


def test_sections_belong_to_their_packages() -> None:
    usecase = UseCase("water", WATER | {"train": {"anything": 1}})  # opaque to this package
    assert UseCase("water", WATER | {"train": {"epochs": 5}}).section("train", Training).epochs == 5
    assert UseCase("water", WATER).section("monitor", Training).epochs == 3
    with pytest.raises(UsageError, match=r"train\.anything"):
        usecase.section("train", Training)


def test_a_sections_digest_is_that_of_its_values_alone() -> None:
    usecase = UseCase("water", WATER)
    shuffled = UseCase("other", dict(reversed(WATER.items())) | {"data": dict(reversed(WATER["data"].items()))})
    assert shuffled.digest("data") == usecase.digest("data")
    more = UseCase("water", changed("train.epochs", 99))
    assert more.digest("data") == usecase.digest("data")
    assert more.digest("train") != usecase.digest("train")
    assert UseCase("water", changed("data.chip.size", 64)).digest("data") != usecase.digest("data")
    assert len(usecase.digest("monitor")) == 64  # an absent section has one too


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[str, str], Path]:
    def make(name: str, text: str) -> Path:
        path = tmp_path / name / "usecase.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(text, encoding="utf-8")
        return path

    return make


def test_a_use_case_is_found_by_name_path_and_folder(
    folder: Callable[[str, str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder("usecases/Ödland", "")
    path = folder("usecases/mine", yaml.safe_dump(WATER))
    monkeypatch.setenv("TERRALOOP_USECASES", str(tmp_path / "usecases"))
    assert UseCase.load("mine").name == "mine"
    monkeypatch.delenv("TERRALOOP_USECASES")
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert UseCase.load("mine").source == str(path)
    assert UseCase.load(str(path.parent)).name == UseCase.load("../../usecases/mine/usecase.yaml").name == "mine"
    with pytest.raises(UsageError, match=r"no use case 'nine'.*Known here: mine, .*land"):
        UseCase.load("nine")
    for missing in ("nowhere/usecase.yaml", "nowhere.yaml", str(tmp_path)):
        with pytest.raises(UsageError, match="no such use case file"):
            UseCase.load(missing)


def test_a_name_that_no_model_can_bear_is_refused(folder: Callable[[str, str], Path]) -> None:
    path = folder("my water", yaml.safe_dump(WATER))
    with pytest.raises(UsageError, match="'my water' is no name of a use case"):
        UseCase.load(str(path))


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words", "data: [", "data: !!python/object:os.system {}"])
def test_a_file_that_is_no_use_case_is_refused(folder: Callable[[str, str], Path], text: str) -> None:
    path = folder("mine", text)
    with pytest.raises(UsageError, match=r"usecase\.yaml"):
        UseCase.load(str(path))


def test_a_file_in_another_encoding_is_refused(folder: Callable[[str, str], Path]) -> None:
    path = folder("mine", "")
    path.write_bytes("title: Gewässer".encode("latin-1"))
    with pytest.raises(UsageError, match="cannot be read"):
        UseCase.load(str(path))


def test_a_use_case_does_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        UseCase("water", WATER).data.chip.size = 64  # type: ignore[misc]
