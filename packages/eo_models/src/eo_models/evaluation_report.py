"""An evaluation for people: the table of every split, the comparison that the gate judges, a page with pictures."""

from __future__ import annotations

from html import escape
from typing import Any

_NAMES = {"candidate": "candidate", "champion": "champion", "index": "index", "index_untuned": "index, untuned"}


def report_files(evaluation: dict[str, Any]) -> dict[str, bytes]:
    """The files beside `evaluation.json`, by name: `report.html`, which shows `samples.png`."""
    return {"report.html": _page(evaluation).encode()}


def figure(value: float | None) -> str:
    """Three places, or the word for what is not defined."""
    return "undefined" if value is None else f"{value:.3f}"


def _page(evaluation: dict[str, Any]) -> str:
    candidate = evaluation["candidate"]
    title = f"Evaluation of {candidate['uri']} ({candidate['digest'][:12]})"
    simulated = "<p><strong>Simulated scenes</strong>: good for trying the system, no proof of quality.</p>"
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        f"<title>{escape(title)}</title>",
        "<style>body{font:15px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
        "table{border-collapse:collapse;margin:1em 0}td,th{border:1px solid #ccc;padding:.2em .6em;text-align:right}"
        "td:first-child,th:first-child{text-align:left}img{max-width:100%}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        f"<p>Dataset {escape(evaluation['dataset']['digest'][:12])}, class {escape(evaluation['target'])}, "
        "pooled over all scored pixels, as exported and through the tiles that serve.</p>",
        simulated if evaluation["simulated"] else "",
        *(_split(name, split, evaluation) for name, split in evaluation["splits"].items()),
        _comparisons(evaluation),
        "<h2>Samples of the test split</h2><img src='samples.png' alt='scene, label, prediction and error'>",
        "</body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _split(name: str, split: dict[str, Any], evaluation: dict[str, Any]) -> str:
    rows = [
        [f"{_NAMES[role]}: {evaluation[role]['architecture']} {evaluation[role]['uri'] or ''}"]
        + [figure(split["pooled"][role][key]) for key in ("iou", "f1", "precision", "recall")]
        for role in _NAMES
    ]
    dropped = split["dropped"]
    note = f"<p>{split['chips']} chips in {len(split['cells'])} cells"
    if dropped["cells"]:
        note += f"; {dropped['cells']} cells ({dropped['chips']} chips) left out: a model was trained on them"
    if name == "validation":
        note += "; choices were made on this split"
    return f"<h2>{escape(name)}</h2>{note}.</p>" + _table(["", "IoU", "F1", "precision", "recall"], rows)


def _comparisons(evaluation: dict[str, Any]) -> str:
    rows = [
        [f"candidate minus {role}", *(_signed(comparison[key]) for key in ("difference", "low", "high"))]
        for role, comparison in evaluation["comparisons"].items()
    ]
    resamples = evaluation["bootstrap"]["resamples"]
    return (
        "<h2>What the gate judges</h2><p>Pooled IoU on the holdout; 95 % interval of the paired bootstrap over cells, "
        f"{resamples} resamples; {evaluation['holdout_cells_with_target']} cells hold the class.</p>"
        + _table(["", "difference", "low", "high"], rows)
    )


def _signed(value: float | None) -> str:
    return "undefined" if value is None else f"{value:+.3f}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    header = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{header}</tr>{body}</table>"
