"""The page at `/`: what answers here, and how to ask it. Self-contained, without scripts."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eo_data.model.files import ModelFiles

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 3rem auto; padding: 0 1rem; color: #1c2733; }
dt { font-weight: 600; } dd { margin: 0 0 .6rem 0; } code, pre { font-family: ui-monospace, monospace; }
pre { background: #f2f4f7; padding: .8rem; overflow-x: auto; } .mark { display: inline-block; width: .9em; height: .9em;
border: 1px solid #889; margin-right: .4em; vertical-align: -.1em; }
@media (prefers-color-scheme: dark) { body { background: #10161d; color: #dde3ea; } pre { background: #1b242e; } }
"""


def page(name: str, files: ModelFiles | None, address: str) -> str:
    """The page as HTML.

    Args:
        name: The served model's name.
        files: The version that answers; None where there is none.
        address: How the page was reached, `http://127.0.0.1:5002`.
    """
    body = _version(files) if files else "<p>No model is loaded yet: every request is answered 503.</p>"
    call = (
        f"curl --data-binary @scene.tif -H 'Content-Type: image/tiff' -o mask.tif {address}/invocations\n"
        f"curl -d @chip.json -H 'Content-Type: application/json' {address}/invocations"
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(name)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>{escape(name)}</h1>{body}"
        "<h2>Ask it</h2><p>A GeoTIFF in, a mask on exactly its grid out; or JSON with MLflow's "
        "<code>inputs</code>, a tensor [N, bands, height, width] of sensor values, for "
        "<code>predictions</code> (255 is no data).</p>"
        f"<pre>{escape(call)}</pre></body></html>\n"
    )


def _version(files: ModelFiles) -> str:
    description = files.description
    classes = ", ".join(
        f'<span class="mark" style="background:{escape(c.color)}"></span>{c.value} {escape(c.name)}'
        for c in description.output.classes
    )
    facts = {
        "Version": escape(files.label),
        "Made as": f"{escape(description.architecture)} ({escape(description.kind)})",
        "Digest": f"<code>{escape(files.digest)}</code>",
        "Bands": escape(", ".join(description.input.bands)),
        "Classes": classes,
    }
    return "<dl>" + "".join(f"<dt>{key}</dt><dd>{value}</dd>" for key, value in facts.items()) + "</dl>"
