"""All queues by name: their making, their limits, their end, and what of them has changed.

Queues are made by who first names them, and forgotten when nothing is in them and nobody consumes. A `/reply-queue/`
exists only while its owner consumes from it: what is sent to another one is dropped, and so is what it held. The
queue of a durable subscription (`/dsub/`) exists as long as the subscription.

Nothing here knows the store: `custody.py` says what a change means for both, memory and store.
"""

from __future__ import annotations

from collections.abc import Callable

from forkbroker.destinations import Sort
from forkbroker.errors import EnvelopeError
from forkbroker.routing.chores import drop
from forkbroker.routing.counters import QueueView
from forkbroker.routing.handover import Loaded, Rule
from forkbroker.routing.kit import Kit
from forkbroker.routing.peers import Peer
from forkbroker.routing.queues.accounts import Accounts
from forkbroker.routing.queues.holds import Holder, Holds
from forkbroker.routing.queues.policies import Full, Policy, QueuePolicies, QueuePolicy, dead_letter_names
from forkbroker.routing.queues.queue import Queue
from forkbroker.routing.queues.runs import Run
from forkbroker.routing.queues.window import Window

RESUME_PERCENT = 80
"""A full queue lets its producers go on below this part of its limit: not at every message that leaves."""

_CATCH_UP_MS = 100
"""How long consumers may take to make room in memory before what comes goes to the store."""
_SWEEP_EVERY_MS = 100
"""Between two looks for what has expired in one queue: what expires one by one is taken out in one go."""
_REPLY = Sort.REPLY_QUEUE.value.encode()
_DURABLE = Sort.DURABLE.value.encode()
UNMADE = (_REPLY, _DURABLE)
"""What names of queues begin with that no SEND makes: those of clients, and of durable subscriptions."""

_OF_BYTES = "(max-queue-bytes, or a policy)"
_OF_LENGTH = "(max-queue-length, or a policy)"
"""The options that set a limit of a queue, for texts that name it."""


class Queues(Rule):
    """The queues of one router."""

    DUMPED = ("accounts", "_queues", "_reserved", "_serial", "changed", "expiring")
    ANEW = ("_policy", "_policies", "_durable_policies", "_absent", "makers", "watchers")

    def __init__(self, kit: Kit, policy: Policy) -> None:
        self._policy = policy
        self._policies = QueuePolicies(policy.queue, policy.rules)
        self._durable_policies = QueuePolicies(policy.durable, policy.rules)
        self._kit = kit
        self._counters = kit.counters
        self._news = kit.news
        self._timers = kit.timers
        self._queues: dict[bytes, Queue] = {}
        self.accounts = Accounts()
        """What users have made, as far as they have a quota for it."""
        self._reserved: set[bytes] = set()
        """Names of queues to which something will come."""
        self._absent: set[bytes] = set()
        """Those of them that do not exist."""
        self._serial = 1
        self._expiries = kit.timers.add("expiry", self._note_expiry)
        self._moments = kit.timers.add("catching-up", self._end_catching_up)
        self.window = Window(policy.queue_memory)
        self.holds = Holds(kit.out)
        self.changed: dict[Queue, None] = {}
        """Those for which an offer may have become possible; a dict for its order."""
        self.expiring: dict[Queue, None] = {}
        """Those in which messages have expired."""
        self.makers: list[Callable[[Queue], None]] = []
        """They are called with each queue that is made."""
        self.watchers: list[Callable[[Queue], None]] = []
        """They are called with each queue that is gone."""

    def rebuild(self, loaded: Loaded) -> None:
        """Let all queues, those that are gone as well, have their policies, and add up what they use."""
        for queue in loaded.all(Queue):
            queue.policy, queue.window = self.policy_for(queue.name), self.window
            queue.has_leases = queue.has_leases or bool(queue.policy.lease)
            self.window.used += queue.memory
            self.window.asked += sum(lane.asked for lane in queue.lanes)
            self.holds.restore(queue)
        self._absent = self._reserved - self._queues.keys()

    def adopt(self, policy: Policy) -> None:
        """Other settings hold: for names that have no queue at once, for each queue after `adapt`."""
        self._policy = policy
        self._policies = QueuePolicies(policy.queue, policy.rules)
        self._durable_policies = QueuePolicies(policy.durable, policy.rules)

    def adapt(self, queue: Queue) -> bool:
        """Give a queue the policy that holds for its name now; tell whether that is another one."""
        policy = self.policy_for(queue.name)
        if policy == queue.policy:
            return False
        queue.policy = policy
        queue.has_leases = queue.has_leases or bool(policy.lease)
        if queue.held and policy.full is not Full.HOLD:
            self.holds.release(queue)
        self.changed[queue] = None
        return True

    # -- names

    def find(self, name: bytes) -> Queue | None:
        """The queue of this name, if it exists."""
        return self._queues.get(name)

    def policy_for(self, name: bytes) -> QueuePolicy:
        """What holds for the queue of this name, whether it exists or not."""
        return (self._durable_policies if is_durable(name) else self._policies).find(name)

    @property
    def dead_letter_names(self) -> set[bytes]:
        """The names of all queues to which dead letters go, whether these exist or not."""
        return dead_letter_names(self._policy) | {queue.policy.dead_letter for queue in self._queues.values()}

    def __len__(self) -> int:
        """How many there are."""
        return len(self._queues)

    def all(self) -> list[Queue]:
        """Every queue."""
        return list(self._queues.values())

    def views(self) -> list[QueueView]:
        """All queues as they are now."""
        return [queue.view() for queue in self._queues.values()]

    def takes(self, name: bytes) -> bool:
        """Whether the queue of this name exists, or a SEND makes it."""
        return not name.startswith(UNMADE) or name in self._queues

    def find_refusal_to_make(self, name: bytes, planned: int = 0, peer: Peer | None = None) -> str | None:
        """Why the peer can't make a queue of this name, while so many others are about to be made."""
        account = self.accounts.of(peer)
        if account is not None and name not in self._reserved and (excess := account.find_excess(planned)) is not None:
            return f"queue {shown(name)} does not exist, and {excess}"
        limit = self._policy.max_queues
        if name in self._reserved or len(self._queues) + len(self._absent) + planned < limit:
            return None
        return f"queue {shown(name)} does not exist, and there are {limit:,} already, the limit (max-queues)"

    def reserve(self, name: bytes) -> None:
        """Something waits elsewhere that is to come to the queue of this name: it counts as if it existed."""
        self._reserved.add(name)
        if name not in self._queues:
            self._absent.add(name)

    def release(self, name: bytes) -> None:
        """Nothing is to come any more."""
        self._reserved.discard(name)
        self._absent.discard(name)
        self.accounts.release(name)

    def make(self, name: bytes, owner: Peer | None = None, *, maker: Peer | None = None) -> Queue:
        """A queue that doesn't exist yet; `maker`: the peer that makes it."""
        queue = self._make(name, owner, born=self._serial - 1)
        self.accounts.made(queue, maker)
        return queue

    def restore(self, name: bytes) -> Queue:
        """The queue of this name, of which the store has messages from before the broker's start.

        It was born before all of them: one that was born now would take them for an older queue's.
        """
        return self._queues.get(name) or self._make(name, None, born=0)

    def restore_owner(self, name: bytes, user: str) -> bool:
        """Put a queue from before the broker's start on the account of its user; False: there is none of this name."""
        queue = self._queues.get(name)
        if queue is None and name not in self._reserved:
            return False
        self.accounts.restore(name, queue, user)
        return True

    def _make(self, name: bytes, owner: Peer | None, *, born: int) -> Queue:
        policy = self.policy_for(name)
        queue = Queue(name, policy, self.window, owner, is_durable=is_durable(name), born=born)
        queue.used = self._timers.now
        self._queues[name] = queue
        self._absent.discard(name)
        for maker in self.makers:
            maker(queue)
        if self._news.listeners:
            self._news.tell("queue-made", name=text(name))
        return queue

    def open(self, name: bytes, peer: Peer, *, is_temporary: bool) -> Queue | str:
        """The queue that the peer wants to consume from, made if need be; or the reason why it may not.

        Raises:
            EnvelopeError: this is not what temporary queues are called.
        """
        is_reply = name.startswith(_REPLY)
        if is_temporary and not is_reply:
            raise EnvelopeError(f"SUBSCRIBE: {name!r} is not the name of a temporary queue")
        queue = self._queues.get(name)
        if is_reply and not (is_temporary and (queue is None or queue.owner == peer)):
            return f"{shown(name)} is a temporary queue: only its owner may consume"
        if queue is not None:
            return queue
        if is_durable(name):
            return f"there is no durable subscription {shown(name)}"
        refusal = self.find_refusal_to_make(name, peer=peer)
        return self.make(name, peer if is_temporary else None, maker=peer) if refusal is None else refusal

    # -- messages

    def take_serials(self, count: int) -> int:
        """Serials for so many messages: the first one."""
        serial = self._serial
        self._serial += count
        return serial

    @property
    def next_serial(self) -> int:
        """The one that the next message gets."""
        return self._serial

    def resume_serials(self, serial: int) -> None:
        """The store has all below this one."""
        self._serial = max(self._serial, serial)

    def show(self, queue: Queue, run: Run) -> None:
        """Note that these messages of the queue can be taken now.

        Without anybody who could have them nothing is to be done, but where memory is used up.
        """
        if queue.readers.willing or self.window.used > self.window.limit:
            self.changed[queue] = None
        if run.details.expires:
            self.watch_expiry(queue, run.details.expires)

    def watch_expiry(self, queue: Queue, expires_ms: int) -> None:
        """Messages in the queue's memory expire then."""
        self._expiries.at_latest(expires_ms, queue.name)

    def take_expired(self, queue: Queue, most: int) -> list[Run]:
        """Take out of the queue what has expired: so many runs at most. If there are more it stays an expiring one."""
        now_ms = self._timers.wall_ms()
        expired = queue.take_expired(now_ms, most)
        next_expiry = queue.next_expiry()
        if not 0 < next_expiry <= now_ms:
            self.expiring.pop(queue, None)
            if next_expiry:
                self.watch_expiry(queue, max(next_expiry, now_ms + _SWEEP_EVERY_MS))
        return expired

    def is_expiring(self, queue: Queue) -> bool:
        """Whether something in the queue's memory has expired, and is to be taken out."""
        return queue in self.expiring or 0 < queue.next_expiry() <= self._timers.wall_ms()

    def _note_expiry(self, name: bytes) -> None:
        self.expiring[self._queues[name]] = None

    # -- limits

    def find_excess(self, queue: Queue) -> str | None:
        """Which of its limits the queue has reached."""
        policy = queue.policy
        if policy.max_bytes and queue.octets >= policy.max_bytes:
            return f"is full: {queue.octets:,} bytes, the limit is {policy.max_bytes:,} {_OF_BYTES}"
        if policy.max_length and queue.messages >= policy.max_length:
            return f"is full: {queue.messages:,} messages, the limit is {policy.max_length:,} {_OF_LENGTH}"
        if self.window.refusal and queue.memory >= self.window.free:
            return f"accepts no more messages: {self.window.refusal}"
        return None

    def find_excess_with(self, name: bytes, messages: int, octets: int) -> str | None:
        """Which of its limits the queue of this name, if it exists, has reached with so much more than it holds."""
        queue = self._queues.get(name)
        policy = self.policy_for(name) if queue is None else queue.policy
        if policy.max_bytes and octets + (queue.octets if queue else 0) >= policy.max_bytes:
            return f"would have more bytes than its limit, {policy.max_bytes:,} {_OF_BYTES}"
        if policy.max_length and messages + (queue.messages if queue else 0) >= policy.max_length:
            return f"would have more messages than its limit, {policy.max_length:,} {_OF_LENGTH}"
        if self.window.refusal and octets + (queue.memory if queue else 0) >= self.window.free:
            return f"accepts no more messages: {self.window.refusal}"
        return None

    def is_holding(self, peer: Peer, queue: Queue) -> bool:
        """Whether the queue at its limit holds this producer back, and takes what it has sent already.

        One that acknowledges messages of this queue could not do so any more, and would wait for ever: it is refused.
        """
        return queue.policy.full is Full.HOLD and peer not in queue.readers.settling

    def hold(self, peer: Peer, queue: Queue) -> None:
        """Hold the peer that sent to this queue, if the queue is at its limit, or its consumers are catching up.

        One that is gone again holds nobody: what was sent to it waits for its time.
        """
        excess = self.find_excess(queue)
        is_full = queue.catching_up_until > self._timers.now or excess is not None
        if is_full and not queue.is_gone and self.is_holding(peer, queue):
            if excess is not None and self._news.listeners:
                self.tell_full(queue, excess)
            self.hold_because_of(queue, peer)

    def tell_full(self, queue: Queue, excess: str) -> None:
        """Let listeners know that the queue has reached a limit; once, until it has room again."""
        if not queue.is_full:
            queue.is_full = True
            self._news.tell("queue-full", name=text(queue.name), full=queue.policy.full.value, reason=excess)

    def hold_because_of(self, holder: Holder, peer: Peer) -> None:
        """Hold the peer, which has filled this."""
        self._counters.producers_held += self.holds.hold(peer, holder)

    def tidy(self, queue: Queue) -> None:
        """After messages or consumers left: let producers go on; forget a queue that is nobody's."""
        if queue.catching_up_until and queue.memory * 100 < self.window.free * RESUME_PERCENT:
            queue.catching_up_until = 0.0
        if (queue.held or queue.is_full) and self._has_room(queue):
            queue.is_full = False
            self.holds.release(queue)
        if not (queue.messages or queue.readers.all or queue.is_gone or queue.is_durable):
            self.remove(queue)

    def _has_room(self, queue: Queue) -> bool:
        policy = queue.policy
        return (
            (not policy.max_bytes or queue.octets * 100 < policy.max_bytes * RESUME_PERCENT)
            and (not policy.max_length or queue.messages * 100 < policy.max_length * RESUME_PERCENT)
            and (not self.window.refusal or queue.memory < self.window.free)
            and not self._is_catching_up(queue)
        )

    def can_wait(self, queue: Queue, run: Run) -> bool:
        """Whether new messages stay in memory although the queue's share is used up.

        Its consumers get a moment to catch up, in which who sends is held: where they are as fast as that, the store
        would only slow them down. Slow ones get that moment once, until the store has nothing of the queue any more.
        """
        if not queue.readers.all or queue.paged or queue.policy.full is not Full.HOLD or run.memory > self.window.free:
            return False
        if not queue.catching_up_until:
            queue.catching_up_until = self._timers.now + _CATCH_UP_MS / 1000
            self._moments.after(_CATCH_UP_MS, queue.name)
        return self._is_catching_up(queue)

    def _end_catching_up(self, name: bytes) -> None:
        self.tidy(self._queues[name])

    def _is_catching_up(self, queue: Queue) -> bool:
        return queue.catching_up_until > self._timers.now

    def remove(self, queue: Queue) -> None:
        """The queue is gone here; what the store has of it stays there."""
        queue.is_gone = True
        del self._queues[queue.name]
        if self._news.listeners:
            self._news.tell("queue-deleted", name=text(queue.name), messages=queue.messages)
        if queue.name in self._reserved:
            self._absent.add(queue.name)
        self.accounts.gone(queue, is_awaited=queue.name in self._reserved)
        for container in queue.drop_ready():
            self._kit.chores.add(drop(container))
        self.holds.release(queue)
        self._cancel(queue)

    def _cancel(self, queue: Queue) -> None:
        """Nothing that was to be done about a queue which is gone is done any more."""
        self._expiries.cancel(queue.name)
        self._moments.cancel(queue.name)
        self.expiring.pop(queue, None)
        for watcher in self.watchers:
            watcher(queue)

    def peer_ended(self, peer: Peer) -> None:
        """The peer need not be told that it may go on."""
        self.holds.peer_ended(peer)
        self.accounts.peer_ended(peer)


def is_durable(name: bytes) -> bool:
    """Whether this is what the queues of durable subscriptions are called."""
    return name.startswith(_DURABLE)


def refuse_to_create(what: str, name: bytes) -> str:
    """Why a client can't use what does not exist, as it may not create it."""
    return f"{what} {shown(name)} does not exist, and the user lacks the right create for it"


def text(name: bytes) -> str:
    """A name as JSON has it: octets that are not UTF-8 are lone surrogates."""
    return name.decode("utf-8", "surrogateescape")


def shown(name: bytes) -> str:
    """A name as an error message has it."""
    return name.decode("utf-8", "backslashreplace")
