"""Stands in for every step command under a real Airflow, so that what runs steps is tested in seconds.

It lies as `eo-data`, `eo-models` and `eo-serving` in a folder whose `plan.json` says how each verb behaves now:
`{"train": {"exit": 75, "times": 2, "sleep": 1, "says": "...", "result": {...}, "late": "...", "hang": true}}`.
Every call is written to `calls.jsonl` there.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

HOME = Path(__file__).resolve().parents[2]


def flags(words: list[str]) -> dict[str, str]:
    """Flags and their values; of a flag without one, the empty text."""
    found: dict[str, str] = {}
    for place, word in enumerate(words):
        if word.startswith("--"):
            following = words[place + 1 : place + 2]
            found[word] = following[0] if following and not following[0].startswith("--") else ""
    return found


def result_of(verb: str, given: dict[str, str]) -> dict[str, Any]:
    """A result of the shape that the real step has."""
    scenes = ["b", "a"]
    dataset = given.get("--dataset", "")
    results: dict[str, dict[str, Any]] = {
        "simulate": {"source": f"file://{given.get('--out')}", "scenes": scenes},
        "ingest": {
            "batch": f"{given.get('--source')}#batch",
            "scenes": {"added": scenes, "present": [], "refused": {}},
            "labels": {"added": [], "present": [], "refused": {}},
        },
        "validate": {
            "verdicts": f"{given.get('--batch')}#verdicts",
            "accepted": scenes,
            "quarantined": {},
            "docs": "file:///docs/index.html",
        },
        "chip": {
            "dataset": f"{given.get('--verdicts')}#dataset",
            "digest": "d" * 64,
            "chips": {"train": 5, "validation": 2, "holdout": 3, "test": 1},
            "simulated": True,
            "existing": False,
        },
        "train": {"model": "models:/water/2", "version": 2, "digest": "c" * 64, "index": "models:/water/1",
                  "run": "r1", "existing": False},
        "evaluate": {
            "evaluation": f"{given.get('--model')}|{dataset}",
            "model": "models:/water/2",
            "champion": "models:/water/1",
            "iou": {"candidate": 0.75, "champion": 0.5, "index": 0.5, "index_untuned": None},
            "existing": False,
        },
        "promote": {
            "gate": {"verdict": "promoted", "reasons": ["above both"]},
            "champion": "models:/water/2",
            "previous": "models:/water/1",
            "entry": 2,
        },
        "deploy": {"endpoint": f"{given.get('--endpoint')}/invocations", "model": "water/2", "version": 2,
                   "digest": "c" * 64, "rolled_back": False},
        "predict": {
            "mask": f"file:///m/{given.get('--scene')}/mask.tif",
            "item": f"file:///m/{given.get('--scene')}/item.json",
            "quicklook": f"file:///m/{given.get('--scene')}/quicklook.png",
            "mask_digest": "e" * 64,
            "radiometry": {"scale": 0.0001, "offset": 0.0, "source": "usecase"},
            "model": "water/2",
            "digest": "c" * 64,
        },
        "monitor": {"report": "file:///r.json", "page": "file:///r.html", "champion": "models:/water/2",
                    "requests": 0, "drifted": [], "quality": None, "retrain": False, "reasons": []},
    }  # fmt: skip
    return results[verb]


def main() -> int:
    """Behave as the plan says."""
    verb, given = sys.argv[1], flags(sys.argv[2:])
    with (HOME / "calls.jsonl").open("a+", encoding="utf-8") as calls:
        fcntl.flock(calls, fcntl.LOCK_EX)
        calls.seek(0)
        before = sum(1 for line in calls if json.loads(line)["verb"] == verb)
        variables = {key: value for key, value in os.environ.items() if "AIRFLOW" in key or "TERRALOOP" in key}
        record = {"verb": verb, "argv": sys.argv[1:], "pid": os.getpid(), "time": time.time(), "variables": variables}
        calls.write(json.dumps(record) + "\n")
    plan = json.loads((HOME / "plan.json").read_text(encoding="utf-8")).get(verb, {})
    print(f"{verb}: 50%\r{verb}: 100%\n{verb} says {plan.get('says', 'hello')}", file=sys.stderr, flush=True)
    if plan.get("hang"):
        time.sleep(600)
    time.sleep(plan.get("sleep", 0))
    if plan.get("exit") and before < plan.get("times", 10**6) and plan["exit"] != 4:
        print(f"{verb}: error: {plan.get('says', 'this is why')}", file=sys.stderr)
        return int(plan["exit"])
    result = {**result_of(verb, given), **plan.get("result", {})}
    work = Path(given["--result"]).with_suffix(".part")
    work.write_text(json.dumps(result, ensure_ascii=False), encoding="utf-8")
    work.replace(given["--result"])
    print(json.dumps(result))
    print(plan.get("late", "a warning printed at exit"), flush=True)
    if plan.get("exit") == 4:
        print(f"{verb}: the gate refused the candidate: {plan.get('says', 'not above the index')}", file=sys.stderr)
        return 4
    return 0


if __name__ == "__main__":
    sys.exit(main())
