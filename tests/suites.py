"""Run the test suites one after the other, each in a process of its own, and sum them up.

A suite cannot disturb the next one by what it imported or set, and each ends with pytest's closing line. The last
line sums all of them up in the same form.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
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


SUITES: Final = (
    Suite("eo_data", ("packages/eo_data/tests",)),
    Suite("eo_models", ("packages/eo_models/tests",)),
    Suite("eo_serving", ("packages/eo_serving/tests",)),
    Suite("pipelines", ("tests/pipelines", "tests/infra")),
    Suite("cross-package", ("tests", "--ignore=tests/pipelines", "--ignore=tests/infra")),
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
    options, for_pytest = parser.parse_known_args()
    chosen = [suite for suite in SUITES if options.only in (None, suite.name)]
    findings = [_run(suite, for_pytest) for suite in chosen]
    if len(findings) > 1:
        _sum_up(findings)
    return max(finding.code for finding in findings)


def _run(suite: Suite, for_pytest: list[str]) -> Finding:
    print(f" {suite.name} ".center(WIDTH, "#"), flush=True)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="terraloop-tests-") as folder:
        junit = Path(folder) / "junit.xml"
        command = [sys.executable, "-m", "pytest", *suite.paths, f"--junitxml={junit}", *for_pytest]
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
        counts = _counts(junit) if junit.exists() else Counter({"error": 1})
    # A chosen test (-k, -m) may lie in another suite: a suite without tests fails only where nothing was chosen.
    code = 0 if code == NO_TESTS and for_pytest else code
    return Finding(suite.name, code, time.monotonic() - start, counts)


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


def _sum_up(findings: list[Finding]) -> None:
    print(" all suites ".center(WIDTH, "#"))
    for finding in findings:
        state = "ok" if finding.code == 0 else f"pytest ended with {finding.code}"
        print(f"{finding.name:<14} {finding.line():<44} {state}")
    total = Finding(
        "all",
        max(finding.code for finding in findings),
        sum(finding.seconds for finding in findings),
        sum((finding.counts for finding in findings), Counter()),
    )
    print(f" {total.line()} ".center(WIDTH, "="), flush=True)


if __name__ == "__main__":
    sys.exit(main())
