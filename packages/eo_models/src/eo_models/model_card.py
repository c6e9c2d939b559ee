"""The model card of a version in Markdown, rendered from its `model.json` and its evaluation; nothing is typed in."""

from __future__ import annotations

from collections import Counter
from typing import Any

from eo_data.dataset import Manifest
from eo_data.model.files import ModelFiles
from eo_data.usecase import SPLITS, UseCase
from eo_models.documents import Block, Heading, Paragraph, Table, markdown
from eo_models.evaluation_record import Evaluation
from eo_models.report_tables import SHOWN, behaviour_table, differences_table, figure, signed, split_table
from eo_models.scene_facts import ABSENT, STRATA


def model_card(record: Evaluation, candidate: ModelFiles, usecase: UseCase, manifest: Manifest) -> bytes:
    """The card.

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
        *_use(candidate, usecase, record),
        *_data(record, manifest, usecase),
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


def _use(candidate: ModelFiles, usecase: UseCase, record: Evaluation) -> list[Block]:
    data, tiling = usecase.data, candidate.description.tiling
    classes = ", ".join(f"{c.value} {c.name}" for c in candidate.description.output.classes)
    return [
        Heading("Intended use"),
        Paragraph(
            f"{usecase.title}: masks of {record.target} from {data.sensor} scenes. Reads the bands "
            f"{', '.join(candidate.description.input.bands)} as {candidate.description.input.unit}, in tiles of "
            f"{tiling.tile} pixels with a halo of {tiling.halo}; gives the classes {classes}, and 255 without data."
        ),
        Paragraph("Not meant for other sensors, for measuring depth or quality of water, or for decisions without a "
                  "person who looks.") if record.target == "water" else
        Paragraph("Not meant for other sensors, or for decisions without a person who looks."),
    ]  # fmt: skip


def _data(record: Evaluation, manifest: Manifest, usecase: UseCase) -> list[Block]:
    chips = Counter(chip.split for chip in manifest.chips)
    cells = {split: len({chip.cell for chip in manifest.chips if chip.split == split}) for split in SPLITS}
    collections = ", ".join(sorted({scene.collection for scene in manifest.scenes}))
    target = [definition.name for definition in usecase.data.classes].index(record.target)
    shares = {}
    for split in SPLITS:
        counted = [chip.class_counts for chip in manifest.chips if chip.split == split]
        total = sum(map(sum, counted))
        shares[split] = f"{sum(one[target] for one in counted) / total:.1%}" if total else "undefined"
    return [
        Heading("Data"),
        Paragraph(
            f"Dataset {record.dataset['digest']} with {len(manifest.scenes)} scenes of {collections}"
            + (", all simulated." if record.simulated else ".")
        ),
        Table(
            ("split", "chips", "cells", f"{record.target} in the labels"),
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
        **_flat(description.parameters),
    }
    return [Heading("How it was made"), Table(("", ""), tuple((name, str(value)) for name, value in rows.items()))]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names."""
    result: dict[str, Any] = {}
    for name, value in values.items():
        result |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return result
