"""The OpenAPI description of the front (`/openapi.json`): what may be sent, and every answer that may come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from eo_serving.media import GEOJSON, JSON, NPY, PNG, TIFF
from eo_serving.problem import PROBLEM_TYPE
from eo_serving.tensors import V2_DTYPES

if TYPE_CHECKING:
    from eo_data.usecase import UseCase

_BINARY: Final = {"type": "string", "format": "binary"}
_REFUSALS: Final = {
    "400": "The request cannot be understood.",
    "401": "A token is missing or wrong.",
    "406": "No answer of an accepted type is offered.",
    "408": "The body did not arrive in time.",
    "413": "It is over a limit.",
    "415": "A body of this type is not taken.",
    "422": "The data cannot be used.",
    "429": "As many requests wait already as may.",
    "503": "No model answers at the moment.",
    "504": "The answer was not ready in time.",
}
_IDENTITY: Final = {
    "Terraloop-Model": "Which version answered, NAME/VERSION.",
    "Terraloop-Run": "The MLflow run that made it.",
    "Terraloop-Digest": "sha256 of its model.onnx.",
    "Terraloop-Radiometry": "What the sent values mean, and who says so.",
    "Terraloop-Warning": "What is doubtful about the sent values; absent where nothing is.",
    "Server-Timing": "Milliseconds by stage.",
}


def describe(usecase: UseCase, version: str, *, asks_token: bool, can_reload: bool) -> dict[str, Any]:
    """The description as OpenAPI 3.1.

    Args:
        usecase: What is served.
        version: Of this package.
        asks_token: Whether requests need a token.
        can_reload: Whether `/-/reload` is there.
    """
    name = usecase.name
    paths: dict[str, Any] = {
        "/invocations": {"post": _invocations(usecase)},
        f"/v2/models/{name}/infer": {"post": _infer(usecase)},
        f"/v2/models/{name}": {"get": _read("The tensors that the model reads and gives.", "503", "504")},
        f"/v2/models/{name}/ready": {"get": _read("Whether it answers.", "503", "504")},
        "/v2/health/live": {"get": _read("Whether the front lives.")},
        "/v2/health/ready": {"get": _read("Whether a model answers.", "503", "504")},
        "/healthz": {"get": _read("Whether the front lives.")},
        "/readyz": {"get": _read("Whether a model answers.", "503", "504")},
        "/metrics": {"get": _read("Prometheus' exposition.", "401", kind="text/plain", schema={"type": "string"})},
        "/openapi.json": {"get": _read("This description.")},
        "/": {"get": _read("A page for people.", kind="text/html", schema={"type": "string"})},
    }
    if can_reload:
        paths["/-/reload"] = {"post": _reload(name)}
    for path in ("/invocations", f"/v2/models/{name}/infer", "/metrics"):
        for operation in paths[path].values():
            operation["security"] = [{"endpoint": []}] if asks_token else []
    return {
        "openapi": "3.1.0",
        "info": {"title": usecase.title, "version": version},
        "paths": paths,
        "components": {
            "schemas": {"Problem": _PROBLEM, "Statistics": _STATISTICS},
            "securitySchemes": {name: {"type": "http", "scheme": "bearer"} for name in ("endpoint", "deploy")},
        },
    }


_PROBLEM: Final = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong."},
        "where": {"type": "string", "description": "What it is about."},
        "fix": {"type": "string", "description": "What to do next."},
    },
    "additionalProperties": False,
}
_NUMBER_OR_NULL: Final = {"type": ["number", "null"]}
_STATISTICS: Final = {
    "type": "object",
    "required": ["model", "digest", "radiometry", "shape", "crs", "pixels", "valid_fraction", "area_note", "classes"],
    "properties": {
        "shape": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
        "crs": {"type": ["string", "null"]},
        "pixels": {"type": "integer"},
        "valid_fraction": {"type": "number"},
        "classes": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["value", "name", "pixels", "fraction", "hectares", "mean_probability"],
                "properties": {"hectares": _NUMBER_OR_NULL, "mean_probability": _NUMBER_OR_NULL},
            },
        },
    },
}


def _invocations(usecase: UseCase) -> dict[str, Any]:
    bands = len(usecase.data.input_bands)
    images = {"type": "array", "items": _nested(3), "minItems": 1}
    tensors = {
        "oneOf": [
            {"type": "object", "required": [key], "properties": {key: images}, "additionalProperties": False}
            for key in ("inputs", "instances")
        ]
    }
    reference = {
        "type": "object",
        "required": ["href"],
        "properties": {
            "href": {"type": "string", "minLength": 1, "maxLength": 2048},
            "bbox": {"type": ["array", "null"], "items": {"type": "number"}, "minItems": 4, "maxItems": 4},
            "crs": {"type": ["string", "null"], "minLength": 1, "maxLength": 4096},
        },
        "additionalProperties": False,
    }
    return {
        "summary": "A raster or tensors in, a mask out",
        "description": f"Tensors are [N, bands, height, width]: the model's {bands} bands, or all of the use case's.",
        "parameters": [
            _query("scale", {"type": "number", "exclusiveMinimum": 0, "maximum": 1e6}, "Reflectance per unit."),
            _query("offset", {"type": "number", "minimum": -1e6, "maximum": 1e6}, "Reflectance added after scaling."),
            _query("bands", {"type": "string"}, "Names of the bands in their order, with commas between."),
            _query("bbox", {"type": "string"}, "For a STAC item: west,south,east,north in degrees."),
        ],
        "requestBody": {
            "required": True,
            "content": {
                TIFF: {"schema": _BINARY},
                NPY: {"schema": _BINARY},
                JSON: {"schema": {"oneOf": [*tensors["oneOf"], reference]}},
                GEOJSON: {"schema": {"type": "object", "description": "A STAC item."}},
            },
        },
        "responses": {
            "200": {
                "description": "By the Accept header; a mask on exactly the grid of the raster.",
                "headers": {name: _header(text) for name, text in _IDENTITY.items()},
                "content": {
                    TIFF: {"schema": _BINARY},
                    PNG: {"schema": _BINARY},
                    NPY: {"schema": _BINARY},
                    GEOJSON: {"schema": {"type": "object"}},
                    JSON: {"schema": {"oneOf": [_PREDICTIONS, {"$ref": "#/components/schemas/Statistics"}]}},
                },
            },
            **_refusals(*_REFUSALS),
        },
    }


_PREDICTIONS: Final = {
    "type": "object",
    "required": ["predictions"],
    "properties": {"predictions": {"type": "array", "items": {"type": "array"}}},
    "additionalProperties": False,
}


def _infer(usecase: UseCase) -> dict[str, Any]:
    tensor = {
        "type": "object",
        "required": ["name", "shape", "datatype", "data"],
        "properties": {
            "name": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer"}},
            "datatype": {"enum": sorted(V2_DTYPES)},
            "data": {"type": "array"},
        },
    }
    body = {
        "type": "object",
        "required": ["inputs"],
        "properties": {"inputs": {"type": "array", "items": tensor, "minItems": 1, "maxItems": 1}},
    }
    return {
        "summary": "V2: one tensor in, mask or probabilities out",
        "description": f"The name of the use case's model is {usecase.name}.",
        "requestBody": {"required": True, "content": {JSON: {"schema": body}}},
        "responses": {
            "200": {
                "description": "The outputs that were asked for; `mask` unless told.",
                "content": {JSON: {"schema": {"type": "object", "required": ["model_name", "outputs"]}}},
            },
            **_refusals(*(status for status in _REFUSALS if status != "406")),
        },
    }


def _reload(name: str) -> dict[str, Any]:
    one = {"type": "string", "pattern": f"^models:/{name}/[0-9]{{1,9}}$"}
    body = {
        "oneOf": [
            {"type": "object", "properties": {"model": one}, "additionalProperties": False},
            {
                "type": "object",
                "required": ["rollback"],
                "properties": {"rollback": {"const": True}},
                "additionalProperties": False,
            },
        ]
    }
    return {
        "summary": "Put a version into service, the ledger's champion, or again the one before",
        "security": [{"deploy": []}],
        "requestBody": {"content": {JSON: {"schema": body}}},
        "responses": {
            "200": {"description": "It answers.", "content": {JSON: {"schema": {"type": "object"}}}},
            **_refusals("400", "401", "408", "413", "422", "500", "503"),
        },
    }


def _read(summary: str, *refusals: str, kind: str = JSON, schema: dict[str, Any] | None = None) -> dict[str, Any]:
    content = {kind: {"schema": schema or {"type": "object"}}}
    return {
        "summary": summary,
        "responses": {"200": {"description": summary, "content": content}, **_refusals(*refusals)},
    }


def _refusals(*statuses: str) -> dict[str, Any]:
    content = {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": _REFUSALS.get(status, "Something is wrong here."), "content": content}
        for status in statuses
    }


def _nested(depth: int) -> dict[str, Any]:
    if depth == 0:
        return {"type": "number"}
    return {"type": "array", "items": _nested(depth - 1), "minItems": 1}


def _query(name: str, schema: dict[str, Any], text: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": text}


def _header(text: str) -> dict[str, Any]:
    return {"description": text, "schema": {"type": "string"}}
