"""A step as a container (mode `docker`): the result is copied out of it as a file, whatever its output says."""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any, Final

from airflow.providers.docker.exceptions import (
    DockerContainerFailedException,
    DockerContainerFailedSkipException,
)
from airflow.providers.docker.operators.docker import DockerOperator

from pipelines.deployment import Deployment
from pipelines.operators.outcome import conclude
from pipelines.operators.step_task import StepTask
from pipelines.steps import GATE_REFUSED, Step

RESULT: Final = "/tmp/terraloop-result.json"  # noqa: S108  inside the container


class ContainerStep(StepTask, DockerOperator):  # type: ignore[misc]
    """Runs a step's command in the image of its environment.

    Args:
        step: The step.
        deployment: How steps run.
        kwargs: Airflow's own, and the Docker operator's, such as `mem_limit`.
    """

    container: Any
    """The engine's answer when it was made; None before (the Docker operator's own attribute)."""

    def __init__(self, *, step: Step, deployment: Deployment, **kwargs: Any) -> None:
        super().__init__(
            image=deployment.images[step.environment],
            network_mode=deployment.network or None,
            environment=dict(deployment.variables),
            private_environment=dict(deployment.secrets),
            mount_tmp_dir=False,
            auto_remove="never",  # the result is read first
            skip_on_exit_code=GATE_REFUSED,
            labels={"org.terraloop.step": step.verb},
            **kwargs,
        )
        self.step = step

    def execute(self, context: Any) -> dict[str, Any]:
        """Run it to its end; its result."""
        self.command = [self.step.command, *self.words(), "--result", RESULT]
        said = ""
        self.container = None
        try:
            try:
                super().execute(context)
            except (DockerContainerFailedException, DockerContainerFailedSkipException) as failure:
                said = next((text for text in reversed(failure.logs or []) if text.strip()), "it said nothing")
            code = int(self.cli.inspect_container(self.container["Id"])["State"]["ExitCode"])
            result = self._result()
        finally:  # also where the task is ended, or the container could not be started
            if self.container is not None:
                self.cli.remove_container(self.container["Id"], force=True)
        return conclude(self, context, code, result, said)

    def _result(self) -> dict[str, Any] | None:
        """The result's file; None where there is none, or it is no JSON object."""
        from docker.errors import NotFound

        try:
            parts, _ = self.cli.get_archive(self.container["Id"], RESULT)
        except NotFound:
            return None
        with tarfile.open(fileobj=io.BytesIO(b"".join(parts))) as archive:
            stream = archive.extractfile(archive.getmembers()[0])
            try:
                found = json.loads(stream.read()) if stream else None
            except ValueError:
                return None
        return found if isinstance(found, dict) else None
