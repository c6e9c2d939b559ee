"""A scene's month is that of its time, in every form that ingest takes in."""

from __future__ import annotations

import pytest

from eo_data.features import month_of


@pytest.mark.parametrize(
    "text",
    [
        "2020-02-19T11:39:41Z",
        "2020-02-19T11:39:41.123456789Z",
        "2020-02-29t23:59:59.5+01:00",
        "2020-02-19",
        "20200219T113941Z",
        "2020-02",
    ],
)
def test_the_month_of_a_time(text: str) -> None:
    assert month_of(text) == 2


def test_what_is_no_time_has_no_month() -> None:
    with pytest.raises(ValueError, match=r".+"):
        month_of("in February")
