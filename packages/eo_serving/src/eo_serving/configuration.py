"""The use case's sections `serve`, what the endpoint takes on and refuses, and `monitor`, when to train anew."""

from __future__ import annotations

from typing import Self

from pydantic import Field, field_validator, model_validator

from eo_data.errors import UsageError
from eo_data.section import Section

MEBIBYTE = 2**20


class Limits(Section):
    """What one request may cost. Beyond it the answer is 413, 429 or 504, never a dead server."""

    max_body_bytes: int = Field(default=64 * MEBIBYTE, ge=1024, description="of a request's body: 413")
    max_json_bytes: int = Field(
        default=32 * MEBIBYTE, ge=1024, description="of a JSON body, which takes many times its size in memory: 413"
    )
    max_json_lists: int = Field(
        default=1_000_000, ge=1, description="lists and objects in a JSON body, 60 bytes of memory for each `[]`: 413"
    )
    max_pixels: int = Field(default=4096 * 4096, ge=1, description="height x width x batch: 413")
    max_block_bytes: int = Field(
        default=128 * MEBIBYTE, ge=1024, description="of one block (tile or strip) of a TIFF, unpacked: 413"
    )
    max_side: int = Field(default=16384, ge=1, description="height and width: 413; memory grows with the width")
    max_polygons: int = Field(default=100_000, ge=1, description="of an answer of application/geo+json: 413")
    request_seconds: float = Field(default=120.0, gt=0, description="from the whole body to the answer: 504")
    body_seconds: float = Field(default=60.0, gt=0, description="until the head, and then the body, has arrived: 408")
    concurrency: int = Field(default=2, ge=1, le=64, description="requests that are worked on at once")
    waiting: int = Field(default=16, ge=0, le=1024, description="requests that may wait for their turn; more: 429")


class Remote(Section):
    """Which addresses a request may name in place of a raster: none, unless prefixes are listed.

    Attributes:
        prefixes: Beginnings of http(s) and s3 addresses, each ending with a slash.
        private: Whether the prefixes' http(s) servers may stand in a private network, such as one's own store.
    """

    prefixes: tuple[str, ...] = ()
    private: bool = False
    max_bytes: int = Field(default=256 * MEBIBYTE, ge=1024, description="that are fetched for one request: 413")
    seconds: float = Field(default=60.0, gt=0, description="in which they must have come: 504")

    @field_validator("prefixes")
    @classmethod
    def _are_prefixes(cls, prefixes: tuple[str, ...]) -> tuple[str, ...]:
        from eo_serving.remote_rules import require_prefix

        try:
            return tuple(map(require_prefix, prefixes))
        except UsageError as error:
            raise ValueError(f"{error.what}. {error.fix}") from error


class RequestLogging(Section):
    """The request log (`eo_serving.request_log`); records that find no place are lost and counted.

    Attributes:
        enabled: Whether there is one.
        flush_seconds: After which what was gathered is written.
        queue: Records that may wait.
    """

    enabled: bool = True
    flush_seconds: float = Field(default=60.0, gt=0, le=86400)
    queue: int = Field(default=1000, ge=1, le=100_000)


class ServeSection(Section):
    """The `serve` section.

    Attributes:
        threads: Threads of ONNX Runtime per request; masks are the same for any number.
        minibatch: Tiles that go to the model at once.
        follow_seconds: Between two looks at the ledger for another champion.
        limits: What one request may cost.
        remote: Which addresses a request may name.
        log: What is kept of requests.
    """

    threads: int = Field(default=1, ge=1, le=64)
    minibatch: int = Field(default=2, ge=1, le=64)
    follow_seconds: float = Field(default=3.0, ge=0.1, le=86400)
    limits: Limits = Limits()
    remote: Remote = Remote()
    log: RequestLogging = RequestLogging()


class MonitorSection(Section):
    """The `monitor` section: what is called drift, and when to train anew.

    Attributes:
        window_hours: Length of a window.
        windows: How many are looked at, the newest last.
        needed: In how many of them something must drift before a retraining is asked for.
        min_requests: Of a stratum in a window; fewer say nothing.
        min_reference: Scenes of the training split that a stratum needs.
        psi: Population stability index from which on a band's shift counts.
        class_shift: Difference of a class's mean share from which on it counts.
        alpha: Corrected p-value below which a shift is no chance.
        permutations: Of the test, at least; more where more is compared at once, or the correction hides all.
        quality_drop: IoU that may be lost on fresh scenes.
        cooldown_hours: After a retraining was asked for, none is asked for again.
        seed: Of the permutations.
    """

    window_hours: float = Field(default=24.0, gt=0, le=8760)
    windows: int = Field(default=5, ge=1, le=100)
    needed: int = Field(default=3, ge=1, le=100)
    min_requests: int = Field(default=20, ge=2)
    min_reference: int = Field(default=8, ge=2)
    psi: float = Field(default=0.2, ge=0)
    class_shift: float = Field(default=0.15, ge=0, le=1)
    alpha: float = Field(default=0.01, gt=0, lt=1)
    permutations: int = Field(default=999, ge=99, le=100_000)
    quality_drop: float = Field(default=0.05, ge=0, le=1)
    cooldown_hours: float = Field(default=72.0, ge=0)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        if self.needed > self.windows:
            raise ValueError(f"needed is {self.needed}, but only {self.windows} windows are looked at")
        if (self.permutations + 1) * self.alpha < 1:
            raise ValueError(f"{self.permutations} permutations cannot give a p-value below {self.alpha:g}")
        return self
