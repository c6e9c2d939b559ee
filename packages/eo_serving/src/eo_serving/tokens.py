"""The bearer tokens of an endpoint: given by its environment, or made at the first start and kept beside its state."""

from __future__ import annotations

import hmac
import ipaddress
import logging
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from eo_data.errors import UsageError
from eo_serving.problem import Unauthorized

log = logging.getLogger(__name__)

DEPLOY_TOKEN: Final = "TERRALOOP_DEPLOY_TOKEN"  # noqa: S105 - the variable's name
ENDPOINT_TOKEN: Final = "TERRALOOP_ENDPOINT_TOKEN"  # noqa: S105 - the variable's name
TOKEN_FILE: Final = "endpoint-token"  # noqa: S105 - the file's name
LEAST: Final = 16
"""Characters of a token: fewer are a placeholder, or can be guessed."""


@dataclass(frozen=True)
class Tokens:
    """Bearer tokens that the front asks for.

    Attributes:
        deploy: For `/-/reload`; without one the route is not there.
        endpoint: For requests to the model; without one everyone may ask.
    """

    deploy: str | None = None
    endpoint: str | None = None

    @classmethod
    def obtain(cls, state: Path, host: str, *, anyone: bool, environment: Mapping[str, str] = os.environ) -> Tokens:
        """The tokens of a server that starts.

        Args:
            state: Its folder, where a token is made and kept if the environment gives none.
            host: The address that it listens on.
            anyone: Ask for no token; only where nobody but this machine can ask.
            environment: Where `TERRALOOP_DEPLOY_TOKEN` and `TERRALOOP_ENDPOINT_TOKEN` are looked up.

        Raises:
            UsageError: If a token is too short, or everyone on a network would be let in.
        """
        deploy, endpoint = (_given(environment, name) for name in (DEPLOY_TOKEN, ENDPOINT_TOKEN))
        if endpoint is not None or not anyone:
            return cls(deploy, endpoint or _kept(state / TOKEN_FILE))
        if not is_loopback(host):
            raise UsageError(
                f"everyone who reaches {host} could ask",
                where="--open",
                fix=f"Leave --open out, set {ENDPOINT_TOKEN}, or listen on 127.0.0.1",
            )
        return cls(deploy)


def check_token(authorization: str, token: str) -> None:
    """Compare an Authorization header with a token, in the same time for every wrong one.

    Raises:
        Unauthorized: If it is another.
    """
    if not hmac.compare_digest(authorization.encode(), f"Bearer {token}".encode()):
        raise Unauthorized("the token is missing or wrong", where="Authorization", fix="Send Authorization: Bearer ...")


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _given(environment: Mapping[str, str], name: str) -> str | None:
    token = environment.get(name) or None
    if token is not None and (len(token) < LEAST or not token.isascii() or not token.isprintable() or " " in token):
        raise UsageError(
            f"a token has at least {LEAST} printable ASCII characters and no space",
            where=name,
            fix="Make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
        )
    return token


def _kept(path: Path) -> str:
    """The token that was made at the first start; only this user may read it."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        token = path.read_text(encoding="ascii").strip()
    else:
        token = secrets.token_urlsafe(32)
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(f"{token}\n")
    if len(token) < LEAST:  # the machine went down between making and writing it
        raise UsageError("this file holds no token", where=str(path), fix="Remove it, and a new one is made")
    log.info("requests are asked for the token in %s", path)
    return token
