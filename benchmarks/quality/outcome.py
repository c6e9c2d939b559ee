"""What an experiment gives: one JSON file and a short table, under `benchmarks/results/`."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.report import versions
from eo_data.provenance import git_commit

RESULTS: Final = Path(__file__).resolve().parents[1] / "results"


def write(name: str, values: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Write `<name>.json` with what it was made with; its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    record = {**values, "made_with": made_with()}
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return path


def made_with() -> dict[str, str | int | None]:
    """Code, libraries and processor: weights depend on them."""
    packages = ("torch", "lightning", "onnxruntime", "numpy")
    return {"git_commit": git_commit(), **versions(packages), "cpus": os.cpu_count()}


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; figures with four places, what is undefined as a dash."""
    lines = [head, ["---"] * len(head), *[[_cell(value) for value in row] for row in rows]]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
