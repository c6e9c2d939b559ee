"""Environments are made once, made again when something changed, and never half-made."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from infra import environments

FAKE_UV = """\
import os, pathlib, sys, time
arguments = sys.argv[1:]
with open(os.environ["CALLS"], "a") as calls:
    calls.write(" ".join(arguments[:2]) + "\\n")
if arguments[0] == "venv":
    python = pathlib.Path(arguments[-1]) / "bin" / "python"
    python.parent.mkdir(parents=True, exist_ok=True)
    if not python.exists():
        python.symlink_to(sys.executable)
if arguments[:2] == ["pip", "sync"]:
    print("Resolved 2 packages", file=sys.stderr)
    print(" + numpy==2", file=sys.stderr)
    time.sleep(0.3)
    sys.exit(int(os.environ.get("SYNC", "0")))
"""
CALL = """
import sys, time
from infra import environments
names = [name for name in sys.argv[1:] if not name.startswith("-")]
try:
    environments.ensure(names)
    if "--then-wait" in sys.argv:
        open("using", "w").close()
        time.sleep(600)
except environments.SetupFailed as failure:
    sys.exit(f"failed: {failure}")
"""

Ensure = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def ensure(tmp_path: Path, root: Path) -> Ensure:
    """Start `ensure` in a copy of the repository, with a uv that pretends."""
    for name in ("infra", "locks"):
        shutil.copytree(root / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for package in ("eo_data", "eo_models", "eo_serving"):
        (tmp_path / "packages" / package).mkdir(parents=True)
        (tmp_path / "packages" / package / "pyproject.toml").write_text(f"# {package}")
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "python").symlink_to(sys.executable)
    (bare / "uv").write_text(f"#!{sys.executable} -ES\n{FAKE_UV}")
    (bare / "uv").chmod(0o755)

    def start(*names: str, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(bare / "python"), "-S", "-c", CALL, *names],
            cwd=tmp_path,
            env={"CALLS": str(tmp_path / "calls"), "PATH": os.environ["PATH"], **variables},
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def calls(tmp_path: Path) -> list[str]:
    path = tmp_path / "calls"
    text = path.read_text() if path.exists() else ""
    path.unlink(missing_ok=True)
    return text.splitlines()


MADE = ["venv --quiet", "pip sync", "pip install", "pip install"]


def test_an_environment_is_made_once(ensure: Ensure, tmp_path: Path) -> None:
    _, said = (first := ensure("train")).communicate()
    assert first.returncode == 0, said
    assert calls(tmp_path) == MADE
    assert "Making the environment .nox/train" in said
    assert "Resolved 2 packages" in said
    assert "numpy" not in said
    _, said = ensure("train").communicate()
    assert (calls(tmp_path), said) == ([], "")


@pytest.mark.parametrize("changed", ["locks/train.txt", "packages/eo_models/pyproject.toml"])
def test_a_change_makes_it_again(ensure: Ensure, tmp_path: Path, changed: str) -> None:
    ensure("train", "serve").communicate()
    calls(tmp_path)
    (tmp_path / changed).write_text("# changed")
    ensure("train", "serve").communicate()
    assert calls(tmp_path) == MADE  # `serve` stays as it is


def test_another_build_of_torch_makes_it_again(ensure: Ensure, tmp_path: Path) -> None:
    ensure("train").communicate()
    calls(tmp_path)
    ensure("train", TERRALOOP_TORCH_BACKEND="cu130").communicate()
    assert calls(tmp_path) == MADE


def test_a_failed_installation_is_done_again(ensure: Ensure, tmp_path: Path) -> None:
    _, said = (failing := ensure("train", SYNC="1")).communicate()
    assert failing.returncode == 1
    assert "failed: this failed, its message stands above" in said
    calls(tmp_path)
    ensure("train").communicate()
    assert calls(tmp_path) == MADE


def test_an_installation_that_was_killed_is_done_again(ensure: Ensure, tmp_path: Path) -> None:
    running = ensure("train")
    while "pip sync" not in (tmp_path / "calls").read_text() if (tmp_path / "calls").exists() else True:
        assert running.poll() is None
    running.kill()
    running.communicate()
    calls(tmp_path)
    ensure("train").communicate()
    assert calls(tmp_path) == MADE


def test_two_at_once_make_it_once(ensure: Ensure, tmp_path: Path) -> None:
    both = [ensure("train"), ensure("train")]
    assert [(each.communicate(), each.returncode)[1] for each in both] == [0, 0]
    assert calls(tmp_path) == MADE


def test_what_is_in_use_is_not_made_anew(ensure: Ensure, tmp_path: Path) -> None:
    using = ensure("train", "--then-wait")
    while not (tmp_path / "using").exists():
        assert using.poll() is None
    calls(tmp_path)
    (tmp_path / "locks" / "train.txt").write_text("# changed")
    waiting = ensure("train")
    assert waiting.stderr is not None
    assert "another run uses it; waiting" in waiting.stderr.readline()
    assert calls(tmp_path) == []
    using.kill()
    using.communicate()
    _, said = waiting.communicate()
    assert waiting.returncode == 0, said
    assert calls(tmp_path) == MADE


def test_a_vanished_python_makes_it_again(ensure: Ensure, tmp_path: Path) -> None:
    ensure("mlflow").communicate()
    assert calls(tmp_path) == MADE[:2]
    (tmp_path / ".nox" / "mlflow" / "bin" / "python").unlink()
    ensure("mlflow").communicate()
    assert calls(tmp_path) == MADE[:2]


def test_a_cpu_wheel_of_ones_own_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TERRALOOP_TORCH_BACKEND", raising=False)
    (tmp_path / f"torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_{platform.machine()}.whl").touch()
    for links in (str(tmp_path), f"/nowhere {tmp_path}", tmp_path.as_uri()):
        monkeypatch.setenv("PIP_FIND_LINKS", links)
        assert environments.torch_arguments() == []


@pytest.mark.parametrize("name", ["2.12.0+cpu-cp311-cp311", "2.13.0+cpu-cp312-cp312", "2.13.0-cp311-cp311"])
def test_a_wheel_of_another_version_python_or_build_is_not_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv("TERRALOOP_TORCH_BACKEND", raising=False)
    (tmp_path / f"torch-{name}-manylinux_2_28_{platform.machine()}.whl").touch()
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    assert environments.torch_arguments() == ["--torch-backend", "cpu"]


def test_without_one_uv_takes_the_cpu_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TERRALOOP_TORCH_BACKEND", raising=False)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))  # a folder with wheels of other things
    assert environments.torch_arguments() == ["--torch-backend", "cpu"]
    monkeypatch.delenv("PIP_FIND_LINKS")
    assert environments.torch_arguments() == ["--torch-backend", "cpu"]
    monkeypatch.setenv("TERRALOOP_TORCH_BACKEND", "cu130")
    assert environments.torch_arguments() == ["--torch-backend", "cu130"]


def test_uv_hears_of_pips_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", "/a /b")
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.example/simple")
    monkeypatch.setenv("VIRTUAL_ENV", "/some/venv")
    for name in ("UV_FIND_LINKS", "UV_DEFAULT_INDEX"):
        monkeypatch.delenv(name, raising=False)
    told = environments.uv_variables()
    assert told["UV_FIND_LINKS"] == "/a,/b"
    assert told["UV_DEFAULT_INDEX"] == "https://index.example/simple"
    assert "VIRTUAL_ENV" not in told
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://other.example/simple")
    assert environments.uv_variables()["UV_DEFAULT_INDEX"] == "https://other.example/simple"


@pytest.mark.skipif("TERRALOOP_TORCH_BACKEND" in os.environ, reason="another build of torch was asked for")
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux wheels name their build")
def test_these_tests_run_with_a_cpu_build_of_torch() -> None:
    assert importlib.metadata.version("torch").endswith("+cpu")
    names = {distribution.metadata["Name"].lower() for distribution in importlib.metadata.distributions()}
    assert not {"torchvision", "torchaudio", "triton"} & names
    assert not [name for name in names if name.startswith("nvidia-")]
