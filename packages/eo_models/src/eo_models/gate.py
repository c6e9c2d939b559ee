"""The gate (design 4.3): whether a candidate's evidence on the holdout split is enough. A pure function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from eo_models.bootstrap import Interval
from eo_models.configuration import GateSection

Outcome = Literal["promoted", "refused", "no-op"]


@dataclass(frozen=True)
class Judgement:
    """What the gate says, with the numbers.

    Attributes:
        verdict: `promoted`, `refused` or `no-op`.
        reasons: A sentence per condition that decided.
    """

    verdict: Outcome
    reasons: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        """`verdict` and `reasons`."""
        return {"verdict": self.verdict, "reasons": list(self.reasons)}


@dataclass(frozen=True)
class Opponent:
    """What the candidate is held against.

    Attributes:
        iou: The opponent's pooled IoU on the holdout.
        interval: Candidate minus opponent.
    """

    iou: float | None
    interval: Interval


def judge(candidate: float | None, opponents: Mapping[str, Opponent], cells: int, section: GateSection) -> Judgement:
    """Promote only what beats every opponent on the holdout, and is not plainly worse anywhere in its interval.

    Args:
        candidate: The candidate's pooled IoU on the holdout.
        opponents: By name: the index of the candidate's dataset, and the champion.
        cells: Cells of the holdout with the target class in their label.
        section: The use case's `gate` section.
    """
    evidence: tuple[str, ...] = ()
    if cells < section.min_cells:
        counted = f"{cells} holdout cells with the target class, gate.min_cells is {section.min_cells}"
        evidence = (f"not enough evidence: {counted}",)
    if candidate is None:
        return Judgement("refused", (*evidence, "the candidate's IoU is undefined on the holdout"))
    against, in_favour = [], []
    for name, opponent in opponents.items():
        fault = _fault(name, candidate, opponent, section.tolerance)
        if fault:
            against.append(fault)
        else:
            in_favour.append(f"beats the {name}: {_numbers(candidate, opponent)}")
    if evidence:  # the figures are told all the same: a person may know more places than the dataset
        return Judgement("refused", (*evidence, *against, *in_favour))
    return Judgement("refused", tuple(against)) if against else Judgement("promoted", tuple(in_favour))


def _fault(name: str, candidate: float, opponent: Opponent, tolerance: float) -> str | None:
    """Why the candidate does not pass an opponent; None where it does."""
    low = opponent.interval.low
    if opponent.iou is None or low is None:
        return f"the {name}'s IoU is undefined on the holdout"
    if candidate <= opponent.iou:
        return f"does not beat the {name}: {_numbers(candidate, opponent)}"
    if low <= -tolerance:
        return f"may be worse than the {name} by more than the tolerance {tolerance:g}: {_numbers(candidate, opponent)}"
    return None


def _numbers(candidate: float, opponent: Opponent) -> str:
    """`holdout IoU 0.700 against 0.650, difference +0.050, 95 % interval [+0.010, +0.090]`."""
    interval = opponent.interval
    return (
        f"holdout IoU {candidate:.3f} against {opponent.iou:.3f}, difference {interval.difference:+.3f}, "
        f"95 % interval [{interval.low:+.3f}, {interval.high:+.3f}]"
    )
