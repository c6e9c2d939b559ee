"""The benchmark's own arithmetic: medians, interleaving, and when a number counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import data, report
from benchmarks.data import ours, peers
from benchmarks.protocol import Check, Goal, Kind, Measured, Sample, Summary, Variant, cpu_seconds, interleave, ratio

FINE = Check(True, "looked at")
BAD = Check(False, "chip 3 differs")


def measured(name: str, *chips: int, kind: Kind = "peer") -> Measured:
    """Rounds of so many chips, each of 2 CPU-seconds and 4 seconds."""
    return Measured(name, kind, tuple(Sample(count, 2.0, 4.0) for count in chips))


def test_medians_stand_beside_least_and_most() -> None:
    entry = measured("a", 100, 10, 40)
    assert entry.per_cpu == Summary(20.0, 5.0, 50.0)
    assert entry.per_wall == Summary(10.0, 2.5, 25.0)


def test_a_ratio_is_the_quotient_of_medians_per_cpu_second() -> None:
    assert ratio([measured("ours", 90, 60, 30), measured("peer", 10, 20, 1000)], "ours", "peer") == 3.0


def test_variants_take_turns_there_and_back_again() -> None:
    order: list[str] = []

    def variant(name: str) -> Variant:
        def run() -> int:
            order.append(name)
            sum(range(20_000))
            return 7

        return Variant(name, run)

    found = interleave([variant(name) for name in "abc"], 3, log=False)
    assert "".join(order) == "abccbaabc"
    assert [entry.name for entry in found] == ["a", "b", "c"]
    assert all(sample.chips == 7 and sample.cpu > 0 and sample.wall > 0 for entry in found for sample in entry.samples)


def test_cpu_time_is_that_of_children_too() -> None:
    import subprocess
    import sys

    before = cpu_seconds()
    subprocess.run([sys.executable, "-c", "sum(range(5_000_000))"], check=True)
    assert cpu_seconds() - before > 0.02


@pytest.mark.parametrize(
    ("value", "kind", "met"),
    [(7.0, "least", True), (6.99, "least", False), (7.0, "most", True), (7.01, "most", False), (None, "most", False)],
)
def test_a_goal_is_met_at_its_limit_and_never_without_a_value(value: float | None, kind: Any, met: bool) -> None:
    assert Goal("g", value, 7, kind, "x").met({}) is met


@pytest.mark.parametrize("checks", [{"equal": BAD, "mixed": FINE}, {"mixed": FINE}, {}])
def test_a_number_with_a_failed_or_missing_check_does_not_count(checks: dict[str, Check]) -> None:
    goal = Goal("fast", 100.0, 7, "least", "x", ("equal", "mixed"))
    assert not goal.met(checks)
    assert goal.met({"equal": FINE, "mixed": FINE})
    assert "does not count: equal" in report.goal_lines([goal], checks)[1]
    assert report.goal_lines([goal], checks)[1].startswith("MISS")


# --- the goals of `data`

LARGE = {
    "size": 10980,
    "chip": {"base_bytes": 100 << 20, "peak_bytes": 612 << 20},
    "validate": {"feature_row_cpu_seconds": 0.5, "image_cpu_seconds": 10.0, "label_cpu_seconds": 1.0},
}
PER_SECOND = {
    ours.GRID: 500, ours.GRID_ONE: 500, ours.GRID_GDAL: 300, ours.JITTERED: 900, ours.CACHED: 8000,
    ours.CACHED_PLAIN: 9000, peers.RASTERIO: 60, peers.RASTERIO_LABEL: 58, peers.TORCHGEO: 40, peers.RIOXARRAY: 55,
    peers.ZARR: 450, peers.GATHER: 9000, peers.GATHER_REUSED: 10000, peers.CODEC: 650,
}  # fmt: skip
CHECKS = dict.fromkeys(
    (
        "grid chips equal rasterio's", "jittered chips equal rasterio's", "grid minibatches mix blocks",
        "jittered minibatches mix blocks", "cached chips equal the dataset's", "tiles are decoded by this project",
        "TorchGeo gives chips and labels",
    ),
    FINE,
)  # fmt: skip


def goals(changes: dict[str, int] | None = None, large: dict[str, Any] | None = None) -> dict[str, Goal]:
    chips = {**PER_SECOND, **(changes or {})}
    found = data.make_goals([measured(name, 2 * count) for name, count in chips.items()], {**LARGE, **(large or {})})
    return {goal.name: goal for goal in found}


def test_every_goal_of_the_table_is_there_and_is_met_where_numbers_are_good() -> None:
    found = goals()
    assert all(goal.met(CHECKS) for goal in found.values())
    limits = sorted((goal.limit, goal.kind) for goal in found.values())
    wanted = [(0.1, "most"), (0.7, "least"), (0.8, "least"), (1, "most"), (7, "least"), (10, "least")]
    assert set(limits) == set(wanted)
    for goal in found.values():
        assert set(goal.checks) <= set(CHECKS)


@pytest.mark.parametrize(
    ("slow", "missed"),
    [
        ({ours.GRID: 399}, {"grid loader / TorchGeo image & label", "grid loader / rasterio random, image alone"}),
        ({ours.GRID_ONE: 454}, {"grid loader, 1 thread / codec bound, 1 thread"}),
        ({ours.CACHED: 7000}, {"cached chips, normalised / npy gather"}),
    ],
)
def test_a_slow_variant_misses_its_goals_alone(slow: dict[str, int], missed: set[str]) -> None:
    assert {name for name, goal in goals(slow).items() if not goal.met(CHECKS)} == missed


def test_ratios_without_a_goal_are_told_too() -> None:
    found = data.make_ratios([measured(name, 2 * count) for name, count in PER_SECOND.items()])
    assert found["cached chips, normalised / npy gather into a reused buffer"] == 0.8
    assert found["grid loader, a thread per core / 1 thread, wall"] == 1.0


def test_memory_and_validation_have_goals_of_their_own() -> None:
    chip = {"base_bytes": 100 << 20, "peak_bytes": (100 << 20) + (1 << 30) + 1}
    validate = {"feature_row_cpu_seconds": 1.01, "image_cpu_seconds": 10.0, "label_cpu_seconds": 1.0}
    missed = [goal for goal in goals({}, {"chip": chip, "validate": validate}).values() if not goal.met(CHECKS)]
    assert [goal.unit for goal in missed] == ["GiB", "x"]
    assert missed[0].value == pytest.approx(1.0)
    assert missed[1].value == pytest.approx(0.101)


@pytest.mark.parametrize("failed", list(CHECKS))
def test_each_check_that_fails_takes_goals_with_it(failed: str) -> None:
    checks = {**CHECKS, failed: BAD}
    assert not all(goal.met(checks) for goal in goals().values())


# --- what it leaves


def test_result_files_hold_every_variant_goal_and_check(tmp_path: Path) -> None:
    entries = [measured("ours", 90, 100, kind="ours"), measured("peer", 10, 12)]
    goal = Goal("faster", ratio(entries, "ours", "peer"), 7, "least", "x", ("equal",))
    report.write_json(tmp_path / "deep" / "data.json", entries, [goal], {"equal": FINE}, {"rounds": 2})
    report.write_plot(tmp_path / "deep" / "data.png", entries, "title")
    content = json.loads((tmp_path / "deep" / "data.json").read_text())
    assert content["rounds"] == 2
    assert content["goals"][0]["met"] is True
    assert content["variants"][0]["chips_per_cpu_second"] == {"median": 47.5, "least": 45.0, "most": 50.0}
    assert content["checks"] == {"equal": {"passed": True, "said": "looked at"}}
    assert (tmp_path / "deep" / "data.png").read_bytes().startswith(b"\x89PNG")


def test_versions_name_what_is_not_installed() -> None:
    found = report.versions(["numpy", "no-such-package"])
    assert found["no-such-package"] == "not installed"
    assert {"python", "processor", "numpy"} <= set(found)
