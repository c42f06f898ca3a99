"""From what was given, on the command line and in a configuration file, to settings: each value, and all together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from forkbroker.config.options.option import Given, Option
from forkbroker.config.options.table import BY_NAME, OPTIONS
from forkbroker.config.settings import Settings
from forkbroker.errors import ConfigurationError, ConfigurationFileError

BEYOND = (
    "other hosts can reach it, and anybody may log in",
    "listen on localhost, give --users, or --allow-anonymous when everyone who can reach it may use it",
)
"""Problem and remedy of a listener beyond loopback."""
_SHORTEST_BEAT_MS = 100


def make_settings(given: Mapping[str, Given | None], origins: Mapping[str, str] | None = None) -> Settings:
    """Settings from what was given, by field name. What is missing, or None, gets its default.

    `origins`: where in the configuration file a field was given; all others come from the command line.

    Raises:
        ConfigurationError: a value that cannot be used, or values that exclude each other. It names the option.
        ConfigurationFileError: the same, if the file has it.
    """
    reader = _Reader(origins or {})
    # Any: the table decides at run time which type a field gets; a test compares the two.
    values: dict[str, Any] = {option.field: reader.read(option, given.get(option.field)) for option in OPTIONS}
    settings = Settings(**values)
    reader.check_together(settings)
    return settings


class _Reader:
    """Reads values, and tells what is wrong in terms of the place where it stands."""

    def __init__(self, origins: Mapping[str, str]) -> None:
        self._origins = origins

    def read(self, option: Option, given: Given | None) -> object:
        if option.parse is None:
            return bool(given)
        if option.repeatable:
            texts = given if isinstance(given, list) and given else [option.default] if option.default else []
            return tuple(self._parse(option, option.parse, text) for text in texts)
        text = given if isinstance(given, str) else option.default
        return None if text is None else self._parse(option, option.parse, text)

    def _parse(self, option: Option, parse: Callable[[str], object], text: str) -> object:
        """The value of `text`; an error is retold with the option's name."""
        try:
            return parse(text)
        except ConfigurationError as error:
            # of a rule with several pairs, the one that is wrong
            problem = error.problem if error.what == text else f"{error.what}: {error.problem}"
            raise self._fault(option.name, text, problem, error.remedy) from None

    def _fault(self, name: str, text: str, problem: str, remedy: str) -> ConfigurationError:
        origin = self._origins.get(BY_NAME[name].field)
        if origin is None:
            return ConfigurationError(f"--{name} {text}".rstrip(), problem, remedy)
        return ConfigurationFileError(f"{origin}: {name} = {text or 'true'}", problem, remedy)

    def check_together(self, settings: Settings) -> None:
        """What a row alone cannot say."""
        if settings.syslog and settings.log_file is not None:
            raise self._fault("syslog", "", "--log-file is given as well", "give one of them")
        if settings.status and settings.pidfile is None:
            raise self._fault("status", "", "there is no --pidfile to ask", "give the --pidfile of the broker")
        self._check_places(settings)
        for address in settings.listen:
            are_known = address.is_tls and settings.tls_client_certificates == "required"
            if not (address.is_local or are_known or settings.allow_anonymous or settings.needs_login):
                raise self._fault("listen", address.describe(), *BEYOND)
        if settings.authenticator is not None and settings.users is not None:
            raise self._fault(
                "authenticator", str(settings.authenticator), "--users is given as well", "give one of them"
            )
        if settings.authenticator_user is not None and settings.authenticator is None:
            raise self._fault(
                "authenticator-user", settings.authenticator_user, "there is no --authenticator", "give one, or neither"
            )
        self._check_tls(settings)
        self._check_web(settings)
        send, want = settings.heart_beat
        if want and want < _SHORTEST_BEAT_MS:
            raise self._fault(
                "heart-beat",
                f"{send},{want}",
                f"the interval expected from clients is below {_SHORTEST_BEAT_MS} ms",
                f"give {_SHORTEST_BEAT_MS} or more, or 0 for none",
            )

    def _check_places(self, settings: Settings) -> None:
        """Two things at one place: one of them would find it taken, or write over the other."""
        places = [("listen", address) for address in dict.fromkeys(settings.listen)]
        if settings.metrics is not None:
            places.append(("metrics", settings.metrics))
        seen = dict[tuple[str, int], str]()
        for name, address in places:
            # with port 0 the system chooses one
            place, shown = (address.host, address.port), address.describe()
            if address.port and place in seen:
                raise self._fault(name, shown, f"{seen[place]} has this port", "choose another one")
            seen[place] = f"--listen {shown}"
        written = {"pidfile": settings.pidfile, "log-file": settings.log_file}
        read = {
            "config": settings.config,
            "users": settings.users,
            "authenticator": settings.authenticator,
            "tls-certificate": settings.tls_certificate,
            "tls-key": settings.tls_key,
            "tls-client-ca": settings.tls_client_ca,
        }
        for name, path in written.items():
            for other, its in (read | written).items():
                if path is not None and path == its and other != name:
                    raise self._fault(name, str(path), f"--{other} is the same file", "name another one")

    def _check_web(self, settings: Settings) -> None:
        """A token that nobody can read is none."""
        if not settings.token_key:
            remedy = "give --token-key FILE"
            if settings.web_cookie is not None:
                raise self._fault("web-cookie", settings.web_cookie, "tokens cannot be verified", remedy)
            if settings.web_query_token:
                raise self._fault("web-query-token", "", "tokens cannot be verified", remedy)

    def _check_tls(self, settings: Settings) -> None:
        encrypted = [address for address in settings.listen if address.is_tls]
        if encrypted and settings.tls_certificate is None:
            raise self._fault(
                "listen", encrypted[0].describe(), "TLS needs a certificate", "give --tls-certificate FILE"
            )
        which = settings.tls_client_certificates
        if which != "none" and settings.tls_client_ca is None:
            raise self._fault(
                "tls-client-certificates",
                which,
                "nobody is known who signs certificates of clients",
                "give --tls-client-ca FILE",
            )
        if settings.tls_client_user != "none" and which == "none":
            raise self._fault(
                "tls-client-user",
                settings.tls_client_user,
                "clients are asked for no certificate",
                "give --tls-client-certificates optional or required",
            )
