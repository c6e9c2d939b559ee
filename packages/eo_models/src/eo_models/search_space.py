"""The `tune` section of a use case: which settings of `train` are varied, how far, and when a trial is given up."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field, JsonValue, ValidationError, model_validator

from eo_data.errors import UsageError
from eo_data.section import Section
from eo_data.usecase import UseCase
from eo_models.configuration import TrainSection

if TYPE_CHECKING:
    from optuna import Trial

DIGITS = 4
"""Significant digits of a number that is tried: what is pasted into the use case is what was trained."""


class Range(Section):
    """Numbers between two ends, both included; whole ones where the setting is a whole number."""

    low: float
    high: float
    log: bool = Field(default=False, description="whether magnitudes are equally likely, not numbers")

    @model_validator(mode="after")
    def _rises(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError("low is above 0 where log is true")
        return self

    def ends(self) -> tuple[float, ...]:
        """Values that a section must be able to hold."""
        return self.low, self.high

    def suggest(self, trial: Trial, key: str) -> float:
        """What a trial tries."""
        if _kind(key) is int:
            return trial.suggest_int(key, round(self.low), round(self.high), log=self.log)
        value = trial.suggest_float(key, self.low, self.high, log=self.log)
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)

    def encoded(self, value: Any) -> float | None:
        """A value as a trial holds it; None where it does not lie between the ends."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return value if number and self.low <= value <= self.high else None


class Choices(Section):
    """One of some values, of whatever kind the setting is."""

    choices: tuple[JsonValue, ...] = Field(min_length=1)

    def ends(self) -> tuple[JsonValue, ...]:
        """Values that a section must be able to hold."""
        return self.choices

    def suggest(self, trial: Trial, key: str) -> JsonValue:
        """What a trial tries."""
        told = [_label(choice) for choice in self.choices]
        return self.choices[told.index(trial.suggest_categorical(key, told))]

    def encoded(self, value: Any) -> str | float | None:
        """A value as a trial holds it; None where it is none of the choices."""
        return _label(value) if value in self.choices else None


class Pruning(Section):
    """Optuna's median rule: a trial ends whose figure after an epoch is below the median of those before it."""

    startup: int = Field(default=4, ge=1, description="trials that are never given up")
    warmup: int = Field(default=3, ge=0, description="epochs after which it is first asked")


class TuneSection(Section):
    """The `tune` section: the search space of `eo-models tune`."""

    space: dict[str, Range | Choices] = Field(
        default={}, description="dotted settings of `train`, such as augmentation.paste, each with a range or choices"
    )
    trials: int = Field(default=20, ge=1, description="in all, unless `--trials` says otherwise")
    pruning: Pruning | None = Field(default=Pruning(), description="null: every trial runs to its end")
    seed: int = Field(default=0, ge=0)


def tune_section(usecase: UseCase) -> TuneSection:
    """The use case's `tune` section, each of its values one that `train` can hold.

    What two settings cannot be together is found by the trial that draws them.

    Raises:
        UsageError: Naming the path of each wrong line, or that there is no space.
    """
    section = usecase.section("tune", TuneSection)
    if not section.space:
        raise UsageError(
            "no search space is declared",
            where=f"{usecase.source}: tune.space",
            fix="Add settings of train to it, such as `learning_rate: {low: 0.001, high: 0.02, log: true}`",
        )
    faults = [
        f"tune.space.{key}: {fault}" for key, domain in section.space.items() for fault in _faults(usecase, key, domain)
    ]
    if faults:
        raise UsageError("; ".join(faults), where=usecase.source, fix="Correct the use case file")
    return section


def suggest(section: TuneSection, trial: Trial) -> dict[str, Any]:
    """A value for each setting of the space, by its dotted name."""
    return {key: domain.suggest(trial, key) for key, domain in section.space.items()}


def present(section: TuneSection, train: TrainSection) -> dict[str, Any] | None:
    """What `train` says now, as a trial holds it; None where the space does not hold it."""
    found = {key: domain.encoded(_look_up(train.model_dump(mode="json"), key)) for key, domain in section.space.items()}
    return None if None in found.values() else found


def with_values(train: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """A `train` section as it stands in a file, with other values at dotted names."""
    result: dict[str, Any] = deepcopy(dict(train))
    for key, value in chosen.items():
        *folders, last = key.split(".")
        inner = result
        for name in folders:
            inner = inner.setdefault(name, {})
        inner[last] = value
    return result


def _faults(usecase: UseCase, key: str, domain: Range | Choices) -> Iterator[str]:
    """What is wrong with a setting and its domain, whatever the other settings are."""
    kind = _kind(key)
    if kind is None:
        yield "train has no such setting"
        return
    if isinstance(domain, Range) and kind not in (int, float):
        yield "this setting is no number: give choices"
        return
    if isinstance(domain, Range) and kind is int and any(end != int(end) for end in domain.ends()):
        yield "this setting is a whole number, the ends are not"
        return
    place = tuple(key.split("."))
    for value in domain.ends():
        given = int(value) if kind is int and isinstance(value, float) and value.is_integer() else value
        try:
            TrainSection.model_validate(with_values(usecase.values("train"), {key: given}))
        except ValidationError as error:
            for fault in error.errors(include_url=False):
                if fault["loc"][: len(place)] == place:
                    yield f"{json.dumps(value)}: {fault['msg']}"


def _kind(key: str) -> Any:
    """The type of a setting of `train`; None where there is none of this name."""
    kind: Any = TrainSection
    for name in key.split("."):
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)) or name not in kind.model_fields:
            return None
        kind = kind.model_fields[name].annotation
    return kind


def _look_up(values: Mapping[str, Any], key: str) -> Any:
    for name in key.split("."):
        values = values[name]
    return values


def _label(value: JsonValue) -> Any:
    """A choice as Optuna's storage holds it: scalars as they are, the rest as JSON."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("not a finite number")
    return json.dumps(value) if isinstance(value, list | dict) else value
