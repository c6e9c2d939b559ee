"""A drift report as one HTML file with its charts inside."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from string import Template
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from eo_serving.drift import StratumDrift, Unit, pooled, reference_edges

if TYPE_CHECKING:
    from eo_serving.monitoring import DriftReport, Window

_PAGE: Final = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Drift of $usecase, $time</title>
<meta name="viewport" content="width=device-width">
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1.2rem; color: #1d2733; }
h1 { margin: 0; font-size: 1.6rem; } h2 { margin: 2rem 0 .5rem; font-size: 1.15rem; } .quiet { color: #5b6b7c; }
.verdict { border-left: 4px solid $colour; background: #f3f6f9; padding: .7rem 1rem; margin: 1.2rem 0; }
.verdict p { margin: .2rem 0; } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25rem .6rem; border-bottom: 1px solid #e1e7ed; font-weight: 400; }
th { color: #5b6b7c; } th:first-child, td:first-child { text-align: left; } .bad { color: #a4262c; font-weight: 600; }
img { max-width: 100%; height: auto; }
</style></head><body>
<h1>Drift of $usecase</h1>
<p class="quiet">$time UTC · $champion · reference: $reference scenes of its training split, dataset $dataset</p>
<div class="verdict"><p><strong>$verdict</strong></p>$reasons</div>
$windows
$newest
<h2>How to read this</h2>
<p class="quiet">PSI says how large a shift is (0 none; here drift from $psi), the p-value whether chance can make it:
requests and training scenes are permuted, a request counts once, all that is compared in a window is corrected
together (Benjamini-Hochberg). Drift needs both; a retraining needs $needed of $count windows. "No reference":
nothing was trained on in that month; "not enough": fewer than $least requests.</p>
</body></html>
""")

_BLUE: Final = "#1f6fd1"
_GREY: Final = "#7a8896"


def drift_page(report: DriftReport, reference: Sequence[Unit], newest: Sequence[Unit]) -> bytes:
    """The page.

    Args:
        report: What it tells.
        reference: Units of the training split.
        newest: Units of the newest window.
    """
    section = report.section
    return _PAGE.substitute(
        usecase=escape(report.usecase),
        time=f"{report.time:%Y-%m-%d %H:%M}",
        champion=escape(report.champion),
        reference=report.reference,
        dataset=escape(report.dataset[:12]),
        colour="#a4262c" if report.retrain else "#3c8a5a",
        verdict="Retrain" if report.retrain else "No retraining",
        reasons="".join(f"<p>{escape(reason)}</p>" for reason in report.reasons) or "<p>Nothing speaks for one.</p>",
        windows=_windows(report.windows),
        newest=_newest(report.windows[-1], reference, newest),
        psi=f"{section.psi:g}",
        needed=section.needed,
        count=section.windows,
        least=section.min_requests,
    ).encode()


def _windows(windows: Sequence[Window]) -> str:
    rows = []
    for window in windows:
        for stratum in window.strata or [None]:
            rows.append(_row(window, stratum))
    head = _head("Window (UTC)", "Month", "Requests", "Reference", "Greatest PSI", "Drifted")
    return f"<h2>Windows</h2><table>{head}{''.join(rows)}</table>"


def _head(*names: str) -> str:
    return "<tr>" + "".join(f"<th>{name}</th>" for name in names) + "</tr>"


def _row(window: Window, stratum: StratumDrift | None) -> str:
    span = f"{window.begin:%m-%d %H:%M} to {window.end:%m-%d %H:%M}"
    if stratum is None:
        return f"<tr><td>{span}</td><td>-</td><td>{window.requests}</td><td>-</td><td>-</td><td>no request</td></tr>"
    bands = [feature for feature in stratum.features if not feature.name.startswith("share of ")]
    greatest = max(bands, key=lambda feature: feature.shift, default=None)
    shift = "-" if greatest is None else f"{greatest.shift:.3f} ({escape(greatest.name)})"
    drifted = ", ".join(map(escape, stratum.drifted))
    told = f'<span class="bad">{drifted}</span>' if drifted else ("none" if stratum.features else stratum.status)
    return (
        f"<tr><td>{span}</td><td>{stratum.month or 'any'}</td><td>{stratum.requests}</td><td>{stratum.reference}</td>"
        f"<td>{shift}</td><td>{told}</td></tr>"
    )


def _newest(window: Window, reference: Sequence[Unit], units: Sequence[Unit]) -> str:
    by_month = any(unit.month is not None for unit in reference)
    parts = []
    for stratum in window.strata:
        if not stratum.features:
            continue
        mine = [u for u in units if u.quantiles and (not by_month or u.month == stratum.month)]
        theirs = [u for u in reference if u.quantiles and (stratum.month is None or u.month == stratum.month)]
        rows = "".join(
            f"<tr><td>{escape(f.name)}</td><td>{f.shift:+.3f}</td><td>{f.distance:.3f}</td><td>{f.p_value:.3f}</td>"
            f"<td>{f.adjusted:.3f}</td><td>{'<span class=bad>drift</span>' if f.drifted else 'none'}</td></tr>"
            for f in stratum.features
        )
        head = (
            "<tr><th>Band or class</th><th>PSI or shift</th><th>Distance</th><th>p</th><th>corrected</th><th></th></tr>"
        )
        title = f"Newest window, month {stratum.month or 'any'}: {stratum.requests} requests"
        chart = base64.b64encode(_chart(stratum, theirs, mine)).decode()
        parts.append(
            f'<h2>{title}</h2><img alt="Distributions by band" src="data:image/png;base64,{chart}">'
            f"<table>{head}{rows}</table>"
        )
    return "".join(parts)


def _chart(stratum: StratumDrift, reference: Sequence[Unit], window: Sequence[Unit]) -> bytes:
    """Of each band the share of pixels up to a reflectance, reference and window."""
    from matplotlib.figure import Figure

    bands = [feature for feature in stratum.features if not feature.name.startswith("share of ")]
    columns = min(3, len(bands))
    rows = -(-len(bands) // columns)
    figure = Figure(figsize=(9.6, 2.5 * rows), layout="constrained", dpi=110)
    axes: Any = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for number, axis in enumerate(axes.ravel()):
        if number >= len(bands):
            axis.set_visible(False)
            continue
        edges = reference_edges([*reference, *window], number)
        for units, colour, name in ((reference, _GREY, "trained on"), (window, _BLUE, "asked")):
            axis.plot(edges, pooled(units, number, edges), color=colour, lw=2, label=name)
        mark = "  drift" if bands[number].drifted else ""
        axis.set_title(f"{bands[number].name}  PSI {bands[number].shift:.2f}{mark}", loc="left", fontsize=10)
        axis.grid(color="#e6ebf0")
        axis.set_ylim(0, 1)
        axis.set_yticks(np.linspace(0, 1, 5))
    axes[0, 0].legend(frameon=False, loc="lower right")
    figure.supxlabel("reflectance x 10000", fontsize=9)
    figure.supylabel("share of pixels up to it", fontsize=9)
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()
