"""The one entry point: `nox -l` lists what can be done, `nox -s NAME -- FLAGS` does it.

Environments lie in .nox/<name>, made by uv from locks/<name>.txt and kept while nothing changes
(infra/environments.py). nox itself needs only `nox` and `uv`.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import nox

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))  # nox runs this file from anywhere

from infra import environments  # noqa: E402  after the line above

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "typecheck", "test"]

STEPS = ("train", "serve")
EVERYTHING = ("dev", "train", "serve", "mlflow", "airflow")
SOURCES = ("packages", "pipelines", "infra", "benchmarks", "notebooks", "tests", "noxfile.py")


@nox.session
def stack(session: nox.Session) -> None:
    """Bring the system up, run the main job once, print every URL, stay until Ctrl-C (-- --help)."""
    _supervise(session, "-m", "infra.embedded", *session.posargs)


@nox.session
def pipeline(session: nox.Session) -> None:
    """Run ingest to promote, then predict, without services: the fastest loop (-- --help)."""
    _ensure(session, *STEPS)
    _supervise(session, "-m", "pipelines", *session.posargs)


@nox.session
def trace(session: nox.Session) -> None:
    """Walk from a mask, model version, dataset or scene to all that it hangs together with (-- SUBJECT)."""
    _ensure(session, "train")
    _supervise(session, "-m", "pipelines.trace", *session.posargs)


@nox.session
def test(session: nox.Session) -> None:
    """Run every package's tests and the cross-package ones: what CI runs."""
    _ensure(session, *EVERYTHING)
    _dev(session, "python", "tests/suites.py", *session.posargs)


@nox.session(name="test-data")
def test_data(session: nox.Session) -> None:
    """Run the tests of packages/eo_data."""
    _dev(session, "python", "tests/suites.py", "--only", "eo_data", *session.posargs)


@nox.session(name="test-models")
def test_models(session: nox.Session) -> None:
    """Run the tests of packages/eo_models."""
    _dev(session, "python", "tests/suites.py", "--only", "eo_models", *session.posargs)


@nox.session(name="test-serving")
def test_serving(session: nox.Session) -> None:
    """Run the tests of packages/eo_serving."""
    _dev(session, "python", "tests/suites.py", "--only", "eo_serving", *session.posargs)


@nox.session(name="test-pipelines")
def test_pipelines(session: nox.Session) -> None:
    """Run the tests of pipelines and infra, DAGs under a real Airflow included."""
    _ensure(session, "airflow")
    _dev(session, "python", "tests/suites.py", "--only", "pipelines", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure beside the field (-- data, -- models, -- quality, -- serving; NAME --check, NAME --quick)."""
    if session.posargs[:1] == ["serving"]:  # MLServer and the peers of training share no environment
        _ensure(session, "dev")
        _peers(session)
        python = environments.executable("dev", "python")
    else:
        _ensure(session, "bench")
        python = environments.executable("bench", "python")
    session.run(str(python), "-m", "benchmarks", *session.posargs, external=True, env={"PYTHONPATH": str(ROOT)})


@nox.session
def soak(session: nox.Session) -> None:
    """Half an hour of good and bad requests while versions change (-- --minutes N --reloads N)."""
    _ensure(session, "dev")
    python = str(environments.executable("dev", "python"))
    session.run(python, "-m", "benchmarks.serving.soak", *session.posargs, external=True, env={"PYTHONPATH": str(ROOT)})


@nox.session
def notebooks(session: nox.Session) -> None:
    """Run every cell of every notebook against a real endpoint."""
    _dev(session, "python", "tests/suites.py", "--only", "eo_serving", "-k", "notebooks")


@nox.session
def abuse(session: nox.Session) -> None:
    """Send the endpoint what no client should, and see that it answers and lives."""
    chosen = ["--only", "eo_serving", "-k", "abuse or refusal or decoder or token or remote or page"]
    _dev(session, "python", "tests/suites.py", *chosen, "--abuse-table", str(ROOT / "docs" / "abuse.md"))


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting and the direction of imports."""
    _dev(session, "ruff", "check", *SOURCES)
    _dev(session, "ruff", "format", "--check", *SOURCES)
    _dev(session, "lint-imports", "--no-cache")


@nox.session
def typecheck(session: nox.Session) -> None:
    """Check types, strictly."""
    _dev(session, "mypy", *session.posargs)


@nox.session
def lock(session: nox.Session) -> None:
    """Renew the compiled locks (-- --upgrade takes the newest versions that fit)."""
    session.run(sys.executable, "-m", "infra.locks", *session.posargs, external=True)


@nox.session
def doctor(session: nox.Session) -> None:
    """Say what this machine has: tools, disk, ports, environments, running stacks."""
    session.run(sys.executable, "-m", "infra.doctor", external=True)


def _peers(session: nox.Session) -> None:
    """The wheels of benchmarks/serving/peers.txt, in a folder of their own."""
    folder, lock = environments.folder("bench-peers"), ROOT / "benchmarks" / "serving" / "peers.txt"
    if not (folder / "terratorch").is_dir():
        command = [environments.find_uv(), "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
        command += ["--python", str(environments.executable("dev", "python")), "--requirement", str(lock)]
        session.run(*command, external=True)


def _ensure(session: nox.Session, *names: str) -> None:
    try:
        environments.ensure(names)
    except environments.SetupFailed as failure:
        session.error(str(failure))


def _dev(session: nox.Session, command: str, *arguments: str) -> None:
    """Run a command of the environment `dev`."""
    _ensure(session, "dev")
    session.run(str(environments.executable("dev", command)), *arguments, external=True)


def _supervise(session: nox.Session, *arguments: str) -> None:
    """Run a program that ends its own children, and give it the time to do so."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # nox ends its children on Ctrl-C alone
    variables = {"TERRALOOP_CALLED_FROM": session.invoked_from, "TERRALOOP_PARENT": str(os.getpid())}
    session.run(
        sys.executable,
        *arguments,
        external=True,
        env=variables,
        interrupt_timeout=1,  # then SIGTERM, for a Ctrl-C that reached nox alone
        terminate_timeout=120,
    )
