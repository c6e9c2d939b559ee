"""`eo-serving deploy`: put a version into service, then prove through the public route that it answers."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import httpx

from eo_data.errors import DataRefused, TemporaryFailure, TerraloopError, UsageError
from eo_data.model.files import fetch_model
from eo_serving.client import raise_refusal
from eo_serving.golden import golden_geotiff, is_golden_mask
from eo_serving.media import TIFF
from eo_serving.problem import Problem
from eo_serving.tokens import DEPLOY_TOKEN, ENDPOINT_TOKEN

if TYPE_CHECKING:
    from eo_data.model.files import ModelFiles
    from eo_data.store import Store
    from eo_data.usecase import UseCase

log = logging.getLogger(__name__)

_SECONDS: Final = 330.0
_PASSING: Final = frozenset({408, 429, 503, 504})
"""Statuses that say nothing of a version: the endpoint is busy."""
_PATIENCE: Final = 60.0
"""Seconds in which a busy endpoint must answer the golden chip."""
_PAUSE: Final = 2.0


@dataclass(frozen=True)
class Fault:
    """Why an endpoint does not answer with a version.

    Attributes:
        what: In words.
        passing: Whether it says nothing of the version.
    """

    what: str
    passing: bool = False


class RolledBack(TerraloopError):
    """The endpoint did not answer with the version that was deployed; `result` says what answers now."""


class Endpoint:
    """A front, as `deploy` talks to it.

    Args:
        address: `http://host:port`, with or without `/invocations`.
    """

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/").removesuffix("/invocations")
        self._deploy_token = os.environ.get(DEPLOY_TOKEN, "")
        self._token = os.environ.get(ENDPOINT_TOKEN, "")
        if not self._deploy_token:
            raise UsageError("no token", where=DEPLOY_TOKEN, fix="Set it to what the server was started with")
        try:
            self._client = httpx.Client(base_url=self.address, trust_env=False, timeout=_SECONDS)
        except (httpx.InvalidURL, ValueError) as error:
            raise UsageError("this is no address", where="--endpoint", fix="Such as http://127.0.0.1:5002") from error

    def __enter__(self) -> Endpoint:
        """Open the connections."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self._client.close()

    def answering(self) -> dict[str, Any] | None:
        """The version that answers, as `/readyz` names it; None where none does."""
        response = self._send("GET", "/readyz")
        if response.status_code == 503:
            return None
        raise_refusal(response)
        return dict(response.json())

    def reload(self, uri: str | None) -> dict[str, Any]:
        """Ask for a version, or for the ledger's champion; what the server says of the version that answers now."""
        headers = {"Authorization": f"Bearer {self._deploy_token}"}
        response = self._send("POST", "/-/reload", json={"model": uri} if uri else {}, headers=headers)
        raise_refusal(response)
        return dict(response.json())

    def roll_back(self) -> dict[str, Any]:
        """Ask for the version before; what the server says of the version that answers now."""
        headers = {"Authorization": f"Bearer {self._deploy_token}"}
        response = self._send("POST", "/-/reload", json={"rollback": True}, headers=headers)
        raise_refusal(response)
        return dict(response.json())

    def check_token(self) -> None:
        """Make sure that requests of this process are let in, before anything is changed.

        Raises:
            UsageError: If the endpoint asks for another token.
        """
        if self._invoke(b"").status_code == 401:
            raise UsageError(
                "the endpoint asks requests for a token that is not this one",
                where=ENDPOINT_TOKEN,
                fix="Set it to the endpoint's own, which its log and state folder tell",
            )

    def fault(self, files: ModelFiles) -> Fault | None:
        """What is wrong with the endpoint's answers if this version is the one deployed; None where nothing is.

        A busy endpoint is asked again for a while.
        """
        deadline = time.monotonic() + _PATIENCE
        while True:
            found = self._fault(files)
            if found is None or not found.passing or time.monotonic() > deadline:
                return found
            log.info("deploy: %s; asked again", found.what)
            time.sleep(_PAUSE)

    def _fault(self, files: ModelFiles) -> Fault | None:
        try:
            ready = self.answering()
            if ready is not None and ready.get("digest") != files.digest:
                return Fault(f"/readyz names {ready.get('model')}")
            if ready is None:
                return Fault("/readyz names no version", passing=True)
            response = self._invoke(golden_geotiff(files.description))
        except TemporaryFailure as error:
            return Fault(error.what, passing=True)
        if response.status_code != 200:
            problem = Problem.from_body(response.status_code, response.content)
            what = f"the golden chip is answered {response.status_code} ({problem.detail})"
            return Fault(what, passing=response.status_code in _PASSING)
        named = (response.headers.get("Terraloop-Model"), response.headers.get("Terraloop-Digest"))
        if named != (files.label, files.digest):
            return Fault(f"the golden chip is answered by {named[0]} ({(named[1] or '')[:12]})")
        if not is_golden_mask(files.description, response.content):
            return Fault("the golden chip's mask is not the one that was recorded")
        return None

    def _invoke(self, body: bytes) -> httpx.Response:
        headers = {"Content-Type": TIFF, **({"Authorization": f"Bearer {self._token}"} if self._token else {})}
        return self._send("POST", "/invocations", content=body, headers=headers)

    def _send(self, method: str, path: str, **content: Any) -> httpx.Response:
        try:
            return self._client.request(method, path, **content)
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise UsageError("this is no address", where="--endpoint", fix="Such as http://127.0.0.1:5002") from error
        except httpx.TransportError as error:
            raise TemporaryFailure(
                f"the endpoint does not answer ({type(error).__name__})",
                where=self.address,
                fix="Check that `eo-serving serve` is running there",
            ) from error


def deploy(usecase: UseCase, store: Store, address: str, uri: str | None) -> dict[str, Any]:
    """Put a version into service and verify it; the version before comes back where it does not answer rightly.

    Args:
        usecase: What the endpoint serves.
        store: Whose ledger names the champion.
        address: The front's address.
        uri: The version; None is the ledger's champion, which the endpoint then follows through restarts.

    Returns:
        The step's result: `endpoint`, `model`, `version`, `digest`, `rolled_back`.

    Raises:
        RolledBack: If it was loaded but another answers; with the result that says what answers now.
        DataRefused: If the server refuses the version; the one before goes on answering.
        UsageError: If a token is wrong; nothing was changed.
        TemporaryFailure: If endpoint or registry do not answer, or the endpoint was too busy to be tested.
    """
    with Endpoint(address) as endpoint:
        files = fetch_model(uri or f"models:/{usecase.name}@champion", store)
        before = endpoint.answering()
        endpoint.check_token()
        said = endpoint.reload(uri)
        if uri is None and said.get("uri") != files.uri:  # promoted meanwhile
            files = fetch_model(str(said.get("uri")), store)
        fault = endpoint.fault(files)
        if fault is None:
            log.info("deploy: %s answers at %s", files.label, endpoint.address)
            return _result(endpoint, files.label, files.version, files.digest, rolled_back=False)
        raise _roll_back(endpoint, files, before, fault)


def _roll_back(endpoint: Endpoint, files: ModelFiles, before: dict[str, Any] | None, fault: Fault) -> TerraloopError:
    """Put the version before into service again; the error that says so."""
    what = f"{files.label} {'could not be tested' if fault.passing else 'does not answer rightly'}: {fault.what}"
    kind = TemporaryFailure if fault.passing else RolledBack
    how = {"where": endpoint.address, "fix": "Try again in a minute" if fault.passing else "See the server's log"}
    same = before is not None and before.get("digest") == files.digest
    if before is None or (same and fault.passing):  # nothing else answered, and a busy endpoint says nothing of it
        return (TemporaryFailure if fault.passing else TerraloopError)(what, **how)
    try:
        again = endpoint.roll_back()
    except DataRefused as refusal:
        return TerraloopError(f"{what}; {refusal.what}", **how)
    error = kind(f"{what}; {again['model']} answers again", **how)
    error.result = _result(endpoint, again["model"], again["version"], again["digest"], rolled_back=True)
    return error


def _result(endpoint: Endpoint, label: str, version: int, digest: str, *, rolled_back: bool) -> dict[str, Any]:
    return {
        "endpoint": f"{endpoint.address}/invocations",
        "model": label,
        "version": version,
        "digest": digest,
        "rolled_back": rolled_back,
    }
