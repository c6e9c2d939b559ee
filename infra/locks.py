"""Renew the compiled locks under `locks/` (`nox -s lock`).

`dev` is compiled first and constrains the others, so that one version of a library holds everywhere; but for Airflow,
which shares an environment with nothing of ours. The result carries over to any machine: no index, no path, no command
line, and torch without a local part.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Final

from infra.environments import OWN_PACKAGES, PYTHON, ROOT, SetupFailed, find_uv, torch_arguments, uv_variables

LOCKS: Final = ROOT / "locks"
APART: Final = ("dev", "airflow")
"""Locks that take no versions from dev.txt: itself, and Airflow, whose fastapi is not MLServer's."""
HEADER: Final = "# Compiled from {name}.in by `nox -s lock`. Do not edit.\n"


def portable(compiled: str) -> str:
    """A compiled lock without what holds on one machine only.

    Args:
        compiled: What `uv pip compile` wrote.

    Returns:
        The requirements and who asked for each; options such as `--find-links`, the header with uv's command
        line and the local part of torch's version (`+cpu`) are gone.
    """
    kept = "\n".join(line for line in compiled.splitlines() if not line.startswith(("#", "-"))) + "\n"
    kept = re.sub(r"-c dev\.txt, |, -c dev\.txt", "", kept)  # true of every line, hence of no use
    return re.sub(r"^(torch==[^+\s]+)\+\S+", r"\1", kept, flags=re.MULTILINE)


def compile_lock(name: str, *, upgrade: bool) -> None:
    """Compile one lock in place.

    Args:
        name: The environment.
        upgrade: Take the newest versions instead of those the lock has now, where they still fit.

    Raises:
        SetupFailed: If uv is missing or finds no solution.
    """
    target = LOCKS / f"{name}.txt"
    command = [find_uv(), "pip", "compile", "--quiet", "--python-version", ".".join(map(str, PYTHON))]
    command += ["--no-emit-index-url", "--no-emit-find-links", "--no-header", "--annotation-style", "line"]
    command += torch_arguments()
    overrides = LOCKS / f"{name}.overrides"
    command += ["--override", overrides.name] if overrides.exists() else []
    command += ["--upgrade"] if upgrade else []
    command += [] if name in APART else ["--constraint", "dev.txt"]
    print(f"Compiling locks/{name}.txt ...", file=sys.stderr, flush=True)
    work = target.with_suffix(".new")
    if target.exists():  # uv keeps the versions of the file that it writes to
        work.write_text(_preferences(target.read_text(encoding="utf-8")), encoding="utf-8")
    try:
        command += [f"{name}.in", "--output-file", work.name]
        if subprocess.run(command, cwd=LOCKS, env=uv_variables(), check=False).returncode != 0:
            raise SetupFailed(f"locks/{name}.in has no solution; uv's message stands above")
        text = HEADER.format(name=name) + portable(work.read_text(encoding="utf-8"))
        if "TERRALOOP_TORCH_BACKEND" not in os.environ and (gpu := gpu_packages(text)):
            raise SetupFailed(f"locks/{name}.txt would hold {', '.join(gpu)}: this torch is no CPU build")
        work.write_text(text, encoding="utf-8")
        work.replace(target)
    finally:
        work.unlink(missing_ok=True)


def gpu_packages(lock: str) -> list[str]:
    """The packages of a lock that only a GPU build of torch needs."""
    return re.findall(r"^(?:nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+|triton)(?===)", lock, flags=re.MULTILINE)


def _preferences(lock: str) -> str:
    """A lock as versions to keep, less torch: `torch==X` would prefer the index's GPU build to `X+cpu`."""
    return "\n".join(line for line in lock.splitlines() if not line.startswith("torch=="))


def main(arguments: list[str]) -> int:
    """Compile every lock; `--upgrade` takes the newest versions that fit."""
    if set(arguments) - {"--upgrade"}:
        print(f"lock: unknown argument in {arguments}; the only one is --upgrade", file=sys.stderr)
        return 2
    try:
        for name in OWN_PACKAGES:  # dev stands first
            compile_lock(name, upgrade="--upgrade" in arguments)
    except SetupFailed as failure:
        print(f"lock: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
