"""Answers of the broker as text for Prometheus, and the bound on series."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("prometheus_client")

from prometheus_client.parser import text_string_to_metric_families

from forkbroker.metrics.exposition import Exposition
from forkbroker.metrics.figures import Use
from forkbroker.metrics.names import COUNTERS, GAUGES, HISTOGRAMS, PREFIX, TOTALS
from forkbroker.parent.latencies import Latencies
from forkbroker.routing.counters import Counters

PAGE = (Path(__file__).parents[2] / "man" / "forkbroker-metrics.7").read_text()


def make_status(**more: Any) -> dict[str, Any]:
    latencies = Latencies()
    latencies.turns.note(0.003)
    latencies.turns.note(99.0)
    return {
        "version": "1.2.3",
        "phase": "running",
        "started": 1_800_000_000.5,
        "clients": 2,
        "queues": 1,
        "durables": 0,
        "processes": {"ended": 7, "cpu-ended": 1.5},
        "messages": {"waiting": 1, "unsettled": 2, "delayed": 3, "bytes": 4},
        "memory": {"used": 5, "limit": 6},
        "store": {"open": True, "refuses": "", "uncommitted": 0},
        "octets": {"received": 10, "sent": 20},
        "latencies": latencies.show(),
        "totals": {field.name.replace("_", "-"): 1 for field in fields(Counters)},
        **more,
    }


def make_queue(name: str, entered: int = 1, left: int = 0) -> dict[str, Any]:
    return {
        "name": name,
        "waiting": entered - left,
        "unsettled": 0,
        "delayed": 0,
        "bytes": 10,
        "consumers": 1,
        "blocked": 0,
        "oldest": 2.5,
        "entered": entered,
        "left": left,
    }


def samples(text: bytes) -> dict[tuple[str, tuple[str, ...]], float]:
    """By name and values of labels."""
    return {
        (sample.name.removeprefix(PREFIX), tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def make(exposition: Exposition, *queues: dict[str, Any]) -> dict[tuple[str, tuple[str, ...]], float]:
    return samples(exposition.make(make_status(), queues, {"parent": Use(1, 2.0, 2.0, 100, 100)}))


def test_the_figures_of_the_answers_are_there() -> None:
    """The broker's, a queue's, and those of processes; clients' processes that have ended count."""
    found = make(Exposition(10), make_queue("/queue/a", 5, 2))

    assert found["running", ()] == 1
    assert found["messages", ("unsettled",)] == 2
    assert found["queue_messages", ("/queue/a", "waiting")] == 3
    assert found["queue_entered_total", ("/queue/a",)] == 5
    assert found["process_cpu_seconds_total", ("client",)] == 1.5
    assert found["process_pss_bytes", ("parent",)] == 100
    assert found["messages_received_total", ()] == 1
    assert found["channel_bytes_total", ("sent",)] == 20


def test_histograms_add_up() -> None:
    """A bucket has all that took less, and the last one has all."""
    found = make(Exposition(10))

    assert found["turn_seconds_bucket", ("0.0025",)] == 0
    assert found["turn_seconds_bucket", ("0.005",)] == 1
    assert found["turn_seconds_bucket", ("10.0",)] == 1
    assert found["turn_seconds_bucket", ("+Inf",)] == found["turn_seconds_count", ()] == 2
    assert found["turn_seconds_sum", ()] == pytest.approx(99.003)


def test_queues_beyond_the_bound_are_summed() -> None:
    """And those that have series keep them."""
    exposition = Exposition(2)
    names = [f"/queue/{letter}" for letter in "abcd"]
    make(exposition, *(make_queue(name, 3, 1) for name in names[1:]))
    found = make(exposition, *(make_queue(name, 3, 1) for name in names))

    assert {labels[0] for name, labels in found if name == "queue_bytes"} == {"/queue/b", "/queue/c", "other"}
    assert found["queue_messages", ("other", "waiting")] == 4
    assert found["queue_bytes", ("other",)] == 20
    assert found["queue_entered_total", ("other",)] == 6
    assert found["queues_without_series", ()] == 2


def test_the_name_of_a_temporary_queue_is_told_to_nobody() -> None:
    """It is a secret."""
    text = Exposition(10).make(make_status(), [make_queue("/reply-queue/secret.x")], {})

    assert b"secret" not in text
    assert samples(text)["queue_messages", ("other", "waiting")] == 1


def test_a_name_may_be_anything() -> None:
    """Quotes, line feeds, octets that are not UTF-8."""
    found = make(Exposition(10), make_queue('/queue/"a"\n\\ \udc80'))

    assert ("queue_bytes", ('/queue/"a"\n\\ \\x80',)) in found


def test_what_the_system_does_not_tell_is_not_there() -> None:
    """Rather than nought."""
    found = samples(Exposition(1).make(make_status(), [], {"parent": Use(1, None, 0.0, None, 0)}))

    assert found["processes", ("parent",)] == 1
    assert not [name for name, labels in found if "parent" in labels and ("pss" in name or "cpu" in name)]


@given(
    st.integers(0, 3),
    st.lists(st.dictionaries(st.sampled_from("abcde"), st.integers(0, 5), max_size=5), max_size=8),
)
def test_counters_never_fall_and_series_are_bounded(most: int, scrapes: list[dict[str, int]]) -> None:
    """Whatever queues come and go; the counters of a queue are its own."""
    exposition, totals, other_before = Exposition(most), dict[str, int](), 0.0
    for more in scrapes:
        totals = {name: totals.get(name, 0) + count for name, count in more.items()}  # others have ended
        found = make(exposition, *(make_queue(f"/queue/{name}", count) for name, count in totals.items()))
        series = {labels[0]: value for (name, labels), value in found.items() if name == "queue_entered_total"}
        other = series.pop("other", 0.0)
        assert len(series) <= most
        assert series == {name: totals[name.removeprefix("/queue/")] for name in series}
        assert other >= other_before
        other_before = other


def test_the_manual_page_has_every_metric_and_no_other() -> None:
    """With what it means; the names of totals are those of the answer to status."""
    told = dict(re.findall(rf"^\.It Cm {PREFIX}(\S+)\n(.+)$", PAGE, re.MULTILINE))
    told.pop("info")

    assert TOTALS.keys() == {field.name.replace("_", "-") for field in fields(Counters)}
    meant = {f"{name}_total": text for name, text in COUNTERS.items()}
    meant |= {f"{name.replace('-', '_')}_total": text for name, text in TOTALS.items()}
    assert told == {name: f"{text}." for name, text in {**GAUGES, **meant, **HISTOGRAMS}.items()}


def test_every_name_of_the_page_is_told() -> None:
    """No metric is only promised."""
    names = {name for name, _ in make(Exposition(1), make_queue("/queue/a"))}
    promised = {*GAUGES, *(f"{name}_total" for name in COUNTERS), *(f"{name}_count" for name in HISTOGRAMS)}

    assert promised - names == set()
