"""Metrics say what happened: by route and status, and where the time went."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from eo_serving.call import STAGES, Call
from eo_serving.metrics import Metrics, server_timing
from eo_serving.problem import OutOfTime
from eo_serving.request_records import read_records

TIFF = {"Content-Type": "image/tiff"}


def scrape(server: Any, **headers: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    with server.client() as client:
        response = client.get("/metrics", headers=headers)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def test_requests_are_counted_by_route_and_status(server: Any, tiff_chip: bytes) -> None:
    before = scrape(server)
    with server.client() as client:
        assert client.post("/invocations", content=tiff_chip, headers=TIFF).status_code == 200
        assert client.post("/invocations", content=b"junk", headers=TIFF).status_code == 422
        assert client.get("/invocations").status_code == 405
        for path in ("/etc/passwd", "/v2/models/../../x", "/" + "y" * 500):
            assert client.get(path).status_code == 404
        assert client.get("/v2/models/other/ready").status_code == 404
    after = scrape(server)

    def rise(name: str, **labels: str) -> float:
        key = (name, frozenset(labels.items()))
        return after.get(key, 0) - before.get(key, 0)

    assert rise("terraloop_requests_total", route="/invocations", status="200") == 1
    assert rise("terraloop_requests_total", route="/invocations", status="422") == 1
    assert rise("terraloop_requests_total", route="/invocations", status="405") == 1
    assert rise("terraloop_requests_total", route="other", status="404") == 3
    assert rise("terraloop_requests_total", route="/v2/models/{name}/ready", status="404") == 1
    assert rise("terraloop_request_seconds_count", route="/invocations") == 3
    assert rise("terraloop_body_bytes_count") == 2
    assert rise("terraloop_body_bytes_sum") == len(tiff_chip) + 4
    for stage in STAGES:
        assert rise("terraloop_stage_seconds_count", stage=stage) == (2 if stage == "read" else 1)
        assert rise("terraloop_stage_seconds_sum", stage=stage) > 0
    assert not any("y" * 20 in str(key) for key in after)


def test_says_which_version_answers(server: Any, registry: Any) -> None:
    found = scrape(server)
    labels = frozenset({"model": "water/2", "digest": registry.versions[2].digest}.items())
    assert found["terraloop_model_info", labels] == 1
    assert found["terraloop_requests_inside", frozenset()] == 0
    assert found["terraloop_mlserver_starts_total", frozenset()] == 1


def test_stages_reach_the_client_and_add_up(server: Any, tiff_chip: bytes) -> None:
    with server.client() as client:
        response = client.post("/invocations", content=tiff_chip, headers=TIFF)
    stages = dict(part.split(";dur=") for part in response.headers["Server-Timing"].split(", "))
    assert set(stages) == {"decode", "infer", "blend", "encode"}
    assert 0 < sum(map(float, stages.values())) / 1000 < response.elapsed.total_seconds()


def test_a_token_guards_them_too(start_server: Any, is_problem: Any, tmp_path: Path) -> None:
    server = start_server(tmp_path / "state", options=())
    server.await_status("/healthz", 200)
    with server.client() as client:
        is_problem(client.get("/metrics"), 401)
    token = (server.state / "endpoint-token").read_text().strip()
    assert scrape(server, Authorization=f"Bearer {token}")
    server.stop()


def test_inner_stages_are_not_counted_twice() -> None:
    call = Call()
    with call.stage("encode"):
        for _ in range(3):
            with call.stage("blend"), call.stage("infer"):
                sum(range(200_000))
    assert call.spent["infer"] > 20 * (call.spent["encode"] + call.spent["blend"]) > 0
    assert server_timing({"infer": 0.5, "encode": 0.0, "blend": 0.001234}) == "infer;dur=500.00, blend;dur=1.23"


def test_time_that_is_over() -> None:
    assert Call().left is None
    Call().check()
    over = Call(-1)
    assert over.left == 0
    with pytest.raises(OutOfTime):
        over.check()


def test_nonsense_in_a_timing_header_is_not_counted() -> None:
    metrics = Metrics()
    metrics.answered('junk, infer;dur=x, other;dur=5, infer;dur=1500, decode;dur=1;desc="x"')
    text = metrics.exposition(0, None, 0).decode()
    assert 'terraloop_stage_seconds_sum{stage="infer"} 1.5' in text
    assert "other" not in text


def test_requests_are_logged_and_nobody_hears_of_it(
    start_server: Any, registry: Any, tiff_chip: bytes, chip: Any, tmp_path: Path
) -> None:
    """In the store, by the front, after it has ended in peace; a sample of the input goes to no client."""
    server = start_server(tmp_path / "state")
    server.await_status("/readyz", 200)
    began = datetime.now(UTC)
    with server.client() as client:
        answers = [client.post("/invocations", content=tiff_chip, headers=TIFF) for _ in range(3)]
        client.post("/invocations", content=b"junk", headers=TIFF)
        client.post("/invocations", json={"inputs": chip[None, :, :4, :4].tolist()})
        tensor = {
            "name": "x",
            "shape": [1, 13, 4, 4],
            "datatype": "UINT16",
            "data": chip[:, 20:24, :4].ravel().tolist(),
        }
        answers.append(client.post("/v2/models/water/infer", json={"inputs": [tensor]}))
        counted = client.get("/metrics").text
    assert {answer.status_code for answer in answers} == {200}
    assert not [key for answer in answers for key in answer.headers if "sample" in key]
    assert 'terraloop_request_log_records_total{outcome="lost"} 0.0' in counted
    assert server.stop() == 0
    found = read_records(registry.store, "water", began, datetime.now(UTC) + timedelta(days=1))
    assert [one.content_type for one in found] == ["image/tiff"] * 3 + ["application/json"] * 2
    first = found[0]
    assert (first.model, first.height, first.width) == ("water/2", 120, 100)
    assert first.digest == registry.versions[2].digest
    assert first.valid_fraction == pytest.approx((120 - 9) / 120, abs=0.02)
    assert first.bands == ("B02", "B03", "B04", "B08", "B11", "B12")
