"""A step as a process: exit codes, one result, nothing after it (design 4.1)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from eo_data.step import write_atomically

PROGRAM = """
import argparse, atexit, os, pathlib, subprocess, sys, time
from eo_data import step
from eo_data.errors import DataRefused, GateRefused, TemporaryFailure, TerraloopError, UsageError

xcom = os.environ.get("XCOM")
if xcom:
    step.XCOM_FILE = pathlib.Path(xcom)
if not os.environ.get("QUIET"):
    print("a library greets at import")
atexit.register(lambda: (print("a library says goodbye"), os.write(1, b"and once more\\n")))

def work(arguments):
    print("a library prints")
    os.write(1, b"a C library prints\\n")
    subprocess.run([sys.executable, "-c", "print('a child prints')"], check=True)
    ends = {
        "usage": UsageError("wrong flag", where="--usecase", fix="Give another"),
        "data": DataRefused("no such band", where="scene.tif", fix="Bring it"),
        "gate": GateRefused("not better", result={"gate": "refused"}),
        "temporary": TemporaryFailure("no answer", where="s3://bucket", fix="Wait"),
        "ours": TerraloopError("a fault of ours"),
        "bug": ZeroDivisionError("a bug"),
    }
    if arguments.usecase == "wait":
        print("waiting", file=sys.stderr, flush=True)
        time.sleep(60)
    if arguments.usecase in ends:
        raise ends[arguments.usecase]
    if arguments.usecase == "follow":
        return None
    return {"usecase": arguments.usecase, "store": arguments.store, "name": "b\\udcffd \\u00fc"}

parser, steps = step.command_parser("tool", "A tool.")
step.add_step(steps, "work", "does it", work)
sys.exit(step.run_command(parser))
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def run(program: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if key != "TERRALOOP_STORE"}
    return subprocess.run(
        [sys.executable, str(program), *arguments],
        capture_output=True, text=True, errors="surrogateescape", check=False, env={**clean, **environment},
    )  # fmt: skip


def test_a_result_that_cannot_be_written_is_told_before_the_work(program: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "result.json", tmp_path, Path("/proc/none/result.json")):
        answer = run(program, "work", "--usecase", "wait", "--store", "/s", "--result", str(place))
        assert answer.returncode == 2
        assert "no result can be written to" in answer.stderr
        assert "waiting" not in answer.stderr


@pytest.mark.parametrize(("rank", "left"), [("0", False), ("1", True)])
def test_only_the_chief_of_several_processes_removes_an_earlier_result(
    program: Path, tmp_path: Path, rank: str, left: bool
) -> None:
    result = tmp_path / "result.json"
    result.write_text("{}")
    answer = run(program, "work", "--usecase", "follow", "--store", "/s", "--result", str(result), RANK=rank)
    assert answer.returncode == 0
    assert result.exists() == left


def test_the_result_is_the_file_and_the_last_line_of_stdout(program: Path, tmp_path: Path) -> None:
    result, xcom = tmp_path / "new" / "result.json", tmp_path / "xcom" / "return.json"
    xcom.parent.mkdir()
    answer = run(program, "work", "--usecase", "x", "--store", "/s", "--result", str(result), XCOM=str(xcom))
    assert answer.returncode == 0, answer.stderr
    *before, last = answer.stdout.splitlines()
    assert before == ["a library greets at import"]
    assert json.loads(last) == {"usecase": "x", "store": "/s", "name": "b\udcffd ü"}
    assert result.read_text() == xcom.read_text() == last + "\n"
    for said in ("a library prints", "a C library prints", "a child prints", "a library says goodbye", "and once more"):
        assert said in answer.stderr
    assert [path.name for path in result.parent.iterdir()] == ["result.json"]
    assert result.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [
        ("usage", 2, "tool work: error: --usecase: wrong flag. Give another\n"),
        ("data", 3, "tool work: error: scene.tif: no such band. Bring it\n"),
        ("temporary", 75, "tool work: error: s3://bucket: no answer. Wait\n"),
        ("ours", 1, "tool work: error: a fault of ours\n"),
        ("bug", 1, "ZeroDivisionError: a bug\n"),
    ],
)
def test_a_failure_has_its_code_one_message_and_no_result(
    program: Path, tmp_path: Path, how: str, code: int, said: str
) -> None:
    stale = tmp_path / "result.json"
    stale.write_text('{"usecase": "of an earlier run"}')
    answer = run(program, "work", "--usecase", how, "--store", "/s", "--result", str(stale))
    assert answer.returncode == code
    assert said in answer.stderr
    assert ("Traceback" in answer.stderr) == (how == "bug")
    assert not stale.exists()
    assert answer.stdout == "a library greets at import\n"


def test_a_refusal_by_the_gate_has_its_code_and_a_result(program: Path, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    answer = run(program, "work", "--usecase", "gate", "--store", "/s", "--result", str(result))
    assert answer.returncode == 4
    assert "not better" in answer.stderr
    assert json.loads(result.read_text()) == json.loads(answer.stdout.splitlines()[-1]) == {"gate": "refused"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "STEP"),
        (("fly",), "invalid choice: 'fly'"),
        (("work", "--store", "/s"), "--usecase"),
        (("work", "--usecase", "x", "--store", "/s", "--colour", "red"), "--colour"),
        (("work", "--usecase", "x"), "TERRALOOP_STORE"),
        (("work", "--usecase", "x", "--store", "/s", "--result", "/"), "--result"),
        (("work", "--usecase", "x", "--store", "/s", "--result", "/dev/null/result.json"), "--result"),
    ],
)
def test_a_wrong_call_ends_with_2_and_says_what(program: Path, arguments: tuple[str, ...], said: str) -> None:
    answer = run(program, *arguments)
    assert answer.returncode == 2
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr


def test_the_store_of_the_environment_stands_in(program: Path) -> None:
    answer = run(program, "work", "--usecase", "x", TERRALOOP_STORE="s3://bucket")
    assert json.loads(answer.stdout.splitlines()[-1])["store"] == "s3://bucket"


def test_a_result_that_nobody_reads_is_an_error_and_no_traceback(program: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    answer = subprocess.run(
        [sys.executable, str(program), "work", "--usecase", "x", "--store", "/s"],
        stdout=writer, stderr=subprocess.PIPE, text=True, check=False, env={**os.environ, "QUIET": "1"},
    )  # fmt: skip
    os.close(writer)
    assert answer.returncode == 1
    assert "the result cannot be written" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_ctrl_c_ends_a_step_without_a_result(program: Path, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    process = subprocess.Popen(
        [sys.executable, str(program), "work", "--usecase", "wait", "--store", "/s", "--result", str(result)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A shell that starts the tests in the background has SIGINT ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert process.stderr is not None
    assert any("waiting" in line for line in process.stderr)
    process.send_signal(signal.SIGINT)
    _, log = process.communicate()
    assert process.returncode == 130
    assert "interrupted" in log
    assert not result.exists()


def test_a_reader_of_the_result_never_sees_half_of_it(tmp_path: Path) -> None:
    path, whole = tmp_path / "result.json", {b"1" * 300_000, b"2" * 300_000}
    write_atomically(path, b"1" * 300_000)
    writer = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, pathlib; from eo_data.step import write_atomically\n"
            "for k in range(60): write_atomically(pathlib.Path(sys.argv[1]), (b'1', b'2')[k % 2] * 300_000)",
            str(path),
        ]
    )
    seen = set()
    while writer.poll() is None:
        seen.add(path.read_bytes())
        time.sleep(0.001)
    assert writer.returncode == 0
    assert seen
    assert seen <= whole
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]


def test_a_failed_write_leaves_neither_file_nor_remains(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    with pytest.raises(OSError, match="directory"):
        write_atomically(target, b"1")
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


HEAVY = {"torch", "great_expectations", "mlflow", "pandas", "matplotlib", "onnxruntime", "rasterio", "xarray", "pyproj"}
PROBE = """
import contextlib, json, sys
from eo_data.cli import main
with contextlib.redirect_stdout(sys.stderr):
    try:
        main(sys.argv[1:])
    except SystemExit as end:
        code = end.code
print(json.dumps([code, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


@pytest.mark.parametrize("step", ["", "simulate", "ingest", "validate", "chip"])
def test_help_answers_without_a_heavy_module(step: str) -> None:
    call = [sys.executable, "-c", PROBE, *([step] if step else []), "--help"]
    answer = subprocess.run(call, capture_output=True, text=True, check=True)
    code: Any
    code, modules = json.loads(answer.stdout)
    assert code == 0
    assert f"usage: eo-data{' ' + step if step else ''}" in answer.stderr
    assert HEAVY & set(modules) == set()


def test_a_process_whose_result_another_hands_over_writes_none(program: Path, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    command = [sys.executable, str(program), "work", "--usecase", "follow", "--store", "s", "--result", str(result)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "QUIET": "1"}, check=False)
    assert (done.returncode, done.stdout, result.exists()) == (0, "", False)
