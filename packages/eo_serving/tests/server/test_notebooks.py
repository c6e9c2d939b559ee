"""Notebooks run from the first cell to the last against a real endpoint, and are kept without outputs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[4]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
RUN = """
import json, sys
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt

folder, figures = sys.argv[2], []

def keep():
    for number in plt.get_fignums():
        figures.append(f"{folder}/figure-{len(figures)}.png")
        plt.figure(number).savefig(figures[-1], dpi=60)
    plt.close("all")

plt.show = keep
space = {"__name__": "__main__"}
for number, cell in enumerate(json.load(open(sys.argv[1]))["cells"]):
    if cell["cell_type"] == "code":
        exec(compile("".join(cell["source"]), f"cell {number}", "exec"), space)
"""


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(notebook: Path, server: Any, tmp_path: Path) -> None:
    environment = {**os.environ, "TERRALOOP_ENDPOINT": server.url}
    command = [sys.executable, "-c", RUN, str(notebook), str(tmp_path)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "water/2 |" in done.stdout
    assert "parts of water" in done.stdout
    assert "npy and JSON agree: True" in done.stdout
    figures = sorted(tmp_path.glob("figure-*.png"))
    assert len(figures) == 3
    assert all(path.stat().st_size > 10_000 for path in figures)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_kept_without_outputs(notebook: Path) -> None:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS
