"""What is given becomes settings, or an error that names the option and the value."""

from __future__ import annotations

import dataclasses

import pytest

from forkbroker.config.evaluation import make_settings
from forkbroker.config.options.option import Given
from forkbroker.config.options.table import OPTIONS
from forkbroker.errors import ConfigurationError
from forkbroker.posix.addresses import ListenAddress


def test_the_default_is_loopback_and_nothing_is_on() -> None:
    """Both families, the port that STOMP has."""
    settings = make_settings({})

    assert settings.listen == (ListenAddress("localhost", 61_613),)
    assert (settings.daemonize, settings.syslog, settings.allow_anonymous, settings.strict) == (False,) * 4
    assert (settings.pidfile, settings.log_file, settings.user, settings.group) == (None,) * 4
    assert settings.max_clients == 2000
    assert settings.broadcast == "interested"


def test_what_is_given_replaces_the_default() -> None:
    """Texts, flags, lists; None is as if it were missing."""
    settings = make_settings(
        {
            "listen": ["127.0.0.1:1", "unix:/run/broker"],
            "daemonize": True,
            "max_body": "1 MiB",
            "heart_beat": "0,0",
            "frame_timeout": "500 ms",
            "prefetch": None,
        }
    )

    assert settings.listen == (ListenAddress("127.0.0.1", 1), ListenAddress(path="/run/broker"))
    assert settings.daemonize
    assert settings.max_body == 1_048_576
    assert settings.heart_beat == (0, 0)
    assert settings.frame_timeout == 0.5
    assert settings.prefetch == 100


def test_an_error_names_the_option_and_the_value() -> None:
    """As it stood on the command line."""
    with pytest.raises(ConfigurationError) as caught:
        make_settings({"max_body": "10 MB"})

    assert str(caught.value) == "--max-body 10 MB: not a size; give bytes, or a number with KiB, MiB or GiB"


def test_one_bad_address_among_several_is_named() -> None:
    """Its own problem, not a general one."""
    with pytest.raises(ConfigurationError, match=r"^--listen :61613: no host; write localhost:61613"):
        make_settings({"listen": ["localhost:61613", ":61613"]})


def test_listening_beyond_loopback_needs_a_word() -> None:
    """The message says both ways out; with the word it is done."""
    given = {"listen": ["localhost:61613", "0.0.0.0:61613"]}

    with pytest.raises(ConfigurationError, match=r"--listen 0\.0\.0\.0:61613: other hosts .* --allow-anonymous"):
        make_settings(given)

    assert make_settings({**given, "allow_anonymous": True}).allow_anonymous


def test_one_log_at_a_time() -> None:
    """File or syslog."""
    with pytest.raises(ConfigurationError, match="give one of them"):
        make_settings({"syslog": True, "log_file": "/var/log/broker"})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"listen": ["localhost:1", "ws://localhost:1"]},
            "--listen ws://localhost:1: --listen localhost:1 has this port; choose another one",
        ),
        ({"listen": ["[::1]:1"], "metrics": "[::1]:1"}, "--metrics [::1]:1: --listen [::1]:1 has this port"),
        ({"pidfile": "/a", "log_file": "/a"}, "--pidfile /a: --log-file is the same file; name another one"),
        ({"users": "/a", "log_file": "/a"}, "--log-file /a: --users is the same file"),
        ({"tls_key": "/a", "pidfile": "/a"}, "--pidfile /a: --tls-key is the same file"),
    ],
)
def test_two_things_are_not_at_one_place(given: dict[str, Given], message: str) -> None:
    """One of them would find it taken, or be written over."""
    with pytest.raises(ConfigurationError) as caught:
        make_settings(given)

    assert str(caught.value).startswith(message)


def test_what_may_be_at_one_place() -> None:
    """Ports that the system chooses, an address that is given twice, and files that are only read."""
    make_settings({"listen": ["localhost:0", "ws://localhost:0", "unix:/s", "unix:/s"], "metrics": "localhost:0"})
    make_settings({"listen": ["localhost:1", "localhost:1", "127.0.0.1:1"]})
    make_settings({"tls_certificate": "/a", "tls_key": "/a", "tls_client_ca": "/a"})


def test_beats_that_no_client_could_keep_are_refused() -> None:
    """0 is none, which is another thing."""
    with pytest.raises(ConfigurationError, match="give 100 or more, or 0 for none"):
        make_settings({"heart_beat": "10,10"})

    assert make_settings({"heart_beat": "10,0"}).heart_beat == (10, 0)


LIMITS: dict[str, tuple[str, str, str, str]] = {
    "max-clients": ("1", "0", "", ""),
    "max-clients-per-address": ("0", "-1", "", ""),
    "fork-rate": ("1", "0", "", ""),
    "connect-timeout": ("100 ms", "99 ms", "", ""),
    "frame-timeout": ("0.1", "0.09", "", ""),
    "spin": ("0", "-1", "1000", "1001"),
    "prefetch": ("1", "0", "", ""),
    "offer-candidates": ("1", "0", "1000", "1001"),
    "max-client-buffer": ("64 KiB", "65535", "", ""),
    "max-queue-bytes": ("1 KiB", "1023", "", ""),
    "max-queues": ("1", "0", "", ""),
    "max-delayed-bytes": ("1024", "1023", "", ""),
    "min-repeat-period": ("1 ms", "0", "", ""),
    "max-repeating": ("0", "-1", "", ""),
    "queue-memory": ("1 MiB", "1048575", "", ""),
    "max-command": ("16", "15", "65536", "65537"),
    "max-header-line": ("128", "127", "16 MiB", "16777217"),
    "max-headers": ("8", "7", "65536", "65537"),
    "max-body": ("0", "-1", "1 GiB", "1073741825"),
    "max-login-frame": ("256", "255", "1 GiB", "1073741825"),
    "max-subscriptions": ("1", "0", "", ""),
    "max-transactions": ("1", "0", "", ""),
    "max-transaction-frames": ("1", "0", "", ""),
    "max-transaction-size": ("1 KiB", "1023", "1 GiB", "1073741825"),
}
"""The smallest value and one below it; where there is a largest one, that and one above it."""


@pytest.mark.parametrize("name", LIMITS)
def test_a_value_at_a_limit_is_taken_and_one_beyond_it_is_not(name: str) -> None:
    """The error names the option, the value, and what is permitted."""
    smallest, below, largest, above = LIMITS[name]
    field = name.replace("-", "_")
    for good in filter(None, (smallest, largest)):
        make_settings({field: good})
    for bad in filter(None, (below, above)):
        with pytest.raises(ConfigurationError) as caught:
            make_settings({field: bad})

        assert str(caught.value).startswith(f"--{name} {bad}: ")
        assert "give" in str(caught.value)


def test_nought_is_no_limit_where_the_help_says_so() -> None:
    """Although the smallest limit is more than that."""
    for option in OPTIONS:
        if "0: no limit" in option.help or "0: as many" in option.help or "0: never" in option.help:
            assert getattr(make_settings({option.field: "0"}), option.field) == 0, option.name


@pytest.mark.parametrize("option", [option for option in OPTIONS if option.repeatable], ids=lambda option: option.name)
def test_what_may_be_repeated_keeps_its_order(option) -> None:
    """Later rules win, and addresses are listened on one after the other."""
    of_option = {
        "listen": ["unix:/b", "unix:/a"],
        "policy": ["/queue/b lease=1s", "/queue/a lease=1s"],
        "token-key": ["/b", "/a"],
        "proxy-address": ["10.0.0.0/8", "::1"],
        "web-path": ["/ws", "/a"],
        "web-origin": ["null", "https://a.example"],
        "web-proxy": ["10.0.0.0/8", "::1"],
    }
    texts = of_option[option.name]
    values = getattr(make_settings({option.field: texts}), option.field)

    assert [option.parse(text) for text in texts] == list(values)


def test_a_rule_of_a_policy_that_makes_no_sense_is_told_with_the_option() -> None:
    """And with the pair that is wrong."""
    with pytest.raises(ConfigurationError, match=r"^--policy /queue/a leese=1s: .*unknown key"):
        make_settings({"policy": ["/queue/a leese=1s"]})


def test_settings_are_frozen() -> None:
    """What was read at the start holds until the end."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_settings({}).prefetch = 1  # type: ignore[misc]


@pytest.mark.parametrize("beat", ["0,0", "99,100", "0,100", "10,0"])
def test_beats_that_a_client_can_keep_are_taken(beat: str) -> None:
    """What the broker itself can send is not limited."""
    assert make_settings({"heart_beat": beat}).heart_beat == tuple(map(int, beat.split(",")))


def test_a_unix_socket_is_never_beyond_loopback() -> None:
    """Nor are names and addresses of this machine."""
    addresses = ["unix:/run/b", "localhost:1", "127.0.0.1:2", "127.8.9.10:3", "[::1]:4"]

    assert len(make_settings({"listen": addresses}).listen) == len(addresses)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"web_cookie": "session"}, "--web-cookie session: tokens cannot be verified; give --token-key FILE"),
        ({"web_query_token": True}, "--web-query-token: tokens cannot be verified; give --token-key FILE"),
    ],
)
def test_tokens_of_requests_need_a_key(given: dict[str, Given], message: str) -> None:
    """Without one they would be ignored, and nobody would know why."""
    with pytest.raises(ConfigurationError, match=message):
        make_settings(given)
    make_settings(given | {"token_key": ["/key.pem"]})


TLS = {"listen": ["tls://0.0.0.0:61614"], "tls_certificate": "/c.pem", "tls_client_ca": "/ca.pem"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"tls_certificate": None},
            r"--listen tls://0\.0\.0\.0:61614: TLS needs a certificate; give --tls-cert",
        ),
        ({"tls_client_ca": None}, "--tls-client-certificates required: nobody is known who signs"),
        ({"tls_client_certificates": "optional"}, "other hosts can reach it, and anybody may log in"),
    ],
)
def test_tls_needs_its_files(changes: dict[str, str | None], message: str) -> None:
    """And a listener beyond loopback, that its clients have to show a certificate."""
    given = TLS | {"tls_client_certificates": "required"}
    assert make_settings(given).listen[0].is_tls

    with pytest.raises(ConfigurationError, match=message):
        make_settings(given | changes)
