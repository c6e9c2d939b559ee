"""Requests to MLServer behind the front, and its answers as clients get them."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final

import httpx
from starlette.responses import Response

from eo_serving.backend import mlserver_problem
from eo_serving.configuration import ServeSection
from eo_serving.input_sample import InputStatistics
from eo_serving.media import SAMPLE_HEADER, SECONDS_HEADER, SHADOW_HEADER
from eo_serving.metrics import TIMING, Metrics
from eo_serving.problem import PROBLEM_TYPE, NoModel, OutOfTime, Problem
from eo_serving.request_records import RequestRecord, make_record
from eo_serving.shadow import ShadowCounts

if TYPE_CHECKING:
    from eo_data.usecase import UseCase
    from eo_serving.backend import Backend
    from eo_serving.keeper import Keeper
    from eo_serving.request_log import RequestLog

log = logging.getLogger(__name__)

INTERNAL: Final = (SAMPLE_HEADER, SHADOW_HEADER)
"""Headers that go no further than the front."""
_MARGIN: Final = 15.0
"""Seconds that MLServer gets beyond the request's limit to say itself that time is up."""


class Forwarding:
    """The way to MLServer.

    Args:
        usecase: What is served.
        keeper: Which version is served.
        backend: Where MLServer is.
        metrics: What is told of stages.
        requests: What is told of inputs; None where nothing is kept of them.
    """

    def __init__(
        self, usecase: UseCase, keeper: Keeper, backend: Backend, metrics: Metrics, requests: RequestLog | None
    ) -> None:
        self._usecase = usecase
        self._keeper = keeper
        self._backend = backend
        self._metrics = metrics
        self._requests = requests
        self._seconds = usecase.section("serve", ServeSection).limits.request_seconds
        # Kept connections end here before MLServer ends them (5 s), so that none is used while it closes.
        self._client = httpx.AsyncClient(
            trust_env=False, limits=httpx.Limits(max_connections=None, keepalive_expiry=2.0)
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def forward(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        query: str = "",
        taken: str | None = None,
        seconds: float | None = None,
    ) -> Response:
        """Ask MLServer.

        Args:
            method: GET or POST.
            path: Of MLServer.
            headers: What MLServer gets of the request's.
            body: The body.
            query: The query, without its question mark.
            taken: When a STAC item says that the input was taken, for the log.
            seconds: In which the answer must be ready; None is all that a request has.

        Raises:
            NoModel: If none is loaded, or MLServer does not answer.
            OutOfTime: If it does not answer in time.
        """
        if self._keeper.current is None or not self._backend.loaded:
            raise NoModel("no model is loaded", fix="Deploy one with `eo-serving deploy`, or try again later")
        limit = self._seconds if seconds is None else seconds
        if limit <= 0:
            raise self._out_of_time()
        told = {**(headers or {}), SECONDS_HEADER: f"{limit:.3f}"}
        url = httpx.URL(self._backend.url).copy_with(path=path, query=query.encode() or None)
        try:
            answer = await self._client.request(method, url, headers=told, content=body, timeout=limit + _MARGIN)
        except httpx.TimeoutException as error:
            raise self._out_of_time() from error
        except httpx.TransportError as error:
            log.warning("MLServer does not answer: %s", error)
            raise NoModel("the model server does not answer", fix="Try again in a minute") from error
        self._metrics.answered(answer.headers.get(TIMING, ""))
        if SHADOW_HEADER in answer.headers:
            self._metrics.shadow(ShadowCounts.model_validate_json(answer.headers[SHADOW_HEADER]))
        if self._requests is not None and SAMPLE_HEADER in answer.headers:
            content_type = (headers or {}).get("content-type", "")
            said = dict(answer.headers)
            self._requests.note(partial(self._record, said, datetime.now(UTC), content_type, taken))
        return _passed_on(answer)

    def _out_of_time(self) -> OutOfTime:
        return OutOfTime(f"the answer was not ready in {self._seconds:g} s", fix="Send a smaller raster")

    def _record(self, said: dict[str, str], time: datetime, content_type: str, taken: str | None) -> RequestRecord:
        data = self._usecase.data
        return make_record(
            InputStatistics.model_validate(json.loads(said[SAMPLE_HEADER])),
            time=time,
            model=said["terraloop-model"],
            digest=said["terraloop-digest"],
            sensor=data.sensor,
            content_type=content_type.split(";")[0].strip().lower()[:80],
            bands=[band.name for band in data.input_bands],
            classes=[one.name for one in data.classes],
            taken=taken,
        )


def respond(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    """A refusal."""
    extra = dict(headers or {})
    if problem.status == 401:
        extra["WWW-Authenticate"] = "Bearer"
    if problem.status in {429, 503}:
        extra["Retry-After"] = "5"
    return Response(problem.body(), problem.status, headers=extra, media_type=PROBLEM_TYPE)


def _passed_on(answer: httpx.Response) -> Response:
    """MLServer's answer as the client gets it: ours as it is, MLServer's own refusals as problems."""
    kind = answer.headers.get("content-type", "")
    if not answer.is_success and not kind.startswith(PROBLEM_TYPE):
        return respond(mlserver_problem(answer.status_code, answer.content))
    kept = {
        key: value
        for key, value in answer.headers.items()
        if key == TIMING.lower() or (key.startswith("terraloop-") and key not in INTERNAL)
    }
    return Response(answer.content, answer.status_code, headers=kept, media_type=kind or None)
