"""The OpenAPI description is true: schemathesis sends what it allows and what it does not, and reads every answer."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from openapi_spec_validator import validate
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
OPERATIONS = [
    ("POST", "/invocations"), ("POST", "/v2/models/water/infer"), ("POST", "/-/reload"), ("GET", "/v2/models/water"),
    ("GET", "/v2/models/water/ready"), ("GET", "/v2/health/live"), ("GET", "/v2/health/ready"), ("GET", "/healthz"),
    ("GET", "/readyz"), ("GET", "/metrics"), ("GET", "/openapi.json"), ("GET", "/"),
]  # fmt: skip


@schemathesis.serializer("image/tiff", "application/x-npy")
def as_they_are(context: Any, value: Any) -> Any:
    """Bytes need no serializer; what schemathesis draws of no bytes goes as text."""
    return value if isinstance(value, bytes) else str(value).encode()


@pytest.fixture(scope="module")
def document(server: Any) -> dict[str, Any]:
    with server.client() as client:
        found: dict[str, Any] = client.get("/openapi.json").json()
    return found


def test_it_is_openapi_and_names_every_route(document: dict[str, Any]) -> None:
    validate(document)
    named = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert named == set(OPERATIONS)


def test_what_asks_the_model_server_may_run_out_of_time(document: dict[str, Any]) -> None:
    late = {path for path, item in document["paths"].items() for one in item.values() if "504" in one["responses"]}
    v2 = "/v2/models/water"
    assert late == {"/invocations", v2, f"{v2}/infer", f"{v2}/ready", "/v2/health/ready", "/readyz"}


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_every_answer_is_as_described(server: Any, document: dict[str, Any], method: str, path: str) -> None:
    schema = schemathesis.openapi.from_dict(document)
    operation = schema[path][method]
    seen = set()

    @settings(
        max_examples=60 if method == "POST" else 3, deadline=None, database=None, derandomize=True,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy())
    def sent(case: Any) -> None:
        response = case.call(base_url=server.url, timeout=60)
        seen.add(response.status_code)
        case.validate_response(response, checks=CHECKS)

    sent()
    if method == "GET":
        assert seen == {200}
    elif path == "/invocations":
        assert seen >= {400, 422}  # not turned away at the door each time


def test_real_requests_are_as_described(server: Any, document: dict[str, Any], tiff_chip: bytes, chip: Any) -> None:
    """What clients send is answered 200, and as the description says."""
    schema = schemathesis.openapi.from_dict(document)
    bodies: list[tuple[str, Any, str]] = [("image/tiff", tiff_chip, accept) for accept in
              ("image/tiff", "image/png", "application/x-npy", "application/geo+json", "application/json")]  # fmt: skip
    bodies.append(("application/json", {"inputs": chip[None, :, :8, :8].tolist()}, "application/json"))
    for kind, body, accept in bodies:
        case = schema["/invocations"]["POST"].Case(body=body, media_type=kind, headers={"Accept": accept})
        response = case.call(base_url=server.url, timeout=60)
        assert response.status_code == 200
        case.validate_response(response, checks=CHECKS)
    data = chip[None, :, :8, :8]
    tensor = {"name": "reflectance", "shape": list(data.shape), "datatype": "UINT16", "data": data.ravel().tolist()}
    case = schema["/v2/models/water/infer"]["POST"].Case(body={"inputs": [tensor]}, media_type="application/json")
    response = case.call(base_url=server.url, timeout=60)
    assert response.status_code == 200
    case.validate_response(response, checks=CHECKS)
