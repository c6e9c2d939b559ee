"""Places and turns: what waits too long is told so, and lets the next one in."""

from __future__ import annotations

import asyncio

import pytest

from eo_serving.admission import Admission
from eo_serving.configuration import Limits
from eo_serving.problem import OutOfTime, TooMany


def test_a_turn_that_does_not_come_in_time() -> None:
    async def scenario() -> None:
        admission = Admission(Limits(concurrency=1))
        async with admission.turn(60.0) as left:
            assert 59.0 < left() <= 60.0
            with pytest.raises(OutOfTime, match=r"its turn did not come in 0\.05 s"):
                async with admission.turn(0.05):
                    raise AssertionError("there was no free turn")
        async with admission.turn(0.05) as left:  # whoever gave up holds nothing
            assert left() <= 0.05

    asyncio.run(scenario())


def test_waiting_is_part_of_the_time() -> None:
    async def scenario() -> float:
        admission = Admission(Limits(concurrency=1))

        async def occupy() -> None:
            async with admission.turn(60.0):
                await asyncio.sleep(0.3)

        busy = asyncio.create_task(occupy())
        await asyncio.sleep(0)
        async with admission.turn(10.0) as left:
            await busy
            return left()

    assert asyncio.run(scenario()) < 9.75


def test_no_more_places_than_there_are() -> None:
    async def scenario() -> None:
        admission = Admission(Limits(concurrency=1, waiting=0))
        async with admission.place():
            assert admission.inside == 1
            with pytest.raises(TooMany):
                async with admission.place():
                    raise AssertionError("there was no place")
        assert admission.inside == 0

    asyncio.run(scenario())
