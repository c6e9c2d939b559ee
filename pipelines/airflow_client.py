"""Airflow's REST API, as far as the main job needs it. Standard library only."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlencode

_DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))
ENDED: Final = frozenset({"success", "failed"})
"""States in which a run stays."""
PASSING: Final = frozenset({429, 500, 502, 503, 504})


class AirflowOutOfReach(Exception):
    """The API server does not answer, or is busy."""


class AirflowRefused(Exception):
    """The API refused a request; the message says what it said."""


@dataclass(frozen=True)
class DagRun:
    """A run of a DAG.

    Attributes:
        dag: Its DAG.
        run: Its id.
    """

    dag: str
    run: str

    @property
    def path(self) -> str:
        """Where the API has it."""
        return f"dags/{quote(self.dag, safe='')}/dagRuns/{quote(self.run, safe='')}"


@dataclass
class AirflowClient:
    """A client of one API server.

    Attributes:
        url: Its address.
        user: Who asks.
        password: The word for that.
    """

    url: str
    user: str
    password: str = field(repr=False)
    _token: str | None = field(default=None, init=False, repr=False)

    def trigger(self, dag: str, conf: Mapping[str, Any], note: str) -> DagRun:
        """Start a run.

        Raises:
            AirflowRefused: If a parameter is none of the form's.
        """
        body = {"logical_date": None, "conf": dict(conf), "note": note}
        return DagRun(dag, str(self._ask("POST", f"dags/{quote(dag, safe='')}/dagRuns", body)["dag_run_id"]))

    def state(self, run: DagRun) -> str:
        """`queued`, `running`, `success` or `failed`."""
        return str(self._ask("GET", run.path)["state"])

    def tasks(self, run: DagRun) -> list[dict[str, Any]]:
        """Its task instances: `task_id`, `state`, `duration`, `map_index`, `try_number`, ..."""
        return list(self._ask("GET", f"{run.path}/taskInstances?limit=500")["task_instances"])

    def xcom(self, run: DagRun, task: str, map_index: int = -1) -> Any:
        """What a task returned, types intact; None where it returned nothing."""
        query = urlencode({"map_index": map_index, "stringify": "false", "deserialize": "false"})
        try:
            path = f"{run.path}/taskInstances/{quote(task, safe='')}/xcomEntries/return_value"
            return self._ask("GET", f"{path}?{query}")["value"]
        except AirflowRefused as refused:
            if "404" in str(refused):
                return None
            raise

    def caused(self, run: DagRun, dag: str) -> DagRun | None:
        """The run of another DAG that this one's asset events have made; None where there is none (yet).

        Airflow 3.3 answers 500 as long as such a run is queued (it expects a start date): that is not yet, too.
        """
        query = urlencode({"source_dag_id": run.dag, "source_run_id": run.run, "order_by": "-timestamp"})
        try:
            events = self._ask("GET", f"assets/events?{query}")["asset_events"]
        except AirflowOutOfReach as error:
            if "answers 500" in str(error):
                return None
            raise
        found = [one for event in events for one in event["created_dagruns"] if one["dag_id"] == dag]
        return DagRun(dag, str(found[0]["run_id"])) if found else None

    def log(self, run: DagRun, task: str, attempt: int, map_index: int = -1) -> list[str]:
        """What a task's log says, line by line."""
        path = f"{run.path}/taskInstances/{quote(task, safe='')}/logs/{attempt}"
        content = self._ask("GET", f"{path}?{urlencode({'map_index': map_index, 'full_content': 'true'})}")["content"]
        lines = []
        for entry in content:
            if isinstance(entry, str):
                lines.append(entry)
                continue
            said = (str(entry[key]) for key in ("event", "reason") if entry.get(key))  # a skip's reason stands apart
            lines.append(" ".join(said))
            lines += [f"{one.get('exc_type')}: {one.get('exc_value')}" for one in entry.get("error_detail") or ()]
        return lines

    def health(self) -> dict[str, str]:
        """Component -> its state, such as `healthy`."""
        said = self._send("GET", "api/v2/monitor/health", None, {})
        return {name: str(found.get("status")) for name, found in said.items() if found}

    def known(self, dag: str) -> bool:
        """Whether the DAG processor has read a DAG."""
        try:
            self._ask("GET", f"dags/{quote(dag, safe='')}")
        except AirflowRefused:
            return False
        return True

    def import_errors(self) -> dict[str, str]:
        """File -> what is wrong with it."""
        found = self._ask("GET", "importErrors")["import_errors"]
        return {str(one["filename"]): str(one["stack_trace"]) for one in found}

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        if self._token is None:
            said = self._send("POST", "auth/token", {"username": self.user, "password": self.password}, {})
            self._token = str(said["access_token"])
        try:
            return self._send(method, f"api/v2/{path}", body, {"Authorization": f"Bearer {self._token}"})
        except AirflowRefused as refused:
            if "401" not in str(refused):
                raise
            self._token = None  # it had run out
            return self._ask(method, path, body)

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310  our own server
            f"{self.url}/{path}", data, {"Content-Type": "application/json", **headers}, method=method
        )
        try:
            with _DIRECT.open(request, timeout=30) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                said = error.read().decode(errors="replace")[:2000]
            kind = AirflowOutOfReach if error.code in PASSING else AirflowRefused
            raise kind(f"Airflow answers {error.code} to {method} {path.partition('?')[0]}: {said}") from error
        except (OSError, ValueError) as error:
            raise AirflowOutOfReach(f"Airflow does not answer at {self.url}: {error}") from error
