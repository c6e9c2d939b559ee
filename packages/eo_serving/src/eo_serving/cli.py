"""The `eo-serving` command: serve, deploy, predict, monitor."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eo_data.step import StepParser, add_step, command_parser, run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Run `eo-serving` and return its exit code."""
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)  # not a line for every request
    return run_command(_parser(), argv)


def _parser() -> StepParser:
    parser, steps = command_parser("eo-serving", "A model version to masks.")
    step = add_step(steps, "serve", "answer /invocations until a signal ends it", _serve)
    step.add_argument("--host", default="127.0.0.1", help="address of the front")
    step.add_argument("--port", type=int, default=5002, help="port of the front")
    step.add_argument(
        "--grpc-port", type=int, metavar="PORT", help="port of the V2 gRPC door; without it there is none"
    )
    step.add_argument("--backend-port", type=int, default=0, help="loopback port of MLServer; 0 takes a free one")
    step.add_argument("--state", required=True, metavar="DIR", type=Path, help="folder that this server may write")
    step.add_argument("--open", action="store_true", help="ask for no token; only on a loopback address")
    step.add_argument("--shadow", metavar="URI", help="a challenger that is asked too; how often it differs is counted")
    step = add_step(steps, "deploy", "put a version into service and verify that it answers", _deploy)
    step.add_argument("--endpoint", default="http://127.0.0.1:5002", metavar="URL", help="the front's address")
    step.add_argument("--model", metavar="URI", help="models:/NAME/VERSION; default is the ledger's champion")
    step = add_step(steps, "predict", "mask of a scene, in process or by an endpoint", _predict)
    step.add_argument("--scene", required=True, metavar="ID", help="a scene's id or URI, or a GeoTIFF")
    step.add_argument("--out", metavar="URI", help="folder to write; default is the store's predictions/")
    maker = step.add_mutually_exclusive_group()
    maker.add_argument("--model", metavar="URI", help="models:/NAME/VERSION; default is the ledger's champion")
    maker.add_argument("--endpoint", metavar="URL", help="have this endpoint make it of a GeoTIFF")
    step = add_step(
        steps, "monitor", "compare requests with what the champion was trained on; retrain or not", _monitor
    )
    step.add_argument(
        "--since", metavar="TIME", type=_time, help="nothing before is looked at, such as 2026-06-01T00:00Z"
    )
    return parser


def _time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is no time, such as 2026-06-01T00:00Z") from error
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _serve(arguments: argparse.Namespace) -> dict[str, Any]:
    from eo_data.store import Store
    from eo_data.usecase import UseCase
    from eo_serving.serving import serve

    return serve(
        UseCase.load(arguments.usecase),
        Store(arguments.store),
        host=arguments.host,
        port=arguments.port,
        backend_port=arguments.backend_port,
        state=arguments.state,
        anyone=arguments.open,
        grpc_port=arguments.grpc_port,
        shadow=arguments.shadow,
    )


def _deploy(arguments: argparse.Namespace) -> dict[str, Any]:
    from eo_data.store import Store
    from eo_data.usecase import UseCase
    from eo_serving.deploy import deploy

    return deploy(UseCase.load(arguments.usecase), Store(arguments.store), arguments.endpoint, arguments.model)


def _monitor(arguments: argparse.Namespace) -> dict[str, Any]:
    from eo_data.store import Store
    from eo_data.usecase import UseCase
    from eo_serving.monitoring import monitor

    return monitor(UseCase.load(arguments.usecase), Store(arguments.store), arguments.since)


def _predict(arguments: argparse.Namespace) -> dict[str, Any]:
    from eo_data.store import Store
    from eo_data.usecase import UseCase

    usecase, store = UseCase.load(arguments.usecase), Store(arguments.store)
    if arguments.endpoint is not None:
        from eo_serving.remote_prediction import predict_remotely

        return predict_remotely(usecase, store, arguments.scene, arguments.out, arguments.endpoint)
    from eo_serving.prediction import predict

    return predict(usecase, store, arguments.scene, arguments.out, arguments.model)
