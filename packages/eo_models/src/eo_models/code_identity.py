"""Which code trains: the commit, and where files differ from it, what they hold."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

from eo_data.provenance import git_commit

PACKAGES = ("eo_data", "eo_models")
"""What decides a training's outcome besides the data and the use case."""


def code_identity() -> str:
    """The commit of a clean checkout; else the commit with `-dirty`, or `no-commit`, and a digest of the sources.

    Equal identities mean equal code, so that a training under one of them need not be repeated. `-dirty` alone
    would not do: two states of a checkout share it.
    """
    commit = git_commit()
    if commit is not None and not commit.endswith("-dirty"):
        return commit
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted(_sources(package)):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return f"{commit or 'no-commit'}+{digest.hexdigest()[:16]}"


def _sources(package: str) -> list[Path]:
    found = find_spec(package)
    folders = found.submodule_search_locations if found else None
    return [path for folder in folders or [] for path in Path(folder).rglob("*.py")]
