"""The environments under `.nox/`: made from a compiled lock by uv, and left alone while nothing changed.

An environment carries a stamp of everything it was made from. The stamp is written last, so that an
interrupted installation is seen and done again. Standard library only: this runs before anything is installed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
"""The repository."""

PYTHON: Final = (3, 11)
"""The Python that the locks are compiled for."""

OWN_PACKAGES: Final[dict[str, tuple[str, ...]]] = {
    "dev": ("eo_data", "eo_models", "eo_serving"),
    "train": ("eo_data", "eo_models"),
    "serve": ("eo_data", "eo_serving"),
    "mlflow": (),
    "airflow": (),
    "bench": ("eo_data", "eo_models"),
}
"""Environment -> the packages of this repository that are installed into it, editable."""

STAMP: Final = "terraloop-stamp"

_IN_USE: Final[dict[str, int]] = {}
"""Environment -> this process's descriptor of its lock file: shared while it is used, exclusive while it is made."""


class SetupFailed(Exception):
    """An environment cannot be made; the message says why and what to do."""


def folder(name: str) -> Path:
    """Where an environment lies."""
    return ROOT / ".nox" / name


def executable(name: str, command: str) -> Path:
    """A command of an environment."""
    return folder(name) / "bin" / command


def find_uv() -> str:
    """The uv to use: beside this Python, else of the `uv` package, else on PATH.

    Raises:
        SetupFailed: If there is none.
    """
    beside = Path(sys.executable).with_name("uv")
    if beside.is_file():
        return str(beside)
    try:
        from uv import find_uv_bin  # nox[uv] and `pip install uv` bring this package

        return str(find_uv_bin())
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv")
    if found is None:
        raise SetupFailed(f"uv is not installed: run `{sys.executable} -m pip install uv`, then try again")
    return found


def uv_variables() -> dict[str, str]:
    """This process's environment for uv, which reads none of pip's variables: two of them are handed on."""
    variables = dict(os.environ)
    variables.pop("VIRTUAL_ENV", None)  # an activated environment is not the one meant here
    if "PIP_FIND_LINKS" in variables:
        variables.setdefault("UV_FIND_LINKS", ",".join(variables["PIP_FIND_LINKS"].split()))
    if "PIP_INDEX_URL" in variables:
        variables.setdefault("UV_DEFAULT_INDEX", variables["PIP_INDEX_URL"])
    return variables


def torch_arguments() -> list[str]:
    """What makes `torch==X` mean the build that is wanted: CPU, unless TERRALOOP_TORCH_BACKEND names another.

    A wheel in the find-links folders is taken as it is: its local part (`+cpu`) ranks above the index's.
    """
    backend = os.environ.get("TERRALOOP_TORCH_BACKEND")
    find_links = os.environ.get("PIP_FIND_LINKS", "").split()
    if backend is None and any(_holds_cpu_torch(entry) for entry in find_links):
        return []
    return ["--torch-backend", backend or "cpu"]


def ensure(names: Iterable[str]) -> None:
    """Make the environments that are not there or not up to date, with progress on stderr.

    From here on this process uses them: nobody makes them anew under its feet before it has ended.

    Raises:
        SetupFailed: If uv is missing or one of its calls fails.
    """
    for name in names:
        if name not in _IN_USE:
            path = folder(name).with_name(f".{name}.lock")
            path.parent.mkdir(exist_ok=True)
            _IN_USE[name] = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        fcntl.flock(_IN_USE[name], fcntl.LOCK_SH)
        while not up_to_date(name):
            _wait_until_unused(name)
            if not up_to_date(name):  # another process may have made it meanwhile
                _make(name)
            fcntl.flock(_IN_USE[name], fcntl.LOCK_SH)


def in_use(name: str) -> int:
    """The descriptor that keeps an environment as it is, for a child that outlives this process."""
    return _IN_USE[name]


def up_to_date(name: str) -> bool:
    """Whether the environment was made, to its end, from what lies in the repository now."""
    stamp = folder(name) / STAMP
    same = stamp.is_file() and stamp.read_text(encoding="utf-8") == _stamp(name)
    return same and executable(name, "python").exists()


def _holds_cpu_torch(find_links: str) -> bool:
    """Whether a find-links folder has the very wheel that `torch==X` must mean here.

    With a wheel of another version, Python or machine beside it, `torch==X` would be the index's GPU build.
    """
    asked = (ROOT / "locks" / "train.in").read_text(encoding="utf-8")
    version = next(line.split()[0] for line in asked.splitlines() if line.startswith("torch==")).removeprefix("torch==")
    python = "cp" + "".join(map(str, PYTHON))
    folder = Path(find_links.removeprefix("file://"))
    return any(folder.glob(f"torch-{version}+cpu-{python}-*{platform.machine()}.whl"))


def _stamp(name: str) -> str:
    """Everything that an environment is made from, as one digest."""
    digest = hashlib.sha256()
    backend = os.environ.get("TERRALOOP_TORCH_BACKEND", "")
    facts = [str(ROOT), platform.machine(), sys.platform, str(PYTHON), backend]
    digest.update("\n".join(facts).encode())
    files = [_lock(name), *(ROOT / "packages" / package / "pyproject.toml" for package in OWN_PACKAGES[name])]
    for file in files:
        digest.update(b"\0" + file.read_bytes())
    return digest.hexdigest() + "\n"


def _lock(name: str) -> Path:
    return ROOT / "locks" / f"{name}.txt"


def _wait_until_unused(name: str) -> None:
    """Hold the lock file of an environment alone: nobody else makes it or uses it."""
    try:
        fcntl.flock(_IN_USE[name], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(
            f".nox/{name} must be made anew, but another run uses it; waiting until that has ended "
            "(`nox -s stack -- --down` ends a detached stack) ...",
            file=sys.stderr,
            flush=True,
        )
        fcntl.flock(_IN_USE[name], fcntl.LOCK_EX)


def _make(name: str) -> None:
    """Make one environment from nothing: uv's cache makes that a matter of seconds."""
    print(f"Making the environment .nox/{name} from locks/{name}.txt ...", file=sys.stderr, flush=True)
    python = sys.executable if sys.version_info[:2] == PYTHON else ".".join(map(str, PYTHON))
    target = ["--python", str(executable(name, "python"))]
    (folder(name) / STAMP).unlink(missing_ok=True)
    _uv("venv", "--quiet", "--clear", "--python", python, str(folder(name)))
    _uv("pip", "sync", *target, *torch_arguments(), str(_lock(name)))
    for package in OWN_PACKAGES[name]:
        _uv("pip", "install", "--quiet", *target, "--no-deps", "--editable", str(ROOT / "packages" / package))
    (folder(name) / STAMP).write_text(_stamp(name), encoding="utf-8")


def _uv(*arguments: str) -> None:
    """Run uv and show what it says, less its list of every single package."""
    command = [find_uv(), *arguments]
    with subprocess.Popen(command, env=uv_variables(), stderr=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stderr or ():
                if not line.startswith((" + ", " - ", "Using Python")):
                    print(f"  {line}", end="", file=sys.stderr, flush=True)
        except BaseException:
            process.terminate()
            raise
    if process.returncode != 0:
        raise SetupFailed(f"this failed, its message stands above: {' '.join(command)}")
