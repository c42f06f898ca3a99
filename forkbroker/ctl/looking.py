"""Verbs that look: nothing changes."""

from __future__ import annotations

import time
from typing import Any

from forkbroker.config.values import seconds
from forkbroker.control.verbs import VERBS
from forkbroker.ctl import tables
from forkbroker.ctl.command import Command, Context, Param
from forkbroker.ctl.connection import Connection
from forkbroker.ctl.tables import Column, Row, counted, short_octets, short_span
from forkbroker.errors import Exit

_TEMPORARY = "/reply-queue/"


def _status(context: Context) -> int:
    with context.connect() as connection:
        found = connection.ask_one("status", {})
    if context.is_json:
        tables.write_json(found)
    else:
        tables.write(describe_status(found))
    return Exit.OK


def describe_status(found: Row) -> list[str]:
    """Lines of a name and a value."""
    messages, memory, store = found["messages"], found["memory"], found["store"]
    said = store["refuses"] or ("open" if store["open"] else "starts")
    lines = {
        "broker": f"forkbroker {found['version']}, process {found['pid']}, {found['phase']}",
        "up": short_span(found["seconds"]),
        "listening": " ".join(found["listening"]) or "nowhere",
        "clients": f"{found['clients']:,}",
        "queues": f"{found['queues']:,}, and {counted(found['durables'], 'durable subscription')}",
        "messages": f"{messages['waiting']:,} waiting, {messages['unsettled']:,} unsettled, "
        f"{messages['delayed']:,} delayed, {short_octets(messages['bytes'])}",
        "memory": f"{short_octets(memory['used'])} of {short_octets(memory['limit'])}",
        "store": f"{said}, {short_octets(store['uncommitted'])} not committed",
    }
    return [f"{name:<10}{value}" for name, value in lines.items()]


_WHO = (
    tables.number("CLIENT", "client"),
    tables.text("LOGIN", "login"),
    tables.text("ADDRESS", "address"),
    tables.text("HOST", "host"),
    tables.number("PID", "pid"),
    tables.text("STATE", "state"),
    tables.span("SINCE", "seconds"),
    tables.number("QUEUES", "queues"),
    tables.number("UNSETTLED", "unsettled"),
    tables.octets("PENDING", "pending"),
)


def _show_age(row: Row) -> str:
    return (">" if row["oldest-before-start"] else "") + short_span(row["oldest"])


def _show_hold(row: Row) -> str:
    """`no`, `yes`, or for how long still."""
    left_s = row.get("held-for")
    return short_span(left_s) if left_s is not None else "yes" if row["held"] else "no"


def _rate(member: str) -> Column:
    def show(row: Row) -> str:
        value = row.get(member)
        return "-" if value is None else f"{value:.0f}" if value >= 10 or not value else f"{value:.1f}"

    return Column("IN/S" if member == "in-rate" else "OUT/S", show, is_number=True)


QUEUES = (
    tables.text("QUEUE", "name"),
    tables.number("WAITING", "waiting"),
    tables.number("UNSETTLED", "unsettled"),
    tables.number("DELAYED", "delayed"),
    tables.number("CONSUMERS", "consumers"),
    tables.octets("BYTES", "bytes"),
    Column("OLDEST", _show_age, is_number=True),
    _rate("in-rate"),
    _rate("out-rate"),
    Column("HELD", _show_hold),
)
"""Columns of the listing of queues."""

_TOPICS = (
    tables.text("TOPIC", "name"),
    tables.number("SUBSCRIBERS", "subscribers"),
    tables.number("DURABLES", "durables"),
)

_SUBSCRIPTIONS = (
    tables.number("CLIENT", "client"),
    tables.text("LOGIN", "login"),
    tables.text("ADDRESS", "address"),
    tables.text("DESTINATION", "destination"),
    tables.text("ACK", "ack"),
    tables.number("PREFETCH", "prefetch"),
    tables.number("UNSETTLED", "unsettled"),
    Column("EXCLUSIVE", lambda row: "yes" if row["exclusive"] else "no"),
)


_PROCESSES = (tables.text("ROLE", "role"), tables.number("PID", "pid"))


def _processes(context: Context) -> int:
    with context.connect() as connection:
        rows = list(connection.ask("processes", {}))
    context.show_rows(_PROCESSES, rows)
    return Exit.OK


def _list(verb: str, columns: tuple[Column, ...]) -> Command:
    def run(context: Context) -> int:
        with context.connect() as connection:
            rows = list(connection.ask(verb, {"pattern": context.parsed.pattern}))
        context.show_rows(columns, rows)
        return Exit.OK

    pattern = next(argument for argument in VERBS[verb].arguments if argument.name == "pattern")
    return Command(verb, VERBS[verb].help, run, (Param("PATTERN", pattern.help, is_optional=True),))


def _queues(context: Context) -> int:
    parsed = context.parsed
    with context.connect() as connection:
        rows = measure(connection, parsed.pattern, parsed.interval)
    if not (parsed.all or parsed.pattern):
        rows = [row for row in rows if not row["name"].startswith(_TEMPORARY)]
    context.show_rows(QUEUES, rows)
    return Exit.OK


def measure(connection: Connection, pattern: str | None, interval_s: float) -> list[Row]:
    """The queues, with their rates over so many seconds; 0: without."""
    args: dict[str, Any] = {"pattern": pattern}
    before = {row["name"]: row for row in connection.ask("queues", args)} if interval_s else {}
    time.sleep(interval_s)
    rows = list(connection.ask("queues", args))
    for row in rows:
        add_rates(row, before.get(row["name"]))
    return rows


def add_rates(row: Row, before: Row | None) -> None:
    """Messages in a second between two looks; none if there was no queue, or it was another one."""
    row["in-rate"] = row["out-rate"] = None
    if before is not None and row["at"] > before["at"] and row["entered"] >= before["entered"]:
        passed_s = row["at"] - before["at"]
        row["in-rate"] = (row["entered"] - before["entered"]) / passed_s
        row["out-rate"] = max(0, row["left"] - before["left"]) / passed_s


_SCHEDULE = (
    tables.text("QUEUE", "queue"),
    tables.text("ID", "id"),
    tables.number("MESSAGES", "messages"),
    tables.span("DUE IN", "due-in"),
    tables.span("PERIOD", "period"),
    tables.number("REPEAT", "repeat"),
    tables.text("CRON", "cron"),
)

COMMANDS = (
    Command("status", VERBS["status"].help, _status),
    _list("who", _WHO),
    Command("processes", VERBS["processes"].help, _processes),
    Command(
        "queues",
        VERBS["queues"].help,
        _queues,
        (
            Param("PATTERN", "a shell pattern of names", is_optional=True, completes="queue"),
            Param("--interval", "measure rates for so long; 0: not at all", "TIME", seconds(0), 1.0),
            Param("--all", "temporary queues as well"),
        ),
    ),
    _list("topics", _TOPICS),
    _list("schedule", _SCHEDULE),
    _list("subscriptions", _SUBSCRIPTIONS),
)
