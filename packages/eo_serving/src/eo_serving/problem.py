"""Refusals as `application/problem+json` (RFC 9457): what is wrong, where, and what to do next.

The table from error to status is `eo_data.errors`; this module adds what only HTTP knows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from eo_data.errors import TerraloopError, http_status

PROBLEM_TYPE: Final = "application/problem+json"


class HttpRefusal(TerraloopError):
    """A refusal that has a status of its own."""

    status: int


class Unauthorized(HttpRefusal):
    """A token is missing or wrong."""

    status = 401


class NoSuchRoute(HttpRefusal):
    """There is nothing here."""

    status = 404


class NotOffered(HttpRefusal):
    """The request accepts no type of answer that is offered."""

    status = 406


class SlowBody(HttpRefusal):
    """The body did not arrive in time."""

    status = 408


class TooLarge(HttpRefusal):
    """The body, or what it unpacks to, is over a limit."""

    status = 413


class UnsupportedType(HttpRefusal):
    """The body is of a type or encoding that is not taken."""

    status = 415


class TooMany(HttpRefusal):
    """As many requests wait already as may."""

    status = 429


class NoModel(HttpRefusal):
    """No model answers at the moment."""

    status = 503


class OutOfTime(HttpRefusal):
    """The answer was not ready in time."""

    status = 504


@dataclass(frozen=True)
class Problem:
    """A refusal on its way out.

    Attributes:
        status: The HTTP status.
        detail: What is wrong, one sentence.
        where: What it is about: `body`, a query parameter, a band.
        fix: What to do next.
    """

    status: int
    detail: str
    where: str = ""
    fix: str = ""

    @property
    def title(self) -> str:
        """The status in words."""
        return HTTPStatus(self.status).phrase

    def as_json(self) -> dict[str, Any]:
        """The members of the problem document; `where` and `fix` only where they say something."""
        members: dict[str, Any] = {
            "type": f"urn:terraloop:problem:{self.title.lower().replace(' ', '-')}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        extras = {"where": self.where, "fix": self.fix}
        return members | {key: text for key, text in extras.items() if text}

    def body(self) -> bytes:
        """The problem document."""
        return json.dumps(self.as_json(), ensure_ascii=False).encode()

    @classmethod
    def of(cls, error: BaseException) -> Problem:
        """The problem of an error; an error that is not meant for users says nothing of itself."""
        if isinstance(error, HttpRefusal):
            return cls(error.status, error.what, error.where, error.fix)
        if isinstance(error, TerraloopError):
            return cls(http_status(error), error.what, error.where, error.fix)
        return cls(500, "something went wrong here", fix="Ask who runs this endpoint to look into its log")

    @classmethod
    def from_body(cls, status: int, body: bytes) -> Problem:
        """Read a problem document that a server sent; anything else becomes a problem that only has a status."""
        try:
            members = json.loads(body)
            return cls(status, str(members["detail"]), str(members.get("where", "")), str(members.get("fix", "")))
        except (ValueError, KeyError, TypeError, AttributeError):
            return cls(status, f"the server answered {status}")
