"""Who may have a process, and when."""

from __future__ import annotations

import math
from dataclasses import asdict
from ipaddress import ip_network
from itertools import count

import pytest

from forkbroker.identity import Identity, Way
from forkbroker.parent.admission import Admission, AdmissionPolicy
from forkbroker.routing.peers import Peer


class Gate:
    """An admission whose clients are numbered; on this machine are those without a host, and 127.0.0.1."""

    def __init__(self, **limits: float) -> None:
        policy = AdmissionPolicy(**limits)  # type: ignore[arg-type]
        self.admission = Admission(policy, lambda host: "" if host == "127.0.0.1" else host, 100.0)
        self.peers = map(Peer, count(1))

    def add(self, host: str = "192.0.2.1", now: float = 100.0) -> Peer:
        peer = next(self.peers)
        self.admission.add(peer, host, now)
        return peer

    def crash(self, host: str = "192.0.2.1", now: float = 100.0) -> None:
        """A client whose child crashes before it has logged in."""
        peer = self.add(host, now)
        self.admission.crashed(peer, now)
        self.admission.remove(peer)

    def refusal(self, host: str = "192.0.2.1", now: float = 100.0) -> str:
        return self.admission.refusal(host, now)

    def opens_at(self, now: float = 100.0) -> float:
        return self.admission.opens_at(now)

    def place_at(self, host: str = "192.0.2.1", now: float = 100.0) -> float:
        return self.admission.place_at(self.admission.origin_of(host), now)

    def take_pending(self, host: str = "192.0.2.1") -> Peer | None:
        return self.admission.take_pending(self.admission.origin_of(host), 100.0)


def test_everybody_is_welcome_at_first() -> None:
    """Nothing is refused and nothing waits as long as no limit is met."""
    gate = Gate()

    assert gate.refusal() == ""
    assert gate.opens_at() == 100.0
    assert gate.admission.clients == 0
    assert gate.take_pending() is None
    assert gate.place_at() == 100.0
    assert not gate.admission.is_full(0)


def test_the_limit_on_clients_is_named() -> None:
    """Above max-clients the reason tells the limit and its option; those that wait for a process count."""
    gate = Gate(max_clients=2)
    gate.add()
    assert not gate.admission.is_full(0)
    assert gate.admission.is_full(1)
    gate.add("192.0.2.2")

    assert gate.admission.is_full(0)
    assert gate.admission.describe_full(1) == "too many clients, 3 are connected and max-clients is 2"


def test_a_client_that_left_makes_room() -> None:
    """What counts is how many are connected, not how many there were."""
    gate = Gate(max_clients=1, max_clients_per_address=1)
    gate.admission.remove(gate.add())

    assert gate.refusal() == ""
    assert not gate.admission.is_full(0)
    assert gate.admission.clients == 0


def test_the_limit_on_one_address_is_named() -> None:
    """Above max-clients-per-address only that address is refused."""
    gate = Gate(max_clients_per_address=2)
    gate.add()
    assert gate.refusal() == ""
    gate.add()

    assert gate.refusal() == "too many clients from 192.0.2.1, 2 are connected and max-clients-per-address is 2"
    assert gate.refusal("192.0.2.2") == ""


def test_hosts_of_one_source_are_counted_together() -> None:
    """Whatever the source of a host is: for IPv6 a network."""
    admission = Admission(AdmissionPolicy(max_clients_per_address=1), lambda host: host[0], 100.0)
    admission.add(Peer(1), "a1", 100.0)

    assert admission.refusal("a2", 100.0).startswith("too many clients from a, 1 are connected")
    admission.remove(Peer(1))
    assert admission.refusal("a2", 100.0) == ""


@pytest.mark.parametrize("host", ["", "127.0.0.1"])
def test_this_machine_has_no_limit_on_one_address(host: str) -> None:
    """Loopback and Unix sockets are exempt, as all local programs share them; from penalties as well."""
    gate = Gate(max_clients_per_address=1)
    gate.add(host)
    gate.add(host)
    for _ in range(10):
        gate.crash(host)

    assert gate.refusal(host) == ""


def test_zero_clients_per_address_is_no_limit() -> None:
    """The default does not limit an address."""
    gate = Gate()
    for _ in range(50):
        gate.add()

    assert gate.refusal() == ""


def test_a_burst_empties_the_bucket_and_time_fills_it() -> None:
    """After fork-burst forks the next one waits for its token, at fork-rate tokens a second."""
    gate = Gate(fork_rate=10.0, fork_burst=2)
    gate.add("a")
    assert gate.opens_at() == 100.0
    gate.add("b")

    assert gate.opens_at() == pytest.approx(100.1)
    assert gate.opens_at(100.05) == pytest.approx(100.1)
    assert gate.opens_at(100.11) == 100.11


@pytest.mark.parametrize("rate", [100.0, 555.0, 2000.0])
def test_the_rate_is_what_it_says_where_waits_are_whole_milliseconds(rate: float) -> None:
    """As with epoll: what a wait takes longer lets more in behind it."""
    admission = Admission(AdmissionPolicy(fork_rate=rate, fork_burst=100, max_pending_logins=0), lambda _: "", 0.0)
    admitted, now = 0, 0.0
    while now < 10.0:
        opens_at = admission.opens_at(now)
        if opens_at > now:
            now = max(math.ceil(opens_at * 1000), round(now * 1000) + 1) / 1000
        else:
            admitted += 1
            admission.add(Peer(admitted), "192.0.2.1", now)

    assert admitted - 100 == pytest.approx(10 * rate, rel=0.01)


def test_the_bucket_never_holds_more_than_a_burst() -> None:
    """A quiet hour does not buy a thousand forks at once."""
    gate = Gate(fork_rate=10.0, fork_burst=2)
    assert gate.opens_at(3700.0) == 3700.0
    gate.add("a")
    gate.add("b")

    assert gate.opens_at(3700.0) == pytest.approx(3700.1)


def test_a_burst_of_zero_still_lets_one_in() -> None:
    """A senseless setting slows down, it does not lock out."""
    gate = Gate(fork_rate=10.0, fork_burst=0)

    assert gate.opens_at(101.0) == 101.0


def test_a_few_crashes_are_forgiven() -> None:
    """Three children that crash before their clients log in change nothing."""
    gate = Gate()
    for _ in range(3):
        gate.crash()

    assert gate.opens_at() == 100.0
    assert gate.refusal() == ""


def test_crashes_in_a_row_are_the_fault_of_their_address() -> None:
    """From the fourth on it is refused for a time that doubles, up to five seconds; nobody else is."""
    gate = Gate()
    waits = []
    for _ in range(12):
        gate.crash()
        waits.append(gate.refusal())

    seconds = ["0.2", "0.4", "0.8", "1.6", "3.2", "5.0", "5.0", "5.0", "5.0"]
    assert waits[3:] == [f"too many crashes caused by 192.0.2.1, connect again in {wait} s" for wait in seconds]
    assert gate.refusal("192.0.2.2") == ""
    assert gate.refusal(now=104.9) != ""
    assert gate.refusal(now=105.0) == ""


def test_crashes_in_a_row_make_others_wait_for_a_tenth_of_a_second_only() -> None:
    """Be it one client, or the installation."""
    gate = Gate()
    for _ in range(3):
        gate.crash()
    assert gate.opens_at() == 100.0
    for _ in range(20):
        gate.crash()

    assert gate.opens_at() == pytest.approx(100.1)
    assert gate.opens_at(100.2) == 100.2


def test_a_login_ends_the_row_for_all_and_for_its_address() -> None:
    """Children that work: five crashes around a login are no row of four, neither here nor there."""
    gate = Gate()
    for _ in range(3):
        gate.crash()
    gate.admission.connected(gate.add())
    for _ in range(2):
        gate.crash()

    assert gate.opens_at() == 100.0
    assert gate.refusal() == ""


def test_a_login_of_another_address_does_not_end_an_addresses_row() -> None:
    """Only children for clients of the same source show that these work."""
    gate = Gate()
    for _ in range(3):
        gate.crash()
    gate.admission.connected(gate.add("192.0.2.2"))
    gate.crash()

    assert gate.opens_at() == 100.0
    assert gate.refusal() != ""


def test_a_minute_without_a_crash_is_a_new_beginning() -> None:
    """Rare crashes never add up."""
    gate = Gate()
    for minute in range(10):
        gate.crash(now=100.0 + 60.0 * minute)
        assert gate.refusal(now=100.0 + 60.0 * minute) == ""
    for _ in range(3):
        gate.crash(now=699.9)

    assert gate.refusal(now=699.9) != ""


def test_rows_of_crashes_are_bounded() -> None:
    """A thousand addresses at once are remembered, then old ones make room; without old ones the newest is let off."""
    gate = Gate(max_clients=10_000)
    for host in range(1_500):
        gate.crash(f"host{host}")
    assert len(gate.admission._crashed._rows) == 1_000
    gate.crash("late", now=160.0)

    assert set(gate.admission._crashed._rows) == {"late"}


def test_a_failed_fork_makes_everybody_wait_a_second() -> None:
    """What the system hasn't got now it will hardly have in the next moment; a crash doesn't shorten that."""
    gate = Gate()
    gate.admission.fork_failed(100.0)
    for _ in range(5):
        gate.crash()

    assert gate.opens_at() == pytest.approx(101.0)


def test_who_has_not_logged_in_makes_room_for_the_next_of_its_address_after_two_seconds() -> None:
    """The oldest one; until then the next one waits, and it is looked again, as logins make room too."""
    gate = Gate(max_pending_logins=2)
    first = gate.add(now=100.0)
    assert gate.place_at(now=100.0) == 100.0
    gate.add(now=101.0)
    assert gate.place_at(now=101.0) == pytest.approx(101.05)
    assert gate.place_at(now=101.98) == pytest.approx(102.0)
    assert gate.opens_at(101.0) == 101.0

    assert gate.place_at(now=102.0) == 102.0
    assert gate.take_pending() == first
    assert gate.take_pending() is None
    gate.add(now=102.0)
    assert gate.place_at(now=102.0) == pytest.approx(102.05)


def test_a_flood_makes_room_for_others_at_once() -> None:
    """The address that has the most loses its oldest, and is a suspect; those of others stay."""
    gate = Gate(max_pending_logins=4)
    gate.add("192.0.2.2")
    flood = [gate.add() for _ in range(3)]
    assert not gate.admission.is_suspect("192.0.2.1", 100.0)
    for place, host in enumerate(("192.0.2.3", "127.0.0.1")):
        assert gate.place_at(host) == 100.0
        assert gate.take_pending(host) == flood[place]
        gate.add(host)

    assert gate.admission.is_suspect("192.0.2.1", 100.0)
    assert gate.place_at() > 100.0
    assert gate.place_at("127.0.0.1") > 100.0
    assert gate.place_at("127.0.0.2") == 100.0


def test_a_flood_from_many_addresses_makes_room_by_its_oldest() -> None:
    """Each has one: whoever comes from another one has its place, and its time."""
    gate = Gate(max_pending_logins=3)
    flood = [gate.add(f"192.0.2.{number}", now=100.0 + number) for number in range(3)]

    assert gate.place_at("198.51.100.7", 103.0) == 103.0
    assert gate.take_pending("198.51.100.7") == flood[0]


def make_suspect(gate: Gate, host: str, now: float = 100.0) -> None:
    """A client from there that should have logged in."""
    peer = gate.add(host, now)
    gate.admission.suspect(peer, now)
    gate.admission.remove(peer)


def test_suspects_make_room_for_others_and_others_make_none_for_them() -> None:
    """However many of them there are; among themselves they are as others are."""
    gate = Gate(max_pending_logins=4)
    for host in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
        make_suspect(gate, host)
    other = [gate.add("192.0.2.9") for _ in range(2)]
    suspects = [gate.add("192.0.2.1", 101.0), gate.add("192.0.2.2", 102.0)]
    assert gate.place_at("192.0.2.1", 103.0) == pytest.approx(103.0)
    assert gate.place_at("192.0.2.3", 110.0) == 110.0
    assert gate.place_at("192.0.2.9", 110.0) == 110.0
    assert [gate.take_pending("192.0.2.9"), gate.add("192.0.2.9")][0] == suspects[0]
    assert [gate.take_pending("192.0.2.9"), gate.add("192.0.2.9")][0] == suspects[1]

    assert gate.place_at("192.0.2.1", 110.0) == pytest.approx(110.05)
    assert gate.place_at("192.0.2.5", 110.0) == 110.0
    assert gate.take_pending("192.0.2.5") == other[0]


def test_a_proxy_is_no_suspect_for_what_its_clients_do() -> None:
    """Where it has said where one of them is, that one is."""
    gate = Gate(max_pending_logins=2)
    peers = [next(gate.peers) for _ in range(3)]
    for peer in peers:
        gate.admission.add(peer, "", 100.0, origin="10.0.0.1")
    gate.admission.suspect(peers[0], 100.0)
    assert gate.admission.take_pending("192.0.2.9", 100.0) == peers[0]
    assert not gate.admission.is_suspect("10.0.0.1", 100.0)
    gate.admission.move(peers[1], "192.0.2.1", 100.0)
    gate.admission.suspect(peers[1], 100.0)
    assert gate.admission.is_suspect("192.0.2.1", 100.0)
    for peer in peers:
        gate.admission.remove(peer)

    assert not gate.admission._behind


def test_suspects_have_fifty_processes_a_second() -> None:
    """All together; nobody else waits for that."""
    gate = Gate()
    make_suspect(gate, "192.0.2.1")
    make_suspect(gate, "192.0.2.2")
    gate.add("192.0.2.1")

    assert gate.place_at("192.0.2.2") == pytest.approx(100.02)
    assert gate.place_at("192.0.2.2", 100.02) == pytest.approx(100.02)
    assert gate.place_at("192.0.2.3") == 100.0


def test_a_login_clears_an_address_and_so_do_ten_minutes() -> None:
    """Of clients that have logged in nothing else matters."""
    gate = Gate()
    make_suspect(gate, "192.0.2.1")
    make_suspect(gate, "192.0.2.2")
    gate.admission.connected(peer := gate.add("192.0.2.1"))
    gate.admission.suspect(peer, 100.0)

    assert not gate.admission.is_suspect("192.0.2.1", 100.0)
    assert gate.admission.is_suspect("192.0.2.2", 699.9)
    assert not gate.admission.is_suspect("192.0.2.2", 700.0)


def test_where_all_places_are_taken_a_flood_makes_room_as_well() -> None:
    """Clients that have logged in keep theirs, and an address makes no room for itself."""
    gate = Gate(max_clients=3, max_pending_logins=0)
    gate.admission.connected(gate.add("192.0.2.9"))
    flood = gate.add()
    gate.add()
    assert gate.admission.is_full(0)
    assert gate.admission.take_surplus("192.0.2.1", 100.0) is None
    assert gate.admission.take_surplus("192.0.2.2", 100.0) == flood
    assert not gate.admission.is_full(0)
    assert gate.place_at("192.0.2.2") > 100.0
    gate.admission.remove(flood)

    assert gate.place_at("192.0.2.2") == 100.0
    assert not gate.admission.is_full(0)
    gate.add("192.0.2.2")
    assert gate.admission.is_full(0)


def test_a_proxys_client_takes_the_turn_of_the_proxy_until_it_is_known_where_it_is() -> None:
    """Then it counts there."""
    gate = Gate(max_pending_logins=2)
    for number in (1, 2):
        gate.admission.add(Peer(90 + number), "", 100.0, origin="10.0.0.1")
    assert gate.place_at("192.0.2.1") == 100.0
    gate.admission.move(Peer(91), "192.0.2.1", 100.0)
    gate.admission.move(Peer(92), "192.0.2.1", 100.0)

    assert gate.place_at("192.0.2.1") > 100.0
    assert gate.place_at("10.0.0.1") == 100.0
    assert gate.take_pending("10.0.0.1") == Peer(91)


@pytest.mark.parametrize("way", ["connected", "remove"])
def test_who_logs_in_or_leaves_makes_room_at_once(way: str) -> None:
    """The limit is on those that have not logged in, not on clients."""
    gate = Gate(max_pending_logins=1)
    getattr(gate.admission, way)(gate.add())

    assert gate.place_at() == 100.0
    assert gate.take_pending() is None


def test_zero_pending_logins_is_no_limit() -> None:
    """Then max-clients alone counts."""
    gate = Gate(max_pending_logins=0, fork_burst=1000)
    for _ in range(600):
        gate.add()

    assert gate.place_at() == 100.0
    assert gate.take_pending() is None


def test_the_defaults_of_the_limits() -> None:
    """None on one address: a proxy may stand before all clients."""
    assert asdict(AdmissionPolicy()) == {
        "max_clients": 2000,
        "max_clients_per_address": 0,
        "max_pending_logins": 500,
        "fork_rate": 1000.0,
        "fork_burst": 100,
        "users": None,
        "proxies": (),
        "forwarders": (),
        "ways": frozenset(),
    }


def test_any_number_of_crashes_is_counted() -> None:
    """The doubling ends before it could overflow."""
    gate = Gate(max_clients=10_000)
    for _ in range(2_000):
        gate.crash()

    assert gate.refusal() == "too many crashes caused by 192.0.2.1, connect again in 5.0 s"


def test_a_row_of_crashes_ends_a_minute_after_its_last_one() -> None:
    """Not after its first."""
    gate = Gate()
    for now in (100.0, 150.0, 200.0):
        gate.crash(now=now)
        assert gate.refusal(now=now) == ""
    gate.crash(now=259.9)
    assert gate.refusal(now=259.9) != ""
    gate.crash(now=320.0)

    assert gate.refusal(now=320.0) == ""


def test_nothing_is_remembered_of_sources_that_are_gone() -> None:
    """Addresses are any number: neither a count nor a place of one that has left stays."""
    gate = Gate(max_clients_per_address=2)
    for number in range(100):
        gate.admission.remove(gate.add(f"host{number}"))

    assert not gate.admission._clients
    assert gate.admission._pending_count == 0
    assert len(gate.admission._suspects) == 0
    assert not gate.admission._displaced
    assert not gate.admission._sources


def test_a_later_reason_to_wait_does_not_shorten_an_earlier_one() -> None:
    """A crash asks for a tenth of a second, a failed fork for a whole one, in either order."""
    gate = Gate()
    for _ in range(4):
        gate.crash(now=100.95)
    gate.admission.fork_failed(100.0)

    assert gate.opens_at(100.95) == pytest.approx(101.05)


def test_one_fork_takes_one_token() -> None:
    """The bucket of the default holds a hundred."""
    gate = Gate(fork_rate=10.0, fork_burst=100)
    for _ in range(99):
        gate.add()
    assert gate.opens_at() == 100.0
    gate.add()

    assert gate.opens_at() == pytest.approx(100.1)


def test_other_limits_hold_for_the_next_client_and_for_nobody_who_is_there() -> None:
    """Lower than the number of clients, and higher."""
    gate = Gate(max_clients=2)
    gate.add()
    gate.add()
    gate.admission.adopt(AdmissionPolicy(max_clients=1))
    assert gate.admission.is_full(0)
    gate.admission.adopt(AdmissionPolicy(max_clients=3))

    assert not gate.admission.is_full(0)
    assert gate.admission.clients == 2


def fail(gate: Gate, host: str = "192.0.2.1", now: float = 100.0) -> None:
    """A client whose login fails."""
    peer = gate.add(host, now)
    gate.admission.login_failed(peer, now)
    gate.admission.remove(peer)


def test_failed_logins_close_the_door_for_their_source_and_longer_each_time() -> None:
    """Three are forgiven; others, and this machine, are not concerned, and nobody has to wait."""
    gate = Gate()
    for _ in range(3):
        fail(gate)
        fail(gate, "127.0.0.1")
    assert gate.refusal() == ""
    fail(gate)
    fail(gate, "127.0.0.1")

    assert gate.refusal() == "too many failed logins, connect again in 1.0 s"
    assert (gate.refusal("192.0.2.2"), gate.refusal("127.0.0.1"), gate.opens_at()) == ("", "", 100.0)
    assert gate.refusal(now=101.0) == ""
    fail(gate, now=101.0)
    assert gate.refusal(now=101.0).endswith("in 2.0 s")
    for _ in range(30):
        fail(gate, now=101.0)
    assert gate.refusal(now=101.0).endswith("in 300.0 s")


def test_a_login_that_succeeds_does_not_end_the_penalty_of_others_that_failed() -> None:
    """Else one account would be enough to guess at all others. Ten quiet minutes do."""
    gate = Gate()
    for _ in range(3):
        fail(gate)
    gate.admission.connected(gate.add())
    fail(gate)
    assert gate.refusal() != ""
    fail(gate, now=700.0)

    assert gate.refusal(now=700.0) == ""


def test_users_are_those_of_the_policy() -> None:
    """Without any, every login is one."""
    gate = Gate()
    assert (gate.admission.has_users, gate.admission.is_user(Identity("eve"))) == (False, True)
    gate.admission.adopt(AdmissionPolicy(users={"alice": "h"}))

    assert gate.admission.has_users
    assert [gate.admission.is_user(Identity(login)) for login in ("alice", "eve", "")] == [True, False, False]


def test_who_has_shown_it_otherwise_is_no_user_of_the_password_file() -> None:
    """As long as the configuration permits that way. Administrators need no way."""
    gate = Gate()
    gate.admission.adopt(AdmissionPolicy(users={"alice": "h"}, ways=frozenset({Way.CERTIFICATE})))
    clients = [Identity("eve", Way.CERTIFICATE), Identity("alice", Way.SYSTEM), Identity("x", Way.SYSTEM, (), True)]

    assert [gate.admission.is_user(client) for client in clients] == [True, False, True]


def test_a_reload_counts_for_those_as_well_that_are_on_their_way() -> None:
    """Their processes know what was right before. Who comes later is let in by what is right now."""
    gate = Gate()
    gate.admission.adopt(AdmissionPolicy(users={"alice": "1", "bob": "2", "": ""}))
    before = [gate.add() for _ in range(5)]
    ways = frozenset({Way.TOKEN})
    gate.admission.adopt(AdmissionPolicy(users={"alice": "1", "bob": "2", "": ""}, ways=ways))
    gate.admission.adopt(AdmissionPolicy(users={"alice": "1", "bob": "3", "": "", "carol": "4"}, ways=ways))
    clients = [*map(Identity, ("alice", "bob", "", "carol")), Identity("alice", Way.TOKEN)]

    stale = [gate.admission.is_stale(*one) for one in zip(before, clients, strict=True)]
    assert stale == [False, True, False, True, True]
    assert not gate.admission.is_stale(gate.add(), Identity("bob"))
    assert not gate.admission._stale


def test_who_leaves_during_a_reload_is_not_remembered() -> None:
    """Nor is anything where nobody has to log in."""
    gate = Gate()
    gate.add()
    gate.admission.adopt(AdmissionPolicy(users={"alice": "h"}))
    assert not gate.admission._stale
    peer = gate.add()
    gate.admission.adopt(AdmissionPolicy())
    assert not gate.admission.is_stale(peer, Identity("alice"))
    other = gate.add()
    gate.admission.adopt(AdmissionPolicy(users={"alice": "h"}))
    gate.admission.adopt(AdmissionPolicy(users={"alice": "h"}))
    assert gate.admission._stale
    gate.admission.remove(other)
    for left in list(gate.admission._stale):
        gate.admission.remove(left)
    assert not gate.admission._stale


def test_a_proxy_is_where_the_policy_says() -> None:
    """Also an IPv4 address in the clothes of the other family; a Unix socket is none."""
    gate = Gate()
    assert not gate.admission.is_proxy("10.0.0.1")
    gate.admission.adopt(AdmissionPolicy(proxies=(ip_network("10.0.0.0/8"), ip_network("fe80::/64"))))

    hosts = ("10.0.0.1", "::ffff:10.0.0.1", "fe80::1%eth0", "11.0.0.1", "fe81::1", "")
    assert [gate.admission.is_proxy(host) for host in hosts] == [True, True, True, False, False, False]


def test_a_proxys_client_counts_where_it_is_said_to_be() -> None:
    """As others from there: up to the limit, and with the penalties of that address."""
    gate = Gate(max_clients_per_address=1)
    first, second, third = (gate.add("") for _ in range(3))

    assert gate.admission.move(first, "192.0.2.1", 100.0) == ""
    assert "too many clients from 192.0.2.1" in gate.admission.move(second, "192.0.2.1", 100.0)
    assert gate.admission.move(third, "192.0.2.2", 100.0) == ""
    assert "too many clients from 192.0.2.2" in gate.refusal("192.0.2.2")
    for peer in (first, second, third):
        gate.admission.remove(peer)
    assert gate.refusal("192.0.2.2") == ""
    for _ in range(4):
        guessing = gate.add("")
        gate.admission.move(guessing, "192.0.2.3", 100.0)
        gate.admission.login_failed(guessing, 100.0)
        gate.admission.remove(guessing)
    assert "too many failed logins" in gate.admission.move(gate.add(""), "192.0.2.3", 100.0)


def test_a_client_lets_others_come_first_while_another_one_of_its_origin_logs_in() -> None:
    """Or if it is a suspect; each address of this machine is an origin."""
    gate = Gate()
    assert not gate.admission.is_crowd("192.0.2.1", 100.0)
    first = gate.add("192.0.2.1")
    assert gate.admission.is_crowd("192.0.2.1", 100.0)
    assert not gate.admission.is_crowd("192.0.2.2", 100.0)
    assert not gate.admission.is_crowd("127.0.0.1", 100.0)
    gate.admission.connected(first)
    assert not gate.admission.is_crowd("192.0.2.1", 100.0)
    second = gate.add("192.0.2.1")
    gate.admission.suspect(second, 100.0)
    gate.admission.remove(second)
    assert gate.admission.is_crowd("192.0.2.1", 100.0)
