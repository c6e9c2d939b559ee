"""Run the test suites, each in a process of its own, two at a time where there are cores, and sum them up.

A suite cannot disturb another by what it imported or set, and each ends with pytest's closing line. Where two run at
once every line begins with its suite's name. The last line sums all of them up in the same form.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
NO_TESTS: Final = 5
WIDTH: Final = 80


@dataclass(frozen=True)
class Suite:
    """One pytest run: its name and its paths."""

    name: str
    paths: tuple[str, ...]


SUITES: Final = (  # the longest first: two at a time then end together
    Suite("eo_models", ("packages/eo_models/tests",)),
    Suite("eo_serving", ("packages/eo_serving/tests",)),
    Suite("eo_data", ("packages/eo_data/tests",)),
    Suite("pipelines", ("tests/pipelines", "tests/infra", "tests/airflow")),
    Suite("cross-package", ("tests", "--ignore=tests/pipelines", "--ignore=tests/infra", "--ignore=tests/airflow")),
)


@dataclass(frozen=True)
class Finding:
    """How a suite went: pytest's exit code, seconds, and tests by outcome."""

    name: str
    code: int
    seconds: float
    counts: Counter[str]

    def line(self) -> str:
        """The counts as pytest writes them."""
        kinds = ("failed", "passed", "skipped", "error")
        said = [f"{self.counts[kind]} {kind}" for kind in kinds if self.counts[kind]]
        return f"{', '.join(said) or 'no tests ran'} in {self.seconds:.2f}s"


def main() -> int:
    """Run the suites; 0 if all of them passed."""
    parser = argparse.ArgumentParser(prog="nox -s test --", description=__doc__, allow_abbrev=False)
    parser.add_argument("--only", choices=[suite.name for suite in SUITES], help="one suite")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="suites at a time (%(default)s)")
    options, for_pytest = parser.parse_known_args()
    chosen = [suite for suite in SUITES if options.only in (None, suite.name)]
    if len(chosen) == 1:
        return _run(chosen[0], for_pytest, prefix="").code
    start = time.monotonic()
    with ThreadPoolExecutor(options.jobs) as pool:
        findings = list(pool.map(lambda suite: _run(suite, for_pytest, prefix=f"{suite.name:<13} | "), chosen))
    _sum_up(findings, time.monotonic() - start)
    return max(finding.code for finding in findings)


def _run(suite: Suite, for_pytest: list[str], prefix: str) -> Finding:
    print(prefix + f" {suite.name} ".center(WIDTH, "#"), flush=True)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="terraloop-tests-") as folder:
        junit = Path(folder) / "junit.xml"
        command = [sys.executable, "-m", "pytest", *suite.paths, f"--junitxml={junit}", *for_pytest]
        code = _through(command, prefix) if prefix else subprocess.run(command, cwd=ROOT, check=False).returncode
        counts = _counts(junit) if junit.exists() else Counter({"error": 1})
    # A chosen test (-k, -m) may lie in another suite: a suite without tests fails only where nothing was chosen.
    code = 0 if code == NO_TESTS and for_pytest else code
    return Finding(suite.name, code, time.monotonic() - start, counts)


def _through(command: list[str], prefix: str) -> int:
    """Run a command, its lines passed on as they come, each behind the prefix."""
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(f"{prefix}{line.rstrip()}", flush=True)
    return process.returncode


def _counts(junit: Path) -> Counter[str]:
    """Tests by outcome, out of pytest's own report."""
    totals: Counter[str] = Counter()
    for element in ElementTree.parse(junit).getroot().iter("testsuite"):  # noqa: S314  pytest wrote it just now
        found = {key: int(element.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")}
        bad = found["failures"] + found["errors"] + found["skipped"]
        totals += Counter(
            passed=found["tests"] - bad,
            failed=found["failures"],
            error=found["errors"],
            skipped=found["skipped"],
        )
    return totals


def _sum_up(findings: list[Finding], seconds: float) -> None:
    print(" all suites ".center(WIDTH, "#"))
    for finding in findings:
        state = "ok" if finding.code == 0 else f"pytest ended with {finding.code}"
        print(f"{finding.name:<14} {finding.line():<44} {state}")
    total = Finding(
        "all",
        max(finding.code for finding in findings),
        seconds,
        sum((finding.counts for finding in findings), Counter()),
    )
    print(f" {total.line()} ".center(WIDTH, "="), flush=True)


if __name__ == "__main__":
    sys.exit(main())
