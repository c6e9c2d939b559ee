"""Two real processes promote at once: the ledger's put-if-absent lets one through, the other is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from eo_data.model.ledger import Ledger
from eo_models.evaluation import evaluate
from eo_models.promotion import promote

from .conftest import Pair, World

TOGETHER = """
import sys, time
from pathlib import Path
from eo_data.model.ledger import Ledger
from eo_models.cli import main

meeting, me = Path(sys.argv[1]), sys.argv[2]
append = Ledger.append

def wait_then_append(self, **entry):  # both have judged before either writes
    (meeting / me).touch()
    while len(list(meeting.iterdir())) < 2:
        time.sleep(0.01)
    return append(self, **entry)

Ledger.append = wait_then_append
sys.exit(main(sys.argv[3:]))
"""


def test_one_wins_the_other_is_told_and_the_next_promotion_repairs_the_aliases(
    world: World, pair: Pair, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    uri = evaluate(world.store, world.usecase, pair.better.uri, world.dataset.uri, progress=False)["evaluation"]
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    processes = []
    for name in ("first", "second"):
        flags = ["promote", "--usecase", "made-up", "--store", world.store.uri, "--evaluation", uri]
        command = [sys.executable, "-c", TOGETHER, str(meeting), name, *flags]
        processes.append(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
        )
    try:
        told = [process.communicate(timeout=240) for process in processes]
    finally:
        for process in processes:
            process.kill()
    codes = [process.returncode for process in processes]
    assert sorted(codes) == [0, 75], told
    winner, loser = told[codes.index(0)], told[codes.index(75)]
    assert json.loads(winner[0].splitlines()[-1])["gate"]["verdict"] == "promoted"
    assert loser[0] == ""
    assert "another promotion of 'made-up' took entry 2" in loser[1]
    assert "Traceback" not in loser[1]
    ledger = Ledger(world.store, "made-up")
    assert [(entry.number, entry.version) for entry in ledger.entries()] == [(1, 1), (2, 2)]

    client = MlflowClient()
    client.set_registered_model_alias("made-up", "champion", "1")
    client.set_registered_model_alias("made-up", "previous", "2")
    assert promote(world.store, world.usecase, uri)["champion"] == pair.better.uri
    aliases = client.get_registered_model("made-up").aliases
    assert {alias: int(version) for alias, version in aliases.items()} == {"champion": 2, "previous": 1}
