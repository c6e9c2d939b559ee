"""A model version's two files, fetched from the registry and checked before anyone loads them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from eo_data.digests import sha256
from eo_data.errors import DataRefused, UsageError
from eo_data.model.description import ModelDescription
from eo_data.model.ledger import Ledger
from eo_data.model.registry import read_version
from eo_data.store import Store

GRAPH_FILE: Final = "model.onnx"
DESCRIPTION_FILE: Final = "model.json"
GRAPH_TAG: Final = "terraloop.model.sha256"
DESCRIPTION_TAG: Final = "terraloop.description.sha256"
_VERSION_URI = re.compile(r"models:/([A-Za-z0-9][A-Za-z0-9._-]*)(?:/(\d{1,9})|@([a-z]+))")


@dataclass(frozen=True)
class ModelFiles:
    """A registered version with its verified files.

    Attributes:
        name: The registered model.
        version: Its version.
        run: The MLflow run that made it.
        graph: The bytes of `model.onnx`.
        text: The bytes of `model.json`.
        description: What they say.
    """

    name: str
    version: int
    run: str
    graph: bytes
    text: bytes
    description: ModelDescription

    @classmethod
    def of(cls, name: str, version: int, run: str, graph: bytes, text: bytes) -> ModelFiles:
        """A version from the bytes of its two files.

        Raises:
            DataRefused: If `model.json` is no description that this release reads.
        """
        try:
            description = ModelDescription.from_bytes(text)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            raise DataRefused(
                f"model.json cannot be understood ({'.'.join(map(str, fault['loc']))}: {fault['msg']})",
                where=f"models:/{name}/{version}",
                fix="Use the release that wrote it, or train the model again",
            ) from error
        return cls(name, version, run, graph, text, description)

    @property
    def digest(self) -> str:
        """The model digest: sha256 of `model.onnx`."""
        return sha256(self.graph)

    @property
    def description_digest(self) -> str:
        """sha256 of `model.json`."""
        return sha256(self.text)

    @property
    def uri(self) -> str:
        """`models:/<name>/<version>`."""
        return f"models:/{self.name}/{self.version}"

    @property
    def label(self) -> str:
        """`<name>/<version>`, as in the `Terraloop-Model` header."""
        return f"{self.name}/{self.version}"


def check_model_uri(uri: str, where: str) -> None:
    """Refuse what names no version and no alias, before anything is started.

    Raises:
        UsageError: If it is no such URI.
    """
    if _VERSION_URI.fullmatch(uri) is None:
        raise UsageError(
            f"'{uri}' is no model version", where=where, fix="Give models:/NAME/VERSION or models:/NAME@champion"
        )


def parse_model_uri(uri: str, store: Store | None = None) -> tuple[str, int]:
    """Name and version of `models:/NAME/3`, or of `models:/NAME@champion` and `@previous` by the ledger.

    Raises:
        UsageError: If it is no such URI.
        DataRefused: If the ledger has no such entry yet.
    """
    match = _VERSION_URI.fullmatch(uri)
    if match is None:
        raise UsageError(
            "this is no model version", where=uri, fix="Give models:/NAME/VERSION or models:/NAME@champion"
        )
    name, version, alias = match.groups()
    if version is not None:
        return name, int(version)
    if alias not in {"champion", "previous"} or store is None:
        raise UsageError(
            f"the alias '{alias}' is not kept here", where=uri, fix="Use @champion, @previous or a version"
        )
    ledger = Ledger(store, name)
    entry = ledger.champion() if alias == "champion" else ledger.previous()
    if entry is None:
        raise DataRefused(f"the ledger of '{name}' has no {alias} yet", where=uri, fix="Run train and promote first")
    return name, entry.version


def fetch_model(uri: str, store: Store | None = None) -> ModelFiles:
    """Fetch a version's two files from the registry that `MLFLOW_TRACKING_URI` names and check their digests.

    Only `model.onnx` and `model.json` are read: never a pickle, never code.

    Args:
        uri: `models:/NAME/VERSION`, or `@champion` and `@previous` where a store is given.
        store: The store whose ledger resolves `@champion`.

    Raises:
        UsageError: If `MLFLOW_TRACKING_URI` names no registry.
        DataRefused: If there is no such version, a file is missing, or a digest differs from its tag or the ledger.
        TemporaryFailure: If the registry does not answer.
    """
    name, version = parse_model_uri(uri, store)
    run, tags, (graph, text) = read_version(name, version, (GRAPH_FILE, DESCRIPTION_FILE))
    expected = {GRAPH_TAG: sha256(graph), DESCRIPTION_TAG: sha256(text)}
    if store is not None:
        _require_ledger(Ledger(store, name), version, (sha256(graph), sha256(text)), uri)
    for tag, found in expected.items():
        if tags.get(tag) != found:
            raise DataRefused(
                f"the file's sha256 {found[:12]} is not the one in tag {tag}",
                where=uri,
                fix="The artifact was changed after registration: register the version again",
            )
    return ModelFiles.of(name, version, run, graph, text)


def _require_ledger(ledger: Ledger, version: int, digests: tuple[str, str], uri: str) -> None:
    """Refuse a version that the ledger knows with other files: the registry was made anew beside an old store.

    Raises:
        DataRefused: Naming both.
    """
    for entry in ledger.entries():
        if entry.version == version and (entry.model_digest, entry.description_digest) != digests:
            raise DataRefused(
                f"the registry's version {version} has digest {digests[0][:12]}, the ledger promoted "
                f"{entry.model_digest[:12]} under this number",
                where=uri,
                fix="The registry and the store do not belong together: use the registry of this store, or a new store",
            )
