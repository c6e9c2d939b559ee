"""What a benchmark leaves: a table for people, a JSON file, a picture."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.protocol import Check, Goal, Measured, as_json


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Versions of Python, the processor and packages."""
    found = {"python": platform.python_version(), "processor": _processor()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def goal_lines(goals: Sequence[Goal], checks: Mapping[str, Check]) -> list[str]:
    """The table of goals, a line each."""
    lines = [f"{'':<4} {'measured':>12} {'goal':>12}  what"]
    for goal in goals:
        failed = goal.failed_checks(checks)
        sign = ">=" if goal.kind == "least" else "<="
        value = "not measured" if goal.value is None else f"{goal.value:.3g} {goal.unit}"
        said = f"; does not count: {', '.join(failed)}" if failed else ""
        state = "ok" if goal.met(checks) else "MISS"
        lines.append(f"{state:<4} {value:>12} {f'{sign} {goal.limit:g} {goal.unit}':>12}  {goal.name}{said}")
    return lines


def table_lines(measured: Sequence[Measured]) -> list[str]:
    """Chips per CPU-second and per second of each variant, median and range over the rounds."""
    lines = [f"{'variant':<52} {'chips/CPU-s':>11} {'min..max':>15} {'chips/s':>9} {'min..max':>15}"]
    for entry in sorted(measured, key=lambda entry: entry.per_cpu.median):
        cpu, wall = entry.per_cpu, entry.per_wall
        ranges = [f"{summary.least:.0f}..{summary.most:.0f}" for summary in (cpu, wall)]
        name = f"{'* ' if entry.kind == 'ours' else '  '}{entry.name}"
        lines.append(f"{name:<52} {cpu.median:>11.0f} {ranges[0]:>15} {wall.median:>9.0f} {ranges[1]:>15}")
    return lines


def check_lines(checks: Mapping[str, Check]) -> list[str]:
    """The checks, a line each."""
    return [f"{'ok' if check.passed else 'FAIL':<4} {name}: {check.said}" for name, check in checks.items()]


def write_json(
    path: Path,
    measured: Sequence[Measured],
    goals: Sequence[Goal],
    checks: Mapping[str, Check],
    facts: Mapping[str, Any],
) -> None:
    """Write everything that was measured."""
    content = {
        **facts,
        "goals": [
            {**vars(goal), "met": goal.met(checks), "failed_checks": goal.failed_checks(checks)} for goal in goals
        ],
        "checks": {name: {"passed": bool(check.passed), "said": check.said} for name, check in checks.items()},
        "variants": as_json(measured),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def write_plot(path: Path, measured: Sequence[Measured], title: str) -> None:
    """Chips per CPU-second of every variant on a logarithmic axis: the median, and the range over the rounds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter, NullFormatter

    looks = {
        "ours": ("eo_data", "#1f6fd1", "o"),
        "peer": ("others", "#d1661f", "s"),
        "limit": ("bounds: a part of the work alone", "#7a7f87", "D"),
    }
    ordered = sorted(measured, key=lambda entry: entry.per_cpu.median)
    figure, axes = pyplot.subplots(figsize=(11, 0.4 * len(ordered) + 1.7), layout="constrained")
    for kind, (label, color, marker) in looks.items():
        chosen = [(place, entry.per_cpu) for place, entry in enumerate(ordered) if entry.kind == kind]
        medians = [rate.median for _, rate in chosen]
        reach = [[rate.median - rate.least for _, rate in chosen], [rate.most - rate.median for _, rate in chosen]]
        places = [place for place, _ in chosen]
        axes.errorbar(
            medians, places, xerr=reach, fmt=marker, color=color, markersize=8, elinewidth=2, capsize=3, label=label
        )
        for place, rate in chosen:
            axes.text(rate.most * 1.12, place, f"{rate.median:,.0f}", va="center", color=color)
    axes.set_yticks(range(len(ordered)), [entry.name for entry in ordered])
    axes.set_ylim(-0.7, len(ordered) - 0.3)
    axes.set_xscale("log")
    axes.set_xlim(ordered[0].per_cpu.least / 1.4, ordered[-1].per_cpu.most * 2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("chips per CPU-second (logarithmic): median, and least to most of all rounds")
    axes.set_title(title, loc="left", fontsize=11)
    axes.grid(axis="x", which="both", color="#e6e8eb")
    axes.grid(axis="y", color="#f0f1f3")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.legend(loc="lower right", framealpha=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
