"""Verbs that look: nothing changes."""

from __future__ import annotations

import time
from typing import Any

from forkbroker.config.values import number, seconds
from forkbroker.control.verbs import (
    CLIENT_KEYS,
    PROCESS_KEYS,
    QUEUE_FILTERS,
    QUEUE_KEYS,
    SCHEDULE_KEYS,
    SUBSCRIPTION_KEYS,
    TOPIC_KEYS,
    VERBS,
)
from forkbroker.ctl import paging, tables
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
_USE = (tables.span("CPU", "cpu"), tables.octets("MEMORY", "memory"))
"""Columns that are shown if they are asked for."""


def _list(verb: str, columns: tuple[Column, ...], *options: Param) -> Command:
    def run(context: Context) -> int:
        args = paging.read_options(context.parsed)
        with context.connect() as connection:
            rows = paging.ask(connection, verb, {"pattern": getattr(context.parsed, "pattern", None), **args})
        context.show_rows((*columns, *_USE) if paging.has_use(args) else columns, rows)
        return Exit.OK

    patterns = [argument.help for argument in VERBS[verb].arguments if argument.name == "pattern"]
    arguments = [Param("PATTERN", text, is_optional=True) for text in patterns]
    return Command(verb, VERBS[verb].help, run, (*arguments, *options))


def _queues(context: Context) -> int:
    parsed = context.parsed
    is_all = parsed.all or parsed.pattern is not None
    args = {"pattern": parsed.pattern, **paging.read_options(parsed)}
    if not is_all and args.keys() & {"offset", "limit"}:
        args["temporary"] = False
    with context.connect() as connection:
        rows = measure(connection, args, parsed.interval)
    if not is_all:
        rows = [row for row in rows if not row["name"].startswith(_TEMPORARY)]
    context.show_rows(QUEUES, rows)
    return Exit.OK


def measure(connection: Connection, args: dict[str, Any], interval_s: float) -> list[Row]:
    """The queues, with their rates over so many seconds; 0: without."""
    # the first look is at all of them: which ones come first may be others by then
    everything = {"pattern": args.get("pattern")}
    before = {row["name"]: row for row in connection.ask("queues", everything)} if interval_s else {}
    time.sleep(interval_s)
    rows = paging.ask(connection, "queues", args)
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
    _list("who", _WHO, paging.USES, *paging.pages(*CLIENT_KEYS)),
    _list("processes", _PROCESSES, paging.USES, *paging.pages(*PROCESS_KEYS)),
    Command(
        "queues",
        VERBS["queues"].help,
        _queues,
        (
            Param("PATTERN", "a shell pattern of names", is_optional=True, completes="queue"),
            Param("--interval", "measure rates for so long; 0: not at all", "TIME", seconds(0), 1.0),
            Param("--all", "temporary queues as well"),
            paging.word("--filter", "", "WHICH", QUEUE_FILTERS),
            *paging.pages(*QUEUE_KEYS),
        ),
    ),
    _list("topics", _TOPICS, *paging.pages(*TOPIC_KEYS)),
    _list("schedule", _SCHEDULE, *paging.pages(*SCHEDULE_KEYS)),
    _list(
        "subscriptions",
        _SUBSCRIPTIONS,
        Param("--client", "those of the client with this number", "N", number(1)),
        *paging.pages(*SUBSCRIPTION_KEYS),
    ),
)
