"""A step is a command (design 4.1): flags in, one JSON object out, logs to stderr, exit codes by class of error.

The result is written atomically to `--result FILE`, to `/airflow/xcom/return.json` where that folder exists,
and as the last line of stdout. Libraries that print to stdout cannot spoil it: while a step runs, file
descriptor 1 points to stderr, and it stays so, hence nothing can follow the result.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from eo_data.allocation import keep_freed_memory
from eo_data.errors import GateRefused, TerraloopError, UsageError, exit_code

XCOM_FILE = Path("/airflow/xcom/return.json")
"""Where Airflow's pod sidecar reads a result."""

Handler = Callable[[argparse.Namespace], dict[str, Any] | None]
"""Gives the step's result; None where another process of the same step hands it over."""


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, except where there is none."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, False) else super()._get_help_string(action)


class StepParser(argparse.ArgumentParser):
    """An argument parser whose usage errors end with 2 and one clear message."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", _Help)
        super().__init__(*args, **kwargs)


def command_parser(prog: str, description: str) -> tuple[StepParser, argparse._SubParsersAction[StepParser]]:
    """The parser of one package's command and the place where its steps are added."""
    parser = StepParser(prog=prog, description=description)
    return parser, parser.add_subparsers(dest="step", required=True, metavar="STEP", parser_class=StepParser)


def add_step(
    steps: argparse._SubParsersAction[StepParser], name: str, summary: str, handler: Handler, *, store: bool = True
) -> StepParser:
    """Add a step with the flags that every step takes, and return its parser for the flags of its own."""
    parser = add_tool(steps, name, summary, handler, store=store)
    parser.add_argument(
        "--usecase", required=True, metavar="NAME", help="name of a use case (usecases/NAME) or path of its file"
    )
    return parser


def add_tool(
    steps: argparse._SubParsersAction[StepParser], name: str, summary: str, handler: Handler, *, store: bool = True
) -> StepParser:
    """Add a command that needs no use case, or finds it itself; as `add_step` otherwise."""
    parser = steps.add_parser(name, help=summary, description=summary)
    parser.set_defaults(handler=handler)
    if store:
        parser.add_argument(
            "--store",
            metavar="URI",
            default=os.environ.get("TERRALOOP_STORE"),
            help="root of the store; a plain path is taken as file:// (TERRALOOP_STORE)",
        )
    parser.add_argument("--result", metavar="FILE", type=Path, help="write the result, one JSON object, to this file")
    return parser


def run_command(parser: StepParser, argv: Sequence[str] | None = None) -> int:
    """Run the step that the arguments name and return its exit code.

    Anything that is not a `TerraloopError` is logged with its traceback and gives 1.
    """
    arguments = parser.parse_args(argv)
    keep_freed_memory()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    for chatty in ("botocore", "rasterio", "distributed"):  # each of their lines is about themselves
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.getLogger("odc").setLevel(logging.CRITICAL)  # it tells failures with signed addresses; our errors follow
    stdout = _stdout_to_stderr()
    result: dict[str, Any] | None
    try:
        _forget(arguments.result)
        if getattr(arguments, "store", "unused") is None:
            raise UsageError("no store is named", where="--store", fix="Give --store URI or set TERRALOOP_STORE")
        result, code = arguments.handler(arguments), 0
    except GateRefused as refusal:
        print(f"{parser.prog} {arguments.step}: {refusal}", file=sys.stderr)
        result, code = refusal.result, exit_code(refusal)
    except TerraloopError as error:
        print(f"{parser.prog} {arguments.step}: error: {error}", file=sys.stderr)
        if error.result is None:
            return exit_code(error)
        result, code = error.result, exit_code(error)
    except KeyboardInterrupt:
        print(f"{parser.prog} {arguments.step}: interrupted", file=sys.stderr)
        return 130
    except Exception:
        logging.getLogger(parser.prog).exception("unexpected failure in step %s", arguments.step)
        return 1
    if result is None:
        return code
    try:
        _hand_over(result, arguments.result, stdout)
    except OSError as error:
        print(f"{parser.prog} {arguments.step}: error: the result cannot be written: {error}", file=sys.stderr)
        return 1
    return code


def _forget(result_file: Path | None) -> None:
    """Remove the result of an earlier run, which must not pass for this one's, and see that one can be written.

    Of several processes of torchrun the chief alone: another may start again when the chief's result is there.
    """
    if result_file is None or os.environ.get("RANK", "0") != "0":
        return
    try:
        result_file.parent.mkdir(parents=True, exist_ok=True)
        result_file.unlink(missing_ok=True)
        with tempfile.TemporaryFile(dir=result_file.parent):
            pass
    except OSError as error:
        raise UsageError(
            f"no result can be written to {result_file} ({error.strerror})", where="--result", fix="Name another file"
        ) from error


def _hand_over(result: dict[str, Any], result_file: Path | None, stdout: int) -> None:
    """Write a step's result to where it is looked for; to stdout last."""
    # Names of files that are no UTF-8 hold lone surrogates: as \\udcff they are JSON and can be written.
    line = json.dumps(result, ensure_ascii=False, allow_nan=False).encode(errors="backslashreplace") + b"\n"
    if result_file is not None:
        write_atomically(result_file, line)
    if XCOM_FILE.parent.is_dir():
        write_atomically(XCOM_FILE, line)
    with os.fdopen(stdout, "wb") as stream:
        stream.write(line)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file that is either whole or absent: temporary file in the same folder, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
            os.fchmod(stream.fileno(), 0o644)  # others may read a result; mkstemp makes it private
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _stdout_to_stderr() -> int:
    """Point file descriptor 1 to stderr and return a descriptor of the real stdout."""
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    return stdout
