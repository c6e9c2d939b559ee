"""Content types: what a body is, and which of the offered answers a request accepts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.message import Message
from typing import Any, Final

from eo_serving.problem import NotOffered

TIFF: Final = "image/tiff"
JSON: Final = "application/json"
GEOJSON: Final = "application/geo+json"
NPY: Final = "application/x-npy"
PNG: Final = "image/png"
GEOTIFF_TYPE: Final = "image/tiff; application=geotiff"
ITEM_HEADER: Final = "terraloop-item"
"""From the front to MLServer alone: what a STAC item says of the values in the body, as JSON."""
SECONDS_HEADER: Final = "terraloop-seconds"
"""From the front to MLServer alone: the seconds that are left for the answer."""
SHADOW_HEADER: Final = "terraloop-shadow"
"""From MLServer to the front alone: what came of the challenger so far (`ShadowCounts`), as JSON."""
SAMPLE_HEADER: Final = "terraloop-sample"
"""From MLServer to the front alone: what the input was like (`InputStatistics`), as JSON."""


@dataclass(frozen=True)
class MediaType:
    """A media type with its parameters, lower case.

    Attributes:
        name: Such as `image/tiff`.
        parameters: Such as `{"application": "geotiff"}`.
    """

    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> MediaType:
        """Read one media type; an absent or malformed one has an empty name."""
        message = Message()
        message["content-type"] = text.replace("\r", " ").replace("\n", " ")
        try:
            parameters: list[tuple[str, Any]] = message.get_params(failobj=[], unquote=True)
        except (TypeError, ValueError):  # continuations (RFC 2231) that contradict each other
            return cls("")
        name = parameters[0][0].strip().lower() if parameters else ""
        # A value with a charset (RFC 2231: `name*=utf-8''x`) comes as a tuple; no parameter that counts here has one.
        texts = [(key, value) for key, value in parameters[1:] if isinstance(value, str)]
        rest = {key.strip().lower(): value.strip().lower() for key, value in texts}
        return cls(name if name.count("/") == 1 else "", rest)


@dataclass(frozen=True)
class Offer:
    """One type of answer.

    Attributes:
        name: Its media type, `image/tiff`.
        parameters: What an Accept entry must say to mean this one.
        optional: Parameters that an Accept entry may add without changing what is meant.
    """

    name: str
    parameters: tuple[tuple[str, str], ...] = ()
    optional: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """As it stands in an Accept header."""
        return "; ".join([self.name, *(f"{key}={value}" for key, value in self.parameters)])

    def specificity(self, wanted: MediaType) -> int | None:
        """How exactly an Accept entry means this answer, from 0 for `*/*`; None where it does not mean it.

        Wildcards mean any answer without parameters.
        """
        kind = self.name.split("/")[0]
        if wanted.name in {"*/*", f"{kind}/*"}:
            return None if self.parameters else int(wanted.name != "*/*")
        given = {key: value for key, value in wanted.parameters.items() if key != "q"}
        meant = given.items() - set(self.optional)
        return 2 if wanted.name == self.name and meant == set(self.parameters) else None

    def quality(self, accepted: Sequence[MediaType]) -> float:
        """The quality that the most exact of the Accept entries gives this answer; 0 is none."""
        exact = [(rank, _quality(wanted)) for wanted in accepted if (rank := self.specificity(wanted)) is not None]
        return max(exact)[1] if exact else 0.0


def negotiate(accept: str | None, offers: Sequence[Offer]) -> Offer:
    """The offer that an Accept header prefers; the first of equals, and the first where it says nothing.

    Raises:
        NotOffered: If it accepts none of them, naming them.
    """
    if accept is None or not accept.strip():
        return offers[0]
    accepted = [MediaType.parse(part) for part in accept.split(",")]
    best = max(offers, key=lambda offer: offer.quality(accepted))
    if best.quality(accepted) == 0:
        raise NotOffered(
            "no answer of an accepted type is offered", where="Accept", fix=f"Offered: {', '.join(map(str, offers))}"
        )
    return best


def _quality(wanted: MediaType) -> float:
    try:
        return min(max(float(wanted.parameters.get("q", "1")), 0.0), 1.0)
    except ValueError:
        return 0.0
