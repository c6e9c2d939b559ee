"""How steps run in a deployment: one frozen configuration, read from variables that begin with TERRALOOP_.

The bodies (embedded, compose, Kubernetes) set the variables; DAG files and operators read them here and nowhere else.
Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, cast, get_args

from pipelines.project import Misuse

Mode = Literal["process", "docker", "kubernetes"]

_SECRETS: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "TERRALOOP_DEPLOY_TOKEN", "TERRALOOP_ENDPOINT_TOKEN",
                   "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")  # fmt: skip
_PLAIN: Final = ("MLFLOW_TRACKING_URI", "MLFLOW_S3_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL",
                 "TERRALOOP_USECASES", "TERRALOOP_CHECKPOINTS", "TERRALOOP_TRACKING_JOURNAL",
                 "AIRFLOW__API__BASE_URL")  # fmt: skip


@dataclass(frozen=True)
class Deployment:
    """Where steps run, and what they are told.

    Attributes:
        mode: As child processes, containers or pods.
        usecase: Name of the use case, unless a run names another.
        store: Root of the store, a URI.
        endpoint: Address of the serving front; empty where there is none.
        incoming: Folder or s3:// prefix in which arriving scenes are looked for; empty looks nowhere.
        environments: Where the step environments lie (mode `process`).
        images: Environment -> image (modes `docker` and `kubernetes`).
        network: Docker network of the steps' containers; empty is Docker's own.
        namespace: Namespace of the steps' pods.
        service_account: Their service account; empty is the namespace's own.
        xcom_image: Image of the sidecar that hands a pod's result over.
        secret: Kubernetes Secret whose keys become variables of the pods; empty is none.
        schedule: When a model is trained even if nothing happened, as cron writes it; empty is never.
        monitoring: When requests are looked at for drift, as cron writes it; empty is never.
        cooldown_hours: Between two trainings that nobody asked for by hand.
        approval_hours: How long a person has to approve a promotion; 0 asks nobody.
        commit: The code's version, for the record; empty where it is not known.
        variables: What steps are told beside their flags; secrets apart.
        secrets: The same, never shown.
    """

    mode: Mode = "process"
    usecase: str = "water"
    store: str = ""
    endpoint: str = ""
    incoming: str = ""
    environments: Path = Path(".nox")
    images: Mapping[str, str] = field(default_factory=dict)
    network: str = ""
    namespace: str = "default"
    service_account: str = ""
    xcom_image: str = ""
    secret: str = ""
    schedule: str = ""
    monitoring: str = ""
    cooldown_hours: float = 24.0
    approval_hours: float = 0.0
    commit: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Deployment:
        """The deployment that variables describe; what they leave out is as above.

        Raises:
            Misuse: If one of them cannot be meant, naming it.
        """
        get = environment.get
        mode = get("TERRALOOP_STEP_MODE", "process")
        if mode not in get_args(Mode):
            raise Misuse(f"TERRALOOP_STEP_MODE={mode}: give one of {', '.join(get_args(Mode))}")
        images = {name: image for name in ("train", "serve") if (image := get(f"TERRALOOP_IMAGE_{name.upper()}", ""))}
        if mode != "process" and len(images) < 2:
            raise Misuse(f"TERRALOOP_STEP_MODE={mode} needs TERRALOOP_IMAGE_TRAIN and TERRALOOP_IMAGE_SERVE")
        return cls(
            mode=cast("Mode", mode),
            usecase=get("TERRALOOP_USECASE", cls.usecase),
            store=get("TERRALOOP_STORE", ""),
            endpoint=get("TERRALOOP_ENDPOINT", ""),
            incoming=get("TERRALOOP_INCOMING", ""),
            environments=Path(get("TERRALOOP_ENVIRONMENTS", str(cls.environments))),
            images=images,
            network=get("TERRALOOP_STEP_NETWORK", ""),
            namespace=get("TERRALOOP_STEP_NAMESPACE", cls.namespace),
            service_account=get("TERRALOOP_STEP_SERVICE_ACCOUNT", ""),
            xcom_image=get("TERRALOOP_IMAGE_XCOM", ""),
            secret=get("TERRALOOP_STEP_SECRET", ""),
            schedule=get("TERRALOOP_TRAIN_SCHEDULE", ""),
            monitoring=get("TERRALOOP_MONITOR_SCHEDULE", ""),
            cooldown_hours=_hours(environment, "TERRALOOP_COOLDOWN_HOURS", cls.cooldown_hours),
            approval_hours=_hours(environment, "TERRALOOP_APPROVAL_HOURS", cls.approval_hours),
            commit=get("TERRALOOP_COMMIT", ""),
            variables={name: environment[name] for name in _PLAIN if environment.get(name)},
            secrets={name: environment[name] for name in _SECRETS if environment.get(name)},
        )


def _hours(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name, "")
    try:
        hours = float(text) if text else default
    except ValueError:
        hours = -1.0
    if not 0 <= hours <= 24 * 365:
        raise Misuse(f"{name}={text} is no number of hours from 0 to a year")
    return hours
