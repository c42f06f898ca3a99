"""Parts that a broker has only if its settings ask for them: each needs a library, or something of the system.

What a library brings is imported with the part, as all processes would have its memory.
"""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import TYPE_CHECKING

from forkbroker.child.verifying import Reads
from forkbroker.config.settings import Settings
from forkbroker.errors import ConfigurationError, Exit, StartError
from forkbroker.posix import merging

if TYPE_CHECKING:
    from ssl import SSLContext

    from forkbroker.child.web.site import SitePolicy

logger = logging.getLogger("forkbroker")


def make_tokens(settings: Settings) -> Reads | None:
    """What reads tokens; None: there is no key for any.

    Raises:
        StartError: a key cannot be used, or the library is not installed.
    """
    if not settings.token_key:
        return None
    try:
        # OpenSSL comes with it, of which nobody else should have the memory
        from forkbroker.child.tokens import TokenPolicy, Tokens
    except ImportError:
        raise StartError("tokens: PyJWT is not installed; pip install 'forkbroker[jwt]'", Exit.CONFIG) from None
    policy = TokenPolicy(settings.token_key, settings.token_algorithms, settings.token_audience, settings.token_issuer)
    return Tokens(policy)


def make_tls(settings: Settings) -> SSLContext | None:
    """What TLS connections share; None: there is no address for them.

    Raises:
        StartError: certificate or key cannot be used.
    """
    if settings.tls_certificate is None or not any(address.is_tls for address in settings.listen):
        return None
    # OpenSSL comes with it, of which nobody else should have the memory
    from forkbroker.child import tls

    return tls.make_context(
        settings.tls_certificate,
        settings.tls_key,
        None if settings.tls_client_certificates == "none" else settings.tls_client_ca,
        demands=settings.tls_client_certificates == "required",
    )


def make_web(settings: Settings) -> SitePolicy | None:
    """What is to be had over HTTP; None: there is no address for it.

    Raises:
        StartError: the library is not installed.
    """
    if not any(address.is_web for address in settings.listen):
        return None
    try:
        return make_site(settings)
    except ImportError as error:
        # or an old one is, as on Debian 12
        if (error.name or "").partition(".")[0] != "websockets":
            raise
        first = next(address for address in settings.listen if address.is_web)
        raise StartError(
            f"--listen {first.describe()}: websockets 13 or newer is not installed; pip install 'forkbroker[web]', "
            "or the package python3-websockets",
            Exit.CONFIG,
        ) from None


def make_site(settings: Settings) -> SitePolicy:
    """What is to be had over HTTP. Raises ImportError: the library is not installed."""
    # nobody else should have its memory
    from forkbroker.child.web.page import PagePolicy
    from forkbroker.child.web.site import SitePolicy
    from forkbroker.child.web.upgrade import Origins

    login = "none" if not settings.needs_login else "optional" if settings.allow_anonymous else "required"
    page = PagePolicy(
        for_others=settings.web_admin == "all",
        login=login,
        cookie=settings.web_cookie or "",
        websocket=next(iter(settings.web_path), ""),
    )
    return SitePolicy(
        page=None if settings.web_admin == "none" else page,
        paths=settings.web_path,
        origins=Origins(settings.web_origin),
        cookie=settings.web_cookie or "",
        takes_query=settings.web_query_token,
        proxies=settings.web_proxy,
        max_body=settings.max_body,
    )


def check_web_paths(settings: Settings) -> None:
    """Look whether WebSockets can be had at their paths. Without the library, the start says that it is missing.

    Raises:
        ConfigurationError: something else is at one of them.
    """
    if not settings.web_path:
        return
    try:
        # nobody else should have its memory
        from forkbroker.child.web.site import find_conflict

        path, owner = find_conflict(make_site(settings))
    except ImportError:
        return
    if path:
        raise ConfigurationError(
            f"--web-path {path}", f"{owner} are at this path", "choose another one, such as /ws or /stomp"
        )


def check_merging(settings: Settings) -> None:
    """Look whether equal memory can be merged, if it is to be.

    Raises:
        StartError: the system cannot do that.
    """
    if not settings.merge_memory:
        return
    if not merging.can_merge():
        raise StartError("merge-memory: needs Linux 6.4 or newer with KSM; start without it", Exit.CONFIG)
    if not merging.is_merging():
        logger.warning("merge-memory: the kernel does not merge now; echo 1 > /sys/kernel/mm/ksm/run")


def check_metrics(settings: Settings) -> None:
    """Look whether there is what answers Prometheus, if somebody is to.

    Raises:
        StartError: it is not installed.
    """
    if settings.metrics is not None and find_spec("prometheus_client") is None:
        raise StartError(
            f"--metrics {settings.metrics.describe()}: prometheus_client is not installed; "
            "pip install 'forkbroker[metrics]', or the package python3-prometheus-client",
            Exit.CONFIG,
        )
