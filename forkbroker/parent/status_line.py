"""What the parent shows of itself: its title in `ps`, and the status line of the service manager."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from forkbroker.parent.roster import count_clients
from forkbroker.posix import titles


class StatusLine:
    """The same sentence for both, told when it has changed and no more often than `refresh` is called."""

    def __init__(self, listening: Sequence[str], tell: Callable[[str], None]) -> None:
        """`listening`: the addresses of the listeners; `tell` brings a line to the service manager."""
        self._listening = " ".join(listening)
        self._tell = tell
        self._shown = ""

    def listen(self, listening: Sequence[str]) -> None:
        """Show other addresses from the next `refresh` on."""
        self._listening = " ".join(listening)
        self._shown = ""

    def refresh(self, clients: int, note: str = "") -> None:
        """Show how many clients there are, and what else is going on."""
        counted = count_clients(clients)
        text = f"{counted}, {note}" if note else counted
        if text != self._shown:
            self._shown = text
            titles.set_title(f"parent {self._listening} ({text})")
            self._tell(text)
