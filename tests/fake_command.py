"""Stands in for every command of a stack, so that what runs them is tested in seconds: real processes and sockets.

It is copied under the names `eo-data`, `eo-models`, `eo-serving` and `mlflow`, answers with results of the right
shape, and misbehaves where an environment variable says so:

FAKE_<VERB>=exit:N        end with code N and a message, without a result
FAKE_<VERB>=slow          work for a minute, with a child process of its own
FAKE_<VERB>=temporary:N   end with 75 the first N times (counted in a file beside the result)
FAKE_<VERB>=die           a service: answer, and end a second later
FAKE_<VERB>=stubborn      a service: ignore SIGTERM, and start a child in a session of its own
FAKE_GATE=refused         the gate refuses the candidate
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

IDLE = "import time; time.sleep(600)"


def flags(arguments: list[str]) -> dict[str, str]:
    """The flags of a call and their values."""
    found = {}
    for name, value in itertools.pairwise(arguments):
        if name.startswith("--"):
            found[name] = value
    return found


def result_of(verb: str, given: dict[str, str]) -> dict[str, object]:
    """What a step of this verb gives."""
    refused = os.environ.get("FAKE_GATE") == "refused"
    results: dict[str, dict[str, object]] = {
        "simulate": {"source": f"file://{given.get('--out')}", "scenes": ["b", "a"]},
        "ingest": {
            "batch": f"{given.get('--source')}#batch",
            "scenes": {"added": ["b", "a"], "present": [], "refused": {"junk": "no raster"}},
            "labels": {"added": ["b"], "present": [], "refused": {"a": "another size"}},
        },
        "validate": {
            "verdicts": f"{given.get('--batch')}#verdicts",
            "accepted": ["b", "a"],
            "quarantined": {"dark": "all nodata"},
            "docs": "file:///docs/index.html",
        },
        "chip": {
            "dataset": f"{given.get('--verdicts')}#dataset",
            "digest": "d" * 64,
            "chips": {"train": 5, "validation": 2, "holdout": 3, "test": 1},
            "unlabelled": 0,
            "simulated": False,
            "simulated_left_out": 0,
            "existing": True,
        },
        "train": {
            "model": "models:/water/2",
            "version": 2,
            "digest": "c" * 64,
            "index": "models:/water/1",
            "run": "r1",
            "existing": False,
        },
        "evaluate": {
            "evaluation": f"{given.get('--model')}|{given.get('--dataset')}",
            "model": "models:/water/2",
            "champion": "models:/water/1",
            "index": "models:/water/1",
            "iou": {"candidate": 0.75, "champion": 0.5, "index": 0.5, "index_untuned": None},
            "existing": False,
        },
        "promote": {
            "gate": {
                "verdict": "refused" if refused else "promoted",
                "reasons": ["not above the index", "too few cells"] if refused else ["above both"],
            },
            "champion": "models:/water/1" if refused else "models:/water/2",
            "previous": None,
            "entry": None if refused else 2,
        },
        "deploy": {
            "endpoint": f"{given.get('--endpoint')}/invocations",
            "model": given.get("--model", "water/1"),
            "version": 1,
            "digest": "c" * 64,
            "rolled_back": False,
        },
        "predict": {
            "mask": f"{given.get('--store')}/predictions/{given.get('--scene')}/mask.tif",
            "item": f"{given.get('--store')}/predictions/{given.get('--scene')}/item.json",
            "quicklook": f"{given.get('--store')}/predictions/{given.get('--scene')}/quicklook.png",
            "mask_digest": "e" * 64,
            "radiometry": {"scale": 0.0001, "offset": -0.1, "source": "stac"},
            "model": given.get("--model", "water/1"),
            "digest": "c" * 64,
        },
    }
    return results[verb]


def step(verb: str, given: dict[str, str]) -> int:
    """Behave as a step."""
    how, _, what = os.environ.get(f"FAKE_{verb.upper()}", "").partition(":")
    result = Path(given["--result"])
    print(f"{verb}: 50%\r{verb}: 100%", file=sys.stderr)
    if how == "exit":
        print(f"fake {verb}: error: this is why", file=sys.stderr)
        return int(what)
    if how == "temporary":
        counter = result.with_suffix(".count")
        tries = int(counter.read_text()) if counter.exists() else 0
        counter.write_text(str(tries + 1))
        if tries < int(what):
            print("the store is out of reach", file=sys.stderr)
            return 75
    if how == "slow":
        subprocess.Popen([sys.executable, "-c", IDLE])
        time.sleep(60)
    with Path(given["--result"]).with_suffix(".called").open("w") as told:
        json.dump({"argv": sys.argv[1:], "variables": dict(os.environ)}, told)
    result.write_text(json.dumps(result_of(verb, given)))
    print("garbage on stdout, after the result")
    refused = verb == "promote" and os.environ.get("FAKE_GATE") == "refused"
    return 4 if refused else 0


class Answer(BaseHTTPRequestHandler):
    """Answers everything with 200."""

    def do_GET(self) -> None:
        """Say yes."""
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def serve(name: str, given: dict[str, str]) -> int:
    """Behave as a service."""
    how = os.environ.get(f"FAKE_{name.upper()}", "")
    print(f"{name} starts", flush=True)
    if how == "silent":
        print("no port for me", flush=True)
        return 3
    child = subprocess.Popen([sys.executable, "-c", IDLE], start_new_session=how == "stubborn")
    if how == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:

        def on_term(number: int, frame: object) -> None:
            child.kill()
            sys.exit(0)

        signal.signal(signal.SIGTERM, on_term)
    server = ThreadingHTTPServer((given["--host"], int(given["--port"])), Answer)
    server.timeout = 0.2
    end = time.monotonic() + (1.0 if how == "die" else 3600.0)
    while time.monotonic() < end:
        server.handle_request()
    print("these were my last words", flush=True)
    os._exit(7)


def main() -> int:
    """Be the command of this name."""
    verb, given = sys.argv[1], flags(sys.argv[2:])
    if verb in ("server", "serve"):
        return serve("mlflow" if verb == "server" else "serving", given)
    return step(verb, given)


if __name__ == "__main__":
    sys.exit(main())
