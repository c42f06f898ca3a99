"""Who may have a process, and when."""

from __future__ import annotations

import pytest

from forkbroker.parent.admission import Admission, AdmissionPolicy


def admission(**limits: float) -> Admission:
    return Admission(AdmissionPolicy(**limits), lambda host: host in ("", "127.0.0.1"), 100.0)  # type: ignore[arg-type]


def test_everybody_is_welcome_at_first() -> None:
    """Nothing is refused and nothing waits as long as no limit is met."""
    gate = admission()

    assert gate.refusal("192.0.2.1") == ""
    assert gate.opens_at(100.0) == 100.0
    assert gate.clients == 0


def test_the_limit_on_clients_is_named() -> None:
    """Above max-clients the reason tells the limit and its option."""
    gate = admission(max_clients=2)
    gate.add("192.0.2.1")
    assert gate.refusal("192.0.2.2") == ""
    gate.add("192.0.2.2")

    assert gate.refusal("") == "too many clients, 2 are connected and max-clients is 2"


def test_a_client_that_left_makes_room() -> None:
    """What counts is how many are connected, not how many there were."""
    gate = admission(max_clients=1)
    gate.add("192.0.2.1")
    gate.remove("192.0.2.1")

    assert gate.refusal("192.0.2.2") == ""
    assert gate.clients == 0


def test_the_limit_on_one_address_is_named() -> None:
    """Above max-clients-per-address only that address is refused."""
    gate = admission(max_clients_per_address=1)
    gate.add("192.0.2.1")

    assert gate.refusal("192.0.2.1") == (
        "too many clients from 192.0.2.1, 1 are connected and max-clients-per-address is 1"
    )
    assert gate.refusal("192.0.2.2") == ""


@pytest.mark.parametrize("host", ["", "127.0.0.1"])
def test_this_machine_has_no_limit_on_one_address(host: str) -> None:
    """Loopback and Unix sockets are exempt, as all local programs share them."""
    gate = admission(max_clients_per_address=1)
    gate.add(host)
    gate.add(host)

    assert gate.refusal(host) == ""


def test_zero_clients_per_address_is_no_limit() -> None:
    """The default does not limit an address."""
    gate = admission()
    for _ in range(50):
        gate.add("192.0.2.1")

    assert gate.refusal("192.0.2.1") == ""


def test_a_burst_empties_the_bucket_and_time_fills_it() -> None:
    """After fork-burst forks the next one waits for its token, at fork-rate tokens a second."""
    gate = admission(fork_rate=10.0, fork_burst=2)
    gate.add("a")
    assert gate.opens_at(100.0) == 100.0
    gate.add("b")

    assert gate.opens_at(100.0) == pytest.approx(100.1)
    assert gate.opens_at(100.05) == pytest.approx(100.1)
    assert gate.opens_at(100.11) == 100.11


def test_the_bucket_never_holds_more_than_a_burst() -> None:
    """A quiet hour does not buy a thousand forks at once."""
    gate = admission(fork_rate=10.0, fork_burst=2)
    assert gate.opens_at(3700.0) == 3700.0
    gate.add("a")
    gate.add("b")

    assert gate.opens_at(3700.0) == pytest.approx(3700.1)


def test_a_burst_of_zero_still_lets_one_in() -> None:
    """A senseless setting slows down, it does not lock out."""
    gate = admission(fork_rate=10.0, fork_burst=0)

    assert gate.opens_at(101.0) == 101.0


def test_a_few_crashes_are_forgiven() -> None:
    """Three children that crash before their clients log in change nothing."""
    gate = admission()
    for _ in range(3):
        gate.crashed(100.0)

    assert gate.opens_at(100.0) == 100.0


def test_crashes_in_a_row_make_everybody_wait_longer() -> None:
    """From the fourth crash on the penalty doubles, up to five seconds."""
    gate = admission()
    waits = []
    for _ in range(12):
        gate.crashed(100.0)
        waits.append(gate.opens_at(100.0) - 100.0)

    assert waits[3:6] == pytest.approx([0.2, 0.4, 0.8])
    assert waits[-1] == pytest.approx(5.0)


def test_a_login_forgives_all_crashes() -> None:
    """Children that work end the row."""
    gate = admission()
    for _ in range(3):
        gate.crashed(100.0)
    gate.connected()
    gate.crashed(100.0)

    assert gate.opens_at(100.0) == 100.0


def test_a_failed_fork_makes_everybody_wait_a_second() -> None:
    """What the system hasn't got now it will hardly have in the next moment."""
    gate = admission()
    gate.fork_failed(100.0)

    assert gate.opens_at(100.0) == pytest.approx(101.0)
