"""A drift report as one HTML file with its charts inside."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from string import Template
from typing import TYPE_CHECKING, Final

from eo_serving.drift import FeatureDrift, StratumDrift, Unit, by_month, pooled, reference_edges

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
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption { font-size: .9rem; }
svg { width: 100%; height: auto; font-size: 10px; fill: #5b6b7c; }
polyline { fill: none; stroke-width: 2; } .grid { stroke: #e6ebf0; } .key { display: inline-block; width: 1.2rem;
height: 3px; vertical-align: middle; }
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
    bands = [feature for feature in stratum.features if feature.kind == "band"]
    greatest = max(bands, key=lambda feature: feature.shift, default=None)
    shift = "-" if greatest is None else f"{greatest.shift:.3f} ({escape(greatest.name)})"
    drifted = ", ".join(map(escape, stratum.drifted))
    told = f'<span class="bad">{drifted}</span>' if drifted else ("none" if stratum.features else stratum.status)
    return (
        f"<tr><td>{span}</td><td>{stratum.month or 'any'}</td><td>{stratum.requests}</td><td>{stratum.reference}</td>"
        f"<td>{shift}</td><td>{told}</td></tr>"
    )


def _newest(window: Window, reference: Sequence[Unit], units: Sequence[Unit]) -> str:
    strata = by_month(reference, units)
    parts = []
    for stratum in window.strata:
        if not stratum.features:
            continue
        rows = "".join(
            f"<tr><td>{escape(f.name)}</td><td>{f.shift:+.3f}</td><td>{f.distance:.3f}</td><td>{f.p_value:.3f}</td>"
            f"<td>{f.adjusted:.3f}</td><td>{'<span class=bad>drift</span>' if f.drifted else 'none'}</td></tr>"
            for f in stratum.features
        )
        head = _head("Band or class", "PSI or shift", "Distance", "p", "corrected", "")
        title = f"Newest window, month {stratum.month or 'any'}: {stratum.requests} requests"
        bands = [feature for feature in stratum.features if feature.kind == "band"]
        charts = "".join(_chart(feature, n, *strata[stratum.month]) for n, feature in enumerate(bands))
        parts.append(f'<h2>{title}</h2>{_LEGEND}<div class="charts">{charts}</div><table>{head}{rows}</table>')
    return "".join(parts)


_LEGEND: Final = (
    '<p class="quiet">Share of pixels up to a reflectance (x 10000): '
    f'<span class="key" style="background:{_GREY}"></span> trained on, '
    f'<span class="key" style="background:{_BLUE}"></span> asked</p>'
)
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 280, 170, 34, 18  # of a chart, and of its margins, in the units of its drawing


def _chart(feature: FeatureDrift, band: int, reference: Sequence[Unit], window: Sequence[Unit]) -> str:
    """Of a band the share of pixels up to a reflectance, reference and window, as a figure with an SVG inside."""
    edges = reference_edges([*reference, *window], band)
    low, high = float(edges[0]), float(edges[-1])
    span = high - low or 1.0

    def across(value: float) -> float:
        return _LEFT + (value - low) / span * (_WIDTH - _LEFT - 6)

    def down(share: float) -> float:
        return 6 + (1 - share) * (_HEIGHT - _BOTTOM - 6)

    grid = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH}" y1="{down(share):.1f}" y2="{down(share):.1f}"/>'
        f'<text x="{_LEFT - 5}" y="{down(share) + 3:.1f}" text-anchor="end">{share:g}</text>'
        for share in (0, 0.25, 0.5, 0.75, 1)
    )
    ticks = "".join(
        f'<text x="{across(value):.1f}" y="{_HEIGHT - 4}" text-anchor="{anchor}">{value:.0f}</text>'
        for value, anchor in ((low, "start"), ((low + high) / 2, "middle"), (high, "end"))
    )
    lines = "".join(
        f'<polyline stroke="{colour}" points="'
        + " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in zip(edges, pooled(units, band, edges), strict=True))
        + '"/>'
        for units, colour in ((reference, _GREY), (window, _BLUE))
    )
    mark = ', <span class="bad">drift</span>' if feature.drifted else ""
    return (
        f"<figure><figcaption>{escape(feature.name)}: PSI {feature.shift:.2f}{mark}</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Distributions of {escape(feature.name)}">'
        f"{grid}{ticks}{lines}</svg></figure>"
    )
