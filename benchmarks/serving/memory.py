"""`python -m benchmarks.serving.memory VERSION SCENE OUT`: predict a scene, print the peak of resident memory.

A process of its own, because the peak is the process's. It is read from /proc: what `getrusage` calls the peak starts
with that of the process that started this one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.serving.version import Registered


def peak_bytes(registered: Registered, scene: Path) -> int:
    """Peak of resident memory, bytes, of `eo-serving predict` for a scene, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="terraloop-bench-memory-") as folder:
        command = [sys.executable, "-m", "benchmarks.serving.memory", registered.usecase.source, registered.store.uri]
        answer = subprocess.run(
            [*command, str(scene), f"{folder}/out", registered.tracking], check=True, stdout=subprocess.PIPE
        )
    return int(json.loads(answer.stdout.splitlines()[-1])["peak_bytes"])


def main() -> None:
    """Predict and print."""
    from eo_data.store import Store
    from eo_data.usecase import UseCase
    from eo_serving.prediction import predict

    usecase, store, scene, out, tracking = sys.argv[1:6]
    os.environ["MLFLOW_TRACKING_URI"] = tracking
    os.environ.pop("GDAL_CACHEMAX", None)  # as users have it
    predict(UseCase.load(usecase), Store(store), scene, out, "models:/water/1")
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (peak,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    print(json.dumps({"peak_bytes": int(peak) * 1024}))


if __name__ == "__main__":
    main()
