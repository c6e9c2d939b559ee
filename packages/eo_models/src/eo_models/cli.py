"""The `eo-models` command: train, evaluate, promote, baseline."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

from eo_data.step import StepParser, add_step, command_parser, run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Run `eo-models` and return its exit code."""
    return run_command(_parser(), argv)


def _parser() -> StepParser:
    parser, steps = command_parser("eo-models", "Chips to an evaluated, gated and registered model version.")
    step = add_step(steps, "train", "train and register a candidate, and the index of its dataset", _train)
    step.add_argument("--dataset", required=True, metavar="URI", help="what `eo-data chip` made")
    step = add_step(steps, "evaluate", "score a version, the champion and the index on the same chips", _evaluate)
    step.add_argument("--model", required=True, metavar="URI", help="models:/NAME/VERSION")
    step.add_argument("--dataset", required=True, metavar="URI", help="what to score it on")
    step = add_step(steps, "promote", "let the gate judge an evaluation, and move the champion if it says so", _promote)
    step.add_argument("--evaluation", required=True, metavar="URI", help="what `eo-models evaluate` made")
    step = add_step(steps, "baseline", "score NDWI, MNDWI and the champion on one pair", _baseline, store=False)
    step.add_argument("--image", required=True, metavar="FILE", help="a GeoTIFF with the use case's bands")
    step.add_argument("--label", required=True, metavar="FILE", help="its label, on the same grid")
    step.add_argument(
        "--store",
        dest="ledger",  # unlike a step's, this store may be absent
        metavar="URI",
        default=os.environ.get("TERRALOOP_STORE"),
        help="store whose champion is scored as well (TERRALOOP_STORE)",
    )
    return parser


def _train(arguments: argparse.Namespace) -> dict[str, Any]:
    from eo_data.store import Store
    from eo_data.usecase import UseCase
    from eo_models.training import train

    return train(Store(arguments.store), UseCase.load(arguments.usecase), arguments.dataset)


def _evaluate(arguments: argparse.Namespace) -> dict[str, Any]:
    from eo_data.store import Store
    from eo_data.usecase import UseCase
    from eo_models.evaluation import evaluate

    return evaluate(Store(arguments.store), UseCase.load(arguments.usecase), arguments.model, arguments.dataset)


def _promote(arguments: argparse.Namespace) -> dict[str, Any]:
    from eo_data.store import Store
    from eo_data.usecase import UseCase
    from eo_models.promotion import promote

    return promote(Store(arguments.store), UseCase.load(arguments.usecase), arguments.evaluation)


def _baseline(arguments: argparse.Namespace) -> dict[str, Any]:
    from eo_data.store import Store
    from eo_data.usecase import UseCase
    from eo_models.baseline import baseline

    store = Store(arguments.ledger) if arguments.ledger else None
    return baseline(UseCase.load(arguments.usecase), arguments.image, arguments.label, store)
