"""`nox -s bench -- quality hls|spain`: what trained networks reach on real labels, against what needs no training.

`hls-folds` and `spain-folds` are the cross-validations inside the training data by which the settings were chosen.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main(argv: Sequence[str]) -> int:
    """Run one experiment; 1 if its goal is missed and `--check` is given, 2 without the data."""
    parser = argparse.ArgumentParser(prog="nox -s bench -- quality", description=__doc__, allow_abbrev=False)
    parser.add_argument("experiment", choices=["hls", "spain", "cross-sensor", "hls-folds", "spain-folds"])
    parser.add_argument("--check", action="store_true", help="exit 1 where the goal is missed")
    parser.add_argument("--train", action="append", default=[], help="with hls-folds: a change, such as epochs=24")
    parser.add_argument("--processes", type=int, default=1, help="with hls: seeds that are trained at once")
    options = parser.parse_args(argv)
    if options.check and options.experiment.endswith("-folds"):
        parser.error("--check: cross-validation chooses, it has no goal")
    data = Path(os.environ.get("TERRALOOP_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not data.is_dir():
        print(f"the real scenes are not at {data}: set TERRALOOP_TEST_DATA", file=sys.stderr)
        return 2
    # Third-party deprecations; the tests hold the project's own code to none.
    warnings.simplefilter("ignore", DeprecationWarning)
    from benchmarks.quality import cross_sensor, folds, hls, spain

    runs: dict[str, Callable[[Path, Path, Path], bool]] = {
        "hls": partial(hls.run, processes=options.processes),
        "spain": spain.run,
        "cross-sensor": cross_sensor.run,
        "hls-folds": partial(folds.run, changes=options.train),
        "spain-folds": spain.run_folds,
    }
    with tempfile.TemporaryDirectory(prefix="terraloop-quality-") as scratch:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{scratch}/mlflow.db"  # a registry of its own
        met = runs[options.experiment](data, Path(scratch), ROOT / "usecases")
    return 1 if options.check and not met else 0
