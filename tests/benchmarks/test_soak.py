"""What the soak calls success, and that each failure is told."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.serving import soak


@pytest.fixture
def outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> soak.Outcome:
    """What would meet every goal."""
    monkeypatch.setattr(soak, "RESULT", tmp_path / "soak.json")
    memory = [500, *[1000] * 10, *[1010] * 9]
    return soak.Outcome(Counter({200: 90}), Counter({("junk", 422): 30}), [], [1.0, 2.0], memory)


def test_all_goals_can_be_met(outcome: soak.Outcome) -> None:
    assert list(outcome.levels) == [1000, 1010]
    assert outcome.growth == pytest.approx(0.01)
    assert soak.report(outcome, 30) == 0


@pytest.mark.parametrize(
    "changed",
    [
        {"good": Counter({200: 89, 503: 1})},
        {"faults": ["another mask"]},
        {"bad": Counter({("junk", 500): 1})},
        {"bad": Counter({("junk", 200): 1})},
        {"bad": Counter()},
        {"swaps": [1.0, 5.1]},
        {"swaps": []},
        {"memory": [500, *[1000] * 10, *[1060] * 9]},
    ],
    ids=str,
)
def test_each_can_be_missed(outcome: soak.Outcome, changed: dict[str, Any], capsys: Any) -> None:
    assert soak.report(replace(outcome, **changed), 30) == 1
    assert capsys.readouterr().out.count("MISSED") == 1


def test_memory_counts_this_process_children_alone() -> None:
    assert soak.family_bytes(2**22) == 0


@pytest.mark.parametrize("wrong", [["--minutes", "0.5"], ["--reloads", "0"], ["--minutes", "nan"]])
def test_a_run_that_says_nothing_is_refused(wrong: list[str], capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        soak.main(wrong)
    assert ended.value.code == 2
    assert "the least that says anything" in capsys.readouterr().err


def test_a_short_run_is_not_kept(outcome: soak.Outcome) -> None:
    soak.report(outcome, 7)
    assert not soak.RESULT.exists()
    soak.report(outcome, 30)
    assert soak.RESULT.exists()
