from __future__ import annotations

import re

from eo_models.documents import Block, Heading, Number, Numbers, Paragraph, Picture, Share, Table, markdown, page

BLOCKS: list[Block] = [
    Paragraph("a < b", strong=True),
    Numbers((Number("IoU", "0.700", "of 1"),)),
    Heading("Tables & pictures"),
    Table(("", "IoU"), (("one|two", Share("0.700", 0.7)), ("three", Share("undefined", None))), "a caption"),
    Table(("", "x"), (("a", "b"),), "folded one", folded=True),
    Picture("a.png", 'an "alt"'),
    Picture("b.png", "another", wide=True),
]


def test_the_page_holds_everything_and_asks_nobody() -> None:
    html = page("A <title>", BLOCKS, {"a.png": b"\x89PNG-a", "b.png": b"\x89PNG-b"}).decode()
    assert "<h1>A &lt;title&gt;</h1>" in html
    assert "<p class=warning>a &lt; b</p>" in html
    assert "--share:70.0%" in html
    assert re.findall(r"src='([^,]*),", html) == ["data:image/png;base64"] * 2
    assert "alt='an &quot;alt&quot;'" in html
    assert not re.search(r"https?:|//[a-z]|<script|<link|@import|url\(", html)
    assert html.count("<details>") == 1
    assert html.count("class='pictures'") == 1


def test_narrow_screens_are_told_apart_and_wide_tables_scroll() -> None:
    html = page("t", BLOCKS, {"a.png": b"", "b.png": b""}).decode()
    assert "name='viewport' content='width=device-width" in html
    assert html.count("<div class='scroll'><table>") == html.count("<table>") == 2


def test_markdown_says_the_same() -> None:
    text = markdown("A title", BLOCKS).decode()
    assert text.startswith("# A title\n\n**a < b**\n\n- IoU: **0.700** (of 1)\n\n## Tables & pictures\n")
    assert "| one\\|two | 0.700 |" in text
    assert "| three | undefined |" in text
    assert '![an "alt"](a.png)' in text
