"""`python -m benchmarks NAME ...`: run one benchmark."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import Final

BENCHMARKS: Final = {
    "data": "loading chips, chipping and validating: eo_data beside its peers",
    "quality": "water IoU on real labels: trained networks beside tuned indices",
    "serving": "the endpoint beside the bare model, whole scenes beside the field, memory",
    "models": "Lightning beside a bare loop, precision and layout, torch beside ONNX Runtime",
}
"""Name of a module here, and what it measures."""

SURROUNDINGS: Final = {"GDAL_CACHEMAX": "64", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
"""A scene smaller than GDAL's block cache would measure memcpy after one pass; threads that spin cost CPU time."""


def main() -> int:
    """Dispatch to a benchmark."""
    parser = argparse.ArgumentParser(prog="nox -s bench --", description=__doc__)
    known = "; ".join(f"{name}: {what}" for name, what in BENCHMARKS.items())
    parser.add_argument("name", choices=list(BENCHMARKS), help=known)
    parser.add_argument("flags", nargs=argparse.REMAINDER, help="the benchmark's own; NAME --help lists them")
    options = parser.parse_args()
    os.environ.update(SURROUNDINGS)  # before GDAL and torch are loaded
    return int(importlib.import_module(f"benchmarks.{options.name}").main(options.flags))


if __name__ == "__main__":
    sys.exit(main())
