"""What the cross-package tests share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = {"train": ("eo-data", "eo-models"), "serve": ("eo-serving",), "mlflow": ("mlflow",)}


@pytest.fixture
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture
def fake_environments() -> Callable[[Path], dict[str, Path]]:
    """Make environments of commands that only pretend (tests/fake_command.py); environment -> its `bin`."""

    def make(folder: Path) -> dict[str, Path]:
        source = (ROOT / "tests" / "fake_command.py").read_text(encoding="utf-8")
        for name, commands in COMMANDS.items():
            bin_folder = folder / name / "bin"
            bin_folder.mkdir(parents=True)
            (bin_folder / "python").symlink_to(sys.executable)
            for command in commands:
                script = bin_folder / command
                script.write_text(f"#!{sys.executable} -ES\n{source}", encoding="utf-8")
                script.chmod(0o755)
        return {name: folder / name / "bin" for name in COMMANDS}

    return make
