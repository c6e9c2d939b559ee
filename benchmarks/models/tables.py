"""What was measured, for people: CPU milliseconds per chip, and how near it is to plain float32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.protocol import Measured, Summary

if TYPE_CHECKING:
    from benchmarks.models.precision import Agreement

GROUPS: Final = {
    "U-Net": "one epoch of `water`'s U-Net, CPU-ms per chip of 128 x 128",
    "train": "training by precision and layout, CPU-ms per chip of 128 x 128",
    "infer": "inference by precision and layout, CPU-ms per chip of 256 x 256",
    "tile": "torch and ONNX Runtime, CPU-ms per tile",
}
"""How the names of variants begin, and what they are."""


def milliseconds(entry: Measured) -> Summary:
    """CPU milliseconds per chip."""
    return Summary.of([1000 * sample.cpu / sample.chips for sample in entry.samples])


def wall_milliseconds(entry: Measured) -> Summary:
    """Milliseconds of wall time per chip."""
    return Summary.of([1000 * sample.wall / sample.chips for sample in entry.samples])


def table_lines(measured: Sequence[Measured], agreement: Mapping[str, Agreement]) -> list[str]:
    """A line per variant: CPU and wall milliseconds per chip, median and range over the rounds, and agreement."""
    head = f"{'variant':<52} {'CPU-ms/chip':>11} {'min..max':>17} {'ms/chip':>9}"
    lines = [f"{head}  beside float32: same class, logits within"]
    for entry in measured:
        cost, wall = milliseconds(entry), wall_milliseconds(entry)
        near = agreement.get(entry.name)
        said = f"  {near.argmax:.4%}, {near.logit:.2g}" if near else ""
        name = f"{'* ' if entry.kind == 'ours' else '  '}{entry.name}"
        reach = f"{cost.least:.2f}..{cost.most:.2f}"
        lines.append(f"{name:<52} {cost.median:>11.2f} {reach:>17} {wall.median:>9.2f}{said}")
    return lines


def step_lines(steps: Mapping[str, Summary]) -> list[str]:
    """CPU milliseconds of a step of the null model, a line per loop."""
    return [
        f"null model, a step by {name}: {cost.median:.3f} CPU-ms ({cost.least:.3f}..{cost.most:.3f})"
        for name, cost in steps.items()
    ]


def write_plot(path: Path, measured: Sequence[Measured], steps: Mapping[str, Summary], title: str) -> None:
    """A panel per comparison: medians as bars, least to most of the rounds as a line."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels: dict[str, list[tuple[str, Summary, bool]]] = {
        "a step of the null model, CPU-ms": [(name, cost, name == "Lightning") for name, cost in steps.items()]
    }
    for start, what in GROUPS.items():
        panels[what] = [
            (_short(entry.name, start), milliseconds(entry), entry.kind == "ours")
            for entry in measured
            if entry.name.startswith(start)
        ]
    panels = {what: rows for what, rows in panels.items() if rows}
    figure, all_axes = pyplot.subplots(
        len(panels),
        1,
        figsize=(10, 0.34 * sum(map(len, panels.values())) + 0.9 * len(panels)),
        height_ratios=[len(rows) + 0.6 for rows in panels.values()],
        layout="constrained",
        squeeze=False,
    )
    for axes, (what, rows) in zip(all_axes[:, 0], panels.items(), strict=True):
        for place, (_, cost, ours) in enumerate(rows):
            axes.barh(place, cost.median, color="#1f6fd1" if ours else "#aab4c0", height=0.7)
            axes.plot([cost.least, cost.most], [place, place], color="#2b2f33", linewidth=1.5)
            axes.text(1.02 * cost.most, place, f" {_figure(cost.median)}", va="center", fontsize=9)
        axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
        axes.invert_yaxis()
        axes.set_xlim(0, 1.15 * max(cost.most for _, cost, _ in rows))
        axes.set_title(what, loc="left", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{title}; blue: what this project does", x=0.01, ha="left", fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _short(name: str, start: str) -> str:
    return name if start == "tile" else name.removeprefix(start).removeprefix(" of `water`").lstrip(",: ")
