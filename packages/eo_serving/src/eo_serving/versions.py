"""Versions on this machine: fetched from the registry, checked, and kept in the state folder.

The process that decodes requests loads a version from here, by its digests: it needs neither the registry nor
its credentials, and a restart needs them only for a version that was never served here.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from eo_data.digests import sha256
from eo_data.errors import DataRefused, UsageError
from eo_data.model.files import DESCRIPTION_FILE, GRAPH_FILE, ModelFiles, fetch_model, parse_model_uri
from eo_data.model.ledger import Ledger

if TYPE_CHECKING:
    from eo_data.model.ledger import Promotion
    from eo_data.store import Store

_RECORD_FILE: Final = "version.json"


@dataclass(frozen=True)
class KeptVersion:
    """A version that lies in the state folder.

    Attributes:
        name: The registered model.
        version: Its version.
        run: The MLflow run that made it.
        digest: sha256 of `model.onnx`.
        description_digest: sha256 of `model.json`.
    """

    name: str
    version: int
    run: str
    digest: str
    description_digest: str

    @property
    def uri(self) -> str:
        """`models:/<name>/<version>`."""
        return f"models:/{self.name}/{self.version}"

    @property
    def label(self) -> str:
        """`<name>/<version>`."""
        return f"{self.name}/{self.version}"

    @property
    def folder(self) -> str:
        """Its folder among the kept versions."""
        return f"{self.version}-{self.digest[:16]}-{self.description_digest[:8]}"


def read_version(folder: Path) -> ModelFiles:
    """Read a kept version and check its digests once more.

    Raises:
        DataRefused: If a file is missing or is not the one that was kept.
    """
    try:
        record = KeptVersion(**json.loads((folder / _RECORD_FILE).read_text(encoding="utf-8")))
        graph, text = ((folder / name).read_bytes() for name in (GRAPH_FILE, DESCRIPTION_FILE))
    except (OSError, ValueError, TypeError) as error:
        raise DataRefused("a kept version cannot be read", where=str(folder), fix="Deploy it again") from error
    if (sha256(graph), sha256(text)) != (record.digest, record.description_digest):
        raise DataRefused("a kept version was changed", where=str(folder), fix="Deploy it again")
    return ModelFiles.of(record.name, record.version, record.run, graph, text)


class Versions:
    """The kept versions of one registered model.

    Args:
        folder: Where they lie.
        store: The store whose ledger names the champion.
        name: The registered model.
    """

    def __init__(self, folder: Path, store: Store, name: str) -> None:
        self._folder = folder
        self._store = store
        self._name = name

    def path(self, version: KeptVersion) -> Path:
        """The folder of a kept version."""
        return self._folder / version.folder

    def obtain(self, uri: str | None) -> KeptVersion:
        """Keep a version, from the registry where it is not kept yet.

        Args:
            uri: `models:/<name>/<version>`, `models:/<name>@champion` or `@previous`; None is the champion.

        Raises:
            UsageError: If it is a version of another model than the one served here.
            DataRefused: If the ledger has no champion yet, or the files are not those that were promoted.
            TemporaryFailure: If the registry or the store does not answer.
        """
        name, number = parse_model_uri(uri or f"models:/{self._name}@champion", self._store)
        if name != self._name:
            raise UsageError(
                f"this endpoint serves '{self._name}'", where=uri or "", fix=f"Give models:/{self._name}/N"
            )
        promoted = next((e for e in reversed(Ledger(self._store, name).entries()) if e.version == number), None)
        kept = self._kept(number, promoted)
        if kept is not None:
            return kept
        return self._keep(fetch_model(f"models:/{name}/{number}", self._store))

    def champion(self) -> Promotion | None:
        """The ledger's newest entry; None where there is none yet.

        Raises:
            DataRefused: If the ledger was edited by hand.
            TemporaryFailure: If the store does not answer.
        """
        return Ledger(self._store, self._name).champion()

    def prune(self, *keep: KeptVersion) -> None:
        """Remove kept versions but these."""
        wanted = {version.folder for version in keep}
        for path in self._folder.glob("*-*"):
            if path.name not in wanted:
                shutil.rmtree(path, ignore_errors=True)

    def _kept(self, number: int, promoted: Promotion | None) -> KeptVersion | None:
        """A kept version whose digests the ledger confirms: the registry need not be asked."""
        if promoted is None:
            return None
        record = KeptVersion(self._name, number, "", promoted.model_digest, promoted.description_digest)
        try:
            files = read_version(self.path(record))
        except DataRefused:
            return None
        return KeptVersion(self._name, number, files.run, files.digest, files.description_digest)

    def _keep(self, files: ModelFiles) -> KeptVersion:
        """Write a version's folder; it is whole or absent."""
        version = KeptVersion(files.name, files.version, files.run, files.digest, files.description_digest)
        self._folder.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=self._folder, prefix=".part-"))
        try:
            (part / GRAPH_FILE).write_bytes(files.graph)
            (part / DESCRIPTION_FILE).write_bytes(files.text)
            (part / _RECORD_FILE).write_text(json.dumps(asdict(version)), encoding="utf-8")
            shutil.rmtree(self.path(version), ignore_errors=True)  # one that is damaged or in the way
            os.rename(part, self.path(version))
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return version
