"""Makes a DAG of each YAML file of this folder (dag-factory)."""

from __future__ import annotations

from pathlib import Path

from airflow.sdk import DAG  # noqa: F401  without this name Airflow does not read the file
from dagfactory import load_yaml_dags

FOLDER = str(Path(__file__).parent)

load_yaml_dags(globals_dict=globals(), dags_folder=FOLDER, defaults_config_path=FOLDER)
