"""The page at `/`: a GeoTIFF is dropped, its mask is shown; what answers here, and how to ask it from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from eo_data.model.files import ModelFiles
    from eo_data.usecase import UseCase

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page's Content-Security-Policy: nothing but its own files, its own server, and pictures that it made."""

PAGE_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True)
class PageFacts:
    """What the page tells.

    Attributes:
        usecase: What is served.
        files: The version that answers; None where there is none.
        address: How the page was reached, `http://127.0.0.1:5002`.
        max_bytes: Of a body.
        asks_token: Whether requests need a token.
    """

    usecase: UseCase
    files: ModelFiles | None
    address: str
    max_bytes: int
    asks_token: bool


def page(facts: PageFacts) -> str:
    """The page as HTML."""
    call = (
        f"curl --data-binary @scene.tif -H 'Content-Type: image/tiff' -o mask.tif {facts.address}/invocations\n"
        f"curl -d @chip.json -H 'Content-Type: application/json' {facts.address}/invocations"
    )
    if facts.asks_token:
        call = call.replace("curl ", 'curl -H "Authorization: Bearer $TERRALOOP_ENDPOINT_TOKEN" ')
    found = facts.files
    texts = {
        "name": facts.usecase.title,
        "version": found.label if found else "No model is loaded yet: every request is answered 503.",
        "max_bytes": str(facts.max_bytes),
        "max_size": f"{facts.max_bytes / 2**20:.4g} MiB",
        "bands": ", ".join(band.name for band in facts.usecase.data.input_bands),
        "call": call,
    }
    markup = {"facts": _facts(found) if found else "", "token_hidden": "" if facts.asks_token else " hidden"}
    return Template(page_file("page.html")).substitute({key: escape(text) for key, text in texts.items()} | markup)


@cache
def page_file(name: str) -> str:
    """One of the page's own files: `page.html`, `page.css`, `page.js`."""
    return (files("eo_serving") / "page_files" / name).read_text(encoding="utf-8")


def _facts(found: ModelFiles) -> str:
    description = found.description
    classes = ", ".join(
        f'<svg width="12" height="12" aria-hidden="true"><rect width="12" height="12" rx="2" data-class="{c.value}" '
        f'fill="{escape(c.color)}"/></svg> {c.value} {escape(c.name)}'
        for c in description.output.classes
    )
    rows = {
        "Version": escape(found.label),
        "Made as": f"{escape(description.architecture)} ({escape(description.kind)})",
        "Digest": f"<code>{escape(found.digest)}</code>",
        "Bands": escape(", ".join(description.input.bands)),
        "Classes": classes,
    }
    listed = "".join(f"<dt>{key}</dt><dd>{value}</dd>" for key, value in rows.items())
    return f'<section aria-labelledby="model"><h2 id="model">What answers</h2><dl>{listed}</dl></section>'
