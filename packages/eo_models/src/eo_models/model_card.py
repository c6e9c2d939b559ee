"""The model card of a version in Markdown, rendered from its `model.json` and its evaluation; nothing is typed in."""

from __future__ import annotations

from collections import Counter
from typing import Any

from eo_data.dataset import Manifest
from eo_data.model.description import ModelDescription
from eo_data.model.files import ModelFiles
from eo_data.usecase import SPLITS, UseCase
from eo_models.documents import Block, Heading, Paragraph, Table, markdown
from eo_models.evaluation_record import Evaluation
from eo_models.report_tables import SHOWN, behaviour_table, differences_table, figure, signed, split_table
from eo_models.scene_facts import ABSENT, STRATA


def model_card(record: Evaluation, candidate: ModelFiles, usecase: UseCase, manifest: Manifest) -> bytes:
    """The card of an evaluated version; `eo_models.candidate_card` has that of one that is only trained.

    Args:
        record: The evaluation that its figures are from.
        candidate: The version.
        usecase: Whose task.
        manifest: Of the dataset that it was evaluated on.
    """
    blocks: list[Block] = [
        Paragraph(
            f"{candidate.description.architecture}, {candidate.description.total_parameters:,} fitted numbers, "
            f"sha256 {candidate.digest}."
        ),
        *use_blocks(candidate.description, usecase, record.target),
        *data_blocks(manifest, usecase, record.target),
        Heading("Figures"),
        *(split_table(record, split) for split in SHOWN),
        differences_table(record),
        Paragraph(
            f"Calibration on the test split: expected error {figure(record.calibration.expected_error)}, "
            f"Brier score {figure(record.calibration.brier)}, average precision "
            f"{figure(record.curves['candidate'].average_precision)}."
        ),
        Heading("Behaviour"),
        behaviour_table(record),
        Heading("Limits"),
        Paragraph("\n".join(f"- {limit}" for limit in limits(record, candidate))),
        *_making(record, candidate),
    ]
    return markdown(f"Model card: {candidate.label}", blocks)


def limits(record: Evaluation, candidate: ModelFiles) -> list[str]:
    """What the evidence does not cover, and where it speaks against the model."""
    found = []
    if record.simulated:
        found.append("Trained and evaluated on simulated scenes: nothing here says how good it is on real ones.")
    unsaid = [kind for kind in STRATA if set(record.splits["test"].strata[kind]) <= {ABSENT}]
    if unsaid:
        found.append(f"The scenes do not say {', '.join(unsaid)}: differences between them are unknown.")
    for role, one in record.comparisons.items():
        if one.low is None or one.low <= 0:
            found.append(
                f"Not shown to be better than the {role} on the holdout: difference {signed(one.difference)}, "
                f"95 % interval [{signed(one.low)}, {signed(one.high)}]."
            )
    undefined = [s for s in record.splits["test"].scenes if s.pooled["candidate"].iou is None]
    if undefined:
        found.append(
            f"IoU is undefined on {len(undefined)} test scenes: neither labelled nor predicted {record.target}."
        )
    found += [f"Fails the behavioural test '{check.name}': {check.detail}." for check in record.behaviour
              if check.passed is False]  # fmt: skip
    found.append(
        f"Holds for the bands {', '.join(candidate.description.input.bands)} as {candidate.description.input.unit} "
        "of this sensor; another sensor or processing level needs an evaluation of its own."
    )
    return found


def use_blocks(description: ModelDescription, usecase: UseCase, target: str) -> list[Block]:
    """What a version is for, and what not."""
    data, tiling = usecase.data, description.tiling
    classes = ", ".join(f"{c.value} {c.name}" for c in description.output.classes)
    return [
        Heading("Intended use"),
        Paragraph(
            f"{usecase.title}: masks of {target} from {data.sensor} scenes. Reads the bands "
            f"{', '.join(description.input.bands)} as {description.input.unit}, in tiles of "
            f"{tiling.tile} pixels with a halo of {tiling.halo}; gives the classes {classes}, and 255 without data."
        ),
        Paragraph("Not meant for other sensors, for measuring depth or quality of water, or for decisions without a "
                  "person who looks.") if target == "water" else
        Paragraph("Not meant for other sensors, or for decisions without a person who looks."),
    ]  # fmt: skip


def data_blocks(manifest: Manifest, usecase: UseCase, target: str) -> list[Block]:
    """What a dataset holds, by split."""
    chips = Counter(chip.split for chip in manifest.chips)
    cells = {split: len({chip.cell for chip in manifest.chips if chip.split == split}) for split in SPLITS}
    collections = ", ".join(sorted({scene.collection for scene in manifest.scenes}))
    number = [definition.name for definition in usecase.data.classes].index(target)
    simulated = sum(scene.simulated for scene in manifest.scenes)
    real = {0: "", len(manifest.scenes): ", all simulated"}.get(simulated, f", {simulated} of them simulated")
    shares = {}
    for split in SPLITS:
        counted = [chip.class_counts for chip in manifest.chips if chip.split == split]
        total = sum(map(sum, counted))
        shares[split] = f"{sum(one[number] for one in counted) / total:.1%}" if total else "undefined"
    return [
        Heading("Data"),
        Paragraph(f"Dataset {manifest.digest} with {len(manifest.scenes)} scenes of {collections}{real}."),
        Table(
            ("split", "chips", "cells", f"{target} in the labels"),
            tuple((split, str(chips[split]), str(cells[split]), shares[split]) for split in SPLITS),
        ),
    ]


def _making(record: Evaluation, candidate: ModelFiles) -> list[Block]:
    description = candidate.description
    rows = {
        "version": candidate.uri,
        "MLflow run": candidate.run or "none",
        "sha256 of model.onnx": candidate.digest,
        "sha256 of model.json": candidate.description_digest,
        "trained on dataset": description.dataset_digest,
        "trained by commit": description.git_commit or "unknown",
        "evaluated by commit": record.git_commit or "unknown",
        **{f"metric {name}": figure(value) for name, value in description.metrics.items()},
        **settings(description.parameters),
    }
    return [Heading("How it was made"), fact_table(rows)]


def fact_table(rows: dict[str, Any]) -> Table:
    """Names and what they say."""
    return Table(("", ""), tuple((name, str(value)) for name, value in rows.items()))


def settings(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names, as MLflow's parameters are."""
    result: dict[str, Any] = {}
    for name, value in values.items():
        result |= settings(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return result
