"""The `eo-models` command: train, evaluate, promote, and what hands need beside the steps."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

from eo_data.step import StepParser, add_step, add_tool, command_parser, run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Run `eo-models` and return its exit code."""
    return run_command(_parser(), argv)


def _parser() -> StepParser:
    parser, steps = command_parser("eo-models", "Chips to an evaluated, gated and registered model version.")
    step = add_step(steps, "train", "train and register a candidate, and the index of its dataset", _train)
    step.add_argument("--dataset", required=True, metavar="URI", help="what `eo-data chip` made")
    step.add_argument(
        "--checkpoints",
        metavar="DIR",
        help="a folder that outlives this process; else TERRALOOP_CHECKPOINTS, else one in the user's cache",
    )
    step.add_argument(
        "--resume",
        action="store_true",
        help="go on from the checkpoint of a training of the same dataset, section and code that was killed, if any",
    )
    step = add_step(steps, "evaluate", "score a version, the champion and the index on the same chips", _evaluate)
    step.add_argument("--model", required=True, metavar="URI", help="models:/NAME/VERSION or models:/NAME@champion")
    step.add_argument("--dataset", required=True, metavar="URI", help="what to score it on")
    step.add_argument(
        "--fresh",
        action="store_true",
        help="score scenes outside the version's own dataset alone, in cells that it was not trained on",
    )
    step = add_step(steps, "promote", "let the gate judge an evaluation, and move the champion if it says so", _promote)
    step.add_argument("--evaluation", required=True, metavar="URI", help="what `eo-models evaluate` made")
    step.add_argument("--approved-by", metavar="NAME", help="who approves, where `gate.approval` asks for a person")
    step = add_step(steps, "rollback", "make an earlier champion champion again", _rollback)
    step.add_argument("--to", type=int, metavar="VERSION", help="a version that was champion; else the previous one")
    step.add_argument("--reason", required=True, metavar="TEXT", help="why, for the ledger")
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
    step = add_step(steps, "tune", "search the space of the `tune` section by validation; registers nothing", _tune)
    step.add_argument("--dataset", required=True, metavar="URI", help="what `eo-data chip` made")
    step.add_argument("--trials", type=int, metavar="N", help="how many in all; else what the section says")
    step.add_argument("--timeout", type=float, metavar="SECONDS", help="after which no further trial begins")
    step.add_argument(
        "--study", metavar="NAME", help="made of dataset, space, metric and code unless told; goes on by name"
    )
    step.add_argument(
        "--storage", metavar="URL", help="database of the study; else tuning.db beside the tracking database or store"
    )
    tool = add_tool(steps, "export", "write a version with its evidence into a folder", _export)
    tool.add_argument("--model", required=True, metavar="URI", help="models:/NAME/VERSION or models:/NAME@champion")
    tool.add_argument("--out", required=True, metavar="FOLDER", help="a new folder")
    tool = add_tool(steps, "import", "register an exported version in this store and registry", _import)
    tool.add_argument("--from", dest="source", required=True, metavar="FOLDER", help="what `export` wrote")
    tool = add_tool(
        steps, "trace", "walk from a mask, version, dataset or scene to all that it hangs together with", _trace
    )
    tool.add_argument(
        "subject", metavar="SUBJECT", help="a mask's path, models:/NAME/N, a dataset's digest, a scene's id"
    )
    tool = add_tool(
        steps, "select-best", "rank an experiment's finished runs on one dataset", _select_best, store=False
    )
    tool.add_argument("--experiment", required=True, metavar="NAME", help="the MLflow experiment")
    tool.add_argument(
        "--usecase", metavar="NAME", help="whose `gate.metric` ranks; the one of the experiment's name unless told"
    )
    tool.add_argument("--dataset", metavar="DIGEST", help="whose runs; that of the newest finished run unless told")
    add_tool(steps, "send-runs", "send the runs that were kept while MLflow did not answer", _send_runs, store=False)
    return parser


def _train(arguments: argparse.Namespace) -> dict[str, Any] | None:
    from eo_data.store import Store
    from eo_data.usecase import UseCase
    from eo_models.shared_training import train_together

    _let_threads_wait()
    store, usecase = Store(arguments.store), UseCase.load(arguments.usecase)
    return train_together(store, usecase, arguments.dataset, checkpoints=arguments.checkpoints, resume=arguments.resume)


def _let_threads_wait() -> None:
    """Threads that wait do not spin: on shared cores spinning threads hold up those that work.

    OpenMP reads the variable once, as torch is loaded: here it is not yet, for configuration is checked first.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _evaluate(arguments: argparse.Namespace) -> dict[str, Any]:
    from eo_data.store import Store
    from eo_data.usecase import UseCase
    from eo_models.evaluation import evaluate
    from eo_models.fresh import evaluate_fresh

    chosen = evaluate_fresh if arguments.fresh else evaluate
    return chosen(Store(arguments.store), UseCase.load(arguments.usecase), arguments.model, arguments.dataset)


def _promote(arguments: argparse.Namespace) -> dict[str, Any]:
    from eo_data.store import Store
    from eo_data.usecase import UseCase
    from eo_models.promotion import promote

    store, usecase = Store(arguments.store), UseCase.load(arguments.usecase)
    return promote(store, usecase, arguments.evaluation, approved_by=arguments.approved_by)


def _trace(arguments: argparse.Namespace) -> dict[str, Any]:
    from eo_data.store import Store
    from eo_models.lineage import trace

    return trace(Store(arguments.store), arguments.subject)


def _rollback(arguments: argparse.Namespace) -> dict[str, Any]:
    from eo_data.store import Store
    from eo_data.usecase import UseCase
    from eo_models.rollback import rollback

    return rollback(Store(arguments.store), UseCase.load(arguments.usecase), arguments.reason, arguments.to)


def _export(arguments: argparse.Namespace) -> dict[str, Any]:
    from eo_data.store import Store
    from eo_models.transfer import export_version

    return export_version(Store(arguments.store), arguments.model, arguments.out)


def _import(arguments: argparse.Namespace) -> dict[str, Any]:
    from eo_data.store import Store
    from eo_models.transfer import import_version

    return import_version(Store(arguments.store), arguments.source)


def _select_best(arguments: argparse.Namespace) -> dict[str, Any]:
    from eo_data.usecase import UseCase
    from eo_models.selection import select_best

    usecase = UseCase.load(arguments.usecase or arguments.experiment)
    return select_best(usecase, arguments.experiment, arguments.dataset)


def _send_runs(arguments: argparse.Namespace) -> dict[str, Any]:
    from eo_models.kept_runs import send_kept_runs

    return send_kept_runs()


def _tune(arguments: argparse.Namespace) -> dict[str, Any]:
    from eo_data.store import Store
    from eo_data.usecase import UseCase
    from eo_models.tune import tune

    _let_threads_wait()
    return tune(
        Store(arguments.store),
        UseCase.load(arguments.usecase),
        arguments.dataset,
        trials=arguments.trials,
        timeout=arguments.timeout,
        name=arguments.study,
        storage=arguments.storage,
    )


def _baseline(arguments: argparse.Namespace) -> dict[str, Any]:
    from eo_data.store import Store
    from eo_data.usecase import UseCase
    from eo_models.baseline import baseline

    store = Store(arguments.ledger) if arguments.ledger else None
    return baseline(UseCase.load(arguments.usecase), arguments.image, arguments.label, store)
