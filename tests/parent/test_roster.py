"""What is known of a process, and the lines that are logged about it."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from forkbroker.parent.roster import (
    Client,
    Process,
    count_clients,
    describe_crash,
    describe_end,
    has_crashed,
    to_text,
)
from forkbroker.posix.children import Ended
from forkbroker.routing.peers import Peer
from forkbroker.wire.channel import Channel, open_pair
from forkbroker.wire.kinds import ChildState, Role


@pytest.fixture
def child() -> Iterator[Client]:
    """A child that has told why it leaves."""
    ours, theirs = open_pair()
    channel = Channel(ours, max_envelope=1000)
    yield Client(
        peer=Peer(7),
        pid=4711,
        channel=channel,
        address="127.0.0.1:40112",
        host="127.0.0.1",
        started=1000.0,
        state=ChildState.LEAVING,
        login="alice",
        reason="client sent DISCONNECT",
        received=40112,
        delivered=118,
    )
    channel.close()
    theirs.close()


def ended(status: int) -> Ended:
    return Ended(4711, status, 1.2, 14 * 1024)


def test_a_normal_end_has_the_client_the_reason_and_the_figures(child: Client) -> None:
    """The line tells all that an administrator wants to know of a client that is gone."""
    child.ended = ended(0)

    assert describe_end(child, 1312.0) == (
        "client 7 127.0.0.1:40112 alice: disconnected, client sent DISCONNECT, 312 s, "
        "40,112 in, 118 out, cpu 1.2 s, peak 14 MiB"
    )
    assert not has_crashed(child)


def test_a_crash_has_the_signal(child: Client) -> None:
    """A child that a signal ended is named with it, whatever it said before."""
    child.ended = ended(signal.SIGSEGV)

    assert describe_end(child, 1012.0) == (
        "client 7 127.0.0.1:40112 alice: ended by signal SIGSEGV, 12 s, cpu 1.2 s, peak 14 MiB"
    )
    assert has_crashed(child)


def test_an_exit_status_other_than_0_is_a_crash(child: Client) -> None:
    """The child met something that it didn't expect."""
    child.ended = ended(70 << 8)

    assert "alice: ended with exit status 70, 12 s" in describe_end(child, 1012.0)
    assert has_crashed(child)


def test_an_end_without_a_word_is_a_crash(child: Client) -> None:
    """Exit status 0 alone is no reason for leaving."""
    child.state = ChildState.CONNECTED
    child.ended = ended(0)

    assert "alice: exited without reporting a reason, 12 s" in describe_end(child, 1012.0)
    assert has_crashed(child)


def test_a_client_that_has_not_logged_in_has_no_name(child: Client) -> None:
    """Number and address are enough, and no space is left dangling."""
    child.login = ""

    assert child.name == "client 7 127.0.0.1:40112"


def test_text_of_a_client_stays_on_its_line() -> None:
    """A login can't forge a second log line, move the cursor or be anything but text."""
    assert to_text(b"al\x1b[2Jice\nroot: connected") == r"al\x1b[2Jice\x0aroot: connected"
    assert to_text("zoë".encode() + b"\xff") == "zoë\N{REPLACEMENT CHARACTER}"


def test_what_was_dropped_is_told_where_something_was(child: Client) -> None:
    """A client that reads too slowly has lost messages: its line says how many."""
    child.ended = ended(0)
    child.dropped = 1_234

    assert "40,112 in, 118 out, 1,234 dropped, cpu 1.2 s" in describe_end(child, 1312.0)


def test_a_process_that_could_not_be_reaped_is_lost(child: Client) -> None:
    """Who has forked it has ended, or somebody else has waited for it: without a word of its own it is a crash."""
    child.state = ChildState.CONNECTED
    assert describe_end(child, 1012.0) == "client 7 127.0.0.1:40112 alice: lost, 12 s, use unknown"
    assert has_crashed(child)
    assert describe_crash(child) == "lost"


def test_a_process_that_could_not_be_reaped_and_has_left_has_not_crashed(child: Client) -> None:
    """What it used is not known, but why it ended."""
    assert describe_end(child, 1012.0) == (
        "client 7 127.0.0.1:40112 alice: disconnected, client sent DISCONNECT, 12 s, 40,112 in, 118 out, use unknown"
    )
    assert not has_crashed(child)
    assert describe_crash(child) == ""


def test_a_crash_is_described_if_the_process_crashed_of_itself(child: Client) -> None:
    """Neither one that left in order, nor one that the parent has killed, can be its messages' fault."""
    child.ended = ended(0)
    assert describe_crash(child) == ""
    child.ended = ended(signal.SIGSEGV)
    assert describe_crash(child) == "ended by signal SIGSEGV"
    child.killed = True
    assert (describe_crash(child), has_crashed(child)) == ("", True)


def test_peak_memory_is_told_in_whole_mebibytes(child: Client) -> None:
    """1,024 KiB each, rounded down."""
    child.ended = Ended(4711, 0, 0.0, 2 * 1024 * 1024 - 1)

    assert describe_end(child, 1000.0).endswith("0 s, 40,112 in, 118 out, cpu 0.0 s, peak 2047 MiB")


def test_a_child_begins_with_nothing_said(child: Client) -> None:
    """Each of its facts becomes true by an event, none by its fork."""
    born = Client(peer=child.peer, pid=child.pid, channel=child.channel, address="", host="", started=0.0)

    assert (born.role, born.state, born.login, born.reason, born.ended) == (
        Role.CLIENT,
        ChildState.STARTING,
        "",
        "",
        None,
    )
    assert not (born.writing or born.killed or born.is_closed or born.wants_attention or born.has_connected)
    assert (born.received, born.delivered, born.dropped, born.checks_without_progress, born.flushed) == (0, 0, 0, 0, 0)


def test_a_helper_has_the_name_of_its_role(child: Client) -> None:
    """There is one at a time, and what it sends is its own."""
    store = Process(role=Role.STORE, peer=Peer(0), pid=4712, channel=child.channel, started=0.0)

    assert store.name == "store"
    assert child.name == "client 7 127.0.0.1:40112 alice"


def test_a_descriptor_is_known_after_its_end(child: Client) -> None:
    """The loop knows the channel by it."""
    fd = child.channel.fileno()
    child.channel.close()

    assert child.fd == fd
    assert child.channel.fileno() == -1


def test_clients_are_counted_in_words() -> None:
    """One is no plural."""
    assert [count_clients(number) for number in (0, 1, 2, 1_000)] == [
        "0 clients",
        "1 client",
        "2 clients",
        "1,000 clients",
    ]
