"""Process titles: what ps and top show is the broker's dashboard.

    stomp-broker: client 127.0.0.1:40112 alice 2 subscriptions
    stomp-broker orders: client 127.0.0.1:40112 alice 2 subscriptions      of the broker that is named orders

The short name that `ps -o comm`, top and pgrep know is one word for each kind of process: `pgrep -x stomp-broker` finds
the parents alone.
"""

from __future__ import annotations

from setproctitle import setproctitle, setthreadtitle

from forkbroker.posix.printable import printable

_PROGRAM = "stomp-broker"
_program = [_PROGRAM]
"""What stands before the colon; forked processes have it as well."""


def name_instance(name: str) -> None:
    """Show the broker's name in the titles of this process, and of those that it forks from now on."""
    _program[0] = f"{_PROGRAM} {printable(name)}"
    setproctitle(f"{_program[0]}: parent")


def set_title(text: str) -> None:
    """Show this process as "stomp-broker: TEXT"; what a client has chosen of it is made printable.

    The first word says what the process is. Three microseconds.
    """
    # a function that is not called costs no page of a client's memory
    setproctitle(f"{_program[0]}: {text if text.isprintable() else printable(text)}")
    role = text.partition(" ")[0]
    setthreadtitle(_PROGRAM if role == "parent" else f"stomp-{role}")
