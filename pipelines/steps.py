"""The steps of the loop as one table: what is called, where, and which result feeds which flag.

Nothing here runs anything. The in-process runner, and operators of other bodies, read the same table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

USAGE: Final = 2
DATA_REFUSED: Final = 3
GATE_REFUSED: Final = 4
TEMPORARY: Final = 75

EXIT_CODES: Final[Mapping[int, str]] = MappingProxyType(
    {
        0: "done",
        1: "failed unexpectedly",
        USAGE: "was called wrongly, or its configuration is wrong",
        DATA_REFUSED: "refused the data",
        GATE_REFUSED: "refused the candidate",
        TEMPORARY: "met something out of reach for the moment",
    }
)
"""Exit code -> what it means for a step (design 4.1)."""


@dataclass(frozen=True)
class Feed:
    """A value out of an earlier step's result.

    Attributes:
        step: The verb of that step.
        key: The key in its result.
    """

    step: str
    key: str


@dataclass(frozen=True)
class Step:
    """One step: a command of one environment, with flags in and one JSON object out.

    Every step takes `--usecase` and `--result` besides, and `--store` unless it is said that it does not.

    Attributes:
        verb: Its name everywhere: command line, task id, log file, `seconds.<verb>`.
        command: The console script.
        environment: The environment that has the script.
        feeds: Flag -> where its value comes from, unless the caller gives one.
        settings: Flags whose value only the caller can give.
        switches: Flags without a value, given always.
        options: Flags without a value that only the caller gives.
        stores: Whether it takes `--store`.
        registry: Whether it talks to the tracking server; the others run while that is still starting.
    """

    verb: str
    command: str
    environment: str
    feeds: Mapping[str, Feed] = field(default_factory=dict)
    settings: tuple[str, ...] = ()
    switches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    stores: bool = True
    registry: bool = False


STEPS: Final[tuple[Step, ...]] = (
    # Only where no scenes are given: they are the offline default, never the proof of quality.
    Step("simulate", "eo-data", "train", settings=("--out",), stores=False),
    Step("ingest", "eo-data", "train", feeds={"--source": Feed("simulate", "source")}, settings=("--labels",)),
    Step("validate", "eo-data", "train", feeds={"--batch": Feed("ingest", "batch")}),
    Step("chip", "eo-data", "train", feeds={"--verdicts": Feed("validate", "verdicts")}),
    # What a killed run has trained is gone on with: the weights are those of an unbroken one.
    Step(
        "train",
        "eo-models",
        "train",
        feeds={"--dataset": Feed("chip", "dataset")},
        switches=("--resume",),
        registry=True,
    ),
    Step(
        "evaluate",
        "eo-models",
        "train",
        feeds={"--model": Feed("train", "model"), "--dataset": Feed("chip", "dataset")},
        options=("--fresh",),
        registry=True,
    ),
    Step(
        "promote",
        "eo-models",
        "train",
        feeds={"--evaluation": Feed("evaluate", "evaluation")},
        settings=("--approved-by",),
        registry=True,
    ),
    # Only where there is an endpoint. Without --model the champion of the ledger answers.
    Step("deploy", "eo-serving", "serve", settings=("--endpoint", "--model"), registry=True),
    Step("predict", "eo-serving", "serve", settings=("--scene", "--out", "--model"), registry=True),
)
"""The main job, in order."""

MONITOR: Final = Step("monitor", "eo-serving", "serve", settings=("--since",), registry=True)
"""What is no part of the main job: looking at requests and fresh labels, from time to time."""

BY_VERB: Final[Mapping[str, Step]] = MappingProxyType({step.verb: step for step in (*STEPS, MONITOR)})


def arguments(
    step: Step,
    *,
    usecase: str,
    store: str,
    results: Mapping[str, Mapping[str, Any]],
    given: Mapping[str, str],
) -> list[str]:
    """The arguments of a step's command, without `--result`.

    Args:
        step: The step.
        usecase: Name or path of the use case.
        store: Root of the store, a URI.
        results: Verb -> result, of the steps that have run.
        given: Flag -> value from the caller; it goes before what an earlier result would feed. A flag of `options`
            is given by naming it, whatever its value.

    Returns:
        The verb and its flags.

    Raises:
        ValueError: If a given flag is not one of the step's.
        KeyError: If a result that feeds a flag is not there.
    """
    unknown = set(given) - set(step.feeds) - set(step.settings) - set(step.options)
    if unknown:
        raise ValueError(f"step {step.verb} takes no {', '.join(sorted(unknown))}")
    line = [step.verb, "--usecase", usecase]
    line += ["--store", store] if step.stores else []
    for flag, feed in step.feeds.items():
        line += [flag, given[flag] if flag in given else str(results[feed.step][feed.key])]
    for flag in step.settings:
        line += [flag, given[flag]] if flag in given else []
    return [*line, *(flag for flag in step.options if flag in given), *step.switches]


def without_empty(line: Sequence[str]) -> list[str]:
    """A command line without the flags whose value turned out to be empty: they were left to the command.

    Args:
        line: A verb and flags, as `arguments` gives them with values filled in later.
    """
    kept: list[str] = []
    for word in line:
        if word == "":
            kept.pop()
        else:
            kept.append(word)
    return kept
