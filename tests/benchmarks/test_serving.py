"""The goals of the serving benchmark: from what is measured, and only beside their checks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.protocol import Check, Measured, Sample
from benchmarks.serving import SAME, Found, make_goals, requests
from benchmarks.serving import whole_scene as scene

NAMES = (scene.OURS, scene.NAIVE, scene.TERRATORCH, scene.GEOAI, scene.FORWARD)


@pytest.fixture
def found() -> Found:
    """What would meet every goal."""
    pixels = dict(zip(NAMES, (200, 100, 100, 100, 250), strict=True))
    checks = [SAME, *(scene.EQUAL.format(name) for name in NAMES[1:4])]
    return Found(
        latency={
            "512 GeoTIFF: in process": 0.2,
            "512 GeoTIFF: endpoint": 0.22,
            "256: the model alone": 0.04,
            "256 npy: endpoint": 0.05,
        },
        throughput={
            "512 GeoTIFF: in process, 2 threads": 10.0,
            "512 GeoTIFF: endpoint, 4 clients": 9.0,
            "256 npy: in process, 2 threads": 50.0,
            "256 npy: endpoint, 4 clients": 45.0,
        },
        scenes=[Measured(name, "peer", (Sample(count, 1.0, 1.0),)) for name, count in pixels.items()],
        memory={10980: 2**30, 21960: 2**30 + 2**26},
        share=0.8,
        checks={name: Check(True, "looked at") for name in checks},
    )


def test_all_goals_can_be_met_and_each_can_be_missed(found: Found) -> None:
    assert [goal.name for goal in make_goals(found) if not goal.met(found.checks)] == []
    slow = replace(
        found,
        latency={name: value * (2 if "endpoint" in name else 1) for name, value in found.latency.items()},
        throughput={name: value / (2 if "endpoint" in name else 1) for name, value in found.throughput.items()},
        scenes=[replace(entry, samples=(Sample(90, 1.0, 1.0),)) for entry in found.scenes],
        memory={10980: 2**31, 21960: 2**32},
        share=0.5,
    )
    slow.scenes[1] = replace(slow.scenes[1], samples=(Sample(100, 1.0, 1.0),))
    assert [goal.name for goal in make_goals(slow) if goal.met(slow.checks)] == []


def test_unequal_masks_do_not_count(found: Found) -> None:
    checks = {name: Check(False, "differs") for name in found.checks}
    counted = [goal.name for goal in make_goals(found) if goal.met(checks)]
    assert counted == [
        "share of the model in a whole scene's CPU time",
        "peak of memory, whole scene",
        "peak of memory, twice the rows",
    ]


def test_without_large_scenes_there_are_no_goals_of_memory(found: Found) -> None:
    assert not [goal for goal in make_goals(replace(found, memory={})) if "memory" in goal.name]


def test_latencies_are_medians_of_turns() -> None:
    order: list[str] = []

    def way(name: str) -> requests.Way:
        def ask() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
            order.append(name)
            return np.zeros((1, 1), np.uint8)

        return requests.Way(name, ask)

    taken = requests.latencies([way("a"), way("b")], 3)
    assert "".join(order) == "ab" + "abbaab"
    assert set(taken) == {"a", "b"}
    assert all(seconds > 0 for seconds in taken.values())


def test_throughput_counts_what_all_workers_did() -> None:
    done: list[int] = []
    rate = requests.throughput(lambda: lambda: done.append(1), 2, 0.2)
    assert rate == pytest.approx((len(done) - 2) / 0.2, rel=0.2)  # each worker once before the clock starts
