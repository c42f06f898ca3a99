"""The answers of the parent as text for Prometheus.

Each queue has series of its own, up to a bound: a client that invents names must not fill somebody's database. All
others are summed as the queue `other`, which can't be the name of one, as these begin with `/`. A queue that has
series keeps them as long as it exists. Temporary queues never have any: their names are secrets of their owners.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from forkbroker.metrics.figures import Use
from forkbroker.metrics.names import COUNTERS, GAUGES, HISTOGRAMS, PREFIX, TOTALS

OTHER = "other"
_TEMPORARY = "/reply-queue/"
_STATES = ("waiting", "unsettled", "delayed")
_SUMMED = (*_STATES, "bytes", "consumers", "blocked")

Row = Mapping[str, Any]


class Exposition:
    """Knows which queues have series, from one scrape to the next."""

    def __init__(self, most_queues: int) -> None:
        """`most_queues`: so many have series."""
        self._most = most_queues
        self._shown: dict[str, None] = {}
        self._before: dict[str, tuple[int, int]] = {}
        """Of queues without series: messages that had come and left at the last scrape."""
        self._other = [0, 0]
        """Messages that have come to these, and left."""

    def make(self, status: Row, queues: Sequence[Row], uses: Mapping[str, Use]) -> bytes:
        """The text."""
        families = [*_show_broker(status), *self._show_queues(queues), *_show_uses(status, uses)]
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Made(families))
        return generate_latest(registry)

    # -- queues

    def _show_queues(self, queues: Sequence[Row]) -> Iterable[Metric]:
        rows = self._choose(queues)
        messages = _gauge("queue_messages", "queue", "state")
        octets, consumers = _gauge("queue_bytes", "queue"), _gauge("queue_consumers", "queue")
        blocked, oldest = _gauge("queue_blocked_producers", "queue"), _gauge("queue_oldest_seconds", "queue")
        entered, left = _counter("queue_entered", "queue"), _counter("queue_left", "queue")
        for row in rows:
            name = readable(row["name"])
            for state in _STATES:
                messages.add_metric([name, state], row[state])
            octets.add_metric([name], row["bytes"])
            consumers.add_metric([name], row["consumers"])
            blocked.add_metric([name], row["blocked"])
            oldest.add_metric([name], row["oldest"] or 0)
            entered.add_metric([name], row["entered"])
            left.add_metric([name], row["left"])
        hidden = _gauge("queues_without_series")
        hidden.add_metric([], len(self._before))
        return messages, octets, consumers, blocked, oldest, entered, left, hidden

    def _choose(self, queues: Sequence[Row]) -> list[Row]:
        """Those that have series, and the sum of all others, if there are or were some."""
        by_name = {row["name"]: row for row in queues}
        self._shown = {name: None for name in self._shown if name in by_name}
        for name in by_name:
            # one that was summed stays so: its counters are in the sum
            if len(self._shown) < self._most and name not in self._before and not name.startswith(_TEMPORARY):
                self._shown[name] = None
        others = [row for name, row in by_name.items() if name not in self._shown]
        self._add_up(others)
        chosen = [by_name[name] for name in self._shown]
        if others or any(self._other):
            sums = {key: sum(row[key] for row in others) for key in _SUMMED}
            oldest = max((row["oldest"] or 0 for row in others), default=0)
            entered, left = self._other
            chosen.append({"name": OTHER, **sums, "oldest": oldest, "entered": entered, "left": left})
        return chosen

    def _add_up(self, others: Iterable[Row]) -> None:
        """What has come and left since the last scrape: a sum that never falls, although queues end."""
        before, self._before = self._before, {}
        for row in others:
            name, entered, left = row["name"], row["entered"], row["left"]
            entered_before, left_before = before.get(name, (0, 0))
            if entered < entered_before or left < left_before:
                entered_before = left_before = 0  # another queue of this name
            self._other[0] += entered - entered_before
            self._other[1] += left - left_before
            self._before[name] = (entered, left)


# -- the broker


def _show_broker(status: Row) -> Iterable[Metric]:
    info = InfoMetricFamily(PREFIX.rstrip("_"), "The version of the broker")
    info.add_metric([], {"version": status["version"]})
    yield info
    store, memory, messages = status["store"], status["memory"], status["messages"]
    values = {
        "running": status["phase"] == "running",
        "start_time_seconds": status["started"],
        "clients": status["clients"],
        "queues": status["queues"],
        "durable_subscriptions": status["durables"],
        "message_bytes": messages["bytes"],
        "memory_used_bytes": memory["used"],
        "memory_limit_bytes": memory["limit"],
        "store_open": store["open"],
        "store_refusing": bool(store["refuses"]),
        "store_uncommitted_bytes": store["uncommitted"],
    }
    for name, value in values.items():
        yield _single(_gauge(name), value)
    by_state = _gauge("messages", "state")
    for state in _STATES:
        by_state.add_metric([state], messages[state])
    yield by_state
    octets = _counter("channel_bytes", "direction")
    for direction, value in status["octets"].items():
        octets.add_metric([direction], value)
    yield octets
    yield _single(_counter("client_processes_ended"), status["processes"]["ended"])
    for name, value in status["totals"].items():
        help_text = TOTALS.get(name, name.replace("-", " "))
        yield _single(CounterMetricFamily(PREFIX + name.replace("-", "_"), help_text), value)
    for name, latency in (status["latencies"] or {}).items():
        yield _show_latency(f"{name}_seconds", latency)


def _show_latency(name: str, latency: Row) -> Metric:
    """Prometheus wants the number of all that took at most so long."""
    total, buckets = 0, []
    for bound, count in latency["buckets"]:
        total += count
        buckets.append(("+Inf" if bound is None else repr(bound), total))
    family = HistogramMetricFamily(PREFIX + name, HISTOGRAMS[name])
    family.add_metric([], buckets, latency["sum"])
    return family


# -- processes


def _show_uses(status: Row, uses: Mapping[str, Use]) -> Iterable[Metric]:
    count, cpu = _gauge("processes", "role"), _counter("process_cpu_seconds", "role")
    cpu_max, pss = _gauge("process_cpu_max_seconds", "role"), _gauge("process_pss_bytes", "role")
    pss_max = _gauge("process_pss_max_bytes", "role")
    for role, use in {"client": Use(), **uses}.items():
        count.add_metric([role], use.processes)
        if use.cpu_s is not None:
            cpu.add_metric([role], use.cpu_s + (status["processes"]["cpu-ended"] if role == "client" else 0.0))
            cpu_max.add_metric([role], use.cpu_max_s)
        if use.pss is not None:
            pss.add_metric([role], use.pss)
            pss_max.add_metric([role], use.pss_max)
    return count, cpu, cpu_max, pss, pss_max


# -- families


class _Made:
    """A collector of what is there."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _gauge(name: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, GAUGES[name], labels=labels)


def _counter(name: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(PREFIX + name, COUNTERS[name], labels=labels)


def _single(family: Any, value: float) -> Metric:
    family.add_metric([], value)
    assert isinstance(family, Metric)
    return family


def readable(name: str) -> str:
    """A name that may have octets which are not UTF-8, as UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
