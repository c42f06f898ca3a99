"""Verbs that change something, and say how much."""

from __future__ import annotations

from forkbroker.control.verbs import LEVELS, VERBS
from forkbroker.ctl.command import Command, Context, Param
from forkbroker.ctl.tables import counted
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


def _reload(context: Context) -> int:
    with context.connect() as connection:
        result = connection.ask_one("reload", {})
    context.show(f"reloaded: {result['summary']}", result)
    return Exit.OK


COMMANDS = (
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
        (Param("LEVEL", ", ".join(LEVELS), completes=" ".join(LEVELS)),),
    ),
    Command("reload", VERBS["reload"].help, _reload),
)
