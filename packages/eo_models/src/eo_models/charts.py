"""Charts of an evaluation as PNG: intervals, precision over recall, reliability, confusion, IoU per scene."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from eo_models.evaluation_record import Calibration, Curve, Pooled, SplitScores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK: Final = "#1d2733"
COLOURS: Final = {"candidate": "#1f6fd1", "champion": "#e08a1e", "index": "#7a8896"}
_SOFT: Final = "#5b6b7c"
_MOST_SCENES: Final = 60


def intervals_chart(splits: Mapping[str, SplitScores], names: Mapping[str, str]) -> bytes:
    """Pooled IoU with its 95 % interval, a panel per split and a line per role.

    Args:
        splits: In the order of the panels.
        names: What to call each role, in the order of the lines.
    """
    figure = _figure(9.6, 0.75 + 0.36 * len(names))
    panels = figure.subplots(1, len(splits), sharey=True, sharex=True, squeeze=False)[0]
    for panel, (split, scores) in zip(panels, splits.items(), strict=True):
        for line, role in enumerate(names):
            bounds, iou = scores.intervals[role], scores.pooled[role].iou
            colour = COLOURS.get(role, "#b3bdc8")
            if iou is None or bounds.low is None or bounds.high is None:
                panel.text(0.02, line, "undefined", va="center", color=_SOFT, transform=panel.get_yaxis_transform())
                continue
            panel.plot([bounds.low, bounds.high], [line, line], color=colour, lw=3, solid_capstyle="round", alpha=0.55)
            panel.plot([iou], [line], "o", color=colour, ms=7)
        panel.set_title(split, loc="left", color=INK)
        panel.grid(axis="x", color="#e6ebf0")
    panels[0].set_yticks(range(len(names)), list(names.values()))
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    figure.supxlabel("pooled IoU, 95 % interval over cells", fontsize=9, color=_SOFT)
    return _png(figure)


def curve_chart(
    curves: Mapping[str, Curve], names: Mapping[str, str], points: Mapping[str, Pooled], title: str = ""
) -> bytes:
    """Precision over recall, a line per role, with the point at which each one serves."""
    figure = _figure(4.8, 4.2, title)
    axis = figure.subplots()
    for role, name in names.items():
        curve, point = curves[role], points[role]
        if curve.average_precision is None:
            continue
        axis.plot(
            curve.recall, curve.precision, color=COLOURS[role], lw=2, label=f"{name}, AP {curve.average_precision:.3f}"
        )
        if point.recall is not None and point.precision is not None:
            axis.plot([point.recall], [point.precision], "o", color=COLOURS[role], ms=8, mec="white")
    _empty(axis, not axis.lines)
    axis.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    axis.set_title("precision over recall; dot: as served", loc="left")
    axis.grid(color="#e6ebf0")
    if axis.lines:
        axis.legend(loc="lower left", frameon=False)
    return _png(figure)


def reliability_chart(calibration: Calibration, target: str, title: str = "") -> bytes:
    """Observed share of the class over predicted probability, and below it where the pixels are."""
    figure = _figure(4.8, 4.2, title)
    axis, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    known = [b for b in calibration.bins if b.predicted is not None and b.observed is not None]
    axis.plot([0, 1], [0, 1], "--", color="#b3bdc8", lw=1.2)
    axis.plot([b.predicted for b in known], [b.observed for b in known], "o-", color=COLOURS["candidate"], lw=2,
              clip_on=False, zorder=3)  # fmt: skip
    error = calibration.expected_error
    axis.set_title(
        "calibration error " + ("undefined" if error is None else f"{error:.3f}") + "; dashed: perfect", loc="left"
    )
    axis.set(ylim=(0, 1.02), ylabel=f"share labelled {target}")
    axis.grid(color="#e6ebf0")
    _empty(axis, not known)
    below.bar([(b.low + b.high) / 2 for b in calibration.bins], [b.pixels for b in calibration.bins], 0.09,
              color="#c6d6ea")  # fmt: skip
    below.set(xlim=(0, 1), xlabel=f"predicted probability of {target}", ylabel="pixels")
    if known:
        below.set(yscale="log", ylabel="pixels, log")
        below.minorticks_off()
    return _png(figure)


def confusion_chart(pooled: Pooled, target: str, title: str) -> bytes:
    """The four counts of one class against the rest; the shade is the share of the row."""
    tp, fp, fn, tn = pooled.counts
    figure = _figure(4.8, 3.6, title)
    axis = figure.subplots()
    rows = [(tn, fp), (fn, tp)]
    shares = [[count / max(sum(row), 1) for count in row] for row in rows]
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1.25, aspect="auto")
    for row, (counts, line) in enumerate(zip(rows, shares, strict=True)):
        for column, (count, share) in enumerate(zip(counts, line, strict=True)):
            shown = f"{count:,}\n{share:.1%}" if sum(counts) else f"{count:,}"
            axis.text(column, row, shown, ha="center", va="center", color="white" if share > 0.7 else INK, fontsize=11)
    labels = [f"not {target}", target]
    axis.set_xticks([0, 1], labels)
    axis.set_yticks([0, 1], labels, rotation=90, va="center")
    axis.set(xlabel="predicted", ylabel="label")
    axis.set_title("pixels, and their share of the row", loc="left")
    axis.tick_params(length=0)
    return _png(figure)


def scenes_chart(splits: Mapping[str, SplitScores], names: Mapping[str, str]) -> bytes:
    """IoU per scene, sorted by the first role's, a panel per split; undefined ones are left out and counted."""
    figure = _figure(9.6, 2.5 * len(splits))
    panels = figure.subplots(len(splits), 1, squeeze=False)[:, 0]
    for panel, (split, scores) in zip(panels, splits.items(), strict=True):
        first = next(iter(names))
        ious = [{role: scene.pooled[role].iou for role in names} for scene in scores.scenes]
        known = sorted((one for one in ious if one[first] is not None), key=lambda one: -(one[first] or 0.0))
        shown = _thinned(known)
        panel.bar(range(len(shown)), [one[first] for one in shown], 0.8, color=COLOURS[first], alpha=0.85,
                  label=names[first])  # fmt: skip
        for role in list(names)[1:]:
            at = [(place, one[role]) for place, one in enumerate(shown) if one[role] is not None]
            panel.plot([p for p, _ in at], [v for _, v in at], "_", ms=9, mew=2.2, color=COLOURS[role],
                       label=names[role])  # fmt: skip
        thinned = f", {len(shown)} evenly of {len(known)} shown" if len(shown) < len(known) else ""
        panel.set_title(f"{split}: {len(ious)} scenes, {len(ious) - len(known)} undefined{thinned}", loc="left")
        panel.set(ylim=(0, 1.02), ylabel="IoU", xticks=[])
        panel.grid(axis="y", color="#e6ebf0")
        panel.margins(x=0.01)
        _empty(panel, not known)
    panels[-1].set_xlabel(f"scenes, by the IoU of {names[next(iter(names))]}")
    panels[0].legend(loc="upper right", frameon=True, edgecolor="none", ncols=len(names))
    return _png(figure)


def _thinned(ordered: Sequence[Any]) -> list[Any]:
    """At most so many as can be told apart, evenly."""
    if len(ordered) <= _MOST_SCENES:
        return list(ordered)
    return [ordered[round(k * (len(ordered) - 1) / (_MOST_SCENES - 1))] for k in range(_MOST_SCENES)]


def _empty(axis: Any, nothing: bool) -> None:
    if nothing:
        axis.text(0.5, 0.5, "undefined", ha="center", va="center", color=_SOFT, transform=axis.transAxes)


def _figure(width: float, height: float, title: str = "") -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, x=0.02, ha="left", fontsize=10.5, fontweight="bold", color=INK)
    return figure


def _png(figure: Figure) -> bytes:
    for axis in figure.axes:
        axis.set_axisbelow(True)
        axis.tick_params(labelsize=8, colors=_SOFT)
        axis.title.set_fontsize(9)
        axis._left_title.set(fontsize=9.5, color=INK)  # type: ignore[attr-defined]
        for label in (axis.xaxis.label, axis.yaxis.label):
            label.set(fontsize=9, color=_SOFT)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            axis.spines[side].set_color("#c8d1da")
        legend = axis.get_legend()
        for text in legend.get_texts() if legend is not None else ():
            text.set_fontsize(8)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=130, metadata={"Software": None})
    return stream.getvalue()
