"""`nox -s bench -- data`: loading chips beside the field, chipping in bounded memory, validating at a glance.

Every ratio is taken inside one interleaved run, per CPU-second, and counts only where its checks hold.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import report
from benchmarks.protocol import Check, Goal, Measured, interleave, ratio

RESULTS: Final = Path(__file__).resolve().parents[1] / "results"
PACKAGES: Final = (
    "numpy", "rasterio", "imagecodecs", "tifffile", "torch", "torchgeo", "xarray", "rioxarray", "zarr", "numcodecs",
)  # fmt: skip
GIB: Final = float(1 << 30)


def main(argv: Sequence[str]) -> int:
    """Run it; 1 where `--check` is given and a goal is missed."""
    options = _parser().parse_args(argv)
    size, large = (3072, 4096) if options.quick else (5490, 10980)
    if options.quick:
        os.environ["GDAL_CACHEMAX"] = "20"  # as much of the smaller scene; GDAL is not loaded yet
    rounds = options.rounds or (3 if options.quick else 5)
    out = options.out or (None if options.quick else RESULTS)
    with tempfile.TemporaryDirectory(prefix="terraloop-bench-") as folder:
        measured, checks, facts = _run(Path(folder), size, large, rounds)
    goals = make_goals(measured, facts["large_scene"])
    print("\n".join([*report.table_lines(measured), "", *report.check_lines(checks), ""]))
    print("\n".join(report.goal_lines(goals, checks)))
    ratios = make_ratios(measured)
    print("\nbeside them: " + "; ".join(f"{name} {value:.2f}" for name, value in ratios.items()))
    print(", ".join(f"{name} {version}" for name, version in facts["versions"].items()))
    if out is not None:
        report.write_json(out / "data.json", measured, goals, checks, {**facts, "ratios": ratios})
        title = f"256 x 256 x 6 chips from a {size} x {size} scene (deflate, 512 tiles, label beside it)"
        report.write_plot(out / "data.png", measured, title)
        print(f"written: {out / 'data.json'}, {out / 'data.png'}")
    return int(options.check and not all(goal.met(checks) for goal in goals))


def make_goals(measured: Sequence[Measured], large: Mapping[str, Any]) -> list[Goal]:
    """The goals, with what was measured.

    Args:
        measured: The variants.
        large: What `benchmarks.data.children.measure` gave.
    """
    from benchmarks.data import ours, peers

    grid = ("grid chips equal rasterio's", "grid minibatches mix blocks", "tiles are decoded by this project")
    jitter = ("jittered chips equal rasterio's", "jittered minibatches mix blocks", *grid[2:])
    cached = ("cached chips equal the dataset's",)
    torchgeo = "TorchGeo gives chips and labels"
    chip, validate = large["chip"], large["validate"]
    share = validate["feature_row_cpu_seconds"] / validate["image_cpu_seconds"]
    memory = (chip["peak_bytes"] - chip["base_bytes"]) / GIB

    def compare(name: str, of: str, peer: str, limit: float, needed: tuple[str, ...]) -> Goal:
        return Goal(name, ratio(measured, of, peer), limit, "least", "x", needed)

    return [
        compare("grid loader / TorchGeo image & label", ours.GRID, peers.TORCHGEO, 10, (*grid, torchgeo)),
        compare("jittered loader / TorchGeo image & label", ours.JITTERED, peers.TORCHGEO, 10, (*jitter, torchgeo)),
        compare("grid loader / rasterio random, image alone", ours.GRID, peers.RASTERIO, 7, grid),
        compare("jittered loader / rasterio random, image alone", ours.JITTERED, peers.RASTERIO, 7, jitter),
        compare("grid loader, 1 thread / codec bound, 1 thread", ours.GRID_ONE, peers.CODEC, 0.7, grid),
        compare("cached chips, normalised / npy gather", ours.CACHED, peers.GATHER, 0.8, cached),
        Goal(f"chip: peak memory over base, {large['size']} pixels a side", memory, 1, "most", "GiB"),
        Goal("validate: CPU of the feature row / reading the image once", share, 0.1, "most", "x"),
    ]


def make_ratios(measured: Sequence[Measured]) -> dict[str, float]:
    """Ratios that are told beside the goals, per CPU-second unless they say wall."""
    from benchmarks.data import ours, peers

    pairs = {
        "grid loader / rasterio random, image and label": (ours.GRID, peers.RASTERIO_LABEL),
        "grid loader, decoded by GDAL / rasterio random, image alone": (ours.GRID_GDAL, peers.RASTERIO),
        "cached chips, not normalised / npy gather": (ours.CACHED_PLAIN, peers.GATHER),
        "cached chips, not normalised / npy gather into a reused buffer": (ours.CACHED_PLAIN, peers.GATHER_REUSED),
        "cached chips, normalised / npy gather into a reused buffer": (ours.CACHED, peers.GATHER_REUSED),
        "TorchGeo image & label / rasterio random, image alone": (peers.TORCHGEO, peers.RASTERIO),
    }
    walls = {entry.name: entry.per_wall.median for entry in measured}
    return {
        **{name: ratio(measured, of, peer) for name, (of, peer) in pairs.items()},
        "grid loader, a thread per core / 1 thread, wall": walls[ours.GRID] / walls[ours.GRID_ONE],
    }


def _run(folder: Path, size: int, large: int, rounds: int) -> tuple[list[Measured], dict[str, Check], dict[str, Any]]:
    import rasterio

    from benchmarks.data import children, ours, peers, workload
    from benchmarks.data.scene import SEED, compression

    _say(f"generating a scene of {size} x {size} x 6 and its dataset ...")
    work = workload.make_workload(folder / "work", size)
    mine = ours.make_ours(work)
    _say("checking that chips are equal ...")
    checks = ours.checks(mine)
    others, more = peers.make_peers(work, 64 if size < 4096 else 160)
    variants = [*mine.variants(), *others]
    for variant in variants:  # files and code warm
        variant.run()
    measured = interleave(variants, rounds)
    _say(f"chipping and validating a scene of {large} x {large} x 6 ...")
    scenes = children.large_scene((work.image, work.label), folder / "large", large)
    facts = {
        "scene": {"size": size, "seed": SEED, "compression": compression(work.image), "bands": 6},
        "dataset_chips": len(work.dataset.chips()),
        "rounds": rounds,
        "large_scene": {"size": large, **children.measure(folder / "large_store", scenes)},
        "versions": {**report.versions(PACKAGES), "gdal": rasterio.__gdal_version__},
    }
    return measured, checks | more, facts


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nox -s bench -- data", description=__doc__)
    parser.add_argument("--check", action="store_true", help="end with 1 where a goal is missed")
    parser.add_argument("--quick", action="store_true", help="smaller scenes, 3 rounds, no result files: to try it")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds; 5 unless told, 3 with --quick")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where result files go; benchmarks/results")
    return parser
