"""Runs in Airflow's environment: reads every DAG file and prints what tests ask of them, as JSON."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from pathlib import Path
from typing import Any


def names(condition: Any) -> list[str]:
    """The assets of a schedule, however they are joined."""
    if condition is None:
        return []
    return [condition.name] if hasattr(condition, "uri") else [n for one in condition.objects for n in names(one)]


def main() -> None:
    """Print files (seconds to read, modules loaded), DAGs, and errors."""
    folder = Path(sys.argv[1])
    import airflow.sdk  # noqa: F401  what every file needs

    files = {}
    for file in sorted(folder.glob("*.py")):
        before = set(sys.modules)
        start = time.process_time()
        spec = importlib.util.spec_from_file_location(f"probe_{file.stem}", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        loaded = sorted({name.partition(".")[0] for name in set(sys.modules) - before})
        files[file.name] = {"seconds": time.process_time() - start, "loaded": loaded}
    from airflow.dag_processing.dagbag import DagBag
    from airflow.serialization.serialized_objects import DagSerialization

    bag = DagBag(str(folder))
    dags = {}
    for name, dag in bag.dags.items():
        condition = getattr(dag.timetable, "asset_condition", None)
        DagSerialization.to_dict(dag)
        dags[name] = {
            "description": dag.description,
            "tags": sorted(dag.tags),
            "owner": dag.owner,
            "catchup": dag.catchup,
            "doc": dag.doc_md,
            "assets": names(condition),
            "tasks": {
                task.task_id: {
                    "retries": task.retries,
                    "kind": task.task_type,
                    "upstream": sorted(task.upstream_task_ids),
                    "outlets": [asset.name for asset in task.outlets],
                    "inlets": [asset.name for asset in task.inlets],
                    "doc": task.doc_md or task.doc,
                }
                for task in dag.tasks
            },
        }
    print(json.dumps({"files": files, "dags": dags, "errors": bag.import_errors}))


if __name__ == "__main__":
    main()
