"""Who is told of other rights."""

from __future__ import annotations

import socket

from forkbroker.identity import Identity
from forkbroker.parent.entitling import Entitling
from forkbroker.parent.roster import Client
from forkbroker.permissions import Grant, Permissions, Right, unpack
from forkbroker.routing.peers import Peer
from forkbroker.wire.channel import Channel


def client(login: str, edition: int = 0, host: str = "") -> Client:
    ours, theirs = socket.socketpair()
    theirs.close()
    channel = Channel(ours, max_envelope=100)
    made = Client(peer=Peer(1), pid=1, channel=channel, address="unix", host=host, started=0.0)
    made.identity, made.edition = Identity(login), edition
    channel.close()
    return made


def permissions(*grants: str, where: str = "f, line 1") -> Permissions:
    made = (Grant(f"user {user}", right, pattern, where) for user, right, pattern in map(str.split, grants))
    return Permissions(tuple(made), has_users=True)


def test_only_whose_rights_have_changed_is_told() -> None:
    """All that users may do is one table; each is told their own part."""
    entitling = Entitling(permissions("alice read /queue/a", "bob read /queue/b"), str)
    alice, bob = client("alice"), client("bob")
    find_changed = entitling.adopt(permissions("alice read /queue/a", "bob read /queue/c"))

    assert find_changed(alice) == b""
    rights = unpack(find_changed(bob))
    assert (rights.user, list(rights)) == ("bob", [(Right.READ, [b"/queue/c"])])


def test_a_process_from_before_is_told_when_its_client_connects() -> None:
    """It has what held when its nursery began."""
    entitling = Entitling(permissions("alice read /queue/a"), str)
    assert (entitling.edition, entitling.find_news(client("alice", 0))) == (0, b"")
    entitling.adopt(permissions("alice read /queue/a"))
    assert entitling.edition == 0
    entitling.adopt(permissions())

    assert list(unpack(entitling.find_news(client("alice", 0)))) == []
    assert entitling.edition == 1
    assert entitling.find_news(client("alice", 1)) == b""


def test_who_is_on_this_machine_is_told_other_rights() -> None:
    """Where nobody has to prove who they are."""
    entitling = Entitling(permissions(), str)
    find_changed = entitling.adopt(Permissions())

    assert unpack(find_changed(client("x", host=""))).allows(Right.MANAGE, b"/queue/a")
    assert not unpack(find_changed(client("x", host="192.0.2.1"))).allows(Right.MANAGE, b"/queue/a")


def test_so_many_clients_of_a_user_may_be_here_at_a_time() -> None:
    """One that goes makes room; another limit holds for who comes after a reload."""
    quotas = {"all-users": {"connections": 2}, "anonymous": {"connections": 1}}
    entitling = Entitling(Permissions(None, quotas=quotas), str)
    clients = [client("alice") for _ in range(3)]

    assert [entitling.arrive(one) for one in clients[:2]] == ["", ""]
    assert entitling.arrive(clients[2]) == "too many clients of user alice, the quota for connections is 2"
    assert entitling.arrive(client("bob")) == ""
    assert [entitling.arrive(client("")) for _ in range(2)][1].startswith("too many clients without a login")
    for one in clients[:2]:
        entitling.leave(one)
    assert entitling.arrive(client("alice")) == ""
    entitling.adopt(Permissions(None))
    assert [entitling.arrive(client("alice")) for _ in range(3)] == [""] * 3
