"""What V2 clients are told of a model: the tensors that it reads and gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from eo_data.model.description import ModelDescription

MASK: Final = "mask"
PROBABILITY: Final = "probability"


def declared(description: ModelDescription, version: int) -> dict[str, Any]:
    """The part of MLServer's `model-settings.json` that V2 clients see; -1 is any size.

    The version is declared here and not as MLServer's own: that would let a version that is still being loaded
    take the requests of the one before.
    """
    bands, classes = len(description.input.bands), len(description.output.classes)
    return {
        "platform": f"terraloop_{description.framework.lower()}",
        "versions": [str(version)],
        "inputs": [{"name": description.input.name, "datatype": "FP32", "shape": [-1, bands, -1, -1]}],
        "outputs": [
            {"name": MASK, "datatype": "UINT8", "shape": [-1, -1, -1]},
            {"name": PROBABILITY, "datatype": "FP32", "shape": [-1, classes, -1, -1]},
        ],
    }
