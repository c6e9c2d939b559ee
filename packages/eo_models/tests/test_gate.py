from __future__ import annotations

import pytest

from eo_models.bootstrap import Interval
from eo_models.configuration import GateSection
from eo_models.gate import Opponent, judge

SECTION = GateSection(tolerance=0.05, min_cells=8)


def opponent(iou: float | None, low: float | None = 0.0, high: float | None = 0.1) -> Opponent:
    difference = None if iou is None else 0.7 - iou
    return Opponent(iou, Interval(difference, low, high))


def test_promoted_with_the_numbers() -> None:
    result = judge(0.7, {"index": opponent(0.6, 0.02, 0.15), "champion": opponent(0.65, -0.04, 0.1)}, 8, SECTION)
    assert result.verdict == "promoted"
    assert result.reasons == (
        "beats the index: holdout IoU 0.700 against 0.600, difference +0.100, 95 % interval [+0.020, +0.150]",
        "beats the champion: holdout IoU 0.700 against 0.650, difference +0.050, 95 % interval [-0.040, +0.100]",
    )


def test_refused_below_the_champion_names_only_what_failed() -> None:
    result = judge(0.7, {"index": opponent(0.6), "champion": opponent(0.72)}, 20, SECTION)
    assert result.verdict == "refused"
    assert len(result.reasons) == 1
    assert result.reasons[0].startswith("does not beat the champion: holdout IoU 0.700 against 0.720")


def test_equal_is_not_better() -> None:
    assert judge(0.7, {"index": opponent(0.7)}, 20, SECTION).verdict == "refused"


def test_refused_where_the_interval_reaches_below_the_tolerance() -> None:
    result = judge(0.7, {"index": opponent(0.69, -0.051)}, 20, SECTION)
    assert result.verdict == "refused"
    assert "may be worse than the index by more than the tolerance 0.05" in result.reasons[0]


def test_the_limit_itself_is_not_above_it() -> None:
    assert judge(0.7, {"index": opponent(0.69, -0.05)}, 20, SECTION).verdict == "refused"
    assert judge(0.7, {"index": opponent(0.69, -0.0499)}, 20, SECTION).verdict == "promoted"


def test_tolerance_zero_asks_for_significantly_better() -> None:
    strict = GateSection(tolerance=0)
    assert judge(0.7, {"index": opponent(0.6, 0.0)}, 20, strict).verdict == "refused"
    assert judge(0.7, {"index": opponent(0.6, 0.001)}, 20, strict).verdict == "promoted"


def test_too_few_cells_are_not_enough_evidence_whatever_the_figures() -> None:
    result = judge(0.99, {"index": opponent(0.1, 0.8, 0.9)}, 7, SECTION)
    assert result.verdict == "refused"
    assert result.reasons == (
        "not enough evidence: 7 holdout cells with the target class, gate.min_cells is 8",
        "beats the index: holdout IoU 0.990 against 0.100, difference +0.600, 95 % interval [+0.800, +0.900]",
    )


@pytest.mark.parametrize(("candidate", "other"), [(None, 0.5), (0.5, None)])
def test_undefined_is_refused(candidate: float | None, other: float | None) -> None:
    result = judge(candidate, {"index": opponent(other)}, 20, SECTION)
    assert result.verdict == "refused"
    assert "undefined" in result.reasons[0]


def test_every_failing_condition_is_told() -> None:
    result = judge(0.5, {"index": opponent(0.6), "champion": opponent(0.7)}, 20, SECTION)
    assert [reason.split(":")[0] for reason in result.reasons] == [
        "does not beat the index",
        "does not beat the champion",
    ]
