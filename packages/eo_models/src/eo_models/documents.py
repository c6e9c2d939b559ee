"""A document for people as a list of blocks, written as Markdown or as one self-contained HTML page."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Heading:
    """A section's heading."""

    text: str


@dataclass(frozen=True)
class Paragraph:
    """Some sentences; `strong` ones are set apart as a warning."""

    text: str
    strong: bool = False


@dataclass(frozen=True)
class Number:
    """A headline: what, the figure, and what to know of it."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Numbers:
    """Headlines side by side."""

    items: tuple[Number, ...]


@dataclass(frozen=True)
class Share:
    """A table's cell with a share of 1, drawn as a bar on the page; None draws none."""

    text: str
    value: float | None


Cell = str | Share


@dataclass(frozen=True)
class Table:
    """A table; a `folded` one is opened by a click on its caption."""

    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Picture:
    """A picture by its file's name; several in a row stand side by side where there is room."""

    name: str
    alt: str
    wide: bool = False


Block = Heading | Paragraph | Numbers | Table | Picture

_STYLE = """
:root{--ink:#1d2733;--soft:#5b6b7c;--line:#dfe5eb;--fill:#f5f8fb;--blue:#1f6fd1;--bar:#d6e6fa}
*{box-sizing:border-box}
body{margin:0;color:var(--ink);background:#fff;font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:64rem;margin:0 auto;padding:2rem 1.25rem 4rem}
h1{font-size:1.7rem;line-height:1.25;margin:0 0 .5rem;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:2.6rem 0 .5rem;padding-top:1.1rem;border-top:1px solid var(--line)}
p{margin:.5rem 0;max-width:46rem;overflow-wrap:anywhere}
.warning{background:#fff6e0;border-left:4px solid #e39a1c;padding:.6rem .9rem;border-radius:0 6px 6px 0}
.numbers{display:grid;grid-template-columns:repeat(auto-fit,minmax(11.5rem,1fr));gap:.8rem;margin:1.2rem 0}
.number{background:var(--fill);border:1px solid var(--line);border-radius:8px;padding:.7rem .9rem}
.number b{display:block;font-size:1.65rem;line-height:1.3;font-variant-numeric:tabular-nums}
.number span{color:var(--soft);font-size:.86rem;display:block}
.scroll{overflow-x:auto;margin:.8rem 0}
table{border-collapse:collapse;font-size:.92rem;min-width:100%}
p.caption{color:var(--soft);font-size:.92rem;margin:1rem 0 -.5rem}
summary{cursor:pointer;color:var(--blue);font-size:.92rem;padding:.3rem 0}
th,td{padding:.36rem .7rem;text-align:right;border-bottom:1px solid var(--line);font-variant-numeric:tabular-nums;
vertical-align:top;white-space:nowrap}
th{font-weight:600;color:var(--soft);font-size:.83rem;border-bottom:2px solid var(--line)}
td:first-child,th:first-child{text-align:left;padding-left:.2rem}
td.words{text-align:left;white-space:normal;min-width:14rem;overflow-wrap:anywhere}th.words{text-align:left}
td.bar{background:linear-gradient(90deg,var(--blue) var(--share),var(--bar) 0)
center bottom/calc(100% - 1rem) 3px no-repeat}
.pictures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));gap:1rem;margin:1rem 0}
figure{margin:0}.wide{grid-column:1/-1}
img{max-width:100%;height:auto;display:block}
"""

_LONG = 34
"""A column with a text longer than this is one of words: left aligned, and its lines break."""


def markdown(title: str, blocks: Sequence[Block]) -> bytes:
    """The document as Markdown; pictures are named, and lie beside it."""
    parts = [f"# {title}"]
    for block in blocks:
        if isinstance(block, Heading):
            parts.append(f"## {block.text}")
        elif isinstance(block, Paragraph):
            parts.append(f"**{block.text}**" if block.strong else block.text)
        elif isinstance(block, Numbers):
            notes = [(n, f" ({n.note})" if n.note else "") for n in block.items]
            parts.append("\n".join(f"- {n.label}: **{n.value}**{note}" for n, note in notes))
        elif isinstance(block, Picture):
            parts.append(f"![{block.alt}]({block.name})")
        else:
            parts.append(_markdown_table(block))
    return ("\n\n".join(parts) + "\n").encode()


def page(title: str, blocks: Sequence[Block], pictures: Mapping[str, bytes]) -> bytes:
    """The document as one HTML page that needs nothing else: style and pictures (PNG) are inside."""
    body = []
    for position, block in enumerate(blocks):
        if isinstance(block, Picture):
            if position == 0 or not isinstance(blocks[position - 1], Picture):
                body.append("<div class='pictures'>")
            body.append(_figure(block, pictures[block.name]))
            if position + 1 == len(blocks) or not isinstance(blocks[position + 1], Picture):
                body.append("</div>")
        else:
            body.append(_html(block))
    head = (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main><h1>{escape(title)}</h1>"
    )
    return "\n".join([head, *body, "</main></body></html>\n"]).encode()


def _html(block: Heading | Paragraph | Numbers | Table) -> str:
    if isinstance(block, Heading):
        return f"<h2>{escape(block.text)}</h2>"
    if isinstance(block, Paragraph):
        return f"<p{' class=warning' if block.strong else ''}>{escape(block.text)}</p>"
    if isinstance(block, Numbers):
        items = "".join(
            f"<div class='number'><span>{escape(n.label)}</span><b>{escape(n.value)}</b>"
            f"<span>{escape(n.note)}</span></div>"
            for n in block.items
        )
        return f"<div class='numbers'>{items}</div>"
    return _html_table(block)


def _html_table(table: Table) -> str:
    words = [
        bool(table.rows) and column > 0 and max(len(_text(row[column])) for row in table.rows) > _LONG
        for column in range(len(table.head))
    ]
    head = "".join(
        f"<th{' class=words' if wordy else ''}>{escape(cell)}</th>"
        for cell, wordy in zip(table.head, words, strict=True)
    )
    head = f"<thead><tr>{head}</tr></thead>" if any(table.head) else ""
    body = "".join(
        "<tr>" + "".join(_cell(cell, wordy) for cell, wordy in zip(row, words, strict=True)) + "</tr>"
        for row in table.rows
    )
    caption = f"<p class='caption'>{escape(table.caption)}</p>" if table.caption and not table.folded else ""
    html = f"{caption}<div class='scroll'><table>{head}<tbody>{body}</tbody></table></div>"
    return f"<details><summary>{escape(table.caption)}</summary>{html}</details>" if table.folded else html


def _cell(cell: Cell, wordy: bool) -> str:
    if isinstance(cell, Share) and cell.value is not None:
        return f"<td class='bar' style='--share:{100 * min(max(cell.value, 0), 1):.1f}%'>{escape(cell.text)}</td>"
    return f"<td{' class=words' if wordy else ''}>{escape(_text(cell))}</td>"


def _figure(block: Picture, data: bytes) -> str:
    encoded = base64.b64encode(data).decode()
    return (
        f"<figure{' class=wide' if block.wide else ''}><img src='data:image/png;base64,{encoded}' "
        f"alt='{escape(block.alt, quote=True)}'></figure>"
    )


def _markdown_table(table: Table) -> str:
    def line(cells: Sequence[Cell]) -> str:
        return "| " + " | ".join(_text(cell).replace("|", "\\|") for cell in cells) + " |"

    rule = "|" + "|".join([" --- ", *(" ---: " for _ in table.head[1:])]) + "|"
    lines = [f"{table.caption}\n"] if table.caption else []
    return "\n".join([*lines, line(table.head), rule, *map(line, table.rows)])


def _text(cell: Cell) -> str:
    return cell.text if isinstance(cell, Share) else cell
