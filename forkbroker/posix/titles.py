"""Process titles: what ps and top show is the broker's dashboard."""

from __future__ import annotations

from setproctitle import setproctitle

from forkbroker.posix.printable import printable


def set_title(text: str) -> None:
    """Show this process as "stomp-broker: TEXT"; what a client has chosen of it is made printable.

    Half a microsecond. The short name that `ps -o comm` and top show is cut at 15 characters, program's name first.
    """
    setproctitle(f"stomp-broker: {printable(text)}")
