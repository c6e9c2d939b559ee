"""The closing table says everything, and says what is undefined."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines import report
from pipelines.project import Misuse


@pytest.fixture
def found() -> dict[str, Any]:
    return {
        "usecase": "water",
        "body": "embedded",
        "simulated": True,
        "scenes": {"accepted": 62, "refused": {"junk": "no raster"}},
        "labels": {"refused": {"a": "another size"}},
        "dataset": {"digest": "d" * 64, "uri": "file:///d", "chips": {"train": 5, "test": 1}},
        "model": {"version": 2, "digest": "c" * 64, "uri": "models:/water/2"},
        "iou": {"candidate": 0.98765, "champion": 0.5, "index": 0.5, "index_untuned": None},
        "gate": {"verdict": "refused", "reasons": ["not above the index", "too few cells"]},
        "champion": "models:/water/1",
        "endpoint": "http://127.0.0.1:5002/invocations",
        "served": {"model": "water/1", "digest": "b" * 64},
        "mask": {"digest": "e" * 64, "uri": "file:///p/mask.tif", "scene": "a"},
        "quicklook": "file:///p/quicklook.png",
        "docs": "file:///docs/index.html",
        "urls": {"MLflow": "http://127.0.0.1:5000"},
        "seconds": {"ingest": 1.5, "total": 20.0},
    }


def rows(table: str) -> list[tuple[str, str]]:
    """Name and value of each line; a line without a name belongs to the one above."""
    width = table.splitlines()[1].index("water, simulated")
    return [(line[:width].strip(), line[width:]) for line in table.splitlines()[1:-1]]


def test_every_value_stands_beside_its_name(found: dict[str, Any]) -> None:
    told = dict(rows(report.table(found)))
    assert told["Terraloop"] == "water, simulated scenes, embedded"
    assert told["scenes"] == "62 accepted, 1 refused"
    assert told["dataset"] == "d" * 64
    assert told["candidate"] == f"models:/water/2  {'c' * 64}"
    assert told["champion"] == "models:/water/1"
    assert told["served"] == f"water/1  {'b' * 64}"
    assert told["mask"] == f"{'e' * 64}  of a"
    assert told["endpoint"] == "http://127.0.0.1:5002/invocations"
    assert told["MLflow"] == "http://127.0.0.1:5000"
    assert told["seconds"] == "ingest 1.5, total 20"


def test_a_report_that_cannot_be_written_is_seen_before_anything_is_done(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    report.check(tmp_path / "new" / "report.json")
    with pytest.raises(Misuse, match="this is a folder, name a file in it"):
        report.check(tmp_path)
    with pytest.raises(Misuse, match="nothing can be written at"):
        report.check(tmp_path / "file" / "report.json")


def test_refused_scenes_and_labels_are_named(found: dict[str, Any]) -> None:
    values = [value for _, value in rows(report.table(found))]
    assert "junk: no raster" in values
    assert "label of a: another size" in values


def test_the_gate_gives_each_reason_a_line(found: dict[str, Any]) -> None:
    told = rows(report.table(found))
    position = told.index(("gate", "refused"))
    assert told[position + 1 : position + 3] == [("", "not above the index"), ("", "too few cells")]


def test_an_undefined_figure_says_so(found: dict[str, Any]) -> None:
    values = [value.split() for _, value in rows(report.table(found))]
    assert ["candidate", "0.988"] in values
    assert ["index", "(NDWI>0)", "undefined"] in values


def test_many_refusals_are_cut_short(found: dict[str, Any]) -> None:
    found["scenes"]["refused"] = {f"s{number:03}": "dark" for number in range(100)}
    table = report.table(found)
    assert "100 refused" in table
    assert table.count(": dark") == report.SHOWN
    assert f"and {101 - report.SHOWN} more" in table


def test_without_services_the_endpoint_says_so(found: dict[str, Any]) -> None:
    found["endpoint"], found["body"] = None, None
    told = dict(rows(report.table(found)))
    assert told["endpoint"].startswith("none")
    assert told["Terraloop"] == "water, simulated scenes"


def test_a_report_is_written_whole(found: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.json"
    report.write(found, path)
    assert json.loads(path.read_text()) == found
    assert list(path.parent.iterdir()) == [path]


def test_nan_never_gets_into_a_report(found: dict[str, Any], tmp_path: Path) -> None:
    found["iou"]["candidate"] = float("nan")
    with pytest.raises(ValueError, match="not JSON compliant"):
        report.write(found, tmp_path / "report.json")
    assert list(tmp_path.iterdir()) == []
