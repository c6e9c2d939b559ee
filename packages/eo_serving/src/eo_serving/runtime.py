"""The MLServer runtime: our ONNX Runtime session behind `/invocations` and the V2 protocol.

MLServer loads it by name from `model-settings.json`, whose `parameters.extra` says where the version and the use
case lie. What computes runs in threads, so that health checks are answered meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import Depends, Request, Response
from mlserver import MLModel
from mlserver.errors import MLServerError
from mlserver.handlers import custom_handler
from mlserver.types import InferenceRequest, InferenceResponse
from numpy.typing import NDArray

from eo_data.errors import TerraloopError
from eo_data.usecase import UseCase
from eo_serving import inservice
from eo_serving.call import Call
from eo_serving.input_sample import InputSample
from eo_serving.invocation import Invocation, answer
from eo_serving.media import ITEM_HEADER, SAMPLE_HEADER, SECONDS_HEADER, SHADOW_HEADER
from eo_serving.metrics import TIMING, server_timing
from eo_serving.problem import PROBLEM_TYPE, NoModel, Problem
from eo_serving.service import Service, open_service
from eo_serving.shadow import Shadow
from eo_serving.v2 import infer
from eo_serving.versions import read_version

log = logging.getLogger("mlserver.terraloop")


async def read_invocation(request: Request) -> Invocation:
    """The parts of a request that an answer depends on.

    A dependency rather than an argument of the handler: with workers MLServer pickles the handler's arguments, and
    a `Request` cannot be.
    """
    return Invocation(
        content_type=request.headers.get("content-type", ""),
        accept=request.headers.get("accept"),
        query=request.url.query,
        body=await request.body(),
        item=request.headers.get(ITEM_HEADER),
        seconds=float(request.headers[SECONDS_HEADER]) if SECONDS_HEADER in request.headers else None,
    )


class MaskRuntime(MLModel):  # type: ignore[misc]
    """One model version behind `/invocations` and V2."""

    async def load(self) -> bool:
        """Read the version, test it on its golden chip, then let it answer.

        Raises:
            MLServerError: With the problem as its text; the version that answered before goes on answering.
        """
        try:
            service = await asyncio.to_thread(_open, self._settings.parameters.extra)
        except Exception as error:
            raise _refusal(error) from error
        self._service = service
        inservice.decoders.start(service.serve.limits.concurrency)
        inservice.put_shadow(self.name, await asyncio.to_thread(_open_shadow, self._settings.parameters.extra))
        inservice.put(self.name, service)
        return True

    @custom_handler(rest_path="/invocations")  # type: ignore[untyped-decorator]
    async def invocations(self, invocation: Annotated[Invocation, Depends(read_invocation)]) -> Response:
        """MLflow's protocol and rasters."""
        try:
            service = inservice.get(self.name)
            if service is None:
                raise NoModel("no model is loaded yet", fix="Deploy one, or try again later")
            shadow = inservice.get_shadow(self.name)
            masks: list[NDArray[np.uint8]] | None = None if shadow is None else []
            limit = service.serve.limits.request_seconds
            seconds = limit if invocation.seconds is None else invocation.seconds
            call = Call(seconds, InputSample(len(service.data.classes)), masks)
            opener = inservice.decoders.open_body
            result = await asyncio.to_thread(answer, invocation, service, call, opener)
        except Exception as error:
            problem = _problem(error)
            return Response(problem.body(), status_code=problem.status, media_type=PROBLEM_TYPE)
        headers = {**result.headers, TIMING: server_timing(call.spent)}
        if result.sample is not None and service.serve.log.enabled:
            headers[SAMPLE_HEADER] = result.sample.header()
        if shadow is not None and masks:
            headers[SHADOW_HEADER] = json.dumps(shadow.counts.model_dump())
            shadow.ask(invocation, masks, service.label)
        return Response(result.body, media_type=result.content_type, headers=headers)

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """V2: one tensor `[N, bands, H, W]` in, masks and, on request, probabilities out.

        Raises:
            MLServerError: With the problem as its text.
        """
        try:
            service = self._service
            call = Call(service.serve.limits.request_seconds, InputSample(len(service.data.classes)))
            return await asyncio.to_thread(infer, payload, service, call)
        except Exception as error:
            raise _refusal(error) from error


def _open(extra: dict[str, Any]) -> Service:
    return open_service(read_version(Path(extra["folder"])), UseCase.load(extra["usecase"]))


def _open_shadow(extra: dict[str, Any]) -> Shadow | None:
    """The challenger; one that cannot be opened harms nobody."""
    if not extra.get("shadow"):
        return None
    try:
        service = open_service(read_version(Path(extra["shadow"])), UseCase.load(extra["usecase"]))
    except Exception as error:
        log.error("there is no shadow: %s", error)
        return None
    return Shadow(service, inservice.decoders.open_body)


def _problem(error: Exception) -> Problem:
    if not isinstance(error, TerraloopError):
        log.error("unexpected failure", exc_info=error)
    return Problem.of(error)


def _refusal(error: Exception) -> MLServerError:
    """The problem as MLServer passes it on: `{"error": <the problem document>}`, with its status."""
    problem = _problem(error)
    return MLServerError(problem.body().decode(), status_code=problem.status)
