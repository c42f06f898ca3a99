"""Cron lines, in the time zone of the host."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkbroker import cron
from forkbroker.cron import CronError, check_cron, next_cron

SPRING, AUTUMN = "2026-03-29", "2026-10-25"


@pytest.fixture(autouse=True)
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A host with summer time."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


def ms(text: str, fold: int = 0) -> int:
    """Milliseconds since the epoch of a local time."""
    return int(datetime.fromisoformat(text).replace(fold=fold).timestamp() * 1000)


def local(at_ms: int) -> str:
    """The other way round, with the offset from UTC."""
    return datetime.fromtimestamp(at_ms / 1000).astimezone().isoformat(timespec="minutes")


def times(line: bytes, after: int, count: int) -> list[str]:
    found = []
    for _ in range(count):
        after = next_cron(line, after)
        found.append(local(after)[5:])
    return found


@pytest.mark.row("J07")
def test_the_next_time_is_behind_the_last_one() -> None:
    """Never the same minute again, but the first one from a moment before it."""
    noon = ms("2026-07-01T12:00")

    assert next_cron(b"* * * * *", noon) == noon + 60_000
    assert next_cron(b"* * * * *", noon - 1) == noon
    assert next_cron(b"0 12 * * *", noon) == noon + 86_400_000
    assert next_cron(b"0 12 * * *", noon - 1) == noon
    assert local(next_cron(b"30 4 1 1 *", noon)) == "2027-01-01T04:30+01:00"


def test_what_comes_often_goes_on_through_the_change_of_time() -> None:
    """No hour is missing, no hour is silent."""
    assert times(b"*/30 * * * *", ms(f"{SPRING}T01:00"), 3) == [
        "03-29T01:30+01:00",
        "03-29T03:00+02:00",
        "03-29T03:30+02:00",
    ]
    assert times(b"*/30 * * * *", ms(f"{AUTUMN}T01:30"), 5) == [
        "10-25T02:00+02:00",
        "10-25T02:30+02:00",
        "10-25T02:00+01:00",
        "10-25T02:30+01:00",
        "10-25T03:00+01:00",
    ]


def test_what_comes_once_a_day_comes_once_on_each_day() -> None:
    """On the day without such an hour right behind the gap, on the day with two of them in the first one."""
    assert times(b"30 2 * * *", ms(f"{SPRING}T00:00"), 2) == ["03-29T03:00+02:00", "03-30T02:30+02:00"]
    assert times(b"30 2 * * *", ms(f"{AUTUMN}T00:00"), 2) == ["10-25T02:30+02:00", "10-26T02:30+01:00"]
    assert times(b"30 2 * * *", ms(f"{AUTUMN}T02:10", fold=1), 1) == ["10-26T02:30+01:00"]


@given(
    st.integers(0, 4_000_000_000_000), st.sampled_from([b"*/7 * * * *", b"30 2 * * *", b"0 */3 * * SUN", b"5 4 29 2 *"])
)
def test_time_never_goes_back(after: int, line: bytes) -> None:
    """Whatever the clocks do."""
    assert next_cron(line, after) > after


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("", "has 0 fields"),
        ("* * * * * *", "has 6 fields, cron has 5"),
        ("@hourly", "has 1 fields"),
        ("60 * * * *", "Bad minute"),
        ("* * * JAM *", "Bad month"),
        ("0 0 31 4,6 *", "Bad day-of-month"),
        ("\udcff * * * *", "Bad minute"),
    ],
)
def test_what_is_no_cron_line_is_refused(line: str, fault: str) -> None:
    """The text says what is wrong."""
    with pytest.raises(CronError, match=fault):
        check_cron(line)
    with pytest.raises(CronError, match=fault):
        next_cron(line.encode(errors="replace"), 0)


@given(st.text("0123456789*/,-LW# SUNJA", max_size=30))
def test_noise_raises_the_one_error(line: str) -> None:
    """Or names a time."""
    try:
        check_cron(line)
    except CronError:
        return
    assert next_cron(line.encode(), 0) > 0


def test_without_the_library_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra."""
    monkeypatch.setattr(cron, "HAS_CRON", False)

    with pytest.raises(CronError, match=r"pip install forkbroker\[cron\]"):
        check_cron("* * * * *")
