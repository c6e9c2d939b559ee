"""Who may import what."""

from __future__ import annotations

import ast
import itertools
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PACKAGES = ("eo_data", "eo_models", "eo_serving")
STANDARD_LIBRARY_ONLY = ("pipelines", "infra")
NOT_OURS_TO_RUN = {
    Path("infra/embedded/smoke_requests.py"): "reads rasters, runs with the Python of environment `serve`",
}
UNDER_AIRFLOW = (
    "dags/",
    "operators/",
    "approval.py",
    "arrivals.py",
    "assets.py",
    "events.py",
    "parameters.py",
    "training_decision.py",
)
"""What of pipelines runs in Airflow's environment."""
FOR_AIRFLOW = {"airflow", "dagfactory", "docker", "kubernetes"}
DISTRIBUTIONS = {
    "PIL": "pillow",
    "yaml": "pyyaml",
    "great_expectations": "great-expectations",
    "odc": "odc-geo",
    "grpc": "grpcio",
}
"""Module -> distribution, where their names differ."""
INDIRECT = {
    "mlflow": {"mlflow-skinny"},  # the same modules, without the training part
    "pydantic_core": {"pydantic"},  # of pydantic, in its version
    "fastapi": {"mlserver"},  # MLServer's own, in MLServer's version
    "starlette": {"mlserver"},
    "google": {"mlserver"},  # protobuf, in the version that MLServer's messages were made for
    "h11": {"uvicorn"},  # uvicorn's own parser
}


def imported(file: Path) -> Iterator[str]:
    """The top-level names that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module.partition(".")[0]


def test_imports_run_one_way(root: Path) -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    answer = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout
    kept, broken = re.findall(r"Contracts: (\d+) kept, (\d+) broken", answer.stdout)[0]
    assert (int(kept) >= 7, broken) == (True, "0")


@pytest.mark.parametrize("folder", STANDARD_LIBRARY_ONLY)
def test_what_runs_before_anything_is_installed_needs_the_standard_library_alone(root: Path, folder: str) -> None:
    allowed = sys.stdlib_module_names | {*STANDARD_LIBRARY_ONLY, "uv"}  # uv: nox brings it, its absence is handled
    files = [file for file in sorted((root / folder).rglob("*.py")) if file.relative_to(root) not in NOT_OURS_TO_RUN]
    files = [file for file in files if not under_airflow(root, file)]
    assert files
    wrong = {str(file.relative_to(root)): sorted(set(imported(file)) - allowed) for file in files}
    wrong.pop("pipelines/places.py", None)  # boto3, for s3:// alone: the triggerer's environment has it
    assert {file: names for file, names in wrong.items() if names} == {}
    named = {name.rstrip("/").removesuffix(".py") for name in UNDER_AIRFLOW}
    led = {
        str(file): {m for m in modules(file) if m.startswith("pipelines.") and m.split(".")[1] in named}
        for file in files
    }
    assert {file: names for file, names in led.items() if names} == {}


def under_airflow(root: Path, file: Path) -> bool:
    return file.relative_to(root).as_posix().startswith(tuple(f"pipelines/{name}" for name in UNDER_AIRFLOW))


def modules(file: Path) -> Iterator[str]:
    """The modules that a file imports, by their whole names."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_what_runs_under_airflow_needs_airflow_alone(root: Path) -> None:
    files = [file for file in sorted((root / "pipelines").rglob("*.py")) if under_airflow(root, file)]
    assert len(files) > 10
    allowed = sys.stdlib_module_names | {"pipelines"} | FOR_AIRFLOW
    assert {str(file): set(imported(file)) - allowed for file in files if set(imported(file)) - allowed} == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_import_is_a_declared_dependency(root: Path, package: str) -> None:
    folder = root / "packages" / package
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = [*project["dependencies"], *itertools.chain(*project.get("optional-dependencies", {}).values())]
    names = {canonicalize_name(Requirement(text).name) for text in declared}
    wrong: dict[str, list[str]] = {}
    for file in sorted((folder / "src").rglob("*.py")):
        for module in sorted(set(imported(file)) - sys.stdlib_module_names - {package}):
            distribution = canonicalize_name(DISTRIBUTIONS.get(module, module))
            if distribution not in names and not INDIRECT.get(module, set()) & names:
                wrong.setdefault(module, []).append(str(file.relative_to(root)))
    assert wrong == {}
