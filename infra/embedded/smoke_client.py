"""What stands in for a client of the endpoint: it sends, and says what came back. Standard library only."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Final

INVOCATIONS: Final = "/invocations"
TIMEOUT: Final = 120
DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Wrong(Exception):
    """An answer is not what it must be."""


@dataclass(frozen=True)
class Answer:
    """Status, headers in lower case, and body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Client:
    """A client of one endpoint, and what it must find there."""

    endpoint: str
    model: str
    digest: str

    def post(self, body: bytes, content_type: str, accept: str | None = None, target: str = INVOCATIONS) -> Answer:
        """Send a body."""
        headers = {"Content-Type": content_type, **({"Accept": accept} if accept else {})}
        return self.call(target, body, headers)

    def call(self, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        """Send any request; an answer with an error status is an answer."""
        request = urllib.request.Request(self.endpoint + path, body, dict(headers))  # noqa: S310  http by ourselves
        try:
            with DIRECT.open(request, timeout=TIMEOUT) as answer:
                return _answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return _answer(error.code, error.headers, error.read())

    def good(self, body: bytes, content_type: str, accept: str | None = None, target: str = INVOCATIONS) -> Answer:
        """Send what must be answered, and see that the right model answered.

        Raises:
            Wrong: If it is not answered with 200 and the names of the model.
        """
        answer = self.post(body, content_type, accept, target)
        require(answer.status == 200, f"status {answer.status}: {answer.body[:300]!r}")
        require(answer.headers["terraloop-model"] == self.model, f"model {answer.headers['terraloop-model']}")
        require(answer.headers["terraloop-digest"] == self.digest, f"digest {answer.headers['terraloop-digest']}")
        return answer


def require(held: bool, otherwise: str) -> None:
    """Raise `Wrong` if something does not hold."""
    if not held:
        raise Wrong(otherwise)


def _answer(status: int, headers: Message, body: bytes) -> Answer:
    return Answer(status, {key.lower(): value for key, value in headers.items()}, body)
