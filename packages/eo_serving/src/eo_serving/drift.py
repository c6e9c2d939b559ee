"""Drift of inputs: how far a window of requests lies from what a model was trained on, and whether that is chance.

Pixels of one request are no independent witnesses: requests are. So each request counts as one unit, its band values
as a distribution of its own; a window's distribution is the mean of its units', and chance is judged by permuting
units between window and reference. PSI (population stability index, N. Siddiqi, Credit Risk Scorecards, 2006) says how
large a shift is, the permutation test of the Kolmogorov-Smirnov distance whether it can be chance, corrected over all
bands and strata by Benjamini and Hochberg (1995). Both must speak before anything is called drift.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
_BLOCK: Final = 500
"""Permutations that are held at once."""

Kind = Literal["band", "class"]
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
        kind: Which of the two.
        name: The band, or `share of CLASS`.
        shift: PSI of a band; for a class the difference of mean shares.
        distance: Kolmogorov-Smirnov distance of a band; for a class the difference's absolute value.
        p_value: Of the permutation test.
        adjusted: The same, corrected over all that was compared in the window.
        drifted: Whether shift and adjusted p-value are beyond their limits.
    """

    kind: Kind
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
    strata = by_month(reference, window)
    compared = [pair for pair in strata.values() if _status(*pair, section) == "compared"]
    # A feature that stands alone among all is corrected to its p-value times their number: permutations must be
    # able to give one small enough. Twice as many leave room for chance.
    features = len(compared) * (len(bands) + len(classes) - 1)
    permutations = max(section.permutations, math.ceil(2 * features / section.alpha))
    found = []
    for month, (own, units) in strata.items():
        status = _status(own, units, section)
        drift = _features(own, units, bands, classes, permutations, section.seed) if status == "compared" else ()
        found.append(
            StratumDrift(
                sensor=sensor, month=month, status=status, requests=len(units), reference=len(own), features=drift
            )
        )
    return _corrected(found, section)


def by_month(reference: Sequence[Unit], window: Sequence[Unit]) -> dict[int | None, tuple[list[Unit], list[Unit]]]:
    """The strata of a window: per month the reference's units and the window's, without those that saw no data.

    A reference that says no month makes one stratum, None; so do the window's units that say none, beside all of
    the reference.
    """
    known = [unit for unit in reference if unit.quantiles]
    told = any(unit.month is not None for unit in known)
    groups: dict[int | None, list[Unit]] = {}
    for unit in window:
        if unit.quantiles:
            groups.setdefault(unit.month if told else None, []).append(unit)
    return {
        month: ([unit for unit in known if month is None or unit.month == month], groups[month])
        for month in sorted(groups, key=lambda month: month or 0)
    }


def pooled(units: Sequence[Unit], band: int, edges: Array) -> Array:
    """The share of a band's values up to each edge, `[edges]`: the mean over units."""
    return np.asarray(_shares(_values(units, band), edges).mean(axis=0))


def reference_edges(units: Sequence[Unit], band: int) -> Array:
    """Values that part a band's pooled distribution into `BINS` equal shares."""
    inner = np.linspace(0, 1, BINS + 1)[1:-1]
    return np.unique(np.quantile(_values(units, band), inner))


def _status(reference: Sequence[Unit], window: Sequence[Unit], section: MonitorSection) -> Status:
    if len(reference) < section.min_reference:
        return "no reference"
    return "compared" if len(window) >= section.min_requests else "not enough"


def _features(
    reference: Sequence[Unit],
    window: Sequence[Unit],
    bands: Sequence[str],
    classes: Sequence[str],
    permutations: int,
    seed: int,
) -> tuple[FeatureDrift, ...]:
    random = np.random.default_rng(seed)
    first, second = _thinned(reference, random), _thinned(window, random)
    count = len(first)
    values: list[Array] = []
    for number in range(len(bands)):
        edges = reference_edges(first, number)
        values.append(_shares(np.concatenate([_values(first, number), _values(second, number)]), edges))
    names = classes[1:]  # what is left is the first
    values += [
        np.array([[unit.class_fractions[number]] for unit in (*first, *second)]) for number in range(1, len(classes))
    ]
    distances, p_values = _permuted(values, count, permutations, random)
    before = [value[:count].mean(axis=0) for value in values]
    after = [value[count:].mean(axis=0) for value in values]
    found = [
        FeatureDrift(
            kind="band", name=name, shift=_psi(before[n], after[n]), distance=distances[n], p_value=p_values[n]
        )
        for n, name in enumerate(bands)
    ]
    found += [
        FeatureDrift(
            kind="class", name=f"share of {name}", shift=float(after[n][0] - before[n][0]), distance=distances[n],
            p_value=p_values[n],
        )
        for n, name in enumerate(names, start=len(bands))
    ]  # fmt: skip
    return tuple(found)


def _corrected(strata: Sequence[StratumDrift], section: MonitorSection) -> tuple[StratumDrift, ...]:
    from scipy.stats import false_discovery_control

    every = [feature.p_value for stratum in strata for feature in stratum.features]
    adjusted = iter(false_discovery_control(every) if every else ())

    def judged(feature: FeatureDrift) -> FeatureDrift:
        value = float(next(adjusted))
        least = section.class_shift if feature.kind == "class" else section.psi
        drifted = value < section.alpha and abs(feature.shift) >= least
        return feature.model_copy(update={"adjusted": value, "drifted": drifted})

    return tuple(
        stratum.model_copy(update={"features": tuple(judged(feature) for feature in stratum.features)})
        for stratum in strata
    )


def _permuted(
    features: Sequence[Array], count: int, permutations: int, random: np.random.Generator
) -> tuple[list[float], list[float]]:
    """Of each feature `[units, values]` the greatest difference of both sides' means, and its p-value.

    Args:
        features: Of the same units; the first `count` are the reference.
        count: Units of the reference.
        permutations: How often units are exchanged, the same ones for all features.
        random: Where chance comes from.
    """
    values = np.concatenate(features, axis=1)
    starts = np.cumsum([0, *(feature.shape[1] for feature in features[:-1])])
    total, whole = len(values), values.sum(axis=0)

    def distances(sides: Array) -> Array:
        first = sides @ values
        difference = np.abs((whole - first) / (total - count) - first / count)
        return np.asarray(np.maximum.reduceat(difference, starts, axis=1))

    observed = distances((np.arange(total) < count).astype(np.float64)[None])[0]
    # What was observed counts as one of the permutations (Phipson and Smyth, 2010).
    as_great = np.ones(len(features))
    for begin in range(0, permutations, _BLOCK):
        sides = np.zeros((min(_BLOCK, permutations - begin), total))
        sides[:, :count] = 1.0
        as_great += (distances(random.permuted(sides, axis=1)) >= observed - 1e-12).sum(axis=0)
    return observed.tolist(), (as_great / (permutations + 1)).tolist()


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
