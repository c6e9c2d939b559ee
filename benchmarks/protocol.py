"""How things are compared: variants interleaved in one process, the order reversed each round, medians.

What counts is work per CPU-second, of this process and its children: walls on shared machines move by the factor.
"""

from __future__ import annotations

import gc
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["ours", "peer", "limit"]


@dataclass(frozen=True)
class Variant:
    """One way to do the work.

    Attributes:
        name: What it is called in tables.
        run: Does a round's work; returns how many chips that was.
        kind: This project's, one of the field's, or a limit that nobody passes.
    """

    name: str
    run: Callable[[], int]
    kind: Kind = "peer"


@dataclass(frozen=True)
class Sample:
    """One round of one variant: chips, CPU seconds, wall seconds."""

    chips: int
    cpu: float
    wall: float


@dataclass(frozen=True)
class Summary:
    """Median, least and most over the rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Summary:
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Measured:
    """A variant's rounds."""

    name: str
    kind: Kind
    samples: tuple[Sample, ...]

    @property
    def per_cpu(self) -> Summary:
        """Chips per CPU-second."""
        return Summary.of([sample.chips / sample.cpu for sample in self.samples])

    @property
    def per_wall(self) -> Summary:
        """Chips per second of wall time."""
        return Summary.of([sample.chips / sample.wall for sample in self.samples])


@dataclass(frozen=True)
class Check:
    """A condition without which a number does not count: whether it holds, and what was looked at."""

    passed: bool
    said: str


@dataclass(frozen=True)
class Goal:
    """A number to reach.

    Attributes:
        name: What it is about.
        value: What was measured; None where nothing was.
        limit: What it should be.
        kind: Whether it should be at least or at most that.
        unit: Its unit; `x` for ratios.
        checks: Names of the checks that it needs.
    """

    name: str
    value: float | None
    limit: float
    kind: Literal["least", "most"]
    unit: str
    checks: tuple[str, ...] = ()

    def failed_checks(self, checks: Mapping[str, Check]) -> tuple[str, ...]:
        """Checks that it needs and that do not hold or were not made."""
        return tuple(name for name in self.checks if name not in checks or not checks[name].passed)

    def met(self, checks: Mapping[str, Check]) -> bool:
        """Whether it is reached; never with a failed check."""
        if self.value is None or self.failed_checks(checks):
            return False
        return self.value >= self.limit if self.kind == "least" else self.value <= self.limit


def cpu_seconds() -> float:
    """CPU time of this process, all its threads, and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def interleave(variants: Sequence[Variant], rounds: int, *, log: bool = True) -> list[Measured]:
    """Run every variant once per round, there and back again.

    Args:
        variants: What to run; each was run before, so that files and code are warm.
        rounds: How often.
        log: Whether to say on stderr what runs.
    """
    samples: dict[str, list[Sample]] = {variant.name: [] for variant in variants}
    for number in range(rounds):
        for variant in variants if number % 2 == 0 else list(reversed(variants)):
            gc.collect()
            cpu, wall = cpu_seconds(), time.perf_counter()
            chips = variant.run()
            sample = Sample(chips, cpu_seconds() - cpu, time.perf_counter() - wall)
            samples[variant.name].append(sample)
            if log:
                said = f"round {number + 1}/{rounds}: {variant.name}: {chips / sample.cpu:.0f} chips/CPU-s"
                print(said, file=sys.stderr, flush=True)
    return [Measured(variant.name, variant.kind, tuple(samples[variant.name])) for variant in variants]


def ratio(measured: Sequence[Measured], ours: str, peer: str) -> float:
    """How many times the chips per CPU-second of a peer: the quotient of the medians."""
    by_name = {entry.name: entry for entry in measured}
    return by_name[ours].per_cpu.median / by_name[peer].per_cpu.median


def as_json(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """The measurements as they stand in a result file."""
    return [
        {
            "variant": entry.name,
            "kind": entry.kind,
            "chips_per_cpu_second": vars(entry.per_cpu),
            "chips_per_second": vars(entry.per_wall),
            "rounds": [vars(sample) for sample in entry.samples],
        }
        for entry in measured
    ]
