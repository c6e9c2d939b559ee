"""The `eo-data` command: simulate, ingest, validate, chip."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from eo_data.errors import UsageError
from eo_data.step import StepParser, add_step, command_parser, run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Run `eo-data` and return its exit code."""
    return run_command(_parser(), argv)


def _parser() -> StepParser:
    parser, steps = command_parser("eo-data", "Satellite scenes to validated chips.")
    step = add_step(steps, "simulate", "write simulated scenes to a folder that ingest reads", _simulate, store=False)
    step.add_argument("--out", required=True, metavar="DIR", help="folder to write")
    step.add_argument("--scenes", type=int, metavar="N", help="how many scenes; 192 of 128 pixels unless told")
    step.add_argument("--size", type=int, metavar="PIXELS", help="height and width of a scene")
    step.add_argument("--seed", type=int, default=0, help="equal seeds give equal scenes")
    step = add_step(steps, "ingest", "bring scenes and labels of a source into the store", _ingest)
    step.add_argument("--source", metavar="URI", help="folder of image and label GeoTIFFs")
    step.add_argument("--labels", metavar="URI", help="labels for scenes that are there")
    step = add_step(steps, "validate", "judge scenes by the use case's expectations", _validate)
    chosen = step.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--batch", metavar="URI", help="the scenes of one ingest")
    chosen.add_argument("--all", action="store_true", help="every scene of the store")
    chosen.add_argument("--ids", nargs="+", metavar="ID", help="these scenes")
    step.add_argument("--dask", metavar="ADDRESS", help="scheduler whose workers measure the scenes, or 'local'")
    step = add_step(steps, "chip", "cut accepted scenes into a dataset", _chip)
    step.add_argument("--verdicts", required=True, metavar="URI", help="verdicts of the newest batch")
    return parser


def _simulate(arguments: argparse.Namespace) -> dict[str, Any]:
    from tqdm import tqdm

    from eo_data.simulate import DEFAULT_SCENES, DEFAULT_SIZE, write_scenes
    from eo_data.store import local_path
    from eo_data.usecase import UseCase

    usecase = UseCase.load(arguments.usecase)
    if usecase.data.simulator is None:
        raise UsageError(
            f"there are no simulated scenes for use case '{usecase.name}'",
            where="data.simulator",
            fix="Bring scenes of your own with --scenes (or eo-data ingest --source)",
        )
    out = local_path(arguments.out)
    scenes = DEFAULT_SCENES if arguments.scenes is None else arguments.scenes
    size = DEFAULT_SIZE if arguments.size is None else arguments.size
    with tqdm(total=scenes, desc="simulate", unit="scene", mininterval=1.0) as bar:

        def show(done: int, wanted: int) -> None:
            bar.update(done - bar.n)

        ids = write_scenes(out, scenes=scenes, size=size, seed=arguments.seed, progress=show)
    return {"source": out.as_uri(), "scenes": ids}


def _ingest(arguments: argparse.Namespace) -> dict[str, Any]:
    from eo_data.ingest import ingest, require_source
    from eo_data.store import Store
    from eo_data.usecase import UseCase

    source = require_source(arguments.source, arguments.labels)
    return ingest(Store(arguments.store), UseCase.load(arguments.usecase), source)


def _validate(arguments: argparse.Namespace) -> dict[str, Any]:
    from eo_data.store import Store
    from eo_data.usecase import UseCase
    from eo_data.validate import validate

    return validate(
        Store(arguments.store),
        UseCase.load(arguments.usecase),
        batch=arguments.batch,
        ids=arguments.ids or (),
        dask=arguments.dask,
    )


def _chip(arguments: argparse.Namespace) -> dict[str, Any]:
    from eo_data.chips import chip
    from eo_data.store import Store
    from eo_data.usecase import UseCase

    return chip(Store(arguments.store), UseCase.load(arguments.usecase), arguments.verdicts)
