"""Drift of inputs: how far a window of requests lies from what a model was trained on, and whether that is chance.

Pixels of one request are no independent witnesses: requests are. So each request counts as one unit, its band values
as a distribution of its own; a window's distribution is the mean of its units', and chance is judged by permuting
units between window and reference. PSI (population stability index, N. Siddiqi, Credit Risk Scorecards, 2006) says how
large a shift is, the permutation test of the Kolmogorov-Smirnov distance whether it can be chance, corrected over all
bands and strata by Benjamini and Hochberg (1995). Both must speak before anything is called drift.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from eo_serving.configuration import MonitorSection
from eo_serving.input_sample import PROBABILITIES

BINS: Final = 20
_POINTS: Final = 64
"""Values that stand for a unit's distribution."""
_FLOOR: Final = 1e-3
"""Least share of a bin: PSI is infinite at 0."""
_MOST: Final = 400
"""Units of a side that are permuted; more would only cost time."""

Status = Literal["compared", "no reference", "not enough"]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Unit:
    """A request, or a scene of the training split.

    Attributes:
        quantiles: Per band at `PROBABILITIES`, reflectance x 10000, `[bands, probabilities]`.
        class_fractions: Per class, of pixels with data.
        month: 1 to 12; None where nobody says.
    """

    quantiles: tuple[tuple[float, ...], ...]
    class_fractions: tuple[float, ...]
    month: int | None = None


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FeatureDrift(_Record):
    """One band, or the share of one class, in one stratum.

    Attributes:
        name: The band, or `share of CLASS`.
        shift: PSI of a band; for a class the difference of mean shares.
        distance: Kolmogorov-Smirnov distance of a band; for a class the difference's absolute value.
        p_value: Of the permutation test.
        adjusted: The same, corrected over all that was compared in the window.
        drifted: Whether shift and adjusted p-value are beyond their limits.
    """

    name: str
    shift: float
    distance: float
    p_value: float
    adjusted: float = 1.0
    drifted: bool = False


class StratumDrift(_Record):
    """One stratum of a window.

    Attributes:
        sensor: The use case's sensor.
        month: 1 to 12; None holds what does not say its month, which is compared with all months.
        status: Whether it could be compared.
        requests: Units of the window.
        reference: Units that it was compared with.
        features: What was found; empty where it could not be compared.
    """

    sensor: str
    month: int | None
    status: Status
    requests: int
    reference: int
    features: tuple[FeatureDrift, ...] = ()

    @property
    def drifted(self) -> tuple[str, ...]:
        """The features that drifted."""
        return tuple(feature.name for feature in self.features if feature.drifted)


def compare(
    reference: Sequence[Unit],
    window: Sequence[Unit],
    *,
    sensor: str,
    bands: Sequence[str],
    classes: Sequence[str],
    section: MonitorSection,
) -> tuple[StratumDrift, ...]:
    """Compare a window with the reference, month by month.

    Args:
        reference: Units of the training split.
        window: Units of the window.
        sensor: What both are of.
        bands: Names of the bands.
        classes: Names of the classes.
        section: Limits.
    """
    usable = [unit for unit in window if unit.quantiles]
    known = [unit for unit in reference if unit.quantiles]
    by_month = any(unit.month is not None for unit in known)
    groups: dict[int | None, list[Unit]] = {}
    for unit in usable:
        groups.setdefault(unit.month if by_month else None, []).append(unit)
    found = []
    for month, units in sorted(groups.items(), key=lambda pair: pair[0] or 0):
        own = [unit for unit in known if month is None or unit.month == month]
        status: Status = "compared"
        if len(own) < section.min_reference:
            status = "no reference"
        elif len(units) < section.min_requests:
            status = "not enough"
        features = _features(own, units, bands, classes, section) if status == "compared" else ()
        found.append(
            StratumDrift(
                sensor=sensor, month=month, status=status, requests=len(units), reference=len(own), features=features
            )
        )
    return _corrected(found, section)


def pooled(units: Sequence[Unit], band: int, edges: Array) -> Array:
    """The share of a band's values up to each edge, `[edges]`: the mean over units."""
    return np.asarray(_shares(_values(units, band), edges).mean(axis=0))


def reference_edges(units: Sequence[Unit], band: int) -> Array:
    """Values that part a band's pooled distribution into `BINS` equal shares."""
    inner = np.linspace(0, 1, BINS + 1)[1:-1]
    return np.unique(np.quantile(_values(units, band), inner))


def _features(
    reference: Sequence[Unit],
    window: Sequence[Unit],
    bands: Sequence[str],
    classes: Sequence[str],
    section: MonitorSection,
) -> tuple[FeatureDrift, ...]:
    random = np.random.default_rng(section.seed)
    first, second = _thinned(reference, random), _thinned(window, random)
    found = []
    for number, name in enumerate(bands):
        edges = reference_edges(first, number)
        shares = _shares(np.concatenate([_values(first, number), _values(second, number)]), edges)
        p_value, distance = _permuted(shares, len(first), _greatest, section.permutations, random)
        psi = _psi(shares[: len(first)].mean(axis=0), shares[len(first) :].mean(axis=0))
        found.append(FeatureDrift(name=name, shift=psi, distance=distance, p_value=p_value))
    for number, name in enumerate(classes[1:], start=1):  # what is left is the first
        values = np.array([[unit.class_fractions[number]] for unit in (*first, *second)])
        p_value, distance = _permuted(values, len(first), _greatest, section.permutations, random)
        shift = float(values[len(first) :].mean() - values[: len(first)].mean())
        found.append(FeatureDrift(name=f"share of {name}", shift=shift, distance=distance, p_value=p_value))
    return tuple(found)


def _corrected(strata: Sequence[StratumDrift], section: MonitorSection) -> tuple[StratumDrift, ...]:
    from scipy.stats import false_discovery_control

    every = [feature.p_value for stratum in strata for feature in stratum.features]
    adjusted = iter(false_discovery_control(every) if every else ())

    def judged(feature: FeatureDrift) -> FeatureDrift:
        value = float(next(adjusted))
        least = section.class_shift if feature.name.startswith("share of ") else section.psi
        drifted = value < section.alpha and abs(feature.shift) >= least
        return feature.model_copy(update={"adjusted": value, "drifted": drifted})

    return tuple(
        stratum.model_copy(update={"features": tuple(judged(feature) for feature in stratum.features)})
        for stratum in strata
    )


def _permuted(
    values: Array, count: int, statistic: Callable[[Array], Array], permutations: int, random: np.random.Generator
) -> tuple[float, float]:
    """The p-value of a statistic of the difference of means `[..., features]` under permuted units, and its value."""
    total = len(values)
    sides = np.zeros((permutations + 1, total))
    sides[:, :count] = 1.0
    sides[1:] = random.permuted(sides[1:], axis=1)
    first = sides @ values / count
    second = (1.0 - sides) @ values / (total - count)
    every = statistic(second - first)
    # The first row is what was observed; it counts as one of the permutations (Phipson and Smyth, 2010).
    return float((every >= every[0] - 1e-12).mean()), float(every[0])


def _greatest(difference: Array) -> Array:
    return np.asarray(np.abs(difference).max(axis=1))


def _psi(expected: Array, found: Array) -> float:
    """Of two distributions given as the shares up to each edge."""
    before, after = (np.maximum(np.diff(shares, prepend=0.0, append=1.0), _FLOOR) for shares in (expected, found))
    return float(((after - before) * np.log(after / before)).sum())


def _values(units: Sequence[Unit], band: int) -> Array:
    """Values that stand for each unit's distribution, `[units, points]`, sorted."""
    at = (np.arange(_POINTS) + 0.5) / _POINTS
    return np.array([np.interp(at, PROBABILITIES, unit.quantiles[band]) for unit in units])


def _shares(values: Array, edges: Array) -> Array:
    """The share of each unit's values up to each edge, `[units, edges]`."""
    return np.asarray((values[:, :, None] <= edges).mean(axis=1))


def _thinned(units: Sequence[Unit], random: np.random.Generator) -> list[Unit]:
    if len(units) <= _MOST:
        return list(units)
    return [units[int(place)] for place in np.sort(random.choice(len(units), _MOST, replace=False))]


def summary(strata: Sequence[StratumDrift]) -> Mapping[str, tuple[str, ...]]:
    """What drifted, by stratum in words."""
    return {f"month {s.month or 'any'}": s.drifted for s in strata if s.drifted}
