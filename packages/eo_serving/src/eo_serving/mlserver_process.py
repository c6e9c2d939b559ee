"""The MLServer child: `python -m eo_serving.mlserver_process STATE`, started and ended by the front.

It holds no credentials, listens on loopback only, and ends when its standard input does: however its parent
ends, SIGKILL included, it does not stay behind.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from pathlib import Path

from eo_data.allocation import keep_freed_memory

SETTINGS_FILE = "settings.json"
_GRACE = 10.0
"""Seconds from the end of standard input to the end of the process, come what may."""


def main() -> None:
    """Run MLServer with the settings in the state folder until it is told to stop."""
    from mlserver import MLServer, Settings

    keep_freed_memory()
    state = Path(sys.argv[1])
    settings = Settings(**json.loads((state / SETTINGS_FILE).read_text(encoding="utf-8")))
    threading.Thread(target=_end_with_parent, name="parent-watch", daemon=True).start()

    async def run() -> None:
        await MLServer(settings).start([])

    asyncio.run(run())


def _end_with_parent() -> None:
    while os.read(0, 4096):  # nothing is ever sent: this waits for the end of the pipe
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(_GRACE)
    os._exit(1)


if __name__ == "__main__":
    main()
