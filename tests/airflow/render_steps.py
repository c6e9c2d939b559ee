"""Runs in Airflow's environment: what a step's operator asks of its engine, in the mode of the variables, as JSON."""

from __future__ import annotations

import json
import os

from pipelines.operators import StepOperator


def main() -> None:
    """Print the request."""
    task = StepOperator(task_id="t", verb="train", given={"--dataset": "file:///d"}, tells=("model",))
    if os.environ["TERRALOOP_STEP_MODE"] == "kubernetes":
        from unittest import mock

        task.arguments = list(task.line)
        away = {"get_xcom_sidecar_container_image": None, "get_xcom_sidecar_container_resources": None}
        hook = mock.Mock(**{f"{name}.return_value": value for name, value in away.items()}, is_in_cluster=True)
        with mock.patch.object(type(task), "hook", hook):  # no cluster is asked
            pod = task.build_pod_request_obj().to_dict()
        spec = pod["spec"]
        print(
            json.dumps(
                {
                    "namespace": pod["metadata"]["namespace"],
                    "service_account": spec["service_account_name"],
                    "containers": [
                        {
                            "name": one["name"],
                            "image": one["image"],
                            "command": one["command"],
                            "args": one["args"],
                            "env": {e["name"]: e["value"] for e in one["env"] or []},
                            "secrets": [e["secret_ref"]["name"] for e in one["env_from"] or []],
                            "mounts": [m["mount_path"] for m in one["volume_mounts"] or []],
                        }
                        for one in spec["containers"]
                    ],
                }
            )
        )
        return
    print(
        json.dumps(
            {
                "image": task.image,
                "network": task.network_mode,
                "environment": task.environment,
                "private": task._private_environment,
                "line": list(task.line),
                "remove": task.auto_remove,
                "kind": [base.__name__ for base in type(task).__mro__],
            }
        )
    )


if __name__ == "__main__":
    main()
