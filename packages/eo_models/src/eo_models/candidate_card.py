"""The model card of a candidate in Markdown, from `model.json` and its dataset's manifest, for its registration."""

from __future__ import annotations

from typing import Final

from eo_data.dataset import Manifest
from eo_data.model.description import ModelDescription
from eo_data.usecase import UseCase
from eo_models.confusion import TARGET
from eo_models.documents import Block, Heading, Paragraph, Table, markdown
from eo_models.model_card import data_blocks, fact_table, settings, use_blocks
from eo_models.report_tables import figure

CARD_FILE: Final = "model-card.md"
"""The whole card among a run's files."""

LONGEST: Final = 5000
"""What MLflow's registry takes as a version's description, characters."""


def candidate_card(description: ModelDescription, digest: str, usecase: UseCase, manifest: Manifest) -> str:
    """The card.

    Args:
        description: The version's `model.json`.
        digest: sha256 of its `model.onnx`.
        usecase: Whose task.
        manifest: Of the dataset that it was made from.
    """
    target = usecase.data.classes[TARGET].name
    made = "fitted numbers" if description.kind == "network" else "tuned threshold"
    blocks: list[Block] = [
        Paragraph(f"{description.architecture}, {description.total_parameters:,} {made}, sha256 {digest}."),
        Paragraph("A candidate: trained and registered, not evaluated. Its evaluation has a card of its own."),
        *use_blocks(description, usecase, target),
        *data_blocks(manifest, usecase, target),
        Heading("Figures"),
        Table(
            ("", "value"),
            tuple((_words(name), figure(value)) for name, value in description.metrics.items()),
            f"Of {target}, pooled over scored pixels. Choices are made on validation, so its figures flatter",
        ),
        Heading("Limits"),
        Paragraph("\n".join(f"- {limit}" for limit in _limits(description, usecase, manifest))),
        Heading("How it was made"),
        fact_table(
            {
                "sha256 of model.onnx": digest,
                "trained on dataset": description.dataset_digest,
                "trained by commit": description.git_commit or "unknown",
                **settings(description.parameters),
            }
        ),
    ]
    return markdown(f"Model card: {usecase.name}, {description.architecture} {digest[:12]}", blocks).decode()


def shortened(card: str, whole: str) -> str:
    """A card as MLflow's registry takes it: sections from the end are left out until it fits, and that is said.

    Args:
        card: The card.
        whole: Where the whole one is.
    """
    if len(card) <= LONGEST:
        return card
    note = f"\n\nShortened: the whole card is {whole}.\n"
    kept = card[: LONGEST - len(note)]
    return kept[: max(kept.rfind("\n## "), kept.rfind("\n\n"))].rstrip() + note


def _limits(description: ModelDescription, usecase: UseCase, manifest: Manifest) -> list[str]:
    found = []
    if all(scene.simulated for scene in manifest.scenes):
        found.append("Trained on simulated scenes: nothing here says how good it is on real ones.")
    undefined = [_words(name) for name, value in description.metrics.items() if value is None]
    if undefined:
        found.append(f"Undefined, since neither labels nor predictions hold the class: {', '.join(undefined)}.")
    found.append(
        f"Holds for the bands {', '.join(description.input.bands)} of {usecase.data.sensor}; another sensor or "
        "processing level needs an evaluation of its own."
    )
    return found


def _words(name: str) -> str:
    """`validation_iou_ndwi` as people write it."""
    written = {"iou": "IoU", "f1": "F1", "ndwi": "of NDWI", "mndwi": "of MNDWI"}
    return " ".join(written.get(word, word) for word in name.split("_"))
