"""`nox -s bench -- models`: Lightning beside a bare loop, precision and layout, torch beside ONNX Runtime.

Everything is taken inside one interleaved run, per CPU-second, and counts only where its checks hold.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks import report
from benchmarks.models import tables
from benchmarks.protocol import Check, Goal, Measured, Summary, interleave

if TYPE_CHECKING:
    from benchmarks.models.precision import Agreement

RESULTS: Final = Path(__file__).resolve().parents[1] / "results"
PACKAGES: Final = ("torch", "lightning", "onnx", "onnxruntime", "numpy")
STEP_LIMIT: Final = 2.5
RATIO_LIMIT: Final = 1.05


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        steps: Of the null model, few and many.
        minibatches: Of the U-Net's epoch.
        batches: Trained on by each form of precision and layout.
        tiles: Sides of tiles for torch and ONNX Runtime, pixels.
        rounds: How often.
    """

    steps: tuple[int, int]
    minibatches: int
    batches: int
    tiles: tuple[int, ...]
    rounds: int


FULL: Final = Size(steps=(100, 500), minibatches=48, batches=2, tiles=(64, 128, 256, 512), rounds=5)
QUICK: Final = Size(steps=(20, 100), minibatches=6, batches=1, tiles=(64, 128), rounds=3)


@dataclass(frozen=True)
class Outcome:
    """What was measured.

    Attributes:
        measured: The variants.
        checks: By name.
        agreement: Of the forms of precision and layout with plain float32, by variant.
        steps: Of the null model, few and many.
        logit: Greatest difference of a logit between torch and ONNX Runtime.
    """

    measured: list[Measured]
    checks: dict[str, Check]
    agreement: dict[str, Agreement]
    steps: tuple[int, int]
    logit: float


def main(argv: Sequence[str]) -> int:
    """Run it; 1 where `--check` is given and a goal is missed."""
    options = _parser().parse_args(argv)
    size = QUICK if options.quick else FULL
    rounds = options.rounds or size.rounds
    out = options.out or (None if options.quick else RESULTS)
    with tempfile.TemporaryDirectory(prefix="terraloop-bench-") as folder:
        outcome = measure(Path(folder), size, rounds)
    goals = make_goals(outcome)
    steps = step_costs(outcome)
    facts: dict[str, Any] = {
        "rounds": rounds,
        "size": asdict(size),
        "device": device_name(),
        "versions": report.versions(PACKAGES),
    }
    lines = [*tables.table_lines(outcome.measured, outcome.agreement), "", *tables.step_lines(steps), ""]
    print("\n".join([*lines, *report.check_lines(outcome.checks), "", *report.goal_lines(goals, outcome.checks), ""]))
    print(f"device {facts['device']}; " + ", ".join(f"{name} {is_}" for name, is_ in facts["versions"].items()))
    if out is not None:
        facts["step_cpu_milliseconds"] = {name: vars(summary) for name, summary in steps.items()}
        facts["agreement"] = {name: vars(near) for name, near in outcome.agreement.items()}
        report.write_json(out / "models.json", outcome.measured, goals, outcome.checks, facts)
        title = f"{facts['versions']['processor']}; {facts['device']}, {rounds} rounds"
        tables.write_plot(out / "models.png", outcome.measured, steps, title)
        print(f"written: {out / 'models.json'}, {out / 'models.png'}")
    return int(options.check and not all(goal.met(outcome.checks) for goal in goals))


def make_goals(outcome: Outcome) -> list[Goal]:
    """The goals, with what was measured."""
    from benchmarks.models import loops, runtimes
    from eo_models.export import TOLERANCE

    by_name = {entry.name: entry.per_cpu.median for entry in outcome.measured}
    null, unet = (loops.EQUAL.format(what) for what in ("null model", "U-Net"))
    steps = step_costs(outcome)
    more = steps["Lightning"].median - steps["bare loop"].median
    return [
        Goal("Lightning over a bare loop, null model: CPU a step", more, STEP_LIMIT, "most", "ms", (null,)),
        Goal(
            "Lightning / bare loop, U-Net of `water`: CPU-seconds",
            by_name[loops.BARE] / by_name[loops.LIGHTNING],
            RATIO_LIMIT,
            "most",
            "x",
            (unet,),
        ),
        Goal(
            "torch and ONNX Runtime: greatest difference of a logit",
            outcome.logit,
            TOLERANCE,
            "most",
            "",
            (runtimes.EQUAL,),
        ),
    ]


def step_costs(outcome: Outcome) -> dict[str, Summary]:
    """CPU milliseconds of a step of the null model, by loop."""
    from benchmarks.models import loops

    templates = {"Lightning": loops.NULL_LIGHTNING, "bare loop": loops.NULL_BARE}
    return {
        name: loops.step_milliseconds(outcome.measured, template, outcome.steps) for name, template in templates.items()
    }


def measure(folder: Path, size: Size, rounds: int) -> Outcome:
    """Make chips, check that what is compared is equal, measure.

    Args:
        folder: The dataset goes there.
        size: How much.
        rounds: How often.
    """
    import torch

    from benchmarks.models import chips, loops, precision, runtimes, training_loop
    from eo_models.configuration import train_section
    from eo_models.inputs import band_pairs

    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    usecase = chips.water()
    section = train_section(usecase)
    _say("simulating chips ...")
    dataset = chips.make_dataset(folder, size.minibatches * section.minibatch, usecase)
    pairs = band_pairs(usecase.data, section.indices, "train.indices")
    unet = loops.unet_pair(dataset, section, pairs, device)
    _say("checking that both loops end with the same weights ...")
    checks = {
        loops.EQUAL.format("null model"): loops.equal_weights(loops.null_pair(size.steps[0], section, device)),
        loops.EQUAL.format("U-Net"): loops.equal_weights(unet),
    }
    network = unet.lightning().average.module.eval().to(device)
    batches = [
        (images.to(device), labels.to(device))
        for images, labels in list(training_loop.training_batches(dataset, section))[: size.batches]
    ]
    scene = chips.make_scene(1024, chips.SEED + 1)[0].astype("float32")
    tiles = torch.from_numpy(scene).unfold(1, 256, 256).unfold(2, 256, 256).flatten(1, 2).movedim(0, 1)[:4].to(device)
    forms, agreement = precision.make_variants(network, batches, tiles.contiguous(), section)
    _say("exporting ...")
    onnx, more, logit = runtimes.make_variants(network.cpu(), scene, size.tiles)
    variants = [
        *loops.null_variants(section, size.steps, device),
        *unet.variants(loops.LIGHTNING, loops.BARE),
        *forms,
        *onnx,
    ]
    for variant in variants:  # files and code warm
        variant.run()
    return Outcome(interleave(variants, rounds), checks | more, agreement, size.steps, logit)


def device_name() -> str:
    """What training ran on, in words."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU, one thread"


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nox -s bench -- models", description=__doc__)
    parser.add_argument("--check", action="store_true", help="end with 1 where a goal is missed")
    parser.add_argument("--quick", action="store_true", help="fewer steps, 3 rounds, no result files: to try it")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds; 5 unless told, 3 with --quick")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where result files go; benchmarks/results")
    return parser
