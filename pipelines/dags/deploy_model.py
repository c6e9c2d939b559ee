"""The champion is put into service, tested through the public route, and rolled back where it does not answer."""

from __future__ import annotations

from airflow.sdk import dag

from pipelines import parameters
from pipelines.assets import CHAMPION, DEPLOYMENT
from pipelines.operators import step


@dag(
    description="Put a version into service, send it a request, roll back if it does not answer rightly",
    schedule=[CHAMPION],
    catchup=False,
    max_active_runs=1,
    tags=["terraloop", "serving"],
    default_args={"owner": "terraloop"},
    params={
        "usecase": parameters.usecase(),
        "model": parameters.model("What to serve; empty is the ledger's champion, which the endpoint then follows"),
    },
)
def deploy_model() -> None:
    """Runs when there is another champion."""
    step("deploy", given={"--endpoint": DEPLOYMENT.endpoint, "--model": "{{ params.model }}"})


deploy_model()
