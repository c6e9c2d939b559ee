"""A stack from start to end: what runs, what is said, and that nothing stays behind."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from infra.embedded import ports
from pipelines import processes
from pipelines.processes import Identity

if TYPE_CHECKING:
    from tests.infra.conftest import Repository

Patiently = Callable[[Callable[[], object]], None]

pytestmark = pytest.mark.skipif(not processes.PROC.is_dir(), reason="looks at /proc")


def none_runs(identities: list[Identity]) -> bool:
    return not any(process.alive() for process in identities)


def test_it_serves_until_ctrl_c_and_leaves_nothing(repository: Repository, patiently: Patiently) -> None:
    stack = repository.start("--port-base", repository.base(), "--report", "report.json")
    patiently(repository.answers)
    patiently((repository.folder / "report.json").exists)
    everything = repository.everything()
    assert stack.stderr is not None
    while "Serving. Ctrl-C ends it." not in stack.stderr.readline():
        assert stack.poll() is None
    stack.send_signal(signal.SIGINT)
    table, said = stack.communicate()
    assert stack.returncode == 0, said
    assert none_runs(everything)
    assert repository.run() is None
    assert not ports.in_use(repository.ports.mlflow)
    door = f"http://127.0.0.1:{repository.ports.endpoint}"
    assert f"'{door}/invocations?scale=0.0001&offset=-0.1' -o mask.tif" in table
    assert f"http://127.0.0.1:{repository.ports.mlflow}" in table
    assert json.loads((repository.folder / "report.json").read_text())["endpoint"] == f"{door}/invocations"


def test_steps_and_services_find_each_other(repository: Repository) -> None:
    code, _, said = repository.call("--detach", "--port-base", repository.base())
    assert code == 0, said
    told = json.loads((repository.project() / "logs" / "deploy.called").read_text())
    variables = told["variables"]
    assert variables["MLFLOW_TRACKING_URI"] == f"http://127.0.0.1:{repository.ports.mlflow}"
    assert "127.0.0.1" in variables["NO_PROXY"].split(",")
    secret = repository.project() / "deploy-token"
    assert variables["TERRALOOP_DEPLOY_TOKEN"] == secret.read_text().strip()
    assert len(variables["TERRALOOP_DEPLOY_TOKEN"]) >= 32
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert told["argv"][-4:-2] == ["--endpoint", f"http://127.0.0.1:{repository.ports.endpoint}"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_main_job_leaves_nothing(
    repository: Repository, patiently: Patiently, number: signal.Signals
) -> None:
    stack = repository.start("--port-base", repository.base(), FAKE_TRAIN="slow")
    patiently(lambda: (run := repository.run()) and len(run.processes()) >= 6)  # the step and its child too
    everything = repository.everything()
    stack.send_signal(number)
    _, said = stack.communicate()
    assert stack.returncode == 128 + number
    assert "nothing is left running" in said
    assert none_runs(everything)
    assert not (repository.project() / "deploy-token").exists()


def test_impatience_does_not_stop_cleaning_up(repository: Repository, patiently: Patiently) -> None:
    stack = repository.start("--port-base", repository.base(), FAKE_TRAIN="slow", FAKE_SERVING="stubborn")
    patiently(lambda: (run := repository.run()) and len(run.processes()) >= 6)
    everything = repository.everything()

    def ended_by(*numbers: signal.Signals) -> bool:
        for number in numbers:
            stack.send_signal(number)
        return stack.poll() is not None

    patiently(lambda: ended_by(signal.SIGINT, signal.SIGTERM))
    stack.communicate()
    assert none_runs(everything)


def test_a_parent_that_is_killed_takes_the_stack_along(repository: Repository, patiently: Patiently) -> None:
    nox = (
        "import os, subprocess, sys; os.environ['TERRALOOP_PARENT'] = str(os.getpid());"
        "subprocess.run([sys.executable, '-m', 'infra.embedded', *sys.argv[1:]], stderr=subprocess.DEVNULL)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", nox, "--no-airflow", "--port-base", repository.base()],
        cwd=repository.folder,
        stdout=subprocess.DEVNULL,
    )
    patiently(repository.answers)
    everything = repository.everything()
    run = repository.run()
    assert run is not None
    assert run.supervisor is not None
    parent.kill()
    parent.wait()
    patiently(lambda: none_runs([*everything, run.supervisor]))  # type: ignore[list-item]
    assert repository.run() is None


@pytest.mark.parametrize("service", ["mlflow", "serving"])
def test_a_service_that_dies_is_named_and_the_rest_goes(
    repository: Repository, patiently: Patiently, service: str
) -> None:
    stack = repository.start("--port-base", repository.base(), FAKE_TRAIN="slow", **{f"FAKE_{service.upper()}": "die"})
    patiently(lambda: repository.run() is not None)
    run = repository.run()
    _, said = stack.communicate(timeout=90)
    assert stack.returncode == 1
    assert f"stack: {service} ended with exit code 7" in said
    assert f"  {service} | these were my last words" in said
    assert "Traceback" not in said
    assert run is not None
    assert processes.marked(run.mark) == []


def test_a_service_that_never_comes_up_is_named(repository: Repository) -> None:
    code, _, said = repository.call("--port-base", repository.base(), FAKE_MLFLOW="silent")
    assert code == 1
    assert "mlflow ended with exit code 3" in said
    assert "no port for me" in said
    assert repository.run() is None


def test_a_failing_step_ends_the_stack_with_its_exit_code(repository: Repository) -> None:
    code, _, said = repository.call("--port-base", repository.base(), FAKE_VALIDATE="exit:3")
    assert code == 3
    assert "stack: validate refused the data (exit code 3): fake validate: error: this is why" in said
    assert repository.run() is None
    assert not repository.answers()


def test_serve_candidate(repository: Repository) -> None:
    code, table, said = repository.call(
        "--detach", "--serve", "candidate", "--port-base", repository.base(), FAKE_GATE="refused"
    )
    assert code == 0, said
    told = json.loads((repository.project() / "logs" / "deploy.called").read_text())
    assert told["argv"][-4:-2] == ["--model", "models:/water/2"]
    assert "refused" in table


def test_detach_leaves_daemons_and_down_finds_them(repository: Repository) -> None:
    code, _, said = repository.call("--detach", "--port-base", repository.base())
    assert code == 0, said
    assert repository.answers()
    everything = repository.everything()
    assert all(os.getsid(process.pid) != os.getsid(0) for process in everything)
    code, told, _ = repository.call("--down")
    assert (code, told) == (0, "The stack of project terraloop has ended.\n")
    assert none_runs(everything)
    assert not repository.answers()
    assert (repository.project() / "logs" / "train.log").exists()  # the data stay
    assert not (repository.project() / "deploy-token").exists()
    assert repository.call("--down")[:2] == (0, "No stack is running.\n")


def test_detached_services_keep_their_environments(repository: Repository) -> None:
    assert repository.call("--detach", "--port-base", repository.base())[0] == 0
    for name, used in (("train", False), ("serve", True), ("mlflow", True)):
        with (repository.folder / ".nox" / f".{name}.lock").open() as handle:
            if used:
                with pytest.raises(BlockingIOError):
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            else:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert repository.call("--down")[0] == 0
    with (repository.folder / ".nox" / ".serve.lock").open() as handle:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_down_ends_a_stack_in_another_terminal(repository: Repository, patiently: Patiently) -> None:
    stack = repository.start("--port-base", repository.base(), FAKE_TRAIN="slow")
    patiently(lambda: (run := repository.run()) and len(run.processes()) >= 6)
    everything = repository.everything()
    assert repository.call("--down")[0] == 0
    stack.communicate()
    assert none_runs(everything)


def test_down_finds_what_a_killed_supervisor_left(repository: Repository, patiently: Patiently) -> None:
    stack = repository.start("--port-base", repository.base(), FAKE_SERVING="stubborn")
    patiently(repository.answers)
    everything = repository.everything()
    stack.kill()
    stack.communicate()
    assert not none_runs(everything)
    assert repository.call("--down")[0] == 0
    assert none_runs(everything)


def test_down_touches_no_process_with_a_recycled_id(repository: Repository) -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    repository.started.append(bystander)  # type: ignore[arg-type]
    folder = repository.project()
    folder.mkdir(parents=True)
    other = {"pid": bystander.pid, "started": "long ago"}
    told = {"project": "terraloop", "mark": "m", "supervisor": other, "services": {"mlflow": other}, "step": other}
    (folder / "run.json").write_text(json.dumps({**told, "urls": {}}))
    assert repository.call("--down", "--purge")[0] == 0
    assert bystander.poll() is None
    assert not folder.exists()


def test_two_stacks_beside_each_other(repository: Repository) -> None:
    first = repository.base()
    assert repository.call("--detach", "--port-base", first)[0] == 0
    busy = repository.call("--detach", "--port-base", first, "--project", "second")
    assert busy[0] == 2
    assert f"port {first} for MLflow is in use by process" in busy[2]
    again = repository.call("--detach")
    assert again[0] == 2
    assert "a stack of project terraloop is running already" in again[2]
    repository.ports = ports.free()
    code, _, said = repository.call("--detach", "--port-base", repository.base(), "--project", "second")
    assert code == 0, said
    code, _, said = repository.call("--down")
    assert (code, said) == (2, "stack: several stacks run (second, terraloop): say which one with --project NAME\n")
    assert repository.call("--down", "--project", "second")[0] == 0
    assert repository.call("--down")[:2] == (0, "The stack of project terraloop has ended.\n")


def test_purge_removes_the_data(repository: Repository, tmp_path: Path) -> None:
    store = tmp_path / "kept"
    code, _, said = repository.call("--detach", "--port-base", repository.base(), TERRALOOP_STORE=str(store))
    assert code == 0, said
    store.mkdir()
    code, told, _ = repository.call("--down", "--purge", TERRALOOP_STORE=str(store))
    assert code == 0
    assert not repository.project().exists()
    assert f"Left alone: the store {store.as_uri()}" in told
    assert store.exists()


def test_purge_after_ctrl_c_removes_the_data_too(repository: Repository) -> None:
    repository.project().mkdir(parents=True)
    code, told, _ = repository.call("--down", "--purge", "--yes")
    assert (code, repository.project().exists()) == (0, False)
    assert "No stack is running." in told


def test_purge_asks_where_somebody_can_answer(repository: Repository) -> None:
    repository.project().mkdir(parents=True)
    variables = {**os.environ, "PYTHONPATH": str(repository.folder)}
    for answer, stays in (("n", True), ("y", False)):
        master, slave = os.openpty()
        child = subprocess.Popen(
            [sys.executable, "-m", "infra.embedded", "--down", "--purge"],
            cwd=repository.folder,
            env=variables,
            stdin=slave,
            stdout=subprocess.PIPE,
            text=True,
        )
        os.write(master, f"{answer}\n".encode())
        told, _ = child.communicate(timeout=60)
        os.close(master)
        os.close(slave)
        assert "[y/N]" in told
        assert repository.project().exists() is stays


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--purge"], "stack: --purge removes the data of a stack that is being ended: use --down --purge"),
        (["--body", "compose"], "stack: --body compose is not there yet: use --body embedded"),
        (["--usecase", "snow"], "stack: --usecase snow: no such use case; there are water"),
        (["--smoke", "--detach"], "stack: --smoke brings its own project and ends by itself"),
        (["--project", "../x"], "stack: --project ../x: lower-case letters"),
        (["--port-base", "80"], "nox -s stack --: error: argument --port-base: '80' is no port from 1024 to 62455"),
    ],
)
def test_a_call_that_cannot_work_is_refused_in_one_line(
    repository: Repository, arguments: list[str], line: str
) -> None:
    code, out, said = repository.call(*arguments)
    assert (code, out) == (2, "")
    assert said.splitlines()[-1].startswith(line)
    assert "Traceback" not in said
    assert not (repository.folder / ".terraloop").exists()


def test_too_little_disk_is_seen_before_anything_starts(repository: Repository) -> None:
    code, _, said = repository.call("--port-base", repository.base(), TERRALOOP_MIN_DISK_GIB="1e9")
    assert code == 2
    assert "GiB are free" in said
    assert "TERRALOOP_MIN_DISK_GIB" in said
    assert not (repository.folder / ".terraloop").exists()


def test_a_missing_tool_is_seen_before_anything_starts(repository: Repository) -> None:
    (repository.folder / ".nox" / "train" / "terraloop-stamp").unlink()  # the environment would have to be made
    bare = repository.folder / "bare" / "python"
    bare.parent.mkdir()
    bare.symlink_to(sys.executable)
    child = subprocess.run(
        [str(bare), "-S", "-m", "infra.embedded", "--no-airflow", "--port-base", repository.base()],
        cwd=repository.folder,
        env={"PATH": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 2
    assert child.stderr.startswith("stack: uv is not installed: run `")
    assert not (repository.folder / ".terraloop").exists()
