"""What DAGs produce and wait for, as Airflow assets.

Each event carries what its consumers need (its `extra`): the use case that it is about, and what stands below.
"""

from __future__ import annotations

import os
from typing import Final

from airflow.sdk import Asset, AssetWatcher

from pipelines.deployment import Deployment

DEPLOYMENT: Final = Deployment.read(os.environ)
"""The deployment that these DAGs run in."""


def _incoming() -> Asset:
    if not DEPLOYMENT.incoming:
        return Asset("incoming", "terraloop://incoming")
    from pipelines.arrivals import ArrivalTrigger

    watcher = AssetWatcher("arrivals", trigger=ArrivalTrigger(DEPLOYMENT.incoming))
    return Asset("incoming", "terraloop://incoming", watchers=[watcher])


INCOMING: Final = _incoming()
"""Files have arrived in the watched place; the watcher's event says where."""
SCENES: Final = Asset("scenes", "terraloop://scenes")
"""A batch was validated: `verdicts`, `accepted`, `quarantined`."""
DATASET: Final = Asset("dataset", "terraloop://dataset")
"""A dataset was made or found: `dataset`, `digest`."""
RETRAINING: Final = Asset("retraining", "terraloop://retraining")
"""Monitoring asks for a training: `reason`, `why`."""
CANDIDATE: Final = Asset("candidate", "terraloop://candidate")
"""A version was trained, or found: `model`, `digest`, `dataset`, `existing`. `train_model` looks back at it."""
CHAMPION: Final = Asset("champion", "terraloop://champion")
"""The ledger has another champion: `champion`, `verdict`."""
MASKS: Final = Asset("masks", "terraloop://masks")
"""An output: masks were made, each with its STAC item. Nobody here waits for it."""

OUTPUTS: Final = (MASKS,)
"""Assets that are made for others than these DAGs."""
