"""What `ps` and the service manager are shown."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import setproctitle

from forkbroker.parent.status_line import StatusLine


@pytest.fixture(autouse=True)
def title() -> Iterator[None]:
    """This process has its own title again afterwards."""
    before = setproctitle.getproctitle()
    yield
    setproctitle.setproctitle(before)


def test_the_same_sentence_goes_to_both() -> None:
    """With all listeners in the title."""
    told: list[str] = []
    StatusLine(["127.0.0.1:61613", "[::1]:61613"], told.append).refresh(2)

    assert told == ["2 clients"]
    assert setproctitle.getproctitle() == "stomp-broker: parent 127.0.0.1:61613 [::1]:61613 (2 clients)"


def test_nothing_is_told_before_something_has_changed() -> None:
    """A number, or the note."""
    told: list[str] = []
    shown = StatusLine(["unix:/run/socket"], told.append)
    for clients, note in ((0, ""), (0, ""), (1, ""), (1, ""), (1, "shutting down"), (1, "shutting down"), (0, "")):
        shown.refresh(clients, note)

    assert told == ["0 clients", "1 client", "1 client, shutting down", "0 clients"]
    assert setproctitle.getproctitle().endswith(" (0 clients)")


def test_other_addresses_are_shown_from_the_next_time_on() -> None:
    """Although the number of clients is the same."""
    told: list[str] = []
    shown = StatusLine(["127.0.0.1:1"], told.append)
    shown.refresh(0)
    shown.listen(["127.0.0.1:2", "unix:/s"])
    shown.refresh(0)

    assert setproctitle.getproctitle() == "stomp-broker: parent 127.0.0.1:2 unix:/s (0 clients)"
