"""Which code made this: the git commit."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def git_commit() -> str | None:
    """The commit of the checkout that this package runs from, with `-dirty` where files differ from it.

    None outside a checkout, and where git is absent or does not answer.
    """
    git = shutil.which("git")
    if git is None:
        return None
    here = Path(__file__).parent

    def ask(*arguments: str) -> str | None:
        try:
            run = subprocess.run(
                [git, "-C", str(here), *arguments], capture_output=True, text=True, check=False, timeout=10
            )
        except subprocess.TimeoutExpired:  # a network file system, or a huge checkout: unknown, not a failure
            return None
        return run.stdout.strip() if run.returncode == 0 else None

    commit = ask("rev-parse", "HEAD")
    if commit is None or ask("ls-files", "--error-unmatch", __file__) is None:
        return None
    return f"{commit}-dirty" if ask("status", "--porcelain", "--untracked-files=no") else commit
