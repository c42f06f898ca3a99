"""Parent and child, joined: what the settings mean to each of them."""

from __future__ import annotations

import logging
import math
import os
import re
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from forkbroker.authenticator.process import RUNNING
from forkbroker.child import child, nursery, proxied
from forkbroker.child.answers import Answers
from forkbroker.child.lobby import Bell, Lobby
from forkbroker.child.program import Program
from forkbroker.child.rehearsal import rehearse
from forkbroker.child.spare import Spare
from forkbroker.child.transport import PlainTransport, Transport
from forkbroker.child.verifying import Reads, Verifier, Ways
from forkbroker.config.settings import Settings
from forkbroker.errors import ConfigurationError, Exit, StartError
from forkbroker.identity import Way
from forkbroker.parent.admission import AdmissionPolicy
from forkbroker.parent.flow import FlowPolicy
from forkbroker.parent.parent import Hooks, Parent, ParentPolicy, Programs
from forkbroker.parent.reloading import Plan
from forkbroker.passwords import Users
from forkbroker.permissions import Permissions
from forkbroker.posix import merging
from forkbroker.posix.blocks import use_again
from forkbroker.posix.daemonize import drop_standard_streams
from forkbroker.posix.loop import Loop, may_spin
from forkbroker.posix.oom import go_first
from forkbroker.posix.places import Places
from forkbroker.posix.privileges import apply_limits
from forkbroker.posix.semaphores import SemaphorePool
from forkbroker.routing.queues.policies import (
    Expired,
    Full,
    Policy,
    QueuePolicy,
    Rule,
    Visible,
    find_overflow_cycle,
)
from forkbroker.routing.router import Router
from forkbroker.session.policy import MAX_FILES, SessionPolicy
from forkbroker.stomp.encoder import encode_frame
from forkbroker.stomp.limits import Limits
from forkbroker.store import process, saving
from forkbroker.store.locate import make_store
from forkbroker.wire.kinds import Begin

if TYPE_CHECKING:
    from ssl import SSLContext

    from forkbroker.child.web.site import SitePolicy

logger = logging.getLogger("forkbroker")

Hashes = Mapping[str, str] | None
"""The hash of each user's passcode; None: there is no password file."""


@dataclass(frozen=True, slots=True)
class Known:
    """Who is known, and what they may do."""

    users: Hashes = None
    permissions: Permissions = field(default_factory=Permissions)


ENVELOPE_SLACK = 16_777_216
"""Octets that an envelope may have beyond the largest body or transaction: header blocks, and a read's other frames."""
PASSED_SLACK = 1_048_576
"""Octets that a message may have more when the parent passes it on: names of queues, and what is known of it."""
OWN_FILES = 16
"""Descriptors that a child needs beside files with messages: some ten, and one that has just come."""


def parent_policy(settings: Settings, known: Known | None = None) -> ParentPolicy:
    """What the parent is to heed."""
    known = known or Known()
    nobody = {"": ""} if settings.allow_anonymous else {}
    ways = {
        Way.CERTIFICATE: settings.tls_client_user != "none",
        Way.SYSTEM: settings.socket_login == "all",
        Way.TOKEN: bool(settings.token_key),
        Way.PROGRAM: settings.authenticator is not None,
    }
    return ParentPolicy(
        admission=AdmissionPolicy(
            max_clients=settings.max_clients,
            max_clients_per_address=settings.max_clients_per_address,
            max_pending_logins=settings.max_pending_logins,
            fork_rate=settings.fork_rate,
            fork_burst=min(AdmissionPolicy().fork_burst, settings.fork_rate),
            users={**(known.users or {}), **nobody} if settings.needs_login else None,
            proxies=settings.proxy_address,
            forwarders=settings.web_proxy,
            ways=frozenset(way for way, is_open in ways.items() if is_open),
        ),
        flow=FlowPolicy(hold_s=math.inf) if settings.slow_subscribers == "hold" else FlowPolicy(),
        max_envelope=max_envelope(settings),
        max_passed=max_passed(settings),
        receive_memory=settings.receive_memory,
        shutdown_timeout_s=settings.shutdown_timeout,
        permissions=known.permissions,
    )


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


def login_ways(settings: Settings) -> Ways:
    """How clients may show who they are."""
    return Ways(
        allows_anonymous=settings.allow_anonymous,
        certificate_user=settings.tls_client_user,
        takes_system_users=settings.socket_login == "all",
        administrators=settings.administrators,
    )


def max_envelope(settings: Settings) -> int:
    """The largest envelope that the limits on clients permit."""
    return max(settings.max_body, settings.max_transaction_size) + ENVELOPE_SLACK


def max_passed(settings: Settings) -> int:
    """The largest envelope that the parent makes of one: for the store, which sends it back, or for another child."""
    return max_envelope(settings) + PASSED_SLACK


def routing_policy(settings: Settings) -> Policy:
    """What the router is to heed.

    Raises:
        ConfigurationError: full queues would move their messages round for ever.
    """
    rest = QueuePolicy(
        max_length=settings.max_queue_length,
        max_bytes=settings.max_queue_bytes,
        full=Full(settings.queue_full),
        visible=Visible(settings.visible),
        max_deliveries=settings.max_deliveries,
        redelivery_delay=_milliseconds(settings.redelivery_delay),
        dedup_window=_milliseconds(settings.dedup_window),
    )
    policy = Policy(
        broadcast_all=settings.broadcast == "all",
        offer_candidates=settings.offer_candidates,
        max_queues=settings.max_queues,
        max_durables=settings.max_durables,
        queue_memory=settings.queue_memory,
        max_unsettled=settings.max_unsettled,
        max_delayed_bytes=settings.max_delayed_bytes,
        min_repeat_period=_milliseconds(settings.min_repeat_period),
        max_repeating=settings.max_repeating,
        queue=replace(rest, persistent=settings.persistent == "queues"),
        durable=replace(rest, full=Full.DROP_OLDEST, idle_expiry=_milliseconds(settings.durable_expiry)),
        rules=tuple(Rule(line.pattern, _in_terms_of_routing(line.changes)) for line in settings.policy),
    )
    _check_overflow(policy)
    return policy


def _check_overflow(policy: Policy) -> None:
    """Refuse rules by which full queues would move their messages round for ever; say which ones these are."""
    cycle = find_overflow_cycle(policy)
    if not cycle:
        return
    rules = [rule.pattern for rule in policy.rules if any(rule.matches(name) for name in cycle)]
    way = " -> ".join(name.decode("utf-8", "backslashreplace") for name in [*cycle, cycle[0]])
    raise ConfigurationError(
        " and ".join(f"--policy '{pattern.decode('utf-8', 'backslashreplace')}'" for pattern in rules)
        or "--queue-full",
        f"full queues would move their dead letters in a circle, {way}",
        "give one of these queues another dead-letter, or full=drop-oldest",
    )


def _in_terms_of_routing(changes: Mapping[str, object]) -> dict[str, object]:
    """A policy's words, as members of the enumerations that routing has for them."""
    words: dict[str, Callable[[object], object]] = {"full": Full, "expired": Expired, "visible": Visible}
    return {key: words[key](value) if key in words else value for key, value in changes.items()}


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _short_host_name() -> str:
    """This host's name without its domain, as far as an id can have it."""
    return re.sub(r"[^A-Za-z0-9_-]", "", socket.gethostname().partition(".")[0])[:63]


def session_policy(settings: Settings) -> SessionPolicy:
    """What a client's session is to heed."""
    return SessionPolicy(
        # within ids the parts are divided by "-"
        host_name=(settings.host_name or _short_host_name()).replace("-", "_"),
        bare_destinations=settings.bare_destinations,
        strict=settings.strict,
        content_length_always=settings.content_length == "always",
        connect_timeout_s=settings.connect_timeout,
        frame_timeout_s=settings.frame_timeout,
        heart_beat_ms=settings.heart_beat,
        max_client_memory=settings.max_client_memory,
        max_subscriptions=settings.max_subscriptions,
        max_transactions=settings.max_transactions,
        max_transaction_frames=settings.max_transaction_frames,
        max_transaction_size=settings.max_transaction_size,
        prefetch=settings.prefetch,
        max_client_buffer=settings.max_client_buffer,
        max_files=max_files(settings),
        slow_subscribers=settings.slow_subscribers,
    )


def max_files(settings: Settings) -> int:
    """How many files with messages a child may keep open for its client."""
    return max(0, min(MAX_FILES, settings.child_files - OWN_FILES)) if settings.child_files else MAX_FILES


def frame_limits(settings: Settings) -> Limits:
    """How large a client's frames may be."""
    return Limits(
        max_command=settings.max_command,
        max_header_line=settings.max_header_line,
        max_headers=settings.max_headers,
        max_body=settings.max_body,
        max_login_frame=settings.max_login_frame,
    )


def spin_s(settings: Settings) -> float:
    """Seconds that a loop polls before it sleeps; 0: none, as on a machine where that can't pay."""
    return settings.spin / 1_000_000 if may_spin() else 0.0


def refuse(reason: str, is_web: bool) -> bytes:
    """The ERROR for a client that gets no process, whose version is not known yet; or the answer to its request."""
    if is_web:
        from forkbroker.child.web.requests import refuse as refuse_request

        return refuse_request(reason)
    headers = [("message", reason), ("content-type", "text/plain")]
    return encode_frame(None, "ERROR", headers, f"{reason}\n".encode())


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
    page = PagePolicy(for_others=settings.web_admin == "all", login=login, cookie=settings.web_cookie or "")
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


class Serving:
    """What the processes of clients are given: the settings that hold when the nursery begins that forks them."""

    def __init__(
        self,
        settings: Settings,
        semaphores: SemaphorePool,
        places: Places,
        known: Known,
        link: socket.socket | None = None,
    ) -> None:
        """`places`: where logins are verified. `link`: to the helper that runs the authenticator, if there is one.

        Raises:
            StartError: certificate or key cannot be used, or memory cannot be merged.
        """
        self._link = link
        self._semaphores = semaphores
        self._places = places
        self._secret = os.urandom(32)
        self._session_prefix = f".{os.urandom(8).hex()}."
        self._settings = settings
        self._max_envelope = max_passed(settings)
        self.shared = self._share(settings, known)
        self._tls = make_tls(settings)
        self._web = make_web(settings)
        self.known = known

    @property
    def kept(self) -> Sequence[int]:
        """Descriptors that these processes need."""
        return (self._places.descriptor, *([] if self._link is None else [self._link.fileno()]))

    def _share(self, settings: Settings, known: Known) -> child.Shared:
        check_merging(settings)
        session, limits = session_policy(settings), frame_limits(settings)
        verifier = None
        if settings.needs_login:
            users = None if known.users is None else Users(known.users, self._secret)
            program = None
            # one that a reload brings waits for the next start
            if settings.authenticator is not None and self._link is not None:
                program = Program(str(settings.authenticator), self._link, self._places.beside(RUNNING))
            verifier = Verifier(users, self._places, login_ways(settings), make_tokens(settings), program)
        prefix, spin = f"{session.host_name}{self._session_prefix}".lstrip("."), spin_s(settings)
        return child.Shared(
            session, limits, self._semaphores, self._max_envelope, prefix, spin, verifier, known.permissions
        )

    def prepare(self, settings: Settings, known: Known) -> Callable[..., Plan]:
        """Make all that other settings ask for. What is returned gives it to the next nursery, and makes a plan for the
        parent of its own arguments and the rest; it cannot fail.

        Raises:
            StartError: certificate or key cannot be used, or memory cannot be merged.
            ConfigurationError: see `routing_policy`.
        """
        tls, web, shared = make_tls(settings), make_web(settings), self._share(settings, known)
        policy = parent_policy(settings, known)
        routing = routing_policy(settings)
        # the same file may have another certificate, or another key
        has_files = tls is not None or bool(settings.token_key)
        renews_children = settings != self._settings or known != self.known or has_files

        def adopt(*, opened: Sequence[socket.socket], dropped: Sequence[socket.socket], summary: str) -> Plan:
            self._tls, self._web, self._settings, self.shared, self.known = tls, web, settings, shared, known
            return Plan(
                admission=policy.admission,
                routing=routing,
                shutdown_timeout_s=policy.shutdown_timeout_s,
                permissions=policy.permissions,
                renews_children=renews_children,
                opened=opened,
                dropped=dropped,
                summary=summary,
            )

        return adopt

    def raise_children(self, end: socket.socket) -> int:
        """The program of the nursery: its children have the settings that hold when it begins."""
        settings, shared = self._settings, self.shared
        answers, bell, spare = Answers(shared), Bell(), Spare()
        lobby = Lobby(spare, shared, answers, bell)
        self._give_programs(spare, bell)
        spare.suspected = self._places.leave_one
        spare.programs[0] = lobby.serve
        is_limited = bool(settings.child_memory or settings.child_cpu or settings.child_files)

        def wait_within_limits(fd: int) -> int:
            apply_limits(
                memory_bytes=settings.child_memory or None,
                cpu_s=settings.child_cpu or None,
                files=settings.child_files or None,
            )
            return spare.wait(fd)

        if settings.daemonize:
            drop_standard_streams()
        go_first()
        if settings.merge_memory:
            merging.merge()
        bell.hang()
        # whatever a spare runs costs memory of each client
        program = wait_within_limits if is_limited else spare.wait
        # who plays a client in the nursery must not have the limits of one
        rehearsing = replace(shared, verifier=None, permissions=Permissions())

        lobbies, others = [lobby], list[Callable[[], None]]()
        if self._web is not None:
            from forkbroker.child.web import porch

            others.append(partial(porch.play_page, rehearsing, answers, self._web))
            if shared.verifier is None:
                lobbies.append(porch.WebLobby(spare, shared, answers, bell, self._web))
                spare.programs[Begin.WEB] = lobbies[-1].serve

        def prepare() -> None:
            rehearse(rehearsing, answers, others)
            for one in lobbies:
                one.prepare()

        return nursery.main(end, prepare, program)

    def _give_programs(self, spare: Spare, bell: Bell) -> None:
        """Let a spare serve clients in all ways that there are but the lobby's."""
        programs = spare.programs
        give: dict[str, Any] = {"shared": self.shared, "bell": bell}
        programs[Begin.PROXIED] = partial(proxied.serve, spare, make=PlainTransport, **give)
        makers: dict[int, Callable[[socket.socket], Transport]] = {0: PlainTransport}
        if self._tls is not None:
            from forkbroker.child import tls

            encrypted = partial(tls.serve, spare, context=self._tls, **give)
            programs[Begin.TLS] = encrypted
            programs[Begin.TLS | Begin.PROXIED] = partial(encrypted, is_proxied=True)
            makers[Begin.TLS] = partial(tls.TlsTransport, context=self._tls)
        if self._web is not None:
            from forkbroker.child.web import site
            from forkbroker.child.web.page import load

            if self._web.page is not None:
                load(self._web.page)  # before the children, which have its files then
            for tls_or_not, make in makers.items():
                served = partial(site.serve, spare, policy=self._web, make=make, is_tls=bool(tls_or_not), **give)
                programs[Begin.WEB | tls_or_not] = served
                programs[Begin.WEB | tls_or_not | Begin.PROXIED] = partial(served, is_proxied=True)
                programs[Begin.WEB | tls_or_not | Begin.FORWARDED] = partial(served, is_forwarded=True)


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


def run_broker(
    settings: Settings,
    listeners: Sequence[socket.socket],
    semaphores: SemaphorePool,
    serving: Serving,
    hooks: Hooks,
    scraped: Sequence[socket.socket] = (),
) -> int:
    """Serve clients on `listeners`, and Prometheus on `scraped`, until a signal ends it; the exit status."""
    use_again()
    store = make_store(settings.store or "")

    def keep(end: socket.socket, is_fresh: bool) -> int:
        if settings.daemonize:
            drop_standard_streams()
        return process.main(
            end,
            store,
            is_fresh=is_fresh,
            repair=settings.store_repair,
            max_envelope=max_passed(settings),
            watermark=settings.disk_free,
            spin_s=spin_s(settings),
        )

    def back_up(end: socket.socket, name: str) -> int:
        if settings.daemonize:
            drop_standard_streams()
        return saving.main(end, store, name)

    def measure(end: socket.socket) -> int:
        # the modules for HTTP come with it, of which nobody else should have the memory
        from forkbroker.metrics import process as metrics

        if settings.daemonize:
            drop_standard_streams()
        return metrics.main(end, list(scraped), settings.metrics_queues)

    loop = Loop(for_many=True, spin_s=spin_s(settings))
    parent = Parent(
        loop,
        listeners,
        Router(routing_policy(settings), semaphores, time.time),
        Programs(
            nursery=serving.raise_children,
            store=keep,
            refusal=refuse,
            kept=serving.kept,
            backup=back_up,
            metrics=measure if scraped else None,
            metrics_kept=[listener.fileno() for listener in scraped],
        ),
        parent_policy(settings, serving.known),
        hooks,
    )
    try:
        return parent.run()
    finally:
        loop.close()
