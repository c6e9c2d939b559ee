"""Run one step as a child process and hand back its result.

The result is read from `--result FILE` alone: stdout and stderr may hold anything, before and after it. What
the step says is shown while it says it, progress bars included, and kept in its log.
"""

from __future__ import annotations

import codecs
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from pipelines import interruption, processes
from pipelines.processes import die_with_parent
from pipelines.steps import DATA_REFUSED, EXIT_CODES, GATE_REFUSED, TEMPORARY, USAGE, Step

TICK: Final = 0.2
"""Seconds between two looks at what else may have happened."""
GRACE: Final = 10.0
"""Seconds that a step has to end after SIGTERM."""
TAIL: Final = 4096
"""Bytes at the end of a log in which a step's last words are looked for."""


class StepFailed(Exception):
    """A step ended without success.

    Attributes:
        verb: The step.
        exit_code: What the whole job should end with.
    """

    exit_code = 1

    def __init__(self, verb: str, message: str) -> None:
        super().__init__(message)
        self.verb = verb


class StepMisused(StepFailed):
    """The step was called wrongly, or its configuration is wrong. Trying again does not help."""

    exit_code = USAGE


class StepRefusedData(StepFailed):
    """The step refused the data. Trying again does not help."""

    exit_code = DATA_REFUSED


class StepOutOfReach(StepFailed):
    """A store, registry or server stayed out of reach, also when the step was run again."""

    exit_code = TEMPORARY


FAILURES: Final[Mapping[int, type[StepFailed]]] = {
    USAGE: StepMisused,
    DATA_REFUSED: StepRefusedData,
    TEMPORARY: StepOutOfReach,
}
"""Exit code -> what is raised; any other code is a plain `StepFailed`."""


@dataclass(frozen=True)
class Outcome:
    """What a step that ran to its end has given.

    Attributes:
        result: Its JSON object.
        seconds: Wall time, all attempts.
        refused: Whether the gate refused the candidate, which is an honest end.
    """

    result: dict[str, Any]
    seconds: float
    refused: bool = False


@dataclass(frozen=True)
class End:
    """How one attempt at a step ended.

    Attributes:
        code: Its exit code; negative where a signal ended it.
        result: Its JSON object; None where it left none.
        log: What it said.
    """

    code: int
    result: dict[str, Any] | None
    log: Path


def _nothing() -> None:
    return None


def _to_stderr(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


@dataclass(frozen=True)
class Runner:
    """Runs steps as child processes of this one.

    Attributes:
        environments: Environment -> the folder of its commands.
        folder: Where logs and results go, one of each per step.
        variables: Environment variables for every step.
        inherited: What they get besides; None is all of this process's.
        echo: Told what a step says, as it says it.
        leashed: Whether a step ends with this process even where that is killed (Linux alone can).
        watch: Called a few times a second while a step runs; what it raises ends the step.
        on_start: Told of each process as it starts.
        pauses: Seconds to wait before each further attempt after a temporary failure.
    """

    environments: Mapping[str, Path]
    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    watch: Callable[[], None] = _nothing
    on_start: Callable[[processes.Identity], None] = lambda identity: None
    pauses: Sequence[float] = (2.0, 5.0, 10.0)
    inherited: Mapping[str, str] | None = None
    echo: Callable[[str], None] = _to_stderr
    leashed: bool = False

    def run(self, step: Step, arguments: Sequence[str]) -> Outcome:
        """Run a step to its end.

        Args:
            step: The step.
            arguments: Verb and flags, without `--result`.

        Returns:
            Its outcome; a refusal by the gate is one.

        Raises:
            StepFailed: Or the class of it that fits the exit code; the message says why and names the log.
        """
        start = time.monotonic()
        for pause in (*self.pauses, None):
            end = self.attempt(step, arguments)
            if end.code != TEMPORARY or pause is None:
                break
            self.echo(f"{step.verb}: out of reach, again in {pause:g} s\n")
            self._sleep(pause)
        if end.code not in (0, GATE_REFUSED):
            raise FAILURES.get(end.code, StepFailed)(step.verb, _failure(step, end.code, end.log))
        if end.result is None:
            raise StepFailed(step.verb, f"{step.verb} ended well but left no result; its log: {end.log}")
        return Outcome(end.result, time.monotonic() - start, refused=end.code == GATE_REFUSED)

    def attempt(self, step: Step, arguments: Sequence[str]) -> End:
        """Run a step once, whatever comes of it.

        Args:
            step: The step.
            arguments: Verb and flags, without `--result`.
        """
        command = [str(self.environments[step.environment] / step.command), *arguments]
        log = self.folder / f"{step.verb}.log"
        self.folder.mkdir(parents=True, exist_ok=True)
        return End(*self._attempt(command, log, self.folder / f"{step.verb}.json"), log)

    def _attempt(self, command: Sequence[str], log: Path, result: Path) -> tuple[int, dict[str, Any] | None]:
        """Run a command once; its exit code, and its result if it left one."""
        result.unlink(missing_ok=True)  # an earlier run's result must not pass for this one's
        with log.open("ab", buffering=0) as sink:
            sink.write(f"$ {' '.join(command)}\n".encode())
            try:
                child = subprocess.Popen(
                    [*command, "--result", str(result)],
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=subprocess.PIPE,
                    env={**(os.environ if self.inherited is None else self.inherited), **self.variables},
                    start_new_session=True,
                    preexec_fn=die_with_parent if self.leashed else None,
                )
            except OSError as error:
                sink.write((message := f"{command[0]}: {error.strerror}\n").encode())
                self.echo(message)
                return 127, None
            identity = processes.identify(child.pid)
            try:
                self.on_start(identity)
                self._follow(child, sink)
            finally:
                with interruption.shielded():
                    processes.end([identity], grace=GRACE)
                    code = child.wait()
        return code, _read(result)

    def _follow(self, child: subprocess.Popen[bytes], sink: IO[bytes]) -> None:
        """Show and keep what the child says until it has ended."""
        stream = child.stderr
        assert stream is not None  # noqa: S101  a pipe was asked for
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        with stream:
            while True:
                ended = child.poll() is not None
                # After the end what is still in the pipe is read, but nobody who holds it open is waited for.
                if select.select([stream], [], [], 0 if ended else TICK)[0]:
                    data = os.read(stream.fileno(), 65536)
                    sink.write(data)
                    self.echo(decoder.decode(data))
                    if data:
                        continue
                    self._wait_quietly(child)
                    return
                if ended:
                    return
                self.watch()

    def _wait_quietly(self, child: subprocess.Popen[bytes]) -> None:
        """Wait for a child that has closed its stderr."""
        while child.poll() is None:
            self.watch()
            time.sleep(TICK)

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.watch()
            time.sleep(min(TICK, left))


def _read(result: Path) -> dict[str, Any] | None:
    """A result file's object; None if there is none or it is no JSON object."""
    try:
        found = json.loads(result.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _failure(step: Step, code: int, log: Path) -> str:
    """Why a step failed, in its own last words where it had any."""
    meaning = f"was ended by signal {-code}" if code < 0 else EXIT_CODES.get(code, EXIT_CODES[1])
    return f"{step.verb} {meaning} (exit code {code}): {last_words(log)} (log: {log})"


def last_words(log: Path) -> str:
    """The last line of a log that says something; progress bars, which end in a carriage return, do not."""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - TAIL))
        text = stream.read().decode("utf-8", errors="replace")
    lines = [line.rpartition("\r")[2].strip() for line in text.split("\n")]
    return next((line for line in reversed(lines) if line and not line.startswith("$ ")), "it said nothing")
