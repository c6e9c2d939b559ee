"""The Great Expectations suite of a use case: made from its `data` section, run over feature rows."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from eo_data.digests import SHORT, json_digest
from eo_data.radiometry import UNIT
from eo_data.usecase import DataSection

if TYPE_CHECKING:
    from great_expectations.core import ExpectationValidationResult

UNSEEN: Final = 0.2
"""Share of a label's scored pixels without image data that is worth a warning."""


@dataclass(frozen=True)
class Rule:
    """One expectation on a column of the feature rows.

    Attributes:
        type: Great Expectations' class, such as `ExpectColumnValuesToBeBetween`.
        column: The column.
        arguments: The expectation's other arguments.
        reason: What is wrong when it fails, for people; `{column}` stands for the row's value.
        severity: A critical failure is quarantine; a warning is told and changes nothing.
    """

    type: str
    column: str
    arguments: tuple[tuple[str, Any], ...]
    reason: str
    severity: Literal["critical", "warning"] = "critical"

    @property
    def wanted(self) -> str:
        """What is expected of the column, for people."""
        values = dict(self.arguments)
        if "value_set" in values:
            negated = "Not" in self.type
            return f"expected {'not ' if negated else ''}" + (
                " or ".join(repr(v) for v in values["value_set"] if v != "") or "none"
            )
        low, high = values["min_value"], values["max_value"]
        if low is None or high is None:
            return f"expected at most {high:g}" if low is None else f"expected at least {low:g}"
        return f"expected {low:g} to {high:g}"

    def explain(self, row: dict[str, Any]) -> str:
        """Why a row that fails it does."""
        return f"{self.reason.format(**row)}: {self.column} is {row[self.column]!r}, {self.wanted}"

    def as_json(self) -> dict[str, Any]:
        """The rule as it enters the suite's digest and the verdicts."""
        return {"type": self.type, "column": self.column, "arguments": dict(self.arguments), "severity": self.severity}


@dataclass(frozen=True)
class Finding:
    """What one expectation found: the scenes that fail it, with the values observed."""

    rule: Rule
    failed: dict[str, Any]


def make_rules(data: DataSection) -> list[Rule]:
    """The expectations of a use case on the columns of `features.feature_row`.

    Rules on values that only exist where something else holds (quantiles without data, an absent label)
    ignore missing values, as Great Expectations' column map expectations do.
    """
    expect = data.expectations
    least = data.chip.size if expect.min_size is None else expect.min_size
    rules = [
        _between("height", least, expect.max_size, "height outside the range of sizes"),
        _between("width", least, expect.max_size, "width outside the range of sizes"),
        _in_set("dtype", expect.dtypes, "data type is not the sensor's"),
        _in_set("bands_fault", ("",), "input bands cannot be read"),
        _between("invalid_fraction", 0.0, expect.max_invalid_fraction, "too few pixels with data"),
        _between(
            "flat_fraction",
            None,
            expect.max_flat_fraction,
            "{flat_value:g} in every band of a pixel is a fill value, not data: declare it as nodata",
        ),
        _between(
            "brightest",
            expect.min_brightest,
            None,
            "reflectance 0..1 read as sensor values? state raster:scale (1) in items/{scene_id}.json",
        ),
        _between(
            "second_darkest",
            expect.min_dark,
            None,
            "the values lie far below 0 by {radiometry}: is the offset removed already? then state raster:offset 0 "
            "in items/{scene_id}.json",
        ),
        *_floor_rules(data),
        *_dark_band_rules(data),
        _in_set("label_fault", ("",), "label cannot be used"),
        _between("label_ignored_fraction", 0.0, expect.max_ignored_label_fraction, "label has hardly a scored pixel"),
        _between(
            "label_unseen_fraction",
            None,
            expect.max_unseen_label_fraction,
            "the image has hardly data where the label is scored",
        ),
        _between("label_unseen_fraction", None, UNSEEN, "scored label pixels without image data", severity="warning"),
    ]
    if expect.crs != "any":
        wanted = expect.crs == "required"
        rules.append(_in_set("georeferenced", (wanted,), "CRS is missing" if wanted else "CRS where none is declared"))
    low, high = expect.quantile_range
    rules += [
        _between(f"{quantile}_{band.name}", low, high, f"{quantile} of {band.name} is no reflectance of this sensor")
        for band in data.input_bands
        for quantile in ("q02", "q98")
    ]
    return rules


def _floor_rules(data: DataSection) -> list[Rule]:
    """No pixel is dark in any band: bright desert, or an offset that is still in the values."""
    high = data.expectations.max_floor
    if high is None:
        return []
    return [
        _between(
            "floor_unstated",
            None,
            high,
            "the values may carry the +1000 offset of newer processing baselines: state raster:offset or the "
            "processing baseline in items/{scene_id}.json",
        ),
        _between("floor_stated", None, high, "no dark pixel by {radiometry}: bright ground?", severity="warning"),
    ]


def _dark_band_rules(data: DataSection) -> list[Rule]:
    """What the band that is near zero over clear pixels says of the radiometry."""
    told = data.reflectance.offset_by_values
    if told is None:
        return []
    return [
        _between(
            "dark_band",
            data.expectations.min_dark,
            round(told.above * data.reflectance.scale * UNIT, 6),
            f"{told.band}, near 0 over clear pixels, contradicts " + "{radiometry}: correct the radiometry in "
            "items/{scene_id}.json (or the order of the bands; a scene all under thick cloud teaches nothing)",
        ),
        Rule(
            "ExpectColumnValuesToNotBeInSet",
            "radiometry_source",
            (("value_set", ["values"]),),
            f"nothing states the radiometry; {told.band} shows an offset of {told.offset:g}, which was removed",
            severity="warning",
        ),
    ]


def suite_digest(data: DataSection) -> str:
    """The short content hash that names the suite in the store.

    A verdict depends on the rules and on how feature rows are made: bands, radiometry, classes.
    """
    read = data.model_dump(mode="json", include={"bands", "inputs", "reflectance", "classes", "ignore_label_values"})
    return json_digest({"rules": [rule.as_json() for rule in make_rules(data)], "read": read})[:SHORT]


def run_suite(rules: Sequence[Rule], rows: Sequence[dict[str, Any]], name: str, docs: Path) -> list[Finding]:
    """Run the suite over feature rows and write Data Docs.

    Args:
        rules: The expectations.
        rows: One row per scene, `scene_id` unique.
        name: Name of suite and batch, for the Data Docs.
        docs: A folder that receives the site, `index.html` at its top.
    """
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    logging.getLogger("great_expectations").setLevel(logging.WARNING)  # its import alone logs a page
    import great_expectations as gx
    import great_expectations.expectations as gxe
    import pandas as pd
    from great_expectations.data_context.types.base import ProgressBarsConfig

    for chatty in ("great_expectations", "great_expectations.data_context"):  # which its import sets otherwise
        logging.getLogger(chatty).setLevel(logging.WARNING)

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    # An ephemeral context brings a site of its own, in a temporary folder that nobody removes: `docs` takes it over.
    sites = context.variables.data_docs_sites or {}
    ours = Path(sites["local_site"]["store_backend"]["base_directory"])
    suite = gx.ExpectationSuite(name=name)
    for number, rule in enumerate(rules):
        build = getattr(gxe, rule.type)
        suite.add_expectation(
            build(column=rule.column, severity=rule.severity, meta={"number": number}, **dict(rule.arguments))
        )
    batch = (
        context.data_sources.add_pandas("feature rows")
        .add_dataframe_asset("scenes")
        .add_batch_definition_whole_dataframe(name)
    )
    definition = context.validation_definitions.add(
        gx.ValidationDefinition(name=name, data=batch, suite=context.suites.add(suite))
    )
    checkpoint = context.checkpoints.add(
        gx.Checkpoint(
            name=name,
            validation_definitions=[definition],
            result_format={"result_format": "COMPLETE", "unexpected_index_column_names": ["scene_id"]},
        )
    )
    outcome = checkpoint.run(batch_parameters={"dataframe": pd.DataFrame(list(rows))})
    context.build_data_docs()
    for path in ours.iterdir():
        shutil.move(path, docs / path.name)
    ours.rmdir()
    results = next(iter(outcome.run_results.values())).results
    return [_finding(rules, result) for result in results]


def _finding(rules: Sequence[Rule], result: ExpectationValidationResult) -> Finding:
    """One expectation's result as the scenes that fail it.

    Raises:
        RuntimeError: If it could not be evaluated, or its success and its list of failures disagree.
    """
    config = result.expectation_config
    if config is None or config.meta is None:
        raise RuntimeError("an expectation's result does not name its expectation")
    rule = rules[config.meta["number"]]
    raised = result.exception_info or {}
    if raised.get("raised_exception") or any(
        isinstance(part, dict) and part.get("raised_exception") for part in raised.values()
    ):
        raise RuntimeError(f"the expectation on '{rule.column}' could not be evaluated: {raised}")
    hits = result.result.get("unexpected_index_list") or []
    failed = {str(hit["scene_id"]): hit.get(rule.column) for hit in hits}
    if result.success == bool(failed):
        raise RuntimeError(f"the expectation on '{rule.column}' contradicts itself: {result.result}")
    return Finding(rule, failed)


def _between(
    column: str,
    low: float | None,
    high: float | None,
    reason: str,
    severity: Literal["critical", "warning"] = "critical",
) -> Rule:
    return Rule("ExpectColumnValuesToBeBetween", column, (("min_value", low), ("max_value", high)), reason, severity)


def _in_set(column: str, values: Sequence[Any], reason: str) -> Rule:
    return Rule("ExpectColumnValuesToBeInSet", column, (("value_set", list(values)),), reason)
