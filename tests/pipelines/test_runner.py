"""The runner, with real child processes."""

from __future__ import annotations

import json
import os
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines import processes
from pipelines.interruption import Interrupted, interruptible
from pipelines.runner import Runner, StepFailed, StepMisused, StepOutOfReach, StepRefusedData, last_words
from pipelines.steps import Step

STEP = Step("work", "command", "train")
PATIENCE = 30.0

MakeRunner = Callable[..., Runner]


@pytest.fixture
def runner(tmp_path: Path) -> MakeRunner:
    """A runner whose one command runs the given Python code; `RESULT` is the path of its result file."""

    def make(code: str, **more: object) -> Runner:
        command = tmp_path / "bin" / "command"
        command.parent.mkdir(exist_ok=True)
        head = f"#!{sys.executable} -ES\nimport json, os, signal, subprocess, sys, time\nfrom pathlib import Path\n"
        head += "RESULT = Path(sys.argv[sys.argv.index('--result') + 1])\n"
        command.write_text(head + textwrap.dedent(code), encoding="utf-8")
        command.chmod(0o755)
        return Runner({"train": command.parent}, tmp_path / "logs", **more)  # type: ignore[arg-type]

    return make


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    return processes.start_time(pid) is None


def test_the_result_comes_from_the_file_whatever_else_is_said(runner: MakeRunner) -> None:
    outcome = runner(
        """
        print('{"from": "stdout"}')
        RESULT.write_text(json.dumps({"from": "file"}))
        print('{"from": "stdout, later"}', flush=True)
        print("Exception ignored in: <garbage>", file=sys.stderr)
        """
    ).run(STEP, ["work"])
    assert (outcome.result, outcome.refused) == ({"from": "file"}, False)
    assert outcome.seconds > 0


def test_warnings_at_exit_do_not_spoil_the_result(runner: MakeRunner) -> None:
    outcome = runner(
        """
        import atexit, warnings
        atexit.register(warnings.warn, "a semaphore leaked")
        RESULT.write_text('{"done": true}')
        """
    ).run(STEP, ["work"])
    assert outcome.result == {"done": True}


def test_arguments_and_variables_reach_the_step(runner: MakeRunner) -> None:
    made = runner(
        "RESULT.write_text(json.dumps({'argv': sys.argv[1:-2], 'store': os.environ['TERRALOOP_STORE']}))",
        variables={"TERRALOOP_STORE": "file:///s"},
    )
    outcome = made.run(STEP, ["work", "--usecase", "a b"])
    assert outcome.result == {"argv": ["work", "--usecase", "a b"], "store": "file:///s"}


def test_what_a_step_says_is_shown_and_kept(runner: MakeRunner, capsys: pytest.CaptureFixture[str]) -> None:
    made = runner(
        """
        sys.stderr.buffer.write("50 %\\r100 % \N{WATER WAVE}\\n".encode())
        print("on stdout")
        RESULT.write_text("{}")
        """
    )
    made.run(STEP, ["work"])
    assert "50 %\r100 % \N{WATER WAVE}\n" in capsys.readouterr().err
    log = (made.folder / "work.log").read_bytes().decode()
    assert "100 % \N{WATER WAVE}\n" in log
    assert "on stdout\n" in log


def test_progress_is_shown_while_the_step_runs(runner: MakeRunner, tmp_path: Path) -> None:
    made = runner(
        f"""
        print("half way", file=sys.stderr, flush=True)
        while not Path({str(tmp_path / "seen")!r}).exists():
            time.sleep(0.01)
        RESULT.write_text("{{}}")
        """,
        watch=lambda: (
            (tmp_path / "seen").touch() if b"half way" in (tmp_path / "logs" / "work.log").read_bytes() else None
        ),
    )
    assert made.run(STEP, ["work"]).result == {}  # it ends only if its words were seen before its end


@pytest.mark.parametrize(
    ("code", "kind", "exit_code"),
    [(2, StepMisused, 2), (3, StepRefusedData, 3), (1, StepFailed, 1), (42, StepFailed, 1)],
)
def test_exit_codes_become_errors_with_the_last_words(
    runner: MakeRunner, code: int, kind: type[StepFailed], exit_code: int
) -> None:
    made = runner(f"print('scene a: no CRS', file=sys.stderr); sys.exit({code})")
    with pytest.raises(StepFailed) as failure:
        made.run(STEP, ["work"])
    assert type(failure.value) is kind
    assert failure.value.exit_code == exit_code
    assert f"exit code {code}" in str(failure.value)
    assert "scene a: no CRS" in str(failure.value)
    assert str(made.folder / "work.log") in str(failure.value)


def test_a_refusal_by_the_gate_has_a_result(runner: MakeRunner) -> None:
    outcome = runner("""RESULT.write_text('{"gate": {"verdict": "refused"}}'); sys.exit(4)""").run(STEP, ["work"])
    assert (outcome.refused, outcome.result["gate"]) == (True, {"verdict": "refused"})


def test_a_refusal_without_a_result_is_a_failure(runner: MakeRunner) -> None:
    with pytest.raises(StepFailed, match="left no result"):
        runner("sys.exit(4)").run(STEP, ["work"])


@pytest.mark.parametrize("text", ["", "not json", "[1, 2]"])
def test_a_result_that_is_no_object_is_a_failure(runner: MakeRunner, text: str) -> None:
    with pytest.raises(StepFailed, match="left no result"):
        runner(f"RESULT.write_text({text!r})").run(STEP, ["work"])


def test_an_earlier_result_does_not_pass_for_this_one(runner: MakeRunner) -> None:
    runner("RESULT.write_text('{}')").run(STEP, ["work"])
    with pytest.raises(StepFailed, match="left no result"):
        runner("pass").run(STEP, ["work"])


def test_a_killed_step_says_so(runner: MakeRunner) -> None:
    with pytest.raises(StepFailed, match="ended by signal 9"):
        runner("RESULT.write_text('{}'); os.kill(os.getpid(), signal.SIGKILL)").run(STEP, ["work"])


def test_a_missing_command_says_which(runner: MakeRunner, tmp_path: Path) -> None:
    made = Runner({"train": tmp_path / "nowhere"}, tmp_path / "logs")
    with pytest.raises(StepFailed, match="nowhere/command: No such file"):
        made.run(STEP, ["work"])


def test_a_temporary_failure_is_tried_again(runner: MakeRunner, tmp_path: Path) -> None:
    made = runner(
        f"""
        count = Path({str(tmp_path / "count")!r})
        tries = int(count.read_text()) if count.exists() else 0
        count.write_text(str(tries + 1))
        if tries < 2:
            sys.exit(75)
        RESULT.write_text(json.dumps({{"tries": tries + 1}}))
        """,
        pauses=(0.01, 0.01, 0.01),
    )
    assert made.run(STEP, ["work"]).result == {"tries": 3}


def test_a_lasting_temporary_failure_is_given_up(runner: MakeRunner, tmp_path: Path) -> None:
    made = runner(
        f"""
        with open({str(tmp_path / "tries")!r}, "a") as tries:
            tries.write("x")
        print("the registry does not answer", file=sys.stderr)
        sys.exit(75)
        """,
        pauses=(0.01, 0.01),
    )
    with pytest.raises(StepOutOfReach, match="registry does not answer") as failure:
        made.run(STEP, ["work"])
    assert failure.value.exit_code == 75
    assert (tmp_path / "tries").read_text() == "xxx"


def test_other_failures_are_not_tried_again(runner: MakeRunner, tmp_path: Path) -> None:
    made = runner(f"open({str(tmp_path / 'tries')!r}, 'a').write('x'); sys.exit(3)", pauses=(0.01,))
    with pytest.raises(StepRefusedData):
        made.run(STEP, ["work"])
    assert (tmp_path / "tries").read_text() == "x"


def test_what_a_step_leaves_running_is_ended(runner: MakeRunner) -> None:
    outcome = runner(
        """
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        RESULT.write_text(json.dumps({"child": child.pid}))
        """
    ).run(STEP, ["work"])
    wait_until(lambda: gone(outcome.result["child"]))


SLOW = """
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
signal.signal(signal.SIGTERM, signal.SIG_DFL)
PIDS.write_text(json.dumps([os.getpid(), child.pid]))
time.sleep(600)
"""


def slow(tmp_path: Path) -> str:
    return f"PIDS = Path({str(tmp_path / 'pids')!r})\n" + SLOW


def pids(tmp_path: Path) -> list[int]:
    try:
        return list(json.loads((tmp_path / "pids").read_text()))
    except (FileNotFoundError, ValueError):
        return []


def test_what_watch_raises_ends_the_step_and_its_children(runner: MakeRunner, tmp_path: Path) -> None:
    class ServiceGone(Exception):
        pass

    def watch() -> None:
        if pids(tmp_path):
            raise ServiceGone

    with pytest.raises(ServiceGone):
        runner(slow(tmp_path), watch=watch).run(STEP, ["work"])
    wait_until(lambda: all(gone(pid) for pid in pids(tmp_path)))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_step_and_its_children(runner: MakeRunner, tmp_path: Path, number: signal.Signals) -> None:
    def send() -> None:
        wait_until(lambda: bool(pids(tmp_path)))
        os.kill(os.getpid(), number)

    sender = threading.Thread(target=send)
    sender.start()
    with pytest.raises(Interrupted) as interruption, interruptible():
        runner(slow(tmp_path)).run(STEP, ["work"])
    sender.join()
    assert interruption.value.exit_code == 128 + number
    wait_until(lambda: all(gone(pid) for pid in pids(tmp_path)))


def test_a_step_is_told_of_when_it_starts(runner: MakeRunner) -> None:
    seen: list[processes.Identity] = []
    outcome = runner("RESULT.write_text(json.dumps({'pid': os.getpid()}))", on_start=seen.append).run(STEP, ["work"])
    assert [identity.pid for identity in seen] == [outcome.result["pid"]]


def test_last_words_pass_over_progress_bars(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_bytes(b"$ command\nerror: no water\n\nepoch 1:  10%\repoch 1: 100%\r\n")
    assert last_words(log) == "error: no water"
    log.write_bytes(b"$ command\n")
    assert last_words(log) == "it said nothing"
