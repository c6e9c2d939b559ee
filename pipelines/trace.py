"""`nox -s trace`: from a mask, a model version, a dataset or a scene to all that it hangs together with."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pipelines.project import Misuse, as_path, find

SHOWN: Final = 12
"""How many names of a kind are shown one by one."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print what hangs together with a subject; the exit code of `eo-models trace`."""
    parser = argparse.ArgumentParser(prog="nox -s trace --", description=__doc__)
    flag = parser.add_argument
    flag("subject", metavar="SUBJECT", help="a mask.tif, models:/NAME/VERSION, a dataset's digest or a scene's id")
    flag("--project", default="terraloop", metavar="NAME", help="whose store and registry (terraloop)")
    flag("--json", action="store_true", help="as JSON")
    flag("--environments", type=Path, default=Path(".nox"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    try:
        project = find(Path.cwd(), options.project)
    except Misuse as misuse:
        print(f"trace: {misuse}", file=sys.stderr)
        return 2
    variables = {**os.environ, "TERRALOOP_STORE": project.store}
    variables.setdefault("MLFLOW_TRACKING_URI", project.database)
    subject = str(as_path(options.subject)) if options.subject.lower().endswith(("tif", "tiff")) else options.subject
    with tempfile.TemporaryDirectory(prefix="terraloop-trace-") as folder:
        result = Path(folder) / "trace.json"
        command = [str(options.environments.resolve() / "train" / "bin" / "eo-models"), "trace", subject]
        code = subprocess.run(
            [*command, "--result", str(result)], env=variables, stdout=subprocess.DEVNULL, check=False
        ).returncode
        if code != 0:
            return code
        found = json.loads(result.read_text(encoding="utf-8"))
    print(json.dumps(found, indent=2, ensure_ascii=False) if options.json else "\n".join(lines(found)))
    return 0


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """A trace for people."""
    yield f"{found['subject']}"
    yield from _names("scene", found["scenes"])
    yield from _names("dataset", found["datasets"])
    for model in found["models"]:
        yield f"  model       {model['model']}  {model['digest'][:16]}"
        yield f"    dataset   {model['dataset']}"
        yield f"    run       {model['run']}"
        yield f"    commit    {model['commit'] or 'unknown'}"
        if model["dag"]:
            yield f"    DAG run   {model['dag'].get('url') or model['dag'].get('run')}"
        for verdict in model["verdicts"]:
            yield f"    verdict   {verdict['verdict']}: {'; '.join(verdict['reasons'])}"
        for entry in model["promotions"]:
            yield f"    promoted  entry {entry['entry']} of the ledger ({entry['reason']})"
    yield from _names("prediction", found["predictions"])


def _names(kind: str, names: Sequence[str]) -> Iterator[str]:
    for name in names[:SHOWN]:
        yield f"  {kind:<11} {name}"
    if len(names) > SHOWN:
        yield f"  {'':<11} and {len(names) - SHOWN} more"


if __name__ == "__main__":
    sys.exit(main())
