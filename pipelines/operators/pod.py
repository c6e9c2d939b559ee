"""A step as a pod (mode `kubernetes`): the result comes through the XCom sidecar, from `/airflow/xcom/return.json`."""

from __future__ import annotations

from typing import Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.utils.xcom_sidecar import PodDefaults
from airflow.sdk.exceptions import AirflowException, AirflowSkipException
from kubernetes.client import models as k8s

from pipelines.deployment import Deployment
from pipelines.operators.outcome import conclude
from pipelines.operators.step_task import StepTask
from pipelines.steps import GATE_REFUSED, Step


class PodStep(StepTask, KubernetesPodOperator):  # type: ignore[misc]
    """Runs a step's command in a pod with the image of its environment.

    A task that is tried again while its pod still runs goes on with that pod.

    Args:
        step: The step.
        deployment: How steps run.
        kwargs: Airflow's own, and the pod operator's, such as `container_resources`.
    """

    def __init__(self, *, step: Step, deployment: Deployment, **kwargs: Any) -> None:
        given: dict[str, Any] = {
            "name": f"terraloop-{step.verb}",
            "namespace": deployment.namespace,
            "image": deployment.images[step.environment],
            "image_pull_policy": "IfNotPresent",
            "cmds": [step.command],
            "env_vars": dict(deployment.variables),
            "service_account_name": deployment.service_account or None,
            "labels": {"app.kubernetes.io/part-of": "terraloop", "terraloop.org/step": step.verb},
            "do_xcom_push": True,
            "reattach_on_restart": True,
            "on_finish_action": "delete_pod",
            "log_events_on_failure": True,
            "skip_on_exit_code": GATE_REFUSED,
        }
        if deployment.secret:
            source = k8s.V1EnvFromSource(secret_ref=k8s.V1SecretEnvSource(name=deployment.secret))
            given["env_from"] = [source]
        super().__init__(**{**given, **kwargs})
        self.step = step
        self.deployment = deployment

    def execute(self, context: Any) -> dict[str, Any]:
        """Run it to its end; its result."""
        self.arguments = self.words()
        said = ""
        result: dict[str, Any] | None = None
        try:
            result = super().execute(context)
        except AirflowSkipException:  # the gate refused; the operator has kept the result as XCom
            raise
        except AirflowException as failure:
            said = str(failure).splitlines()[0] if str(failure) else "the pod failed"
            code = self._exit_code()
            if code is None:  # no container has ended: the cluster is at fault, and another try may help
                raise
            return conclude(self, context, code, None, said)
        return conclude(self, context, 0, result, said)

    def build_pod_request_obj(self, context: Any = None, **how: Any) -> k8s.V1Pod:
        """The pod, its sidecar of the deployment's image."""
        pod = super().build_pod_request_obj(context, **how)
        for container in pod.spec.containers:
            if container.name == PodDefaults.SIDECAR_CONTAINER_NAME and self.deployment.xcom_image:
                container.image = self.deployment.xcom_image
        return pod

    def _exit_code(self) -> int | None:
        """What the step's container ended with; None where that is not known."""
        statuses = getattr(getattr(self.remote_pod, "status", None), "container_statuses", None) or []
        for status in statuses:
            if status.name == self.base_container_name and status.state and status.state.terminated:
                return int(status.state.terminated.exit_code)
        return None
