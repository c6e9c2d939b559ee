"""The closing table of a main job, for people; and the same as JSON, for programs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from pipelines.project import Misuse

UNDEFINED: Final = "undefined"
RULE: Final = 100
SHOWN: Final = 20
"""How many refused scenes are named one by one."""

Row = tuple[str, str]


def table(report: Mapping[str, Any]) -> str:
    """The closing table: a name on the left, what came out on the right.

    Args:
        report: A main job's report, with or without `urls` (name -> URL) and `body`.

    Returns:
        Lines without a closing line break. A value that is undefined (no water in the test split) says so.
    """
    rows = [*_head(report), *_data(report), *_model(report), *_served(report), *_seconds(report)]
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}}  {value}".rstrip() for name, value in rows]
    rule = "-" * RULE
    return "\n".join([rule, *lines, rule])


def check(path: Path) -> None:
    """Make sure that a report can be written here, before anything is done for it.

    Raises:
        Misuse: If it cannot.
    """
    if path.is_dir():
        raise Misuse(f"--report {path}: this is a folder, name a file in it")
    above = next(parent for parent in path.parents if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise Misuse(f"--report {path}: nothing can be written at {above}")


def write(report: Mapping[str, Any], path: Path) -> None:
    """Write a report as JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.with_name(f".{path.name}.{os.getpid()}")
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
    work.write_text(text + "\n", encoding="utf-8")
    work.replace(path)


def _head(report: Mapping[str, Any]) -> Iterable[Row]:
    scenes = "simulated scenes" if report["simulated"] else "given scenes"
    yield "Terraloop", ", ".join(filter(None, [report["usecase"], scenes, report.get("body")]))


def _data(report: Mapping[str, Any]) -> Iterable[Row]:
    refused = {**report["scenes"]["refused"]}
    refused |= {f"label of {name}": why for name, why in report["labels"]["refused"].items()}
    yield "scenes", f"{report['scenes']['accepted']} accepted, {len(report['scenes']['refused'])} refused"
    for name, why in list(refused.items())[:SHOWN]:
        yield "", f"{name}: {why}"
    if len(refused) > SHOWN:
        yield "", f"and {len(refused) - SHOWN} more, see --report"
    yield "dataset", report["dataset"]["digest"]
    yield "", ", ".join(f"{split} {count}" for split, count in report["dataset"]["chips"].items()) + " chips"


def _model(report: Mapping[str, Any]) -> Iterable[Row]:
    iou = report["iou"]
    yield "candidate", f"{report['model']['uri']}  {report['model']['digest']}"
    yield "IoU on test", f"candidate      {_number(iou['candidate'])}"
    yield "", f"champion       {_number(iou['champion'])}"
    yield "", f"index (tuned)  {_number(iou['index'])}"
    yield "", f"index (NDWI>0) {_number(iou['index_untuned'])}"
    yield "gate", report["gate"]["verdict"]
    yield from (("", reason) for reason in report["gate"]["reasons"])
    yield "champion", report["champion"]


def _served(report: Mapping[str, Any]) -> Iterable[Row]:
    yield "served", f"{report['served']['model']}  {report['served']['digest']}"
    yield "mask", f"{report['mask']['digest']}  of {report['mask']['scene']}"
    yield "quicklook", report["quicklook"]
    yield "endpoint", report["endpoint"] or "none: this was a run without services"
    yield from report.get("urls", {}).items()


def _seconds(report: Mapping[str, Any]) -> Iterable[Row]:
    seconds = report["seconds"]
    yield "seconds", ", ".join(f"{verb} {value:g}" for verb, value in seconds.items())


def _number(value: float | None) -> str:
    return UNDEFINED if value is None else f"{value:.3f}"
