"""The use case file (design 4.5): the task as data. This package owns its `data` section.

Sections that other packages own stay opaque here; each section has its digest.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from eo_data.bands import Band, band_key
from eo_data.digests import json_digest
from eo_data.errors import UsageError

IGNORE: Final = 255
"""Label value of a pixel that is not scored, and mask value of a pixel without data."""

Split = Literal["train", "validation", "holdout", "test"]
SPLITS: Final[tuple[Split, ...]] = ("train", "validation", "holdout", "test")

SectionModel = TypeVar("SectionModel", bound=BaseModel)


class Section(BaseModel):
    """Base of every part of a use case: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Reflectance(Section):
    """How sensor values become reflectance where neither item, file nor request says it (design 4.6)."""

    scale: float = Field(default=0.0001, gt=0, description="reflectance = value * scale + offset")
    offset: float = Field(default=0.0, description="added after scaling, in reflectance")
    nodata: float | None = Field(default=None, description="sensor value without data, where the file declares none")


class ClassDefinition(Section):
    """One class of the mask."""

    name: str
    color: str = Field(pattern=r"^#[0-9a-fA-F]{6}$")
    label_values: tuple[int, ...] = Field(min_length=1, description="values of source labels that mean this class")


class FolderPattern(Section):
    """How image and label files of a folder pair up; `{id}` stands for the scene's id."""

    image: str = "images/{id}.tif"
    label: str = "labels/{id}.tif"

    @model_validator(mode="after")
    def _has_id(self) -> Self:
        for pattern in (self.image, self.label):
            if pattern.count("{id}") != 1:
                raise ValueError(f"'{pattern}' must hold {{id}} exactly once")
        return self


class Expectations(Section):
    """What a scene must be like to be learned from; the Great Expectations suite is made from this."""

    crs: Literal["required", "absent", "any"] = "required"
    min_size: int = Field(default=32, ge=1, description="least height and width, pixels")
    max_size: int = Field(default=20000, ge=1, description="greatest height and width, pixels")
    dtypes: tuple[str, ...] = ("uint16", "int16")
    max_invalid_fraction: float = Field(default=0.9, ge=0, lt=1, description="pixels without data in any input band")
    quantile_range: tuple[float, float] = Field(
        default=(-2000.0, 20000.0), description="per-band 2 % and 98 % quantiles must lie in it, reflectance x 10000"
    )
    max_ignored_label_fraction: float = Field(default=0.99, gt=0, le=1)


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

    @model_validator(mode="after")
    def _shares_add_up(self) -> Self:
        for name, shares in [("fractions", self.fractions), *self.lists.items()]:
            if isinstance(shares, dict) and abs(sum(shares.values()) - 1) > 1e-9:
                raise ValueError(f"the shares of '{name}' add up to {sum(shares.values()):g}, not to 1")
            if isinstance(shares, dict) and min(shares.values()) < 0:
                raise ValueError(f"a share of '{name}' is negative")
        return self


class DataSection(Section):
    """The `data` section: sensor, bands, classes, what to expect, how to cut and split."""

    sensor: str = Field(description="name of the sensor and product, for people and records")
    bands: tuple[Band, ...] = Field(min_length=1, description="the full list that a file without descriptions holds")
    inputs: tuple[str, ...] = Field(min_length=1, description="the bands that the model reads, in its order")
    reflectance: Reflectance = Reflectance()
    classes: tuple[ClassDefinition, ...] = Field(min_length=2, max_length=254)
    ignore_label_values: tuple[int, ...] = Field(default=(), description="values of source labels that are not scored")
    folders: tuple[FolderPattern, ...] = Field(
        default=(FolderPattern(),), description="the first that finds images counts"
    )
    expectations: Expectations = Expectations()
    chip: ChipShape = ChipShape()
    split: SplitRule
    simulator: Literal["sentinel-2-l1c"] | None = Field(default=None, description="which simulated scenes stand in")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        keys: dict[str, str] = {}
        for band in self.bands:
            for key in band.keys:
                if keys.setdefault(key, band.name) != band.name:
                    raise ValueError(f"'{key}' names two bands, {keys[key]} and {band.name}")
        for name in self.inputs:
            if band_key(name) not in keys:
                raise ValueError(f"input '{name}' is none of the bands")
        if len({keys[band_key(name)] for name in self.inputs}) != len(self.inputs):
            raise ValueError("a band stands twice in 'inputs'")
        values = [v for c in self.classes for v in c.label_values] + list(self.ignore_label_values)
        if len(set(values)) != len(values):
            raise ValueError("a label value stands for two things in 'classes' and 'ignore_label_values'")
        return self

    @property
    def input_bands(self) -> tuple[Band, ...]:
        """The bands that the model reads, in its order."""
        by_key = {key: band for band in self.bands for key in band.keys}
        return tuple(by_key[band_key(name)] for name in self.inputs)


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
        unknown = set(sections) - {"title", "data", "train", "gate", "serve", "monitor"}
        if unknown:
            raise UsageError(
                f"unknown section '{sorted(unknown)[0]}'",
                where=source,
                fix="Sections are data, train, gate, serve, monitor",
            )
        self.data = self.section("data", DataSection)

    @classmethod
    def load(cls, name_or_path: str) -> UseCase:
        """Read a use case by name or by path of its file or folder.

        Raises:
            UsageError: If it cannot be found, is no YAML, or its `data` section is impossible.
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
    raise UsageError(
        f"there is no use case '{name_or_path}'",
        where="--usecase",
        fix=f"Known here: {', '.join(known)}" if known else "Set TERRALOOP_USECASES to the folder that holds it",
    )
