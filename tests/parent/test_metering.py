"""The helper for metrics, as the parent hears it: it may look, and nothing else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from parts import logger_of

from forkbroker.control.verbs import VERBS
from forkbroker.errors import EnvelopeError
from forkbroker.parent.helpers import Helper, Meaning
from forkbroker.parent.metering import Metering
from forkbroker.routing.peers import METRICS, Peer
from forkbroker.wire.envelope import Envelope, pack
from forkbroker.wire.kinds import Kind, Role


class Post:
    """Where the helper would be."""

    def __init__(self) -> None:
        self.rows: list[Helper] = []
        self.killed: list[Role] = []
        self.router = SimpleNamespace(asked=list[tuple[Peer, Envelope]]())
        channels: Any = SimpleNamespace(router=self.router)
        helpers: Any = SimpleNamespace(start=self.rows.append, kill=self.killed.append)
        self.metering = Metering(channels, helpers, lambda _: 0, [7], logger_of([]))

    def say(self, **fields: Any) -> None:
        self.rows[0].handlers[Kind.ASK](Envelope(b"".join(pack(Kind.ASK, **fields))))


@pytest.fixture
def post() -> Post:
    post = Post()
    post.metering.start()
    return post


def test_it_may_ask_for_what_the_right_monitor_permits(post: Post) -> None:
    """Any other verb is a lie, and ends it."""
    for verb in VERBS.values():
        if verb.right == "monitor":
            post.say(token=1, destination=verb.name.encode(), block=b"{}")
        else:
            with pytest.raises(EnvelopeError, match="needs the right"):
                post.say(token=1, destination=verb.name.encode(), block=b"{}")
    looks = [verb.name for verb in VERBS.values() if verb.right == "monitor"]

    assert [(peer, asked.destination.decode()) for peer, asked in post.router.asked] == [
        (METRICS, name) for name in looks
    ]


@pytest.mark.parametrize("fields", [{"destination": b"stats"}, {"destination": b"status", "serial": 1}])
def test_nonsense_ends_it(post: Post, fields: dict[str, Any]) -> None:
    """A verb that there is not, a field that is not used."""
    with pytest.raises(EnvelopeError):
        post.say(token=1, **fields)
    assert post.router.asked == []


def test_its_end_means_another_one_until_the_broker_ends(post: Post) -> None:
    """Then it is killed, and missed by nobody."""
    (row,) = post.rows
    assert (row.role, row.kept, row.may_wait(), row.means(9)) == (Role.METRICS, [7], True, Meaning.RESTART)
    post.metering.finish()

    assert (post.killed, row.means(9)) == ([Role.METRICS], Meaning.NOTHING)
