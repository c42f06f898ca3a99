"""Verbs about the messages of a queue."""

from __future__ import annotations

from typing import Any

from forkbroker.config.values import number
from forkbroker.control.arguments import MAX_ITEMS
from forkbroker.control.verbs import REASONS, VERBS
from forkbroker.ctl import tables
from forkbroker.ctl.changing import DRY_RUN
from forkbroker.ctl.command import EVERYTHING, Command, Context, Param, read_ids, tell
from forkbroker.ctl.connection import Connection, CtlError
from forkbroker.ctl.paging import OFFSET, word
from forkbroker.ctl.sending import parse_header
from forkbroker.ctl.tables import Row, counted, short_octets
from forkbroker.errors import Exit
from forkbroker.posix.printable import printable

_QUEUE = Param("QUEUE", "name of the queue", completes="queue")
_REASON = word("--reason", "dead letters, by reason: ", "REASON", REASONS)
_ORIGIN = Param("--origin", "dead letters from this queue", "QUEUE", completes="queue")
_HEADER = Param("--header", "messages with this header; repeatable", "NAME:VALUE", parse_header, is_many=True)
_IDS = Param("ID", "message-ids; - reads them from standard input, ALL is all messages", is_optional=True, is_many=True)
_LIMIT = Param("--limit", "so many at most, the oldest ones", "N", number(1))
_CHOSEN = (_IDS, _REASON, _ORIGIN, _HEADER, _LIMIT, DRY_RUN)

_COLUMNS = (
    tables.text("ID", "id"),
    tables.number("PRIORITY", "priority"),
    tables.Column("PERSISTENT", lambda row: "yes" if row["persistent"] else "no"),
    tables.number("DELIVERIES", "deliveries"),
    tables.octets("BYTES", "bytes"),
    tables.text("REASON", "reason"),
    tables.text("ORIGIN", "origin"),
    tables.text("REJECT-REASON", "reject-reason"),
)


def _show(context: Context) -> int:
    parsed = context.parsed
    args = {
        "queue": parsed.queue,
        "ids": read_ids(parsed.id),
        "reason": parsed.reason,
        "origin": parsed.origin,
        "header": dict(parsed.header) if parsed.header else None,
        "offset": parsed.offset,
        "limit": parsed.limit,
        "body": parsed.body or bool(parsed.id),
    }
    with context.connect() as connection:
        rows = list(connection.ask("show", args))
    if context.is_json or not args["body"]:
        context.show_rows(_COLUMNS, rows)
    else:
        tables.write(line for row in rows for line in describe_message(row))
    return Exit.OK if rows or not parsed.id else Exit.NOINPUT


def describe_message(row: Row) -> list[str]:
    """Lines of its properties, its headers and its body."""
    lines = [f"message {printable(row['id'])}"]
    facts = [f"priority {row['priority']}", counted(row["deliveries"], "delivery", "deliveries")]
    facts += ["persistent"] if row["persistent"] else []
    said = f" ({printable(row['reject-reason'])})" if row["reject-reason"] else ""
    facts += [f"dead letter of {printable(row['origin'])}: {row['reason']}{said}"] if row["reason"] else []
    lines.append(f"  {', '.join(facts)}, {short_octets(row['bytes'])}")
    lines += [printable(f"  {name}: {value}") for name, value in row["headers"].items()]
    body = row.get("body")
    shown = f"({row['bytes']:,} bytes that are not text)" if body is None else body
    lines += ["", *(printable(f"  {line}") for line in shown.split("\n"))]
    return [*lines, "  …", ""] if row.get("is-cut") else [*lines, ""]


def _change(verb: str, done: str, *, has_target: bool = False) -> Any:
    """Carry out a change; many ids are asked for in several requests."""

    def run(context: Context) -> int:
        parsed = context.parsed
        ids = read_ids(parsed.id)
        is_all = ids == [EVERYTHING]
        if not (ids or parsed.reason or parsed.origin or parsed.header):
            raise CtlError(f"say which messages: IDs, --reason, --origin, --header, or {EVERYTHING}", Exit.USAGE)
        if ids and EVERYTHING in ids and not is_all:
            raise CtlError(f"{EVERYTHING} stands alone, without IDs", Exit.USAGE)
        args: dict[str, Any] = {
            "reason": parsed.reason,
            "origin": parsed.origin,
            "header": dict(parsed.header) if parsed.header else None,
            "limit": parsed.limit,
            "dry-run": parsed.dry_run or None,
            "all": is_all or None,
            **({"from": parsed.source, "to": parsed.target} if has_target else {"queue": parsed.queue}),
        }
        if verb == "retry":
            args["to"] = parsed.to
        with context.connect() as connection:
            result = _ask_in_parts(connection, verb, args, None if is_all else ids)
        tell(context, result, f"would be {done}" if parsed.dry_run else done)
        return Exit.NOINPUT if result.get("not-found") else Exit.OK

    return run


def _ask_in_parts(connection: Connection, verb: str, args: dict[str, Any], ids: list[str] | None) -> Row:
    if ids is None:
        return connection.ask_one(verb, args)
    whole: Row = {"count": 0, "left-out": 0, "seen": 0, "not-found": []}
    step = MAX_ITEMS // 2
    for at in range(0, len(ids), step):
        result = connection.ask_one(verb, {**args, "ids": ids[at : at + step]})
        for name in whole:
            whole[name] += result.get(name, 0 if name != "not-found" else [])
        if "left-out-reason" in result:
            whole["left-out-reason"] = result["left-out-reason"]
    return whole


def _purge(context: Context) -> int:
    parsed = context.parsed
    with context.connect() as connection:
        result = connection.ask_one("purge", {"queue": parsed.queue, "dry-run": parsed.dry_run or None})
    tell(context, result, "would be dropped" if parsed.dry_run else "dropped")
    return Exit.OK


_FROM = Param("FROM", "the queue that they are in", completes="queue", dest="source")
_TO = Param("TO", "the queue that they come to", completes="queue", dest="target")

COMMANDS = (
    Command(
        "show",
        VERBS["show"].help,
        _show,
        (
            _QUEUE,
            Param("ID", "message-ids; these are shown with their bodies", is_optional=True, is_many=True),
            _REASON,
            _ORIGIN,
            _HEADER,
            OFFSET,
            _LIMIT,
            Param("--body", "with headers and bodies"),
        ),
    ),
    Command(
        "retry",
        VERBS["retry"].help,
        _change("retry", "moved back"),
        (
            _QUEUE,
            *_CHOSEN,
            Param("--to", "move them to this queue instead", "QUEUE", completes="queue"),
        ),
    ),
    Command("move", VERBS["move"].help, _change("move", "moved", has_target=True), (_FROM, _TO, *_CHOSEN)),
    Command("copy", VERBS["copy"].help, _change("copy", "copied", has_target=True), (_FROM, _TO, *_CHOSEN)),
    Command("rm", VERBS["rm"].help, _change("rm", "dropped"), (_QUEUE, *_CHOSEN)),
    Command("purge", VERBS["purge"].help, _purge, (_QUEUE, DRY_RUN)),
)
