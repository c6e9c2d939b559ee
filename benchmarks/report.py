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
        name = f"{'* ' if entry.ours else '  '}{entry.name}"
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
        "checks": {name: vars(check) for name, check in checks.items()},
        "variants": as_json(measured),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def write_plot(path: Path, measured: Sequence[Measured], title: str) -> None:
    """Chips per CPU-second of every variant as bars on a logarithmic axis, with the range over the rounds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.patches import Patch

    ordered = sorted(measured, key=lambda entry: entry.per_cpu.median)
    figure, axes = pyplot.subplots(figsize=(11, 0.42 * len(ordered) + 1.6), layout="constrained")
    medians = [entry.per_cpu.median for entry in ordered]
    reach = [
        [entry.per_cpu.median - entry.per_cpu.least for entry in ordered],
        [entry.per_cpu.most - entry.per_cpu.median for entry in ordered],
    ]
    colors = ["#1f6fd1" if entry.ours else "#b9bec7" for entry in ordered]
    axes.barh(range(len(ordered)), medians, xerr=reach, color=colors, error_kw={"elinewidth": 1, "capsize": 2})
    axes.set_yticks(range(len(ordered)), [entry.name for entry in ordered])
    for place, entry in enumerate(ordered):
        axes.text(entry.per_cpu.most * 1.08, place, f"{entry.per_cpu.median:,.0f}", va="center", fontsize=9)
    axes.set_xscale("log")
    axes.set_xlim(min(medians) / 1.6, max(medians) * 2.2)
    axes.set_xlabel("chips per CPU-second, median; whiskers from the least to the most of all rounds (logarithmic)")
    axes.set_title(title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(
        handles=[Patch(color="#1f6fd1", label="eo_data"), Patch(color="#b9bec7", label="others, and limits")],
        loc="lower right",
        frameon=False,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
