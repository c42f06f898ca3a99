"""Every kind of envelope: who may send it, when, and what its fields mean.

A *fact* is in the past tense (`CLAIMED`), a *request* in the imperative (`SUBSCRIBE`). The parent believes a
child only what this table permits: a kind that is not the child's to send, or not in its present state, ends
that child and nobody else. The same holds for every other process, by its role (`SENT_BY`).

The fields are those of the envelope's header (`forkbroker.wire.envelope`). What each kind uses:

===========  =======================================================================================
kind         fields
===========  =======================================================================================
CONNECTED    destination: login of the client; token: how it has shown who it is (`identity.Way`); count: 1 for an
             administrator; block: the key of its virtual host (none: the default one), then names of groups
             beside those of the configuration, with LF between them
ADDRESS      destination: the client's address, as a proxy has said it; number: its port, or 0. Before CONNECTED
SEND         destination, block, wishes, pieces; index: number of the first message within its batch
SUBSCRIBE    destination or pattern; token: the child's name for the subscription; count: credit in messages;
             index: for a queue, so many offers it keeps ahead of its credit (AHEAD);
             block: with flag `DURABLE` the name of the subscription that outlives its client; else, for a topic,
             what its MESSAGE frames begin with, if nothing but the rest of the envelope follows. With the token of a
             subscription to a queue and all that was said of it, the count is its credit from now on.
UNSUBSCRIBE  destination, token; block: with flag `DURABLE` the durable subscription to delete (token 0: none of
             this child's subscriptions ends with it)
READY        the client's socket has room again: after PASSED, offers are welcome again
CLAIMED      number: the offer's; token; serial: of an AHEAD, the message
LOST         as CLAIMED: another candidate was faster. Of an AHEAD: index: so many messages were tried, each of them
             this child's or another one's; if that is not all, the rest is left to others. A child that has
             claimed the last one does not tell it
PASSED       as LOST: no room, or no such subscription any more; the other semaphores were not tried
SETTLE       token; payload: entries of `SETTLEMENT`; count: how many; block: the reason that came with NACK, of all of
             them; mostly none. serial: the number of an offer that was CLAIMED before, if nothing else came between; of
             an AHEAD, those of the messages were claimed that nobody is known to have claimed
PARK         a delivery is to outlive its connection: token; serial: of the message; index: its lease from now on, in
             milliseconds; block: a key by which it is settled; destination: whose it is (`MAX_OWNER`). The consumer has
             its credit back. REFUSED: it is not the consumer's any more, or there is no room.
UNPARK       settle such a delivery; block: its key, and behind a LF the reason that came with NACK; destination: whose
             it is; token: the outcome (`Outcome`). REFUSED: there is none
TRANSACTION  payload: whole SEND and SETTLE envelopes, applied together or not at all; count: how many
FENCE        nothing but its number
CONGESTED    the client does not read and `slow-subscribers` is `hold`: hold whoever publishes to it
RELIEVED     the opposite of CONGESTED
QUIESCED     all that was read from the client has been sent up
ASK          a request to the broker itself: destination: its verb; block: what it says, in JSON; token: the child's
             number for it, which ANSWER repeats (`forkbroker.control`)
TRACED       after TRACE: block: frames of the client, as a list in JSON; the first list is empty: all that come from
             now on are told
LEAVING      block: the reason, for the log; number, serial and count: messages received, delivered and dropped.
             Token 1: the client has tried to log in with a wrong login or passcode; counts against its address.
OFFER        destination, block, details, pieces; token; slot: the semaphore; number: the offer's;
             serial: of the first message; deliveries: how often these were delivered before
AHEAD        as OFFER, with a semaphore for each message, from `slot` on. A child may have no credit yet, and keeps
             it: with credit it tries the messages, one after the other, and answers when it has tried all, or as soon
             as the offer is withdrawn
WITHDRAW     number: of an AHEAD that was taken back; token. Who keeps it answers LOST; who does not has answered
RENDERED     as SEND, for those whose subscriptions begin their MESSAGE frames with this block: payload: the frames;
             count: how many. With a number there is no payload: a descriptor comes with it, of a file that has the
             frames in so many octets (`forkbroker.wire.memory_file`)
ANSWER       to ASK: token: its number; block: JSON. Flag `FINAL`: it is the last part of it.
FENCED       number: every fence up to this one has been passed
REFUSED      number: the fence of what was refused, or 0; block: the reason, for the client
HOLD         stop reading from the client; token: who holds it (0: a queue that it fills is at its limit, 1: a
             subscriber with `slow-subscribers=hold`). It is read while nobody holds it.
RESUME       the opposite of HOLD, with the same token
QUIESCE      stop reading from the client, send up what was read, answer QUIESCED. Token 1: only when the client has
             no unsettled delivery of a queue left; until then it is read.
CLOSE        block: the reason; token: its kind (`Cause`); write what came before, say
             goodbye, end
TRACE        tell of frames of the client from now on; token: what of them (`Trace`)
RIGHTS       block: what the client may do from now on (`forkbroker.permissions`)
===========  =======================================================================================

Between the parent and the store (`forkbroker.store`). What changes the store has a number, one higher each time, and is
told again to a store that was started anew, until it is COMMITTED; so each of them may come twice.

===========  =======================================================================================
WRITE        destination: the queue; block, details, pieces of persistent messages; number; serial: of the first
             message; deliveries. With `details.due` they wait in the schedule, not in the queue.
SPILL        as WRITE, of other messages: until the broker ends
DELETE       number; serial, count: of messages that were written
UPDATE       number; serial, count; deliveries; index: `details.crashes`
MOVE         number; serial, count: of messages that were written; destination: their queue from now on; details;
             deliveries; index: of the first one from now on, 0: all message-ids stay; payload: the serial (u64) that it
             has from now on
PURGE        number; destination: all messages of this queue, written and spilled
DEFINE       number; destination: the queue of a durable subscription; block: its topic or pattern; serial: when it
             was last used, in milliseconds since the epoch
FORGET       number; destination: a durable subscription, and all its messages
NOTE         number; destination: a queue, which need not exist; token: what is noted of it (`Matter`); count: 1, and
             block: what is so; count: 0, it is not so any more
FETCH        destination; index: the priority; serial: all up to this are in memory, or gone, or not wanted now if they
             are persistent; count: octets wanted
FAN          number; block: the targets, each a serial and a queue; count: how many; payload: a whole WRITE or SPILL,
             which is meant for each of them (`forkbroker.wire.fan`)
TOGETHER     number; count: so many changes without a number came before it: they have this one, and are written
             together, or not at all. None: the number of a change that is not told any more.
SET_ASIDE    payload: a part of a change that is not to be written, but kept for the administrator; block: why. A
             TOGETHER ends them.
RETOLD       all that was told to the store before, and was not COMMITTED, was told again: it is written together, or
             not at all
CLOSE        all was told; commit, and end
OPENING      before all else: serial: the first free one
OPENED       what is stored was told; flag `RECOVERED`: the last end was not in good order
BACKLOG      before OPENED; destination: a queue; index: the priority; count: messages; number: octets of their
             bodies; serial: of the last one
DURABLE      before OPENED; as DEFINE
NOTED        before OPENED, and after all else of that; as NOTE, with count 1
DUPLICATE    before OPENED; destination, block: a `dedup_id` to be remembered, number: until then (ms since the epoch)
PAGE         before OPENED: messages of the schedule. As the answer to FETCH: messages of one queue and priority, in
             order. As WRITE.
PAGED        the end of the answer; destination; index: the priority; count: messages; flag `FINAL`: there are no more
COMMITTED    number: of the last change that will survive
TRYING       number: of the change, among those that were told again, that is applied next; 0: all were applied
DECLINED     number: of a change that can't be written, and never will be; block: the reason. It counts as written.
DELETED      number: of a DELETE that was done before what came before it, as that has no room; it will survive
DISK         token: 1 when the store should not be given more, 0 when there is room again; block: the reason;
             serial: octets that may still be written
FAILED       the store ends; block: the reason, for the administrator; token: an exit status; flag `FINAL`: it is
             another broker's now, and this one has to end
===========  =======================================================================================

From the checker, which reads the configuration for a reload:

===========  =======================================================================================
CHECKED      block: what was found, in a form that is the command's own (`forkbroker.cli.reloading`)
===========  =======================================================================================

From the helper that makes a backup of the store:

===========  =======================================================================================
SAVED        the backup is complete: block: where it is; number: of messages; serial: octets
===========  =======================================================================================

The helper for metrics sends ASK, as a client's child does, and gets ANSWER.

FAILED is every helper's.

Flag `FENCE` may stand on every kind that a child sends, but for those whose number is an offer's (CLAIMED, LOST,
PASSED) and those that the parent keeps to itself (`HEEDED`): the parent answers FENCED with the same number when this
envelope, and so every earlier one, has been applied.

Between the parent, the nursery (`forkbroker.child.nursery`) and the spares that it forks:

===========  =======================================================================================
SPARES       fork spares; number: the order's; with it come the spares' ends of their channels
REAP         number: of a process whose channel has ended: say how it ended. Flag `FINAL`: kill it first
EQUIP        spares that are ordered later are given something else; payload: what, as the nursery's program knows it
LOG          the log's file was opened again; block: the log's level from now on, if that has changed. Spares that are
             ordered later have it
SERVE        to a spare: number: its peer's from now on; destination: the client's address, for people; with it comes
             the client's socket. token: how it begins (`Begin`)
REHEARSED    spares may be ordered; it is said after EQUIP as well
BORN         number: the order's; count: how many spares were forked; payload: the numbers of their processes (u32 each)
UNBORN       block: why the system gives no process, behind a BORN with fewer than were ordered
ENDED        number: of the process; token: its wait status; serial: processor time in microseconds; count: its
             highest memory in KiB
===========  =======================================================================================

How large each field may be, and what else has to hold, is in `forkbroker.wire.fields`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum, IntFlag


class Kind(IntEnum):
    """What an envelope is. The numbers are part of the wire format: never reuse one."""

    CONNECTED = 1
    SEND = 2
    SUBSCRIBE = 3
    UNSUBSCRIBE = 4
    READY = 5
    CLAIMED = 6
    LOST = 7
    PASSED = 8
    SETTLE = 9
    TRANSACTION = 10
    FENCE = 11
    CONGESTED = 12
    RELIEVED = 13
    QUIESCED = 14
    LEAVING = 15
    ASK = 16
    ADDRESS = 17
    TRACED = 18
    PARK = 19
    UNPARK = 20
    OFFER = 32
    FENCED = 33
    REFUSED = 34
    HOLD = 35
    RESUME = 36
    QUIESCE = 37
    CLOSE = 38
    RENDERED = 39
    RIGHTS = 40
    ANSWER = 41
    AHEAD = 42
    WITHDRAW = 43
    TRACE = 44
    WRITE = 64
    SPILL = 65
    DELETE = 66
    UPDATE = 67
    MOVE = 68
    PURGE = 69
    DEFINE = 70
    FORGET = 71
    FETCH = 72
    RETOLD = 73
    FAN = 74
    TOGETHER = 75
    SET_ASIDE = 76
    NOTE = 77
    OPENED = 96
    BACKLOG = 97
    DURABLE = 98
    DUPLICATE = 99
    PAGE = 100
    PAGED = 101
    COMMITTED = 102
    DISK = 103
    FAILED = 104
    OPENING = 105
    TRYING = 106
    DECLINED = 107
    DELETED = 108
    NOTED = 109
    SPARES = 128
    REAP = 129
    SERVE = 130
    LOG = 131
    EQUIP = 132
    REHEARSED = 160
    BORN = 161
    UNBORN = 162
    ENDED = 163
    CHECKED = 192
    SAVED = 224


class Flag(IntEnum):
    """Bits of the envelope's flags. Not an IntFlag, whose `&` and `|` take 0.6 µs where those of int take 0.03."""

    FENCE = 1
    """The number is a fence: answer FENCED."""
    UNIFORM = 2
    """All pieces have one length, which is written once."""
    ESCAPED = 4
    """The header block, or a piece, has a backslash: clients before 1.2 need it translated."""
    MIXED = 8
    """Each piece starts with header lines of its own and an empty line, then the body."""
    AUTO = 16
    """SUBSCRIBE: deliveries settle when written (`ack:auto`)."""
    EXCLUSIVE = 32
    """SUBSCRIBE: one active consumer, with fail-over."""
    TEMPORARY = 64
    """SUBSCRIBE: the queue is this child's, and ends with it."""
    SECTION = 128
    """Wishes or details stand behind the block."""
    WARNING = 256
    """LEAVING: the administrator should look at the reason."""
    PERSISTENT = 512
    """The messages are to survive."""
    DURABLE = 1024
    """SUBSCRIBE, UNSUBSCRIBE: a subscription to a topic that outlives its client; `block` is its name."""
    RECOVERED = 2048
    """The broker ended in disorder since these were written: they may have been delivered."""
    FINAL = 4096
    """PAGED: nothing is left to fetch. ANSWER: the last part. FAILED: no other process of the store will do better.
    REAP: kill it first."""
    BARE = 8192
    """SEND: of persistent messages to a topic whose sender wrote no prefix. It may mean a queue."""
    NAMED = 16384
    """With `MIXED`: each piece starts with its own message-id and a line feed, before its header lines."""
    EXISTING = 32768
    """SEND, SUBSCRIBE: the client may not create what does not exist: a queue, or a durable subscription."""


class Begin(IntFlag):
    """How a client begins, as SERVE says it."""

    TLS = 1
    """With a handshake of TLS."""
    PROXIED = 2
    """A proxy says before all else whose client it is."""
    WEB = 4
    """With a request of HTTP."""
    FORWARDED = 8
    """The request may say whose client it is."""
    SUSPECT = 16
    """From where others come that have not logged in: clients of other addresses are first."""


class Cause(IntEnum):
    """Of what kind the reason is for which a connection ends. Some protocols have a number for it."""

    ASKED = 0
    """The client has asked for it."""
    FAULT = 1
    """The client has sent what it should not."""
    DENIED = 2
    """The client may not do that, or may not be here."""
    AWAY = 3
    """The broker ends, or wants its clients to be elsewhere."""
    FULL = 4
    """There is no room: later there may be some."""


class Role(Enum):
    """What a process is for; the value is its name in the log."""

    # asked for with each read: that of Enum is written in Python
    __hash__ = object.__hash__

    CLIENT = "client"
    """It serves a client."""
    STORE = "store"
    NURSERY = "nursery"
    CHECKER = "checker"
    """It reads and checks the configuration."""
    BACKUP = "backup"
    """It copies the store."""
    METRICS = "metrics"
    """It answers Prometheus."""


class ChildState(Enum):
    """A client's child, as the parent sees it."""

    # asked for with each read: that of Enum is written in Python
    __hash__ = object.__hash__

    STARTING = "starting"
    """Forked; its client has not logged in."""
    CONNECTED = "connected"
    """Its client has logged in."""
    LEAVING = "leaving"
    """It has given its reason, and will end."""


@dataclass(frozen=True, slots=True)
class Permission:
    """Which states of a child permit a kind, and the state that follows (None: the same)."""

    states: frozenset[ChildState]
    follows: ChildState | None = None


_LOGGED_IN = frozenset({ChildState.CONNECTED})
_ALIVE = frozenset({ChildState.STARTING, ChildState.CONNECTED})

#: What a client's child may send. A kind that is missing here is the parent's own.
FROM_CHILD: dict[Kind, Permission] = {
    Kind.ADDRESS: Permission(frozenset({ChildState.STARTING})),
    Kind.CONNECTED: Permission(frozenset({ChildState.STARTING}), ChildState.CONNECTED),
    Kind.SEND: Permission(_LOGGED_IN),
    Kind.SUBSCRIBE: Permission(_LOGGED_IN),
    Kind.UNSUBSCRIBE: Permission(_LOGGED_IN),
    Kind.READY: Permission(_LOGGED_IN),
    Kind.CLAIMED: Permission(_LOGGED_IN),
    Kind.LOST: Permission(_LOGGED_IN),
    Kind.PASSED: Permission(_LOGGED_IN),
    Kind.SETTLE: Permission(_LOGGED_IN),
    Kind.PARK: Permission(_LOGGED_IN),
    Kind.UNPARK: Permission(_LOGGED_IN),
    Kind.TRANSACTION: Permission(_LOGGED_IN),
    Kind.FENCE: Permission(_LOGGED_IN),
    Kind.CONGESTED: Permission(_LOGGED_IN),
    Kind.RELIEVED: Permission(_LOGGED_IN),
    Kind.QUIESCED: Permission(_ALIVE),
    Kind.ASK: Permission(_LOGGED_IN),
    Kind.TRACED: Permission(_LOGGED_IN),
    Kind.LEAVING: Permission(_ALIVE, ChildState.LEAVING),
}

#: Those of them that the parent heeds itself. All others are the router's, which answers fences.
HEEDED: frozenset[Kind] = frozenset(
    {Kind.ADDRESS, Kind.CONNECTED, Kind.LEAVING, Kind.QUIESCED, Kind.CONGESTED, Kind.RELIEVED, Kind.TRACED}
)

#: What the parent sends to a client's child. SEND goes both ways: the parent forwards a topic's batch untouched.
FROM_PARENT: frozenset[Kind] = frozenset(
    {
        Kind.SEND,
        Kind.RENDERED,
        Kind.OFFER,
        Kind.ANSWER,
        Kind.AHEAD,
        Kind.WITHDRAW,
        Kind.FENCED,
        Kind.REFUSED,
        Kind.HOLD,
        Kind.RESUME,
        Kind.QUIESCE,
        Kind.CLOSE,
        Kind.RIGHTS,
        Kind.TRACE,
    }
)


#: What the parent sends to the store.
TO_STORE: frozenset[Kind] = frozenset(
    {
        Kind.WRITE,
        Kind.SPILL,
        Kind.DELETE,
        Kind.UPDATE,
        Kind.MOVE,
        Kind.PURGE,
        Kind.DEFINE,
        Kind.FORGET,
        Kind.FETCH,
        Kind.RETOLD,
        Kind.FAN,
        Kind.TOGETHER,
        Kind.SET_ASIDE,
        Kind.NOTE,
        Kind.CLOSE,
    }
)

#: What the store sends.
FROM_STORE: frozenset[Kind] = frozenset(
    {
        Kind.OPENING,
        Kind.OPENED,
        Kind.BACKLOG,
        Kind.DURABLE,
        Kind.DUPLICATE,
        Kind.NOTED,
        Kind.PAGE,
        Kind.PAGED,
        Kind.COMMITTED,
        Kind.DISK,
        Kind.FAILED,
        Kind.TRYING,
        Kind.DECLINED,
        Kind.DELETED,
    }
)

#: What the parent sends to the nursery.
TO_NURSERY: frozenset[Kind] = frozenset({Kind.SPARES, Kind.REAP, Kind.LOG, Kind.EQUIP, Kind.CLOSE})

#: What the parent sends to a spare, which is a client's child from then on.
TO_SPARE: frozenset[Kind] = frozenset({Kind.SERVE})

#: What the nursery sends.
FROM_NURSERY: frozenset[Kind] = frozenset({Kind.REHEARSED, Kind.BORN, Kind.UNBORN, Kind.ENDED, Kind.FAILED})

#: What the checker sends.
FROM_CHECKER: frozenset[Kind] = frozenset({Kind.CHECKED, Kind.FAILED})

#: What the helper sends that makes a backup.
FROM_BACKUP: frozenset[Kind] = frozenset({Kind.SAVED, Kind.FAILED})

#: What the helper for metrics sends.
FROM_METRICS: frozenset[Kind] = frozenset({Kind.ASK, Kind.FAILED})

#: What the parent hears from a process, by what the process is for.
SENT_BY: dict[Role, frozenset[Kind]] = {
    Role.CLIENT: frozenset(FROM_CHILD),
    Role.STORE: FROM_STORE,
    Role.NURSERY: FROM_NURSERY,
    Role.CHECKER: FROM_CHECKER,
    Role.BACKUP: FROM_BACKUP,
    Role.METRICS: FROM_METRICS,
}


class Outcome(IntEnum):
    """How a delivery was settled."""

    ACKNOWLEDGED = 1
    """Done: forget the message."""
    RELEASED = 2
    """NACK: back to its old place, one more delivery counted."""
    REJECTED = 3
    """NACK with `requeue:false`: to the dead letters."""
    UNTOUCHED = 4
    """Never reached the client: back to its old place, as if it had not been offered."""


class Matter(IntEnum):
    """What the store notes of a queue beside its messages; the name in lower case is that in the database."""

    HELD = 1
    """An administrator holds it: milliseconds since the epoch, in digits, until when; 0: without end."""
    OWNER = 2
    """The user on whose account it is; empty: clients without a login."""


class Trace(IntEnum):
    """What is told of the frames of a client."""

    NOTHING = 0
    HEADERS = 1
    """Commands and headers."""
    BODIES = 2
    """Bodies as well."""
