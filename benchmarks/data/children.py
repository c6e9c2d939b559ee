"""What is measured in processes of their own: memory of `chip`, CPU time of `validate`, on a large scene."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.windows import Window

from benchmarks.data.scene import PROFILE
from benchmarks.data.workload import make_store, validated
from benchmarks.protocol import cpu_seconds

STRIP = 512


def large_scene(source: tuple[Path, Path], folder: Path, size: int) -> Path:
    """A scene of any size, the small one side by side and mirrored, with its label; their folder.

    Args:
        source: The small scene and its label.
        folder: Where to.
        size: Height and width, pixels.
    """
    for kind, path in zip(("images", "labels"), source, strict=True):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        with rasterio.open(path) as small:
            pixels, descriptions = small.read(), small.descriptions
            profile = PROFILE | {"width": size, "height": size, "count": small.count, "dtype": small.dtypes[0]}
        columns = _mirrored(size, pixels.shape[2])
        with rasterio.open(folder / kind / "large.tif", "w", **profile, nodata=0) as target:
            for top in range(0, size, STRIP):
                rows = _mirrored(size, pixels.shape[1])[top : top + STRIP]
                target.write(pixels[:, rows][:, :, columns], window=Window(0, top, size, len(rows)))
            target.descriptions = descriptions
    return folder


def _mirrored(length: int, period: int) -> Any:
    index = np.arange(length) % (2 * period)
    return np.minimum(index, 2 * period - 1 - index)


def measure(folder: Path, scenes: Path) -> dict[str, Any]:
    """Ingest and validate a folder of one large scene, then measure in processes of their own.

    Returns:
        `chip`: `base_bytes` and `peak_bytes` of resident memory, `cpu_seconds`, `chips`; `validate`: `cpu_seconds` of
        the feature row, and of reading image and label once, strip by strip.
    """
    store, usecase = make_store(folder, scenes)
    verdicts = validated(usecase, store)
    return {
        "chip": _child("chip", str(usecase), str(store), verdicts),
        "validate": _child("validate", str(usecase), str(store)),
    }


def _child(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.data.children", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments[:1])} ended with {done.returncode}:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _chip(usecase_file: str, uri: str, verdicts: str) -> dict[str, Any]:
    from eo_data.chips import chip
    from eo_data.store import Store
    from eo_data.usecase import UseCase

    store, usecase = Store(uri), UseCase.load(usecase_file)
    base = _peak_bytes()
    cpu = cpu_seconds()
    result = chip(store, usecase, verdicts, progress=False)
    return {
        "base_bytes": base,
        "peak_bytes": _peak_bytes(),
        "cpu_seconds": cpu_seconds() - cpu,
        "chips": result["chips"],
    }


def _validate(usecase_file: str, uri: str) -> dict[str, Any]:
    from eo_data.features import LabelKey, feature_row
    from eo_data.scene import list_scenes
    from eo_data.store import Store
    from eo_data.usecase import UseCase

    store, usecase = Store(uri), UseCase.load(usecase_file)
    (scene,) = list_scenes(store)
    (label,) = (LabelKey(*key.split("/")[1:4]) for key in store.list("labels") if key.endswith("/label.json"))
    row_cpu = _cpu(lambda: feature_row(store, scene, label, usecase.data))
    image_cpu = _cpu(lambda: _read_once(scene.raster_path))
    label_cpu = _cpu(lambda: _read_once(store.raster_path(label.key)))
    return {"feature_row_cpu_seconds": row_cpu, "image_cpu_seconds": image_cpu, "label_cpu_seconds": label_cpu}


def _cpu(work: Callable[[], object]) -> float:
    start = cpu_seconds()
    work()
    return cpu_seconds() - start


def _read_once(path: str) -> None:
    with rasterio.open(path) as dataset:
        for top in range(0, dataset.height, STRIP):
            dataset.read(window=Window(0, top, dataset.width, min(STRIP, dataset.height - top)))


def _peak_bytes() -> int:
    """The most resident memory that this process had; getrusage would count its parent's from before the exec."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no VmHWM")


def _main(arguments: Sequence[str]) -> None:
    result = _chip(*arguments[1:]) if arguments[0] == "chip" else _validate(*arguments[1:])
    print(json.dumps(result))


if __name__ == "__main__":
    _main(sys.argv[1:])
