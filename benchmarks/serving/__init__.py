"""`nox -s bench -- serving`: what the endpoint adds to the model, whole scenes beside the field, and memory.

Ratios of medians, interleaved in one run; each counts only beside the check that the masks are equal.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks import report
from benchmarks.protocol import Check, Goal, Measured, interleave

ROOT: Final = Path(__file__).resolve().parents[2]
RESULTS: Final = ROOT / "benchmarks" / "results"
PEERS: Final = ROOT / ".nox" / "bench-peers"
PACKAGES: Final = ("onnxruntime", "mlserver", "mlflow", "rasterio", "numpy", "torch")
SAME: Final = "every way gives the same mask"


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        requests: Per way, one client.
        seconds: Of load by four clients.
        scene: Side of the whole scene, pixels.
        rounds: Of whole scenes.
        tall: Height of the scene for memory, pixels; it is doubled for the second.
        wide: Its width.
    """

    requests: int
    seconds: float
    scene: int
    rounds: int
    tall: int
    wide: int


FULL: Final = Size(requests=31, seconds=20, scene=2745, rounds=3, tall=10980, wide=10980)
QUICK: Final = Size(requests=5, seconds=3, scene=1100, rounds=1, tall=1024, wide=2048)


def main(argv: Sequence[str]) -> int:
    """Run it; 1 where `--check` is given and a goal is missed."""
    parser = argparse.ArgumentParser(prog="nox -s bench -- serving", description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 when a goal is missed")
    parser.add_argument("--quick", action="store_true", help="little of everything, nothing written")
    parser.add_argument("--peers", type=Path, default=PEERS, help="folder of the peers' wheels, which nox fills")
    parser.add_argument("--skip-memory", action="store_true", help="leave the large scenes out")
    options = parser.parse_args(argv)
    os.environ.setdefault("TERRALOOP_USECASES", str(ROOT / "usecases"))
    size = QUICK if options.quick else FULL
    with tempfile.TemporaryDirectory(prefix="terraloop-bench-") as folder:
        found = measure(Path(folder), size, options.peers, memory=not options.skip_memory)
    goals = make_goals(found)
    facts: dict[str, Any] = {
        "size": asdict(size),
        "versions": report.versions(PACKAGES),
        "latency_milliseconds": {name: round(1000 * value, 2) for name, value in found.latency.items()},
        "answers_per_second": {name: round(value, 2) for name, value in found.throughput.items()},
        "peak_bytes": found.memory,
    }
    print("\n".join(tables(found)))
    print("\n".join([*report.check_lines(found.checks), "", *report.goal_lines(goals, found.checks)]))
    if not options.quick:
        report.write_json(RESULTS / "serving.json", found.scenes, goals, found.checks, facts)
        print(f"written: {RESULTS / 'serving.json'}")
    return int(options.check and not all(goal.met(found.checks) for goal in goals))


@dataclass(frozen=True)
class Found:
    """What was measured: seconds, answers per second, whole scenes, bytes by rows, checks."""

    latency: dict[str, float]
    throughput: dict[str, float]
    scenes: list[Measured]
    memory: dict[int, int]
    share: float
    checks: dict[str, Check]


def measure(folder: Path, size: Size, peers: Path, *, memory: bool) -> Found:
    """Register a version, serve it, ask it; predict scenes beside the field."""
    from benchmarks.serving.memory import peak_bytes
    from benchmarks.serving.version import register, write_scene
    from benchmarks.serving.whole_scene import WholeScene
    from eo_data.usecase import UseCase

    usecase = UseCase.load(str(ROOT / "usecases" / "water" / "usecase.yaml"))
    registered = register(folder, usecase)
    os.environ["MLFLOW_TRACKING_URI"] = registered.tracking
    names = registered.files.description.input.bands
    latency, throughput, checks = ask_endpoints(registered, folder, size, peers)
    write_scene(folder / "scene.tif", size.scene, size.scene, names)
    whole = WholeScene(registered, folder / "scene.tif", folder, peers)
    checks |= whole.checks()
    scenes = interleave(whole.variants(), size.rounds)
    share = statistics.median(whole.model_share() for _ in range(size.rounds))
    peaks = {}
    if memory:
        for rows in (size.tall, 2 * size.tall):
            write_scene(folder / "tall.tif", rows, size.wide, names)
            peaks[rows] = peak_bytes(registered, folder / "tall.tif")
            print(f"{rows} x {size.wide}: peak {peaks[rows] / 2**20:.0f} MiB", flush=True)
    return Found(latency, throughput, scenes, peaks, share, checks)


def ask_endpoints(
    registered: Any, folder: Path, size: Size, peers: Path
) -> tuple[dict[str, float], dict[str, float], dict[str, Check]]:
    """Latencies, throughput, and whether all masks are equal."""
    import contextlib

    import numpy as np
    from rasterio.io import MemoryFile

    from benchmarks.serving import endpoint
    from benchmarks.serving import requests as way
    from benchmarks.serving.version import scene, write_scene

    small, large = scene(256, 256), scene(512, 512)
    path = folder / "request.tif"
    write_scene(path, 512, 512, registered.files.description.input.bands)
    body = path.read_bytes()
    with MemoryFile(body) as memory, memory.open() as source:
        assert (source.read() == large).all(), "the request is not the scene"  # noqa: S101
    model = registered.session()
    tile = np.pad(small.astype(np.float32), ((0, 0), (32, 32), (32, 32)), mode="symmetric")[None]
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(way.client())
        url = stack.enter_context(endpoint.ours(registered, folder))
        ways = [
            way.Way("512 GeoTIFF: in process", partial(way.bare_tiff, model, body)),
            way.Way("512 GeoTIFF: endpoint", partial(way.geotiff, client, url, body)),
            way.Way("256: the model alone", partial(way.bare_mask, model, small.astype(np.float32))),
            way.Way("256 npy: endpoint", partial(way.npy, client, url, small)),
            way.Way("256 MLflow JSON: endpoint", partial(way.mlflow_json, client, url, small)),
            way.Way("256 V2 JSON: endpoint", partial(way.v2_json, client, url, small)),
        ]
        inner = np.s_[32:-32, 32:-32]
        stock = stack.enter_context(endpoint.mlflow_models_serve(registered, folder))
        ways.append(way.Way("256 JSON: mlflow models serve", lambda: way.scoring_server(client, stock, tile)[inner]))
        mlserver = stack.enter_context(endpoint.stock_mlserver(registered, folder, peers))
        ways.append(
            way.Way("256 V2 JSON: MLServer's MLflow runtime", lambda: way.stock_v2(client, mlserver, tile)[inner])
        )
        masks = {one.name: one.ask() for one in ways}
        wanted = {"512": masks[ways[0].name], "256": masks[ways[2].name]}
        differing = [name for name, mask in masks.items() if not np.array_equal(mask, wanted[name[:3]])]
        both = all(0.01 < float((mask == 1).mean()) < 0.99 for mask in wanted.values())
        checks = {
            SAME: Check(not differing and both, f"{len(masks)} ways; differing: {', '.join(differing) or 'none'}")
        }
        latency = way.latencies(ways, size.requests)

        def asker(ask: Any, *rest: Any) -> Any:
            own = stack.enter_context(way.client())
            return partial(ask, own, url, *rest)

        pixels = small.astype(np.float32)
        pairs: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
            "512 GeoTIFF": (
                lambda: partial(way.bare_tiff, registered.session(), body),
                lambda: asker(way.geotiff, body),
            ),
            "256 npy": (lambda: partial(way.bare_mask, registered.session(), pixels), lambda: asker(way.npy, small)),
        }
        throughput = {}
        for name, (bare, ours) in pairs.items():
            throughput[f"{name}: in process, 2 threads"] = way.throughput(bare, 2, size.seconds)
            throughput[f"{name}: endpoint, {way.CLIENTS} clients"] = way.throughput(ours, way.CLIENTS, size.seconds)
    return latency, throughput, checks


def make_goals(found: Found) -> list[Goal]:
    """The goals of the endpoint, with what was measured."""
    from benchmarks.serving import whole_scene as scene
    from benchmarks.serving.requests import CLIENTS

    per_cpu = {entry.name: entry.per_cpu.median for entry in found.scenes}
    latency, rate = found.latency, found.throughput

    def times(peer: str) -> float | None:
        return per_cpu[scene.OURS] / per_cpu[peer] if peer in per_cpu else None

    def served(name: str) -> float:
        return rate[f"{name}: endpoint, {CLIENTS} clients"] / rate[f"{name}: in process, 2 threads"]

    rows = sorted(found.memory)
    goals = [
        Goal("GeoTIFF 6 x 512 x 512 over decode, model and encode in process, p50",
             latency["512 GeoTIFF: endpoint"] / latency["512 GeoTIFF: in process"], 1.25, "most", "x", (SAME,)),
        Goal("npy 6 x 256 x 256 over the model alone, p50",
             latency["256 npy: endpoint"] / latency["256: the model alone"], 1.3, "most", "x", (SAME,)),
        Goal("throughput of 4 clients, GeoTIFF 512", served("512 GeoTIFF"), 0.85, "least", "x", (SAME,)),
        Goal("throughput of 4 clients, npy 256", served("256 npy"), 0.85, "least", "x", (SAME,)),
        Goal("whole scene, Mpx per CPU-second, over TerraTorch", times(scene.TERRATORCH), 1.2, "least", "x",
             (scene.EQUAL.format(scene.TERRATORCH),)),
        Goal("whole scene over geoai", times(scene.GEOAI), 1.2, "least", "x", (scene.EQUAL.format(scene.GEOAI),)),
        Goal("whole scene over a loop over chips", times(scene.NAIVE), 1.0, "least", "x",
             (scene.EQUAL.format(scene.NAIVE),)),
        Goal("share of the model in a whole scene's CPU time", found.share, 0.75, "least", ""),
    ]  # fmt: skip
    if rows:
        goals += [
            Goal("peak of memory, whole scene", found.memory[rows[0]] / 2**30, 1.2, "most", "GiB"),
            Goal("peak of memory, twice the rows", found.memory[rows[1]] / found.memory[rows[0]], 1.1, "most", "x"),
        ]
    return goals


def tables(found: Found) -> list[str]:
    """What was measured, for people."""
    lines = [f"{'one client':<44} {'p50, ms':>10}"]
    lines += [f"{name:<44} {1000 * value:>10.1f}" for name, value in found.latency.items()]
    lines += ["", f"{'at once':<44} {'answers/s':>10}"]
    lines += [f"{name:<44} {value:>10.1f}" for name, value in found.throughput.items()]
    lines += ["", f"{'whole scene':<44} {'Mpx/CPU-s':>10}"]
    lines += [f"{entry.name:<44} {entry.per_cpu.median / 1e6:>10.2f}" for entry in found.scenes]
    return [*lines, "", json.dumps({"peak MiB by rows": {k: v >> 20 for k, v in found.memory.items()}}), ""]
