"""Masks of scenes, each with its STAC item: one task a scene."""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowSkipException

from pipelines import parameters
from pipelines.assets import MASKS, SCENES
from pipelines.events import newest
from pipelines.operators import step


@dag(
    description="Make the masks of many scenes, and their STAC items",
    schedule=None,
    catchup=False,
    tags=["terraloop", "serving"],
    default_args={"owner": "terraloop"},
    params={
        "usecase": parameters.usecase(),
        "scenes": parameters.texts("Scenes", "Ids; empty is every scene accepted in the newest batch"),
        "model": parameters.model("What makes the masks; empty is the champion"),
    },
)
def predict_scenes() -> None:
    """Runs by hand, or from another DAG: a mask that is there already is not made again."""

    @task(inlets=[SCENES])
    def scenes(params: dict[str, Any], **context: Any) -> list[str]:
        """Which scenes."""
        found = newest(context, SCENES, usecase=params["usecase"])
        ids = params["scenes"] or (found["extra"]["accepted"] if found else [])
        if not ids:
            raise AirflowSkipException("there is no scene to predict")
        return list(ids)

    step(
        "predict",
        given={"--model": "{{ params.model }}"},
        over="--scene",
        values=scenes(),
        outlets=[MASKS],
        tells=("mask", "item", "model"),
    )


predict_scenes()
