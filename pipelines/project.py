"""A project: the folder where one run of the loop keeps what it makes, `.terraloop/<name>/`."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import unquote, urlsplit

STATE: Final = ".terraloop"
NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
CALLED_FROM: Final = "TERRALOOP_CALLED_FROM"
"""The folder where the user typed the command; nox changes to the repository's root."""

Owner = Literal["pipeline", "stack"]


class Misuse(Exception):
    """The call cannot be carried out as it was made: one line for the user, exit code 2."""


@dataclass(frozen=True)
class Project:
    """Where a project's things lie.

    Attributes:
        name: Its name.
        folder: Its folder.
        store: Root of its store, a URI; inside the folder unless TERRALOOP_STORE says otherwise.
    """

    name: str
    folder: Path
    store: str

    @property
    def logs(self) -> Path:
        """One log per step and service."""
        return self.folder / "logs"

    @property
    def simulated(self) -> Path:
        """Where simulated scenes are made."""
        return self.folder / "simulated"

    @property
    def database(self) -> str:
        """MLflow's database, as SQLAlchemy names it."""
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    @property
    def artifacts(self) -> str:
        """Where MLflow keeps the files of runs and model versions, a URI."""
        return (self.folder / "mlartifacts").as_uri()

    @property
    def survivors(self) -> dict[str, str]:
        """Variables that say where a training keeps what outlives its process: checkpoints, runs not yet sent."""
        return {
            "TERRALOOP_CHECKPOINTS": str(self.folder / "checkpoints"),
            "TERRALOOP_TRACKING_JOURNAL": str(self.folder / "kept-runs"),
        }

    @property
    def owns_store(self) -> bool:
        """Whether the store lies inside the project's folder."""
        return self.store.startswith(self.folder.as_uri() + "/")

    def claim(self, owner: Owner) -> None:
        """Make the folder, and make sure that only one kind of run uses it.

        With a tracking server artifacts get addresses that only that server can read: a run without services
        could not go on with them.

        Raises:
            Misuse: If another kind of run made it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        mark = self.folder / "made-by"
        if not mark.exists():
            mark.write_text(owner, encoding="utf-8")
        made_by = mark.read_text(encoding="utf-8").strip()
        if made_by != owner:
            raise Misuse(f"project {self.name} was made by `nox -s {made_by}`: give another --project")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the project for this process.

        Raises:
            Misuse: If another process holds it.
        """
        with (self.folder / "lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Misuse(
                    f"another run of project {self.name} is under way: wait for it, or give another --project"
                ) from None
            yield


def find(root: Path, name: str) -> Project:
    """The project of a name under a repository; nothing is made.

    Raises:
        Misuse: If the name is none.
    """
    if not NAME.fullmatch(name):
        raise Misuse(f"--project {name}: lower-case letters, digits, - and _ only, at most 63")
    folder = root.resolve() / STATE / name
    outside = os.environ.get("TERRALOOP_STORE")
    return Project(name, folder, as_uri(outside) if outside else (folder / "store").as_uri())


def called_from() -> Path:
    """The folder where the user typed the command."""
    return Path(os.environ.get(CALLED_FROM) or Path.cwd())


def as_uri(path_or_uri: str) -> str:
    """A URI as it is; a plain path as a `file://` URI, relative to where the command was called."""
    if "://" in path_or_uri:
        return path_or_uri.rstrip("/")
    return as_path(path_or_uri).as_uri()


def as_path(path: str) -> Path:
    """An absolute path, relative to where the command was called."""
    return (called_from() / Path(path).expanduser()).resolve()


def as_usecase(name_or_path: str, root: Path) -> str:
    """A use case's name as it is; a path to its file or folder made absolute.

    Raises:
        Misuse: If there is no such use case; that is seen here, before anything is started.
    """
    if "/" in name_or_path or name_or_path.endswith((".yaml", ".yml")):
        path = as_path(name_or_path)
        if not path.exists():
            raise Misuse(f"--usecase {name_or_path}: there is nothing at {path}")
        return str(path)
    folders = [Path(os.environ.get("TERRALOOP_USECASES") or root / "usecases"), root / "usecases"]
    known = sorted({file.parent.name for folder in folders for file in folder.glob("*/usecase.yaml")})
    if name_or_path not in known:
        raise Misuse(f"--usecase {name_or_path}: no such use case; there are {', '.join(known) or 'none'}")
    return name_or_path


def usecase_file(usecase: str, root: Path) -> Path:
    """The file of a use case that `as_usecase` has found."""
    if Path(usecase).is_absolute():
        return Path(usecase) if Path(usecase).is_file() else Path(usecase) / "usecase.yaml"
    own = Path(os.environ.get("TERRALOOP_USECASES") or root / "usecases") / usecase / "usecase.yaml"
    return own if own.is_file() else root / "usecases" / usecase / "usecase.yaml"


def as_source(scenes: str | None) -> str | None:
    """A source of scenes as a URI; None stays None, which means simulated ones.

    Raises:
        Misuse: If it is a path of this machine at which nothing lies.
    """
    if scenes is None:
        return None
    uri = as_uri(scenes)
    parts = urlsplit(uri)
    if parts.scheme == "file" and not Path(unquote(parts.path)).exists():
        raise Misuse(f"--scenes {scenes}: there is nothing at {unquote(parts.path)}")
    return uri
