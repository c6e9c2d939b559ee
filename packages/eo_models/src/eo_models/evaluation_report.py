"""An evaluation for people: report (HTML and Markdown), its pictures, and the model card, all from one record."""

from __future__ import annotations

from collections.abc import Sequence

from eo_data.dataset import Manifest
from eo_data.model.files import ModelFiles
from eo_data.usecase import UseCase
from eo_models.charts import confusion_chart, curve_chart, intervals_chart, reliability_chart, scenes_chart
from eo_models.documents import Block, Heading, Numbers, Paragraph, Picture, Table, markdown, page
from eo_models.documents import Number as Headline
from eo_models.evaluation_record import Evaluation
from eo_models.figures import Sample, sample_figure
from eo_models.model_card import model_card
from eo_models.report_tables import (
    SHOWN,
    behaviour_table,
    bracketed,
    costs_table,
    differences_table,
    figure,
    role_names,
    scenes_table,
    signed,
    split_table,
    strata_blocks,
)


def report_files(
    record: Evaluation, candidate: ModelFiles, usecase: UseCase, manifest: Manifest, samples: Sequence[Sample]
) -> dict[str, bytes]:
    """The files beside `evaluation.json`, by name: `report.html`, `report.md`, `model-card.md` and pictures.

    Args:
        record: The evaluation.
        candidate: The version that it is of.
        usecase: Whose task.
        manifest: Of the dataset.
        samples: Sample predictions on the test split.
    """
    pictures = _pictures(record, usecase, samples)
    title = f"Evaluation of {record.candidate.uri}"
    blocks = _blocks(record, candidate)
    return {
        **pictures,
        "report.html": page(title, blocks, pictures),
        "report.md": markdown(title, blocks),
        "model-card.md": model_card(record, candidate, usecase, manifest),
    }


def _pictures(record: Evaluation, usecase: UseCase, samples: Sequence[Sample]) -> dict[str, bytes]:
    names = role_names(record)
    judged = {split: record.splits[split] for split in ("holdout", "test")}
    # Equal models draw equal lines: the champion may be the index.
    parties = {role: getattr(record, role).digest for role in ("candidate", "champion", "index")}
    distinct = {
        role: f"{role} ({getattr(record, role).architecture})"
        for role, digest in parties.items()
        if digest not in _before(parties, role)
    }
    pooled = record.splits["test"].pooled
    simulated = ", simulated scenes" if record.simulated else ""
    return {
        "samples.png": sample_figure(samples, usecase.data, ""),
        "intervals.png": intervals_chart(judged, names),
        "precision-recall.png": curve_chart(record.curves, distinct, pooled, f"test split{simulated}"),
        "reliability.png": reliability_chart(record.calibration, record.target, f"candidate, test split{simulated}"),
        "confusion.png": confusion_chart(pooled["candidate"], record.target, f"candidate, test split{simulated}"),
        "confusion-champion.png": confusion_chart(
            pooled["champion"], record.target, f"champion, test split{simulated}"
        ),
        "scenes.png": scenes_chart(judged, distinct),
    }


def _before(parties: dict[str, str], role: str) -> set[str]:
    roles = list(parties)
    return {parties[other] for other in roles[: roles.index(role)]}


def _blocks(record: Evaluation, candidate: ModelFiles) -> list[Block]:
    description = candidate.description
    blocks: list[Block] = [
        Paragraph(
            f"{record.candidate.architecture}, sha256 {record.candidate.digest[:12]}, class '{record.target}', dataset "
            f"{record.dataset['digest'][:12]}. Scored as exported and through the tiles that serve."
        )
    ]
    if record.simulated:
        blocks.append(
            Paragraph("Simulated scenes: good for trying the system, no proof of quality on real ones.", strong=True)
        )
    blocks += [
        _headlines(record),
        Heading("Figures"),
        Paragraph(
            "Pooled over all scored pixels of a split, so a scene counts by its pixels. The interval is that of the "
            f"bootstrap over cells ({record.bootstrap['resamples']:.0f} resamples)."
        ),
        *(split_table(record, split) for split in SHOWN),
        Picture("intervals.png", "pooled IoU with its interval on holdout and test", wide=True),
        Heading("What the gate judges: the holdout"),
        differences_table(record),
        Heading("Samples of the test split"),
        Paragraph(f"From the most to the least {record.target} in the label."),
        Picture("samples.png", "scene, label, prediction and error of four chips", wide=True),
        Heading("Probabilities on the test split"),
        Picture("precision-recall.png", "precision over recall"),
        Picture("reliability.png", "observed share over predicted probability"),
        Picture("confusion.png", "pixels by label and prediction of the candidate"),
        Picture("confusion-champion.png", "pixels by label and prediction of the champion"),
        Paragraph(
            f"Expected calibration error {figure(record.calibration.expected_error)}, Brier score "
            f"{figure(record.calibration.brier)}, {record.calibration.pixels:,} pixels in ten bins."
        ),
        Heading("Strata"),
        *strata_blocks(record),
        Heading("Scenes"),
        Picture("scenes.png", "IoU per scene on holdout and test", wide=True),
        *(scenes_table(record, split) for split in ("holdout", "test")),
        Heading("Behaviour"),
        Paragraph("What must hold of any mask, whatever its IoU. Cloud, snow and constant scenes are simulated."),
        behaviour_table(record),
        Heading("Cost"),
        Paragraph(
            f"One thread on {record.costs.machine}; another machine gives other numbers, so these judge nothing."
        ),
        costs_table(record),
        Heading("How it was made"),
        Table(
            ("", ""),
            (
                ("model", f"{record.candidate.uri}, sha256 {record.candidate.digest}"),
                ("MLflow run", candidate.run or "none"),
                ("trained on dataset", description.dataset_digest),
                ("evaluated on dataset", record.dataset["digest"]),
                ("trained by commit", description.git_commit or "unknown"),
                ("evaluated by commit", record.git_commit or "unknown"),
            ),
        ),
    ]
    return blocks


def _headlines(record: Evaluation) -> Numbers:
    def headline(label: str, split: str) -> Headline:
        scores = record.splits[split]
        return Headline(
            label, figure(scores.pooled["candidate"].iou), f"95 %: {bracketed(scores.intervals['candidate'])}"
        )

    opponent = record.comparisons["champion"]
    asked = [check for check in record.behaviour if check.passed is not None]
    failed = [check.name for check in asked if not check.passed]
    return Numbers(
        (
            headline("holdout IoU, judged", "holdout"),
            headline("test IoU, only shown", "test"),
            Headline(
                "minus champion, holdout",
                signed(opponent.difference),
                f"95 %: [{signed(opponent.low)},\u00a0{signed(opponent.high)}]",  # an interval stays on one line
            ),
            Headline("calibration error, test", figure(record.calibration.expected_error), "perfect is 0"),
            Headline(
                "behaviour",
                f"{len(asked) - len(failed)} of {len(asked)}",
                f"failed: {', '.join(failed)}" if failed else "passed",
            ),
        )
    )
