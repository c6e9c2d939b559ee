"""`--smoke`: a temporary stack goes up, does everything once, goes down, and leaves nothing behind."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from infra import environments
from infra.embedded import ports, scenes, services, state
from infra.embedded.jobs import Report
from infra.embedded.options import Options
from infra.embedded.supervisor import Supervisor
from infra.embedded.up import Stack, run
from pipelines.project import STATE, Project, as_usecase, usecase_file

REQUESTS: Final = "infra.embedded.smoke_requests"
REQUESTS_TIMEOUT: Final = 300


def smoke(options: Options, root: Path) -> int:
    """Bring a temporary stack up, send it requests, end it, and see that nothing is left.

    Returns:
        0 if all of that held, else 1.
    """
    name = f"smoke-{secrets.token_hex(4)}"
    folder = root / STATE / name
    # A store of its own, whatever TERRALOOP_STORE says: this one is thrown away.
    project = Project(name, folder, (folder / "store").as_uri())
    stack = Stack(project, ports.free(), options)
    answered: list[bool] = []
    seen: list[state.Run] = []

    def ask(found: Report, supervisor: Supervisor) -> bool:
        seen.append(supervisor.run)
        answered.append(_requests(stack, found))
        supervisor.watch()  # junk must not have ended anything
        return True

    try:
        run(stack, ask)
    finally:
        if folder.exists():
            shutil.rmtree(folder)
        with suppress(OSError):
            folder.parent.rmdir()  # only if it is empty
    left = list(_left(stack, seen))
    for line in left:
        print(f"LEFT BEHIND  {line}", file=sys.stderr)
    held = answered == [True] and not left
    print(f"smoke: {'everything held, nothing is left' if held else 'FAILED'}", flush=True)
    return 0 if held else 1


def _requests(stack: Stack, found: Report) -> bool:
    """Send requests of every kind with a program that can read rasters; whether all answers were right."""
    image = scenes.raster(stack.project.store, found["mask"]["scene"])
    if image is None:
        print(f"smoke: scene {found['mask']['scene']} has no raster in {stack.project.store}", file=sys.stderr)
        return False
    command = [str(environments.executable("serve", "python")), "-m", REQUESTS]
    command += ["--endpoint", services.endpoint_url(stack.ports)]
    command += ["--image", str(image), "--mask-digest", found["mask"]["digest"]]
    command += ["--model", found["served"]["model"], "--digest", found["served"]["digest"]]
    usecase = as_usecase(stack.options.usecase, environments.ROOT)
    command += ["--usecase", str(usecase_file(usecase, environments.ROOT))]
    command += ["--query", found["mask"]["query"]] if found["mask"]["query"] else []
    try:
        code = subprocess.run(command, cwd=environments.ROOT, timeout=REQUESTS_TIMEOUT, check=False).returncode
    except subprocess.TimeoutExpired:
        print(f"smoke: the requests did not end within {REQUESTS_TIMEOUT} s", file=sys.stderr)
        return False
    return code == 0


def _left(stack: Stack, seen: list[state.Run]) -> list[str]:
    """What should not be there any more."""
    left = [f"process {process.pid}" for each in seen for process in each.processes()]
    left += [f"port {port} of {name}" for name, port in stack.ports.named().items() if ports.in_use(port)]
    left += [str(stack.project.folder)] if stack.project.folder.exists() else []
    return left
