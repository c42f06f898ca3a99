"""What clients' processes are given, at the start and after a reload."""

from __future__ import annotations

import socket
from typing import cast

import pytest
from cli.arrivals import ARRIVES, differences, give

from forkbroker.child.transport import PlainTransport
from forkbroker.cli.conversion import Known, parent_policy
from forkbroker.cli.serving import Serving
from forkbroker.config.evaluation import make_settings
from forkbroker.config.options.option import Effect
from forkbroker.config.options.table import OPTIONS
from forkbroker.errors import ConfigurationError
from forkbroker.identity import Credentials, Way
from forkbroker.posix.places import Places
from forkbroker.posix.semaphores import SemaphorePool

NO_PLACES: Places = cast(Places, None)
NO_SEMAPHORES: SemaphorePool = cast(SemaphorePool, None)
"""Nobody is served here."""


@pytest.mark.parametrize("option", ARRIVES)
def test_after_a_reload_a_setting_is_where_the_table_says(option: str) -> None:
    """In the parent's plan, at the next client, or nowhere before a restart."""
    (row,) = (row for row in OPTIONS if row.name == option)
    changed = give(option, ARRIVES[option][0])
    taken = make_settings({}) if row.effect is Effect.RESTART else changed
    serving = Serving(make_settings({}), NO_SEMAPHORES, NO_PLACES, Known())
    before = serving.equipment.shared
    rest = {"opened": (), "dropped": (), "summary": ""}
    plan = serving.prepare(taken, Known())(**rest)
    at_once = differences(
        plan, Serving(make_settings({}), NO_SEMAPHORES, NO_PLACES, Known()).prepare(make_settings({}), Known())(**rest)
    )
    for_new = differences(serving.equipment.shared, before)

    assert plan.renews_children is (row.effect is not Effect.RESTART)
    assert bool(at_once - {"renews_children"}) == (row.effect is Effect.ALL)
    assert bool(for_new) == (row.effect is Effect.NEW)


def test_ways_to_log_in_reach_parent_and_children_together() -> None:
    """With any of them, a login is more than a name."""
    serving = Serving(make_settings({}), NO_SEMAPHORES, NO_PLACES, Known())
    rest = {"opened": (), "dropped": (), "summary": ""}
    certificates = {"tls_client_user": "cn", "tls_client_certificates": "optional", "tls_client_ca": "/f"}
    for given, ways in (({"socket_login": "all"}, {Way.SYSTEM}), (certificates, {Way.CERTIFICATE})):
        plan = serving.prepare(make_settings(given), Known())(**rest)
        assert (plan.admission.users, plan.admission.ways) == ({}, ways)
        assert serving.equipment.shared.verifier is not None
    program = parent_policy(make_settings({"authenticator": "/bin/false"}))
    assert program.admission.ways == {Way.PROGRAM}
    with pytest.raises(ConfigurationError, match="clients are asked for no certificate"):
        make_settings({"tls_client_user": "cn"})


def test_users_reach_parent_and_children_together() -> None:
    """Clients without a login are a user with an empty name, if they are let in."""
    serving = Serving(make_settings({}), NO_SEMAPHORES, NO_PLACES, Known())
    assert serving.equipment.shared.verifier is None
    rest = {"opened": (), "dropped": (), "summary": ""}
    plans = [
        serving.prepare(make_settings({"users": "/f" if users else None, "allow_anonymous": is_open}), Known(users))(
            **rest
        )
        for is_open, users in ((False, {"alice": "hash"}), (True, {"alice": "hash"}), (True, None))
    ]

    assert [plan.admission.users for plan in plans] == [{"alice": "hash"}, {"alice": "hash", "": ""}, None]
    assert serving.equipment.shared.verifier is None
    adopt = serving.prepare(make_settings({"users": "/f"}), Known({}))
    assert serving.equipment.shared.verifier is None
    adopt(**rest)
    assert serving.equipment.shared.verifier is not None
    with socket.socket() as connection:
        assert serving.equipment.shared.verifier.verify(Credentials(""), PlainTransport(connection), "") == "no login"
