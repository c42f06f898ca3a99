"""What clients' processes are given, at the start and after a reload."""

from __future__ import annotations

import logging
import pickle
import socket
from copy import copy
from pathlib import Path
from typing import cast

import pytest
from cli.arrivals import ARRIVES, differences, give

from forkbroker.child.transport import PlainTransport
from forkbroker.cli.conversion import Known, parent_policy
from forkbroker.cli.serving import Serving
from forkbroker.config.evaluation import make_settings
from forkbroker.config.options.option import Effect
from forkbroker.config.options.table import OPTIONS
from forkbroker.errors import ConfigurationError, StartError
from forkbroker.identity import Credentials, Way
from forkbroker.permissions import Permissions
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
    assert bool(at_once - {"renews_children", "equipment"}) == (row.effect is Effect.ALL)
    assert bool(for_new) == (row.effect is Effect.NEW)


@pytest.mark.parametrize("option", ARRIVES)
def test_a_process_that_was_forked_before_learns_a_reload(option: str) -> None:
    """It comes to what a process has that is forked now."""
    serving = Serving(make_settings({}), NO_SEMAPHORES, NO_PLACES, Known())
    elder = copy(serving)
    plan = serving.prepare(give(option, ARRIVES[option][0]), Known())(opened=(), dropped=(), summary="")
    before = logging.getLogger().level
    elder.learn(plan.equipment)
    logging.getLogger().setLevel(before)

    assert elder.equipment.settings == serving.equipment.settings
    assert not differences(elder.equipment.shared, serving.equipment.shared)


@pytest.mark.parametrize(
    "given",
    [
        {"log_file": "/f"},
        {"syslog": True},
        {"log_format": "json"},
        {"merge_memory": True},
        {"listen": ["ws://[::1]:0"]},
    ],
)
def test_what_such_a_process_cannot_learn_it_is_not_told(given: dict[str, object]) -> None:
    """Another one is forked, with the log of this one and the memory that it shares."""
    serving = Serving(make_settings({}), NO_SEMAPHORES, NO_PLACES, Known())
    try:
        plan = serving.prepare(make_settings(given), Known())(opened=(), dropped=(), summary="")
    except StartError as error:
        pytest.skip(str(error))

    assert plan.renews_children
    assert plan.equipment == b""


def test_users_and_permissions_are_learnt_as_well() -> None:
    """All that the parent has read."""
    serving = Serving(make_settings({}), NO_SEMAPHORES, NO_PLACES, Known())
    elder = copy(serving)
    known = Known({"alice": "hash"}, Permissions())
    plan = serving.prepare(make_settings({"users": "/f"}), known)(opened=(), dropped=(), summary="")
    elder.learn(plan.equipment)

    assert elder.equipment.known == known
    assert elder.equipment.shared.verifier is not None


def test_what_cannot_be_read_any_more_is_not_learnt(tmp_path: Path) -> None:
    """A certificate, for one, that is gone since the parent read it."""
    serving = Serving(make_settings({}), NO_SEMAPHORES, NO_PLACES, Known())
    gone = make_settings({"listen": ["tls://127.0.0.1:0"], "tls_certificate": str(tmp_path / "gone")})
    with pytest.raises(StartError, match="gone"):
        serving.learn(pickle.dumps((gone, Known())))

    assert serving.equipment.tls is None


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
