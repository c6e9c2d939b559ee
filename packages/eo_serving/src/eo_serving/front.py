"""The only HTTP door (design 4.4): a thin ASGI application before MLServer.

Its routes are the list of what can be reached; everything else of MLServer (load, unload, its own pages) cannot.
"""

from __future__ import annotations

import asyncio
import json
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from eo_data.errors import TerraloopError, UsageError
from eo_serving.admission import Admission, check_lists, read_body
from eo_serving.configuration import ServeSection
from eo_serving.forwarding import Forwarding, respond
from eo_serving.keeper import described
from eo_serving.media import GEOJSON, JSON, MediaType
from eo_serving.metrics import EXPOSITION_TYPE, Metrics
from eo_serving.openapi import describe
from eo_serving.page import PAGE_HEADERS, PageFacts, page, page_file
from eo_serving.problem import (
    NoModel,
    NoSuchRoute,
    Problem,
    UnsupportedType,
)
from eo_serving.remote_reading import as_sent
from eo_serving.tokens import check_token

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp

    from eo_data.usecase import UseCase
    from eo_serving.backend import Backend
    from eo_serving.keeper import Keeper
    from eo_serving.request_log import RequestLog
    from eo_serving.tokens import Tokens

_RELOAD_BYTES: Final = 4096
_MOST_QUERY: Final = 8192
INVOCATIONS: Final = "/invocations"
JSON_TYPES: Final = (JSON, GEOJSON)


class Front:
    """The front's routes.

    Args:
        usecase: What is served.
        keeper: Which version is served.
        backend: Where requests go.
        tokens: Which tokens are asked for.
        requests: What is told of inputs; None where nothing is kept of them.
    """

    def __init__(
        self, usecase: UseCase, keeper: Keeper, backend: Backend, tokens: Tokens, requests: RequestLog | None = None
    ) -> None:
        self._usecase = usecase
        self._name = usecase.name
        self._serve = usecase.section("serve", ServeSection)
        self._limits = self._serve.limits
        self._keeper = keeper
        self._backend = backend
        self._tokens = tokens
        self._requests = requests
        self._admission = Admission(self._limits)
        self._metrics = Metrics()
        self._way = Forwarding(usecase, keeper, backend, self._metrics, requests)

    def application(self) -> ASGIApp:
        """The ASGI application."""
        routes = [
            Route("/", self.show_page),
            Route("/openapi.json", self.description),
            Route("/page.css", self.page_style),
            Route("/page.js", self.page_script),
            Route("/healthz", self.health),
            Route("/readyz", self.ready),
            Route("/metrics", self.metrics),
            Route(INVOCATIONS, self.invocations, methods=["POST"]),
            Route("/v2/health/live", self.health),
            Route("/v2/health/ready", self.ready),
            Route("/v2/models/{name}", self.metadata),
            Route("/v2/models/{name}/ready", self.model_ready),
            Route("/v2/models/{name}/infer", self.infer, methods=["POST"]),
            Route("/-/reload", self.reload, methods=["POST"]),
        ]
        handlers: dict[Any, Callable[..., Any]] = {
            HTTPException: _routing_problem,
            TerraloopError: _problem,
            ClientDisconnect: _gone,
            Exception: _unexpected,
        }
        application = Starlette(routes=routes, exception_handlers=handlers)
        application.router.redirect_slashes = False
        return self._metrics.watch(application, {route.endpoint: route.path for route in routes})

    async def close(self) -> None:
        """Close the connections to MLServer, and write what waits for the request log."""
        await self._way.close()
        if self._requests is not None:
            await asyncio.to_thread(self._requests.close)

    async def health(self, request: Request) -> Response:
        """200 as long as the front lives."""
        return JSONResponse({"status": "alive"})

    async def ready(self, request: Request) -> Response:
        """200 with the version that answers, 503 where none does."""
        await self._require_model()
        assert self._keeper.current is not None  # noqa: S101 - _require_model says so
        return JSONResponse(described(self._keeper.current))

    async def show_page(self, request: Request) -> Response:
        """A page for people."""
        # Not `request.url`, which would parse a Host header that may be anything.
        address = f"{request.scope['scheme']}://{request.headers.get('host', '')}"
        asks = self._tokens.endpoint is not None
        facts = PageFacts(self._usecase, self._keeper.files, address, self._limits.max_body_bytes, asks)
        return HTMLResponse(page(facts), headers=PAGE_HEADERS)

    async def description(self, request: Request) -> Response:
        """What may be sent, and what comes back."""
        can_reload = self._tokens.deploy is not None
        asks = self._tokens.endpoint is not None
        return JSONResponse(describe(self._usecase, version("eo-serving"), asks_token=asks, can_reload=can_reload))

    async def page_style(self, request: Request) -> Response:
        """The page's style sheet."""
        return Response(page_file("page.css"), media_type="text/css", headers=PAGE_HEADERS)

    async def page_script(self, request: Request) -> Response:
        """The page's script."""
        return Response(page_file("page.js"), media_type="text/javascript", headers=PAGE_HEADERS)

    async def metrics(self, request: Request) -> Response:
        """Prometheus' exposition; behind the endpoint's token where there is one."""
        self._check_endpoint_token(request)
        current = self._keeper.current
        model = None if current is None or not self._backend.loaded else (current.label, current.digest)
        logged = (0, 0) if self._requests is None else (self._requests.written, self._requests.lost)
        text = self._metrics.exposition(self._admission.inside, model, self._backend.starts, logged)
        return Response(text, media_type=EXPOSITION_TYPE)

    async def invocations(self, request: Request) -> Response:
        """Rasters and MLflow's JSON in, masks out."""
        self._check_endpoint_token(request)
        is_json = MediaType.parse(request.headers.get("content-type", "")).name in JSON_TYPES
        most = self._limits.max_json_bytes if is_json else self._limits.max_body_bytes
        return await self._infer(request, INVOCATIONS, min(most, self._limits.max_body_bytes))

    async def infer(self, request: Request) -> Response:
        """V2 tensors in, masks out."""
        self._check_endpoint_token(request)
        self._check_name(request)
        if MediaType.parse(request.headers.get("content-type", "")).name != JSON:
            raise UnsupportedType("V2 over HTTP takes JSON", where="Content-Type", fix=f"Send {JSON}")
        return await self._infer(request, f"/v2/models/{self._name}/infer", self._limits.max_json_bytes)

    async def metadata(self, request: Request) -> Response:
        """The tensors that the model reads and gives."""
        self._check_name(request)
        return await self._way.forward("GET", f"/v2/models/{self._name}")

    async def model_ready(self, request: Request) -> Response:
        """As `/readyz`, in V2's words."""
        self._check_name(request)
        return await self.ready(request)

    async def reload(self, request: Request) -> Response:
        """Put a version into service; the one before answers until the new one has passed its test."""
        if self._tokens.deploy is None:
            raise NoSuchRoute("there is nothing here", fix="The server was started without TERRALOOP_DEPLOY_TOKEN")
        check_token(request.headers.get("authorization", ""), self._tokens.deploy)
        body = await read_body(request, _RELOAD_BYTES, self._limits.body_seconds)
        model, back = _wanted_version(body)
        return JSONResponse(await (self._keeper.roll_back() if back else self._keeper.reload(model)))

    async def ask(self, body: bytes, content_type: str, accept: str, seconds: float) -> Response:
        """What came by another door, within the same places and limits; whoever asks has checked the token.

        Args:
            body: The body.
            content_type: Its type.
            accept: What is asked for.
            seconds: That are left for the answer.

        Raises:
            TerraloopError: If it is turned away; a refusal of the model server comes as a response.
        """
        headers = {"content-type": content_type, "accept": accept}
        async with self._admission.place(), self._admission.turn(seconds) as left:
            return await self._way.forward("POST", INVOCATIONS, headers, body, seconds=left())

    async def answers(self) -> bool:
        """Whether `/readyz` would say 200."""
        try:
            await self._require_model()
        except TerraloopError:
            return False
        return True

    def count(self, route: str, status: str, seconds: float) -> None:
        """Count a request that came by another door."""
        self._metrics.count(route, status, seconds)

    async def _infer(self, request: Request, path: str, most: int) -> Response:
        headers = {key: request.headers[key] for key in ("content-type", "accept") if key in request.headers}
        for key, value in headers.items():
            if not value.isascii():
                raise UsageError("a header holds ASCII characters only", where=key, fix="Such as image/tiff")
        async with self._admission.place():
            began = time.perf_counter()
            body = await read_body(request, most, self._limits.body_seconds)
            self._metrics.took_body(len(body), time.perf_counter() - began)
            if MediaType.parse(request.headers.get("content-type", "")).name in JSON_TYPES:
                check_lists(body, self._limits.max_json_lists)
            query, taken = _query(request), None
            async with self._admission.turn(self._limits.request_seconds) as left:
                if path == INVOCATIONS:
                    named = await as_sent(headers, body, query, self._usecase.data, self._serve, left())
                    if named is not None:
                        headers, body, query, taken = named.headers, named.body, named.query, named.taken
                return await self._way.forward("POST", path, headers, body, query, taken, left())

    def _check_endpoint_token(self, request: Request) -> None:
        if self._tokens.endpoint is not None:
            check_token(request.headers.get("authorization", ""), self._tokens.endpoint)

    async def _require_model(self) -> None:
        answer = await self._way.forward("GET", f"/v2/models/{self._name}/ready")
        if answer.status_code != 200:
            raise NoModel("the model is not ready", fix="Try again in a minute")

    def _check_name(self, request: Request) -> None:
        if request.path_params["name"] != self._name:
            raise NoSuchRoute("there is no such model here", where="path", fix=f"This endpoint serves {self._name}")


def _query(request: Request) -> str:
    """The query as it was sent; `request.url` would also parse the Host header, which may be anything."""
    sent: bytes = request.scope["query_string"]
    if len(sent) > _MOST_QUERY:
        raise UsageError(f"a query of {len(sent)} bytes", where="query", fix=f"At most {_MOST_QUERY} are read")
    return sent.decode("ascii", "replace")


def _wanted_version(body: bytes) -> tuple[str | None, bool]:
    """The version that is asked for, None for the champion; and whether the one before is."""
    fix = 'Send {}, {"model": "models:/NAME/VERSION"} or {"rollback": true}'
    try:
        document = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise UsageError("this is no JSON", where="body", fix=fix) from error
    if document == {"rollback": True} and document["rollback"] is True:
        return None, True
    if not isinstance(document, dict) or set(document) - {"model"} or not isinstance(document.get("model", ""), str):
        raise UsageError("unknown content", where="body", fix=fix)
    return document.get("model"), False


async def _problem(request: Request, error: TerraloopError) -> Response:
    return respond(Problem.of(error))


async def _routing_problem(request: Request, error: HTTPException) -> Response:
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        problem = Problem(405, f"{request.method} is not taken here", where="path", fix=f"Allowed: {allowed}")
    else:
        problem = Problem(error.status_code, "there is nothing here", where="path", fix="POST a raster to /invocations")
    return respond(problem, dict(error.headers or {}))


async def _gone(request: Request, error: ClientDisconnect) -> Response:
    return respond(Problem(400, "the body ended early", where="body"))


async def _unexpected(request: Request, error: Exception) -> Response:
    return respond(Problem.of(error))  # Starlette raises it again after answering, so that it is logged
