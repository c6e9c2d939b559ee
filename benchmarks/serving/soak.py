"""`nox -s soak`: half an hour of good and bad requests by four clients, while versions change; then what came of it.

Every good request is answered 200 with the mask of one of the two versions, byte by byte; every bad one 4xx; memory
of all processes together (PSS) does not grow.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import random
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
import numpy as np

from benchmarks.__main__ import SURROUNDINGS

if TYPE_CHECKING:
    from benchmarks.serving.version import Registered

ROOT: Final = Path(__file__).resolve().parents[2]
RESULT: Final = ROOT / "benchmarks" / "results" / "soak.json"
CLIENTS: Final = 4
TOKEN: Final = "soak-deploy-token-of-this-run"  # noqa: S105 - of a server that this run starts and ends
TIFF: Final = "image/tiff"
JSON: Final = "application/json"
MINUTES: Final = 30.0
LEAST_MINUTES: Final = 1.0
MOST_GROWTH: Final = 0.05
MOST_SECONDS: Final = 5.0
_SAMPLE_SECONDS: Final = 5.0


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        good: Good requests by status.
        bad: Bad requests by kind and status.
        faults: What should not have happened, the first few.
        swaps: Seconds from asking for a version until it had answered a request.
        memory: Bytes of all processes, in the order of time.
    """

    good: Counter[int] = field(default_factory=Counter)
    bad: Counter[tuple[str, int]] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    swaps: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)

    @property
    def levels(self) -> tuple[float, float]:
        """Memory, bytes: the medians of the second tenth of the time, since the first warms up, and of the last."""
        tenth = max(1, len(self.memory) // 10)
        return statistics.median(self.memory[tenth : 2 * tenth]), statistics.median(self.memory[-tenth:])

    @property
    def growth(self) -> float:
        """By what share memory grew."""
        before, after = self.levels
        return after / before - 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; 1 where a request failed, a version took too long, or memory grew."""
    parser = argparse.ArgumentParser(prog="nox -s soak --", description=__doc__)
    parser.add_argument("--minutes", type=float, default=MINUTES, help="how long; shorter runs are not kept")
    parser.add_argument("--reloads", type=int, default=200, help="how often the version changes meanwhile")
    options = parser.parse_args(argv)
    if not options.minutes >= LEAST_MINUTES or options.reloads < 1:
        parser.error(f"{LEAST_MINUTES:g} minutes and one reload are the least that says anything")
    os.environ.setdefault("TERRALOOP_USECASES", str(ROOT / "usecases"))
    os.environ |= SURROUNDINGS  # before torch is loaded
    with tempfile.TemporaryDirectory(prefix="terraloop-soak-") as folder:
        outcome = soak(Path(folder), 60 * options.minutes, options.reloads)
    return report(outcome, options.minutes)


def soak(folder: Path, seconds: float, reloads: int) -> Outcome:
    """Ask for so long, and change the version so often."""
    from benchmarks.serving import endpoint, version
    from eo_data.usecase import UseCase

    registered = version.register(folder, UseCase.load(str(ROOT / "usecases" / "water" / "usecase.yaml")))
    version.add_version(registered.tracking, folder, registered.usecase, 2)
    outcome, done = Outcome(), threading.Event()
    with endpoint.ours(registered, folder, TOKEN) as url:
        good, bad = good_requests(folder, registered), bad_requests(folder, registered)
        masks = reference_masks(url, good)
        threads = [
            threading.Thread(target=_ask, args=(url, good, bad, masks, outcome, done, seed)) for seed in range(CLIENTS)
        ]
        threads.append(threading.Thread(target=_watch, args=(outcome, done)))
        for thread in threads:
            thread.start()
        try:
            _change(url, seconds, reloads, outcome)
        finally:
            done.set()
            for thread in threads:
                thread.join()
    return outcome


def report(outcome: Outcome, minutes: float) -> int:
    """Print the outcome and keep it; the exit code."""
    swaps = outcome.swaps or [0.0]
    refused = all(400 <= status < 500 for _, status in outcome.bad)
    lines = {
        "minutes": minutes,
        "good requests by status": dict(outcome.good),
        "bad requests by status": dict(sum((Counter({s: n}) for (_, s), n in outcome.bad.items()), Counter())),
        "versions changed": len(outcome.swaps),
        "seconds from asking to traffic, median and worst": [round(statistics.median(swaps), 2), round(max(swaps), 2)],
        "memory of all processes, MiB, after warming up and at the end": [round(n / 2**20) for n in outcome.levels],
        "growth": round(outcome.growth, 4),
        "faults": outcome.faults[:10],
    }  # fmt: skip
    goals = {
        "no good request failed": set(outcome.good) == {200} and not outcome.faults,
        "every bad request was refused 4xx": refused and bool(outcome.bad),
        f"a version answers within {MOST_SECONDS:g} s": max(swaps) <= MOST_SECONDS and bool(outcome.swaps),
        f"memory grew by no more than {MOST_GROWTH:.0%}": outcome.growth <= MOST_GROWTH,
    }
    print("\n".join(f"{name}: {value}" for name, value in lines.items()))
    print("\n".join(f"{'met ' if met else 'MISSED'}  {name}" for name, met in goals.items()))
    if minutes >= MINUTES:  # what is kept is a whole run
        RESULT.write_text(json.dumps({**lines, "goals": goals}, indent=1) + "\n", encoding="utf-8")
    return int(not all(goals.values()))


def good_requests(folder: Path, registered: Registered) -> list[tuple[str, str, bytes]]:
    """Content type, accepted type and body of what clients send."""
    from benchmarks.serving.version import scene, write_scene
    from eo_serving.raster_answers import npy_file

    names, bodies = registered.files.description.input.bands, []
    for number, side in enumerate((64, 200, 512)):
        write_scene(folder / f"good-{number}.tif", side, side, names)
        body = (folder / f"good-{number}.tif").read_bytes()
        bodies += [(TIFF, accept, body) for accept in (TIFF, "image/png", JSON, "application/geo+json")]
    tensor = scene(96, 96)
    bodies.append(("application/x-npy", "application/x-npy", npy_file(tensor)))
    bodies.append((JSON, JSON, json.dumps({"inputs": [tensor[:, :32, :32].tolist()]}).encode()))
    return bodies


def bad_requests(folder: Path, registered: Registered) -> dict[str, tuple[str, bytes]]:
    """Content type and body of what clients should not send, by what it is."""
    from benchmarks.serving.version import write_scene

    write_scene(folder / "bad.tif", 256, 256, registered.files.description.input.bands)
    whole = (folder / "bad.tif").read_bytes()
    write_scene(folder / "names.tif", 64, 64, tuple(f"X{n}" for n in range(6)))
    stream = folder / "pickled.npy"
    stream.write_bytes(b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }" + b" " * 58
                       + b"\n" + pickle.dumps([1]))  # fmt: skip
    return {
        "junk": (TIFF, b"II*\x00" + bytes(range(256)) * 8),
        "nothing": (TIFF, b""),
        "a page": (TIFF, b"<html>"),
        "half a TIFF": (TIFF, whole[: len(whole) // 2]),
        "unknown bands": (TIFF, (folder / "names.tif").read_bytes()),
        "another type": ("text/plain", b"x"),
        "no JSON": (JSON, b"{"),
        "ragged JSON": (JSON, b'{"inputs": [[[[1, 2], [3]]]]}'),
        "NaN": (JSON, b'{"inputs": [[[[NaN]]]]}'),
        "a table": (JSON, b'{"dataframe_split": {}}'),
        "an address": (JSON, b'{"href": "http://169.254.169.254/latest/"}'),
        "a pickle": ("application/x-npy", stream.read_bytes()),
        "a short npy": ("application/x-npy", b"\x93NUMPY\x01\x00"),
    }


def reference_masks(url: str, good: Sequence[tuple[str, str, bytes]]) -> dict[tuple[int, str], bytes]:
    """What each version answers to each good request."""
    found = {}
    with httpx.Client(base_url=url, trust_env=False, timeout=120) as client:
        for number in (2, 1):
            _reload(client, number)
            for place, request in enumerate(good):
                answer = _post(client, request)
                found[place, answer.headers["Terraloop-Model"]] = answer.content
    assert len(set(found.values())) > len(good), "the versions give other masks"  # noqa: S101
    return found


def _ask(
    url: str,
    good: Sequence[tuple[str, str, bytes]],
    bad: dict[str, tuple[str, bytes]],
    masks: dict[tuple[int, str], bytes],
    outcome: Outcome,
    done: threading.Event,
    seed: int,
) -> None:
    """One client: three good requests, then a bad one."""
    chance = random.Random(seed)  # noqa: S311 - an order, no secret
    with httpx.Client(base_url=url, trust_env=False, timeout=120) as client:
        while not done.is_set():
            try:
                for _ in range(3):
                    place = chance.randrange(len(good))
                    answer = _post(client, good[place])
                    outcome.good[answer.status_code] += 1
                    if masks.get((place, answer.headers.get("Terraloop-Model", ""))) != answer.content:
                        outcome.faults.append(f"{good[place][:2]}: {answer.status_code} {answer.text[:200]!r}")
                name = chance.choice(list(bad))
                kind, body = bad[name]
                status = client.post("/invocations", content=body, headers={"Content-Type": kind}).status_code
                outcome.bad[name, status] += 1
            except httpx.HTTPError as error:
                outcome.faults.append(repr(error))


def _change(url: str, seconds: float, reloads: int, outcome: Outcome) -> None:
    """Change between the two versions, evenly over the time."""
    began = time.monotonic()
    with httpx.Client(base_url=url, trust_env=False, timeout=120) as client:
        probe = (JSON, JSON, json.dumps({"inputs": np.ones((1, 6, 2, 2)).tolist()}).encode())
        for number in range(reloads):
            time.sleep(max(0.0, began + seconds * (number + 1) / (reloads + 1) - time.monotonic()))
            asked = time.monotonic()
            wanted = 2 - number % 2
            try:
                _reload(client, wanted)
                answer = _post(client, probe)
                if answer.headers.get("Terraloop-Model") != f"water/{wanted}":
                    outcome.faults.append(f"water/{wanted} was asked for: {answer.headers}")
                outcome.swaps.append(time.monotonic() - asked)
            except (httpx.HTTPError, AssertionError) as error:
                outcome.faults.append(f"reload: {error!r}")
        time.sleep(max(0.0, began + seconds - time.monotonic()))


def _watch(outcome: Outcome, done: threading.Event) -> None:
    while not done.wait(_SAMPLE_SECONDS):
        outcome.memory.append(family_bytes(os.getpid()))


def family_bytes(parent: int) -> int:
    """Memory of all processes below one, each shared page counted once (PSS)."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                above = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            children.setdefault(above, []).append(int(entry.name))
    total, waiting = 0, list(children.get(parent, ()))
    while waiting:
        pid = waiting.pop()
        waiting += children.get(pid, ())
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def _post(client: httpx.Client, request: tuple[str, str, bytes]) -> httpx.Response:
    kind, accept, body = request
    return client.post("/invocations", content=body, headers={"Content-Type": kind, "Accept": accept})


def _reload(client: httpx.Client, number: int) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    answer = client.post("/-/reload", json={"model": f"models:/water/{number}"}, headers=headers)
    assert answer.status_code == 200, answer.text  # noqa: S101 - the caller notes it
    found: dict[str, Any] = answer.json()
    return found


if __name__ == "__main__":
    raise SystemExit(main())
