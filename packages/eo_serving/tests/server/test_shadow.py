"""A challenger beside the champion: nobody hears of it, and what it would have answered is counted."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from eo_data.usecase import UseCase
from eo_serving.invocation import Invocation, answer
from eo_serving.service import open_service

TIFF = {"Content-Type": "image/tiff"}


def shadow_pixels(exposition: str) -> tuple[float, float]:
    """Pixels on which the challenger agrees, and on which it does not."""
    found = {
        sample.labels["outcome"]: sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
        if sample.name == "terraloop_shadow_pixels"
    }
    return found.get("same", 0.0), found.get("different", 0.0)


@pytest.mark.parametrize("accept", ["image/tiff", "application/x-npy"])
def test_its_disagreement_is_counted(
    start_server: Any, registry: Any, water: UseCase, tiff_chip: bytes, decode: Any, tmp_path: Any, accept: str
) -> None:
    server = start_server(tmp_path / "state", options=("--open", "--shadow", "models:/water/3"))
    server.await_status("/readyz", 200)
    masks = [
        decode(answer(Invocation("image/tiff", None, "", tiff_chip), open_service(registry.versions[n], water)).body)
        for n in (2, 3)
    ]
    valid = masks[0].pixels != 255
    differing = int((valid & (masks[0].pixels != masks[1].pixels)).sum())
    assert 0 < differing < valid.sum()
    end, counted = time.monotonic() + 60, (0.0, 0.0)
    with server.client() as client:
        while sum(counted) == 0:
            assert time.monotonic() < end
            response = client.post("/invocations", content=tiff_chip, headers={**TIFF, "Accept": accept})
            assert (response.status_code, response.headers["Terraloop-Model"]) == (200, "water/2")
            assert not [key for key in response.headers if "shadow" in key]
            counted = shadow_pixels(client.get("/metrics").text)
    assert counted[1] / sum(counted) == pytest.approx(differing / valid.sum(), abs=1e-9)
    assert f"shadow water/3 differs from water/2 on {differing} of {valid.sum()} pixels" in server.log.read_text()


def test_rubbish_is_refused_at_the_start(start_server: Any, tmp_path: Any) -> None:
    server = start_server(tmp_path / "state", options=("--open", "--shadow", "water-3"))
    assert server.process.wait(timeout=120) == 2
    assert "--shadow: 'water-3' is no model version" in server.log.read_text()


def test_one_that_is_none_harms_nobody(start_server: Any, tiff_chip: bytes, tmp_path: Any) -> None:
    """Version 4 fails its golden chip; version 77 is not there."""
    for number, says in ((4, "there is no shadow"), (77, "the challenger cannot be had")):
        server = start_server(tmp_path / f"state-{number}", options=("--open", "--shadow", f"models:/water/{number}"))
        server.await_status("/readyz", 200)
        with server.client() as client:
            response = client.post("/invocations", content=tiff_chip, headers=TIFF)
        assert (response.status_code, response.headers["Terraloop-Model"]) == (200, "water/2")
        assert np.frombuffer(response.content, np.uint8).size > 100
        assert says in server.log.read_text()
        server.stop()
