"""What goes up to the parent: envelopes, in the order of the frames that caused them, collected into batches.

Consecutive SENDs to one destination become one envelope, consecutive settlements of one subscription become one
SETTLE with ranges. A *fence* asks the parent to tell when all of this, up to there, has been applied; it rides on
the envelope that is being collected, so a `receipt` on each of a thousand SENDs costs one fence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count

from forkbroker.wire.envelope import HEADER, KIND_AT, MAX_BATCH, Buffer, pack, pack_pieces, pack_settle, with_fence
from forkbroker.wire.kinds import HEEDED, Flag, Kind, Outcome

_OWN_ENVELOPE = 8
"""A run of so many messages travels alone, with its header block once; shorter ones are put together (`MIXED`)."""
_LARGE = 32_768
"""Octets of a body above which it travels alone."""
_OVERHEAD = HEADER.size + 48
"""Octets of an envelope's header, and of the message-id's rest: a session's id of 16, and a number."""
_ADDED = 32
"""Octets of a message at most beside lines and body: its length, and `content-length`."""
_PLAN = 1_500
"""Octets of memory for a plan, and the header block from which it was made, beside the text of its lines."""


@dataclass(frozen=True, slots=True)
class SendPlan:
    """All that a SEND's header block means: worked out once for each block, not once for each message."""

    destination: bytes
    lines: bytes
    """The header lines that every MESSAGE gets, canonical, from `destination` on; the last is `content-length`
    where the sender gave it."""
    transaction: str | None
    adds_length: bool
    """`content-length` is to be added."""
    is_escaped: bool
    """The lines have a backslash."""
    flags: int = 0
    """Of the envelope: `PERSISTENT`, with or without `BARE`, or nothing."""
    section: bytes = b""
    """What else its sender asks for, packed; mostly nothing."""
    is_single: bool = False
    """Each message is one envelope: the section concerns one message only."""


@dataclass(slots=True)
class _Batch:
    """SENDs to one destination that are being collected, and ask for the same."""

    destination: bytes
    flags: int
    section: bytes
    entries: list[tuple[SendPlan, list[Buffer], list[int]]]
    """Bodies, and how long they are."""
    count: int
    fence: int

    def takes(self, plan: SendPlan, bodies: list[Buffer]) -> bool:
        """Whether these messages may join: not where a long run or a large body would be copied for it."""
        if self.destination != plan.destination or self.count + len(bodies) > MAX_BATCH:
            return False
        last_plan, last_bodies, _ = self.entries[-1]
        if plan is not last_plan and (self.flags != plan.flags or self.section != plan.section):
            return False
        if len(bodies[0]) > _LARGE or len(last_bodies[0]) > _LARGE:
            return False
        return plan is last_plan or (len(bodies) < _OWN_ENVELOPE and len(last_bodies) < _OWN_ENVELOPE)


class Upward:
    """Collects envelopes for the parent; `take` gives them out."""

    def __init__(self, session_id: bytes, batch_numbers: Iterator[int] | None = None) -> None:
        """`batch_numbers` makes message-ids unique in the session: transactions share it with their session."""
        self.session_id = session_id
        """What message-ids of the session begin with."""
        self._batch_numbers = count(1) if batch_numbers is None else batch_numbers
        self._envelopes: list[list[Buffer]] = []
        self._batch: _Batch | None = None
        self._settling: list[tuple[int, int, Outcome]] = []
        self._settling_token = 0
        self._settled_offer = 0
        """The offer ahead of which some of these messages are: they are told to be claimed by that."""
        self._claim: tuple[int, int, int] | None = None
        """Token and offer of a claim that comes behind all envelopes so far; and the message, of an offer ahead."""
        self._left: list[list[Buffer]] = []
        """What became of offers ahead that are kept no more. It comes behind what was claimed of them."""
        self._last_is_fenced = True
        self.last_fence = 0
        self.passed = 0
        """The last fence of which the parent has told that all before it is applied."""
        self.size = 0
        """Octets that the SENDs since the start take at most as envelopes."""
        self._collected = 0
        """Octets of memory for the objects of the batch that is being collected, beside what `size` counts."""
        self.is_urgent = False
        """Something is to be told that the parent should know now."""
        self.has_claimed = False
        """A claim is to be told, which can wait for company."""
        self.asks_for_frames = False
        """A topic was subscribed to: frames may come down that were made for many, in a file."""

    def branch(self) -> Upward:
        """What is collected for later, with message-ids of the same session."""
        return Upward(self.session_id, self._batch_numbers)

    def send(self, plan: SendPlan, bodies: list[Buffer]) -> None:
        """Messages for one destination; at most `MAX_BATCH`."""
        if plan.is_single and len(bodies) > 1:
            for body in bodies:
                self.send(plan, [body])
            return
        self.is_urgent = True
        if self._settling:
            self._close_settlements()
        batch = self._batch
        if batch is not None and (plan.is_single or not batch.takes(plan, bodies)):
            self._close_batch(batch)
            batch = None
        if batch is None:
            batch = self._batch = _Batch(plan.destination, plan.flags, plan.section, [], 0, 0)
        lengths = list(map(len, bodies))
        batch.entries.append((plan, bodies, lengths))
        batch.count += len(bodies)
        self.size += _OVERHEAD + len(plan.destination) + len(plan.section)
        self.size += sum(lengths) + (len(plan.lines) + _ADDED) * len(bodies)
        self._collected += _PLAN + 4 * len(plan.lines)

    @property
    def memory(self) -> int:
        """Octets of memory, about, that the SENDs since the start take until they are taken."""
        return self.size + self._collected

    def settle(self, token: int, serials: Iterable[int], outcome: Outcome, *, is_urgent: bool = True) -> None:
        """Deliveries of a queue subscription are settled; consecutive serials become one entry.

        What is not urgent goes with what is told next.
        """
        self.is_urgent |= is_urgent
        if self._batch is not None:
            self._close_batch(self._batch)
        if self._settling_token != token:
            if self._settling:
                self._close_settlements()
            self._settling_token = token
        claim = self._claim
        if claim is not None and claim[2]:
            serials = list(serials)
            if claim[2] in serials:
                # the settlements that are collected say it as well: they can say it of one offer
                self._claim = None
                if self._settled_offer not in (0, claim[1]):
                    self._close_settlements()
                self._settled_offer = claim[1]
        entries = self._settling
        for serial in serials:
            if entries and entries[-1][0] + entries[-1][1] == serial and entries[-1][2] is outcome:
                entries[-1] = (entries[-1][0], entries[-1][1] + 1, outcome)
            else:
                entries.append((serial, 1, outcome))

    def settle_with_reason(self, token: int, serials: Iterable[int], outcome: Outcome, reason: bytes) -> None:
        """As `settle`, of a NACK that says why: the reason is of these alone, so they are an envelope of their own."""
        if self._batch is not None or self._settling:
            self._close()
        self.settle(token, serials, outcome)
        self._append(pack_settle(token, self._settling, reason, claimed=self._settled_offer))
        self._settling, self._settled_offer = [], 0

    def settle_run(self, token: int, serial: int, count: int) -> None:
        """Consecutive deliveries were written to a client that doesn't acknowledge."""
        if self._batch is not None or self._settling:
            self._close()
        self._append(pack_settle(token, [(serial, count, Outcome.ACKNOWLEDGED)], claimed=self._take_claim(token)))

    def answer(self, kind: Kind, token: int, number: int) -> None:
        """What became of an offer. A claim is not urgent: the semaphore has decided, and the parent can wait."""
        if self._claim is not None:
            self._tell_claim(*self._claim)
        self._last_is_fenced = True  # its number is the offer's, and can't be a fence as well
        if kind is Kind.CLAIMED:
            self.has_claimed = True
            self._claim = token, number, 0
        else:
            self.is_urgent = True
            self._envelopes.append(pack(kind, token=token, number=number))

    def claim_ahead(self, token: int, number: int, serial: int) -> None:
        """The message with this serial was claimed, of an offer ahead. The parent can wait for that as well."""
        if self._claim is not None:
            self._tell_claim(*self._claim)
            self._last_is_fenced = True
        self.has_claimed = True
        self._claim = token, number, serial

    def leave_ahead(self, kind: Kind, token: int, number: int, tried: int, *, is_urgent: bool) -> None:
        """An offer ahead is not kept any more, of which so many messages were tried. This can wait if all were."""
        self._left.append(pack(kind, token=token, number=number, index=tried))
        self.has_claimed = True
        self.is_urgent |= is_urgent or len(self._left) > 1

    def request(self, buffers: list[Buffer]) -> None:
        """Any other envelope. READY is about what was passed before, so that comes before it."""
        if self._batch is not None or self._settling:
            self._close()
        if self._left:
            self._tell_left()
        self._append(buffers)

    def fence(self) -> int:
        """The number of a fence behind everything so far."""
        batch = self._batch
        if batch is not None:
            if not batch.fence:
                self.last_fence += 1
                batch.fence = self.last_fence
            return batch.fence
        if self._settling:
            self._close_settlements()
        if self._last_is_fenced:
            self._append(pack(Kind.FENCE))
        self.last_fence += 1
        self._envelopes[-1] = with_fence(self._envelopes[-1], self.last_fence)
        self._last_is_fenced = True
        return self.last_fence

    def take(self) -> list[list[Buffer]]:
        """All envelopes since the last call, as buffers for the channel."""
        if self._batch is not None or self._settling:
            self._close()
        if self._claim is not None:
            self._tell_claim(*self._claim)
        if self._left:
            self._tell_left()
        envelopes, self._envelopes = self._envelopes, []
        self._last_is_fenced = True
        self.is_urgent = self.has_claimed = False
        return envelopes

    def _close(self) -> None:
        """What comes next stands behind what is being collected: messages, or settlements, never both. It is one."""
        if self._batch is not None:
            self._close_batch(self._batch)
        else:
            self._close_settlements()

    def _append(self, buffers: list[Buffer]) -> None:
        if self._claim is not None:
            self._tell_claim(*self._claim)
        self._envelopes.append(buffers)
        # what the parent keeps to itself gets no answer: a fence needs an envelope of its own then
        self._last_is_fenced = buffers[0][KIND_AT] in HEEDED
        self.is_urgent = True

    def _close_settlements(self) -> None:
        token, claimed, younger = self._settling_token, self._settled_offer, None
        if claimed:
            # what was claimed since then comes behind it
            younger, self._claim = self._claim, None
        elif self._claim is not None:
            claimed = self._take_claim(token)
        self._append(pack_settle(token, self._settling, claimed=claimed))
        self._settling, self._settled_offer, self._claim = [], 0, younger

    def _take_claim(self, token: int) -> int:
        """The offer that was claimed last for this subscription, if nothing came after it: SETTLE says it as well.

        One envelope for both is a tenth less work for the parent, with a worker that waits for each message.
        """
        if self._claim is None or self._claim[0] != token or self._claim[2]:
            return 0
        number, self._claim = self._claim[1], None
        return number

    def _tell_claim(self, token: int, number: int, serial: int) -> None:
        """Tell a claim by itself: another envelope follows than the settlement that could say it as well."""
        self._claim = None
        self._envelopes.append(pack(Kind.CLAIMED, token=token, number=number, serial=serial))

    def _tell_left(self) -> None:
        """Tell what became of offers ahead; nothing is collected that was claimed of them."""
        if self._claim is not None:
            self._tell_claim(*self._claim)
        self._envelopes += self._left
        self._left.clear()
        self._last_is_fenced = True  # as in `answer`

    def _close_batch(self, batch: _Batch) -> None:
        self._batch = None
        self._collected = 0
        flags, block, pieces, lengths = self._serialise(batch)
        piece_flags, payload = pack_pieces(pieces, lengths)
        self._append(
            pack(
                Kind.SEND,
                flags=flags | piece_flags | batch.flags | (_FENCE if batch.fence else 0),
                count=batch.count,
                number=batch.fence,
                destination=batch.destination,
                block=block,
                section=batch.section,
                payload=payload,
            )
        )
        self._last_is_fenced = bool(batch.fence)

    def _serialise(self, batch: _Batch) -> tuple[int, bytes, list[Buffer], list[int]]:
        """Flags, block, pieces and their lengths: the block once, where the messages share it to the last octet."""
        ident = b"-%b-%d\n" % (self.session_id, next(self._batch_numbers))
        entries = batch.entries
        plan, bodies, lengths = entries[0]
        flags, is_shared = (_ESCAPED if plan.is_escaped else 0), True
        if len(entries) > 1:
            flags = _ESCAPED if any(entry.is_escaped for entry, _, _ in entries) else 0
            is_shared = all(entry is plan for entry, _, _ in entries)
            if is_shared:
                bodies = [body for _, some, _ in entries for body in some]
                lengths = [length for _, _, some in entries for length in some]
        if is_shared:
            if not plan.adds_length:
                return flags, b"%b%b\n" % (ident, plan.lines), bodies, lengths
            if lengths.count(lengths[0]) == len(lengths):
                return flags, b"%b%bcontent-length:%d\n\n" % (ident, plan.lines, lengths[0]), bodies, lengths
        pieces: list[Buffer] = [
            b"".join((plan.lines, b"content-length:%d\n\n" % length if plan.adds_length else b"\n", body))
            for plan, bodies, lengths in entries
            for body, length in zip(bodies, lengths, strict=True)
        ]
        return flags | _MIXED, ident, pieces, list(map(len, pieces))


_FENCE = int(Flag.FENCE)
_ESCAPED = int(Flag.ESCAPED)
_MIXED = int(Flag.MIXED)
