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
    step.add_argument("--source", metavar="URI", help="folder, s3://BUCKET/PREFIX, or STAC API, catalog or item")
    step.add_argument(
        "--bbox", nargs=4, type=float, metavar=("W", "S", "E", "N"), help="only this area, degrees; STAC sources"
    )
    step.add_argument("--datetime", metavar="TIME", help="only this time or interval, as STAC writes it; STAC sources")
    step.add_argument("--collections", nargs="+", metavar="ID", help="only these collections; STAC sources")
    step.add_argument("--limit", type=int, metavar="N", help="the most scenes; STAC sources")
    step.add_argument(
        "--labels", metavar="URI", help="labels by scene id (a folder), a map, or polygons: for scenes that are there"
    )
    step = add_step(steps, "validate", "judge scenes by the use case's expectations", _validate)
    chosen = step.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--batch", metavar="URI", help="the scenes of one ingest")
    chosen.add_argument("--all", action="store_true", help="every scene of the store")
    chosen.add_argument("--ids", nargs="+", metavar="ID", help="these scenes")
    step.add_argument("--dask", metavar="ADDRESS", help="scheduler whose workers measure the scenes, or 'local'")
    step = add_step(steps, "chip", "cut accepted scenes into a dataset", _chip)
    chosen = step.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--verdicts", metavar="URI", help="every accepted scene, as of this newest batch's verdicts")
    chosen.add_argument("--all", action="store_true", help="every accepted scene; simulated only without others")
    chosen.add_argument("--ids", nargs="+", metavar="ID", help="these scenes")
    step.add_argument("--dask", metavar="ADDRESS", help="work on this Dask cluster, such as tcp://HOST:8786, or local")
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
    from eo_data.ingest import ingest
    from eo_data.ingest_labels import add_labels
    from eo_data.store import Store
    from eo_data.usecase import UseCase

    if arguments.source is None and arguments.labels is None:
        raise UsageError("nothing to ingest", where="--source", fix="Give --source URI, --labels URI, or both")
    store, usecase, brought = Store(arguments.store), UseCase.load(arguments.usecase), None
    if arguments.source is not None:
        brought = ingest(
            store,
            usecase,
            arguments.source,
            bbox=None if arguments.bbox is None else tuple(arguments.bbox),
            datetime=arguments.datetime,
            collections=arguments.collections or (),
            limit=arguments.limit,
        )
    return brought or {} if arguments.labels is None else add_labels(store, usecase, arguments.labels, brought)


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

    return chip(
        Store(arguments.store),
        UseCase.load(arguments.usecase),
        arguments.verdicts,
        ids=arguments.ids or (),
        dask=arguments.dask,
    )
