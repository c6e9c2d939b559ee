"""The use case file (design 4.5): the task as data. This package owns its `data` section.

Sections that other packages own stay opaque here; each section has its digest.
"""

from __future__ import annotations

import copy
import os
import re
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import yaml
from pydantic import BaseModel, Field, ValidationError, ValidationInfo, field_validator

from eo_data.bands import Band, band_key
from eo_data.digests import json_digest
from eo_data.errors import UsageError
from eo_data.expectations import Expectations
from eo_data.folder_pattern import FolderPattern
from eo_data.grid_rule import GridRule
from eo_data.reflectance import Reflectance
from eo_data.section import Section

IGNORE: Final = 255
"""Label value of a pixel that is not scored, and mask value of a pixel without data."""

Split = Literal["train", "validation", "holdout", "test"]
SPLITS: Final[tuple[Split, ...]] = ("train", "validation", "holdout", "test")

VALID_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

SectionModel = TypeVar("SectionModel", bound=BaseModel)


class ClassDefinition(Section):
    """One class of the mask."""

    name: str
    color: str = Field(pattern=r"^#[0-9a-fA-F]{6}$")
    label_values: tuple[int, ...] = Field(min_length=1, description="values of source labels that mean this class")


class LabelRule(Section):
    """How labels that are drawn as polygons are read."""

    outside: str | None = Field(
        default=None, description="class of what no polygon covers; without it that is not scored"
    )


class ChipShape(Section):
    """How scenes are cut."""

    size: int = Field(default=128, ge=16, le=1024, multiple_of=16, description="height and width, pixels")
    min_valid_fraction: float = Field(default=0.1, ge=0, le=1, description="of pixels with data and a label")


class SplitRule(Section):
    """Which side a place is on (design 4.2)."""

    salt: str
    cell: float = Field(default=5120.0, gt=0, description="side of a cell on the global equal-area grid, metres")
    fractions: dict[Split, float] = Field(default={"train": 0.5, "validation": 0.15, "holdout": 0.175, "test": 0.175})
    lists: dict[str, Split | dict[Split, float]] = Field(
        default={}, description="for scenes without CRS: the source's list -> a side, or shares by hash of the id"
    )

    @field_validator("fractions")
    @classmethod
    def _are_shares(cls, shares: dict[Split, float]) -> dict[Split, float]:
        if min(shares.values(), default=0) < 0:
            raise ValueError("a share is negative")
        if abs(sum(shares.values()) - 1) > 1e-9:
            raise ValueError(f"the shares add up to {sum(shares.values()):g}, not to 1")
        return shares

    @field_validator("lists")
    @classmethod
    def _lists_are_shares(cls, lists: dict[str, Split | dict[Split, float]]) -> dict[str, Split | dict[Split, float]]:
        for name, shares in lists.items():
            if not re.fullmatch(r"[\w.-]+", name):
                raise ValueError(f"'{name}' is no name of a list: train stands for train.csv")
            if isinstance(shares, dict):
                try:
                    cls._are_shares(shares)
                except ValueError as error:
                    raise ValueError(f"'{name}': {error}") from error
        return lists


class DataSection(Section):
    """The `data` section: sensor, bands, classes, what to expect, how to cut and split."""

    sensor: str = Field(description="name of the sensor and product, for people and records")
    bands: tuple[Band, ...] = Field(
        min_length=1, description="the full list; its reflectance bands are what a file without descriptions holds"
    )
    inputs: tuple[str, ...] = Field(min_length=1, description="the bands that the model reads, in its order")
    reflectance: Reflectance = Reflectance()
    classes: tuple[ClassDefinition, ...] = Field(min_length=2, max_length=254)
    ignore_label_values: tuple[int, ...] = Field(default=(), description="values of source labels that are not scored")
    grid: GridRule = GridRule()
    labels: LabelRule = LabelRule()
    folders: tuple[FolderPattern, ...] = Field(
        default=(FolderPattern(),), description="the first that finds images counts"
    )
    expectations: Expectations = Expectations()
    chip: ChipShape = Field(default=ChipShape(), validate_default=True)
    split: SplitRule
    simulator: Literal["sentinel-2-l1c"] | None = Field(default=None, description="which simulated scenes stand in")

    @field_validator("bands")
    @classmethod
    def _bands_differ(cls, bands: tuple[Band, ...]) -> tuple[Band, ...]:
        keys: dict[str, Band] = {}
        for band in bands:
            for key in band.keys:
                if keys.setdefault(key, band) is not band:
                    raise ValueError(f"'{key}' names two bands, {keys[key].name} and {band.name}")
        return bands

    @field_validator("inputs")
    @classmethod
    def _inputs_are_bands(cls, inputs: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if "bands" not in info.data:  # they are at fault themselves
            return inputs
        keys = {key: band.name for band in info.data["bands"] for key in band.keys}
        for name in inputs:
            if band_key(name) not in keys:
                raise ValueError(f"'{name}' is none of the bands")
        categorical = {band.name for band in info.data["bands"] if band.kind == "categorical"}
        for name in inputs:
            if keys[band_key(name)] in categorical:
                raise ValueError(f"'{name}' is categorical: a model reads reflectance")
        if len({keys[band_key(name)] for name in inputs}) != len(inputs):
            raise ValueError("a band stands twice")
        return inputs

    @field_validator("reflectance")
    @classmethod
    def _dark_band_is_a_band(cls, reflectance: Reflectance, info: ValidationInfo) -> Reflectance:
        told = reflectance.offset_by_values
        if told and "bands" in info.data and not any(band_key(told.band) in b.keys for b in info.data["bands"]):
            raise ValueError(f"offset_by_values.band: '{told.band}' is none of the bands")
        return reflectance

    @field_validator("chip")
    @classmethod
    def _fits_a_scene(cls, chip: ChipShape, info: ValidationInfo) -> ChipShape:
        expect = info.data.get("expectations")
        if expect and expect.min_size is None and chip.size > expect.max_size:
            raise ValueError(f"a chip of {chip.size} pixels is greater than expectations.max_size, {expect.max_size}")
        return chip

    @field_validator("classes")
    @classmethod
    def _classes_differ(cls, classes: tuple[ClassDefinition, ...]) -> tuple[ClassDefinition, ...]:
        if len({definition.name for definition in classes}) != len(classes):
            raise ValueError("two classes have one name")
        _once([value for definition in classes for value in definition.label_values])
        return classes

    @field_validator("ignore_label_values")
    @classmethod
    def _values_differ(cls, ignored: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        _once([*ignored, *(value for definition in info.data.get("classes", ()) for value in definition.label_values)])
        return ignored

    @field_validator("labels")
    @classmethod
    def _outside_is_a_class(cls, labels: LabelRule, info: ValidationInfo) -> LabelRule:
        names = [definition.name for definition in info.data.get("classes", ())]
        if names and labels.outside is not None and labels.outside not in names:
            raise ValueError(f"outside: '{labels.outside}' is none of the classes")
        return labels

    @property
    def input_bands(self) -> tuple[Band, ...]:
        """The bands that the model reads, in its order."""
        by_key = {key: band for band in self.bands for key in band.keys}
        return tuple(by_key[band_key(name)] for name in self.inputs)

    @property
    def dark_band(self) -> Band | None:
        """The band of `reflectance.offset_by_values`; None where the use case has no such rule."""
        told = self.reflectance.offset_by_values
        return next((b for b in self.bands if told and band_key(told.band) in b.keys), None)


def _once(values: list[int]) -> None:
    doubled = {value for value in values if values.count(value) > 1}
    if doubled:
        raise ValueError(f"label value {min(doubled)} stands for two things")


class UseCase:
    """A use case: its name, its `data` section, and the others as they stand in the file.

    Args:
        name: The folder's name; also the registered model's name.
        sections: The file's content.
        source: Where it was read from, for messages.
    """

    def __init__(self, name: str, sections: dict[str, Any], source: str = "use case") -> None:
        self.name = name
        self.source = source
        self._sections = sections
        self.title = str(sections.get("title", name))
        if not VALID_NAME.fullmatch(name):
            raise UsageError(
                f"'{name}' is no name of a use case",
                where=source,
                fix="Name its folder with letters, digits, '.', '_' and '-': models and folders of the store bear it",
            )
        unknown = set(map(str, sections)) - {"title", "data", "train", "tune", "gate", "serve", "monitor"}
        if unknown:
            raise UsageError(
                f"unknown section '{min(unknown)}'",
                where=source,
                fix="Sections are data, train, tune, gate, serve, monitor",
            )
        self.data = self.section("data", DataSection)

    @classmethod
    def load(cls, name_or_path: str) -> UseCase:
        """Read a use case by name or by path of its file or folder.

        Raises:
            UsageError: If it cannot be found or bears no name, is no YAML, or its `data` section is impossible.
        """
        path = find_usecase(name_or_path)
        try:
            sections = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UsageError(
                f"the use case cannot be read ({' '.join(str(error).split())})", where=str(path)
            ) from error
        if not isinstance(sections, dict):
            raise UsageError("a use case is a mapping of sections", where=str(path), fix="See usecases/water")
        return cls(path.parent.name, sections, str(path))

    def section(self, name: str, model: type[SectionModel]) -> SectionModel:
        """A section as the model of the package that owns it; an absent section is the model's defaults.

        Raises:
            UsageError: Naming the path of each wrong line, such as `train.epochs`.
        """
        try:
            return model.model_validate(self._sections.get(name) or {})
        except ValidationError as error:
            faults = "; ".join(
                f"{'.'.join(str(part) for part in (name, *fault['loc']))}: {fault['msg']}"
                for fault in error.errors(include_url=False)
            )
            raise UsageError(faults, where=self.source, fix="Correct the use case file") from error

    def values(self, name: str) -> dict[str, Any]:
        """A copy of a section as it stands in the file."""
        return copy.deepcopy(self._sections.get(name) or {})

    def with_section(self, name: str, values: dict[str, Any]) -> UseCase:
        """The same use case with other values in one section; nothing is written to its file."""
        return UseCase(self.name, {**self._sections, name: values}, self.source)

    def digest(self, section: str) -> str:
        """The digest of a section as it stands in the file."""
        return json_digest(self._sections.get(section) or {})


def find_usecase(name_or_path: str) -> Path:
    """The path of a use case's file.

    A path to a file or folder is taken as it is; a name is looked up in `TERRALOOP_USECASES`, else in
    `usecases/` of the working directory and its parents.

    Raises:
        UsageError: If there is none, naming those that are there.
    """
    given = Path(name_or_path)
    if given.suffix in {".yaml", ".yml"} or "/" in name_or_path:
        path = given / "usecase.yaml" if given.is_dir() else given
        if not path.is_file():
            raise UsageError("there is no such use case file", where=str(path), fix="Check the path")
        return path.resolve()
    configured = os.environ.get("TERRALOOP_USECASES")
    here = Path.cwd()
    folders = [Path(configured)] if configured else [folder / "usecases" for folder in (here, *here.parents)]
    for folder in folders:
        path = folder / name_or_path / "usecase.yaml"
        if path.is_file():
            return path.resolve()
    known = sorted({path.parent.name for folder in folders for path in folder.glob("*/usecase.yaml")})
    if (here / name_or_path / "usecase.yaml").is_file():
        raise UsageError(
            f"there is no use case '{name_or_path}', but there is such a folder here",
            where="--usecase",
            fix=f"Write ./{name_or_path} to mean it",
        )
    raise UsageError(
        f"there is no use case '{name_or_path}'",
        where="--usecase",
        fix=f"Known here: {', '.join(known)}" if known else "Set TERRALOOP_USECASES to the folder that holds it",
    )
