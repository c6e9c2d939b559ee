"""What is odd about an input's values: what `eo-data validate` asks of a scene, asked of what a stranger sends.

The endpoint cannot know what a value means, only that no reflectance looks like it. It answers and says so in a header;
reflectance 0..1 that nobody declared is refused, since every mask of it would be wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eo_data.errors import DataRefused
from eo_serving.input_sample import PROBABILITIES

if TYPE_CHECKING:
    from eo_data.expectations import Expectations
    from eo_data.radiometry import Radiometry
    from eo_serving.input_sample import InputStatistics

HEADER: Final = "Terraloop-Warning"
EIGHT_BITS: Final = 255.0

_LOW, _HIGH, _BRIGHT = (PROBABILITIES.index(p) for p in (0.05, 0.95, 0.99))
_STATE: Final = "state scale and offset"


def doubts(found: InputStatistics, rule: Radiometry, expect: Expectations) -> tuple[str, ...]:
    """What is doubtful about an input, in plain sentences; nothing where it looks like reflectance, or has no data.

    Args:
        found: Quantiles of the input, reflectance x 10000.
        rule: The radiometry that was applied.
        expect: The use case's expectations of a scene; the quantiles kept are near those that they speak of.
    """
    bands = found.quantiles
    if not bands:
        return ()
    said = []
    brightest = max(band[_BRIGHT] for band in bands)
    darkest = sorted(band[_LOW] for band in bands)
    low, high = expect.quantile_range
    if brightest < expect.min_brightest:
        said.append(f"every band is dark: reflectance 0..1 read as sensor values? {_STATE}")
    elif rule.source == "usecase" and max(band[-1] for band in bands) <= EIGHT_BITS:
        said.append(f"no value is above {EIGHT_BITS:g}: an 8-bit picture? {_STATE}")
    if darkest[min(1, len(darkest) - 1)] < expect.min_dark:
        said.append(f"the values lie far below 0 by {rule}: is the offset removed already? {_STATE}")
    floor = min(band[0] for band in bands)
    if expect.max_floor is not None and rule.source == "usecase" and floor > expect.max_floor:
        said.append(f"no pixel is dark: do the values carry an offset, as Sentinel-2's since 2022? {_STATE}")
    if min(darkest) < low or max(band[_HIGH] for band in bands) > high:
        said.append(f"values outside {low / 1e4:g} to {high / 1e4:g} are no reflectance of this sensor")
    return tuple(said)


def refuse_undeclared(found: InputStatistics, rule: Radiometry, expect: Expectations) -> None:
    """Refuse fractions near zero whose scale nobody states: sensor values are whole numbers.

    Raises:
        DataRefused: If the input is such.
    """
    if not found.quantiles or not found.fractional or rule.source != "usecase":
        return
    brightest = max(band[_BRIGHT] for band in found.quantiles)
    if brightest < expect.min_brightest:
        raise DataRefused(
            f"fractions up to {brightest:.3g} are no sensor values, and nothing says what they are",
            where="body",
            fix="If they are reflectance 0..1 state it: ?scale=1, or the file's own scale",
        )
