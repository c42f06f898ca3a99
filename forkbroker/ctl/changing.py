"""Verbs that change something, and say how much."""

from __future__ import annotations

from collections.abc import Callable

from forkbroker.config.values import seconds
from forkbroker.control.verbs import LEVELS, VERBS
from forkbroker.ctl.command import EVERYTHING, Command, Context, Param, read_ids, tell
from forkbroker.ctl.paging import word
from forkbroker.ctl.tables import Row, counted, short_span
from forkbroker.errors import Exit
from forkbroker.posix.printable import printable

DRY_RUN = Param("--dry-run", "say what would be done, and do nothing")


def _kick(context: Context) -> int:
    parsed = context.parsed
    args = {"who": parsed.who, "reason": parsed.reason, "dry-run": parsed.dry_run}
    with context.connect() as connection:
        result = connection.ask_one("kick", args)
    who = ", ".join(printable(f"{one['client']} {one['address']} {one['login']}".rstrip()) for one in result["clients"])
    done = "would disconnect" if parsed.dry_run else "disconnected"
    context.show(f"{done} {counted(result['count'], 'client')}" + (f": {who}" if who else ""), result)
    return Exit.OK


def _log_level(context: Context) -> int:
    with context.connect() as connection:
        result = connection.ask_one("log-level", {"level": context.parsed.level})
    context.show(f"log level: {result['level']}", result)
    return Exit.OK


def _drain(context: Context) -> int:
    with context.connect() as connection:
        result = connection.ask_one("drain", {"within": context.parsed.within})
    clients, leaving = counted(result["clients"], "client"), result["leaving"]
    context.show(f"no client comes any more; {clients} connected, {leaving:,} to be disconnected", result)
    return Exit.OK


def _undrain(context: Context) -> int:
    with context.connect() as connection:
        result = connection.ask_one("undrain", {})
    context.show("clients come again", result)
    return Exit.OK


def _reload(context: Context) -> int:
    with context.connect() as connection:
        result = connection.ask_one("reload", {})
    context.show(f"reloaded: {result['summary']}", result)
    return Exit.OK


def _check(context: Context) -> int:
    """The exit status is 1 if something is wrong."""
    with context.connect() as connection:
        result = connection.ask_one("check", {})
    context.show(f"a reload would do this: {result['text']}" if result["valid"] else result["text"], result)
    return Exit.OK if result["valid"] else 1


def _backup(context: Context) -> int:
    with context.connect() as connection:
        result = connection.ask_one("backup", {"file": context.parsed.file}, for_ever=True)
    messages = counted(result["messages"], "message")
    context.show(f"{printable(result['file'])} written: {messages}, {result['bytes']:,} bytes", result)
    return Exit.OK


def _hold(context: Context) -> int:
    parsed = context.parsed
    args = {"queue": parsed.queue, "for": parsed.span}
    with context.connect() as connection:
        result = connection.ask_one("hold", args)
    until = f" for {short_span(args['for'])}" if args["for"] else ""
    context.show(
        f"{printable(result['queue'])} is held{until}, {counted(result['waiting'], 'message')} waiting"
        f"{_say_stored(result)}",
        result,
    )
    return Exit.OK


def _say_stored(result: Row) -> str:
    return "" if result["stored"] else "; the store cannot write at present, and does not know it yet"


def _release(context: Context) -> int:
    with context.connect() as connection:
        result = connection.ask_one("release", {"queue": context.parsed.queue})
    waiting = counted(result["waiting"], "message")
    context.show(f"{printable(result['queue'])} is released, {waiting} waiting{_say_stored(result)}", result)
    return Exit.OK


def _change_schedule(verb: str, done: str) -> Callable[[Context], int]:
    def run(context: Context) -> int:
        parsed = context.parsed
        ids = read_ids(parsed.id) or []
        is_all = ids == [EVERYTHING]
        args = {"queue": parsed.queue, "all": is_all or None, "ids": None if is_all else ids}
        with context.connect() as connection:
            result = connection.ask_one(verb, {**args, "dry-run": parsed.dry_run or None})
        tell(context, result, f"would be {done}" if parsed.dry_run else done)
        return Exit.NOINPUT if result.get("not-found") else Exit.OK

    return run


_QUEUE = Param("QUEUE", "name of the queue", completes="queue")
_IDS = Param("ID", "message-ids; - reads them from standard input, ALL is all messages", is_many=True)

COMMANDS = (
    Command(
        "hold",
        VERBS["hold"].help,
        _hold,
        (_QUEUE, Param("--for", "release it after this time", "TIME", seconds(1), dest="span")),
    ),
    Command("release", VERBS["release"].help, _release, (_QUEUE,)),
    Command(
        "schedule-run",
        VERBS["schedule-run"].help,
        _change_schedule("schedule-run", "let come now"),
        (_QUEUE, _IDS, DRY_RUN),
    ),
    Command(
        "schedule-cancel",
        VERBS["schedule-cancel"].help,
        _change_schedule("schedule-cancel", "dropped"),
        (_QUEUE, _IDS, DRY_RUN),
    ),
    Command(
        "kick",
        VERBS["kick"].help,
        _kick,
        (
            Param("WHO", "number, login or address of a client, or ALL"),
            Param("--reason", "what the clients are told", "TEXT"),
            DRY_RUN,
        ),
    ),
    Command(
        "log-level",
        VERBS["log-level"].help,
        _log_level,
        (word("LEVEL", "", "", LEVELS),),
    ),
    Command(
        "drain",
        VERBS["drain"].help,
        _drain,
        (Param("--within", "disconnect all within this time", "TIME", seconds(0.001)),),
    ),
    Command("undrain", VERBS["undrain"].help, _undrain),
    Command("reload", VERBS["reload"].help, _reload),
    Command("check", VERBS["check"].help, _check),
    Command("backup", VERBS["backup"].help, _backup, (Param("FILE", "name of the new file, without a path"),)),
)
