"""Ports on 127.0.0.1: which ones a stack takes, whether they are free, and who holds them."""

from __future__ import annotations

import argparse
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HOST: Final = "127.0.0.1"
MLFLOW: Final = 5000
ENDPOINT: Final = 5002
AIRFLOW: Final = 8080
LISTENING: Final = "0A"


@dataclass(frozen=True)
class Ports:
    """The ports of one stack."""

    mlflow: int
    endpoint: int
    airflow: int

    def named(self) -> dict[str, int]:
        """Service -> port."""
        return {"MLflow": self.mlflow, "the endpoint": self.endpoint, "Airflow": self.airflow}


def shifted(port_base: int) -> Ports:
    """The ports of a stack whose MLflow stands on `port_base`: each keeps its distance to MLflow's."""
    return Ports(mlflow=port_base, endpoint=port_base + ENDPOINT - MLFLOW, airflow=port_base + AIRFLOW - MLFLOW)


def free() -> Ports:
    """Ports that nobody uses now."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(3)]
        for each in sockets:
            each.bind((HOST, 0))
        mlflow, endpoint, airflow = (each.getsockname()[1] for each in sockets)
    return Ports(mlflow=mlflow, endpoint=endpoint, airflow=airflow)


def base(text: str) -> int:
    """The value of --port-base.

    Raises:
        argparse.ArgumentTypeError: If it is no port that leaves room for the others.
    """
    highest = 65535 - (AIRFLOW - MLFLOW)
    if not text.isdigit() or not 1024 <= int(text) <= highest:
        raise argparse.ArgumentTypeError(f"{text!r} is no port from 1024 to {highest}")
    return int(text)


def in_use(port: int) -> bool:
    """Whether something listens on this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a closed connection's port is free
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


def holder(port: int) -> str:
    """The process that listens on a port, for people; an empty text where that cannot be seen."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    for entry in Path("/proc").glob("[0-9]*/fd/*") if sockets else ():
        try:
            if str(entry.readlink()) in sockets:
                name = (entry.parents[1] / "comm").read_text(encoding="utf-8").strip()
                return f"process {entry.parts[2]}, {name}"
        except OSError:
            continue  # another user's process, or gone
    return ""


def _listening_inodes(port: int) -> set[str]:
    """Inodes of the sockets that listen on a port (Linux)."""
    found = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        lines = table.read_text(encoding="ascii").splitlines()[1:] if table.exists() else []
        for fields in (line.split() for line in lines):
            if fields[3] == LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(fields[9])
    return found
