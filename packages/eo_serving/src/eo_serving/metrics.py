"""What the front counts, in Prometheus' exposition format.

Labels are bounded: routes by their pattern, never by what a stranger writes into a path.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from eo_serving.call import STAGES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from eo_serving.shadow import ShadowCounts

TIMING: Final = "Server-Timing"
EXPOSITION_TYPE: Final = CONTENT_TYPE_LATEST
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_BYTES: Final = tuple(float(2**power) for power in range(10, 28, 2))
_TIMING: Final = re.compile(rf"({'|'.join(STAGES)});dur=([0-9]+\.?[0-9]*)")


class Metrics:
    """The front's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self._registry}
        self._requests = Counter("terraloop_requests", "Requests that were answered", ("route", "status"), **own)
        self._seconds = Histogram(
            "terraloop_request_seconds", "From the first byte to the last", ("route",), buckets=_SECONDS, **own
        )
        self._stages = Histogram(
            "terraloop_stage_seconds", "Where a call's time went", ("stage",), buckets=_SECONDS, **own
        )
        self._bytes = Histogram("terraloop_body_bytes", "Bodies that were taken", buckets=_BYTES, **own)
        self._inside = Gauge("terraloop_requests_inside", "Requests that hold a place", **own)
        self._model = Gauge("terraloop_model_info", "1 for the version that answers", ("model", "digest"), **own)
        self._starts = Counter("terraloop_mlserver_starts", "Starts of the MLServer child", **own)
        self._logged = Counter("terraloop_request_log_records", "Records of the request log", ("outcome",), **own)
        self._shadow = Gauge("terraloop_shadow_pixels", "Pixels that a challenger saw too", ("model", "outcome"), **own)
        for stage in STAGES:
            self._stages.labels(stage)  # shown as 0 before the first request

    def exposition(
        self, inside: int, model: tuple[str, str] | None, starts: int, logged: tuple[int, int] = (0, 0)
    ) -> bytes:
        """All metrics as text.

        Args:
            inside: How many requests hold a place.
            model: Label and digest of the version that answers.
            starts: How often MLServer was started.
            logged: Records of the request log that were written, and lost.
        """
        self._inside.set(inside)
        self._model.clear()
        if model is not None:
            self._model.labels(*model).set(1)
        self._starts.reset()
        self._starts.inc(starts)
        for outcome, count in zip(("written", "lost"), logged, strict=True):
            self._logged.remove(outcome)
            self._logged.labels(outcome).inc(count)
        return generate_latest(self._registry)

    def took_body(self, size: int, seconds: float) -> None:
        """Note a body that was read."""
        self._bytes.observe(size)
        self._stages.labels("read").observe(seconds)

    def answered(self, timing: str) -> None:
        """Note the stages that a Server-Timing header names."""
        for stage, milliseconds in _TIMING.findall(timing):
            self._stages.labels(stage).observe(float(milliseconds) / 1000)

    def shadow(self, counts: ShadowCounts) -> None:
        """Note what came of the challenger so far."""
        self._shadow.labels(counts.model, "same").set(counts.pixels - counts.differing)
        self._shadow.labels(counts.model, "different").set(counts.differing)

    def count(self, route: str, status: str, seconds: float) -> None:
        """Note a request that was answered."""
        self._requests.labels(route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def watch(self, application: ASGIApp, routes: Mapping[Any, str]) -> ASGIApp:
        """The same application, whose requests are counted.

        Args:
            application: An application that leaves its endpoint in the scope, as Starlette does.
            routes: Pattern by endpoint.
        """

        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await application(scope, receive, send)
                return
            began, status = time.perf_counter(), 500

            async def noting_send(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            try:
                await application(scope, receive, noting_send)
            finally:
                route = routes.get(scope.get("endpoint"), "other")
                self.count(route, str(status), time.perf_counter() - began)

        return watched


def server_timing(spent: Mapping[str, float]) -> str:
    """Seconds of each stage as a Server-Timing header (W3C) writes them, in milliseconds."""
    return ", ".join(f"{stage};dur={seconds * 1000:.2f}" for stage, seconds in spent.items() if seconds > 0)
