"""What a client sent, in pieces of any size, to frames and runs of frames: the hot path of the broker.

The parser reads no socket. `receive` takes what came and returns what became complete; a fault ends it, leaves
the frames before it, and stands in `error` from then on. Before negotiation it hands out one frame and holds the
rest back, as the rest must be read by the rules of the version that this frame settles (C15).

Why it is fast (CPython 3.11, one core of a 2-core virtual machine, 100 octets a body; benchmarks/parser.py):

- A client sends the same header block again and again. A dictionary from the raw block to its `Head` makes a
  frame one `find`, one slice and one look-up: about 0.6 us, where parsing the lines takes 2.5 us.
- A frame that is like the one before is taken together with its successors (`runs`): 0.05 to 0.15 us.
- `receipt` is unique in each frame, which would defeat the dictionary: its line is cut out of the raw block
  before the look-up: about 1.8 us with 1 KiB, or 0.8 us where many of them come in a row. Blocks that do not repeat
  (ACK has a unique id) are not kept: about 2.4 us. ACKs that come together are taken together as well, if they are of
  the usual form: 0.3 us.
- The dictionary is bounded in octets and simply cleared when full (`caches`): keeping the order of use would cost
  every frame more than a rare clearing costs all.

Nothing is quadratic: a search that failed goes on where it ended, unfinished bodies are collected in place
(`collecting`), and CR LF clients do not make the search for LF LF run through the whole buffer each time, as the
kind of line end that came last is looked for first.
"""

from __future__ import annotations

import re
import sys
from dataclasses import replace

from forkbroker.caches import Cache
from forkbroker.stomp.collecting import OpenBody, SizedBody, body_too_large, no_nul_after_body
from forkbroker.stomp.cutting import (
    ACK,
    LARGE,
    LONGEST_LINE,
    RECEIPT_MOST,
    RUN_FRAMES,
    RUN_FROM,
    SHORTEST_ACK,
    cut_acks,
    cut_open,
    cut_receipts,
    cut_sized,
)
from forkbroker.stomp.errors import ErrorKind, ProtocolError
from forkbroker.stomp.frame import BODY_COMMANDS, CLIENT_COMMANDS, Buffer, FrameRun, Head
from forkbroker.stomp.headers import (
    PADDING,
    check_line,
    check_line_count,
    nul_in_block,
    parse_block,
    parse_content_length,
    trim,
    unescape,
)
from forkbroker.stomp.limits import Limits
from forkbroker.stomp.versions import V12, Version, lenient

_UNNEGOTIATED = replace(V12, name="", escapes="")
"""The rules of the first frame: either line end (F03), UTF-8, nothing escaped (F22)."""

_BODILESS_COMMANDS = CLIENT_COMMANDS - BODY_COMMANDS

_FIRST_OCTET = re.compile(rb"[^\n\r\0]")
"""Of a frame. Between frames: ends of line (F06), and stray NULs, which RabbitMQ skips and clients rely on."""

_LF_END = b"\n\n"
_CRLF_END = b"\n\r\n"
_SHORTEST_BLOCK = 3
"""An octet and an empty line. A search that failed gives a smaller end."""

_RECEIPT = b"\nreceipt:"

_HTTP = re.compile(rb"(?:GET|HEAD|POST|PUT|DELETE|OPTIONS|PATCH|TRACE|CONNECT|PRI) ")
_TLS_HANDSHAKE = b"\x16\x03"

_SMALL = 4096
"""Octets of an unfinished frame up to which it is parsed again from its beginning with every read."""

_KNOWN_OCTETS = 2_097_152
"""Of all blocks in the dictionary, with all that is kept for them: 1,700 blocks of 100 octets with five headers."""

_KNOWN_BLOCK = 1024
"""Octets of a block up to which it is worth a place there."""


class Parser:
    """The frames of one client.

    Attributes:
        version: what was negotiated; None before.
        error: what the client did wrong. Once it is set, all further data is ignored.
        body: a large body that is being collected; None: none. Only then is there something to ask `body_buffer`.
        is_within_frame: a half-sent frame waits for its rest (F27). Frames held for negotiation do not count.

    Args:
        limits: sizes beyond which a frame is an error.
        strict: in 1.0 and 1.1 sessions a CR before LF is part of the line, as their texts say; otherwise it is
            dropped, as clients that write CR LF in every version expect (F04).
    """

    def __init__(self, limits: Limits, *, strict: bool = False) -> None:
        self.version: Version | None = None
        self.error: ProtocolError | None = None
        self.body: SizedBody | OpenBody | None = None
        self.is_within_frame = False
        self._limits = limits
        self._strict = strict
        self._rules = _UNNEGOTIATED
        self._is_holding = False
        self._known: Cache[bytes, Head] = Cache(_KNOWN_OCTETS, _weigh)
        # where limits are narrower than that, ACKs are read as all other frames
        self._acks_from = SHORTEST_ACK if limits.max_header_line >= LONGEST_LINE and limits.max_headers else sys.maxsize
        self._block_end = _LF_END  # the kind that came last
        self.position = 0
        """Of the frame that is looked at, in the connection's stream."""
        self._held = bytearray()  # behind the first frame, until negotiation
        self._pending = bytearray()  # the beginning of one frame; beyond _SMALL always of its block
        self._searched = 0  # octets of the unfinished block in _pending that were checked
        self._line_start = 0  # of its last line
        self._lines = 0  # complete ones before that
        self._body_start = 0  # octets of the frame of `body` before it

    def negotiated(self, version: Version) -> None:
        """Read what follows by the rules of `version`. Call `receive(b"")` for what the client pipelined."""
        self.version = version
        self._rules = version if self._strict else lenient(version)
        if not self._rules.cr_ends_line:
            self._block_end = _LF_END
        self._is_holding = False
        self._known.clear()  # made by other rules

    def forget_memos(self) -> None:
        """Forget what was derived from heads (`Head.memo`): it has to be derived anew for the frames that come."""
        self._known.clear()
        if self.body is not None:
            self.body.head.memo = None

    def receive(self, data: bytes) -> list[FrameRun]:
        """Take what the client sent and return the frames that it completes, in order.

        Never raises for what a client sent: frames before a fault are returned, and `error` is set. While the
        first frame waits for negotiation everything is kept, so the caller should not read on meanwhile.
        """
        runs: list[FrameRun] = []
        if self.error is None:
            try:
                if self._pending or self.body is not None or self._held or self._is_holding:
                    self._go_on(data, runs)
                else:
                    self._parse(data, runs)
            except ProtocolError as error:
                self._fail(error)
            self.is_within_frame = self.body is not None or bool(self._pending)
        return runs

    def body_buffer(self) -> memoryview | None:
        """Where the rest of a large body should be received, and no more than fits; None: use `receive`.

        Call `body_received` with the number of octets put there before anything else. It ends the view; slices
        of it must be gone by then.
        """
        return None if self.body is None else self.body.place()

    def body_received(self, n: int) -> list[FrameRun]:
        """`n` octets were put at the beginning of `body_buffer()`; returns what they completed."""
        if self.body is None:
            raise AssertionError("body_received() without a body_buffer()")
        self.body.placed(n)
        runs: list[FrameRun] = []
        try:
            self._finish_body(self.body, runs)
        except ProtocolError as error:
            self._fail(error)
        self.is_within_frame = self.body is not None
        return runs

    def _fail(self, error: ProtocolError) -> None:
        error.detail += f"; the frame begins at byte {self.position:,} of the connection"
        self.error = error
        self.body = None
        self._held = self._pending = bytearray()
        self._known.clear()

    def _go_on(self, data: bytes, runs: list[FrameRun]) -> None:
        """As `_parse`, when something of what came before is kept."""
        body = self.body
        if body is not None:
            taken = body.add(data)
            self._finish_body(body, runs)
            data = data[taken:]
        if self._is_holding:
            self._held += data
            return
        if len(self._pending) > _SMALL and not self._ends_block(data):
            self._pending += data
            self._check_unfinished_block()
            return
        if self._pending or self._held:
            data = b"".join((self._pending, self._held, data))
            self._pending = bytearray()
            self._held = bytearray()
        if data:
            self._parse(data, runs)

    # --- the loop -----------------------------------------------------------------------------------------

    def _parse(self, data: bytes, runs: list[FrameRun]) -> None:
        """Append all frames of `data` to `runs` and keep what is left over.

        One loop with local names and hardly a call in its usual turn: a call costs 0.05 us or more, which is a
        tenth of a frame. It is long for this reason alone; what is rare is in the methods that it calls.
        """
        known = self._known.get
        find = data.find
        size = len(data)
        base = self.position
        max_body = self._limits.max_body
        is_first = self.version is None
        acks_from = size + 1 if is_first else self._acks_from
        block_end = self._block_end
        last: Head | None = None
        run = _NO_RUN
        bodies = run.bodies
        position = 0
        try:
            while position < size:
                if data[position] == 10:  # the usual LF behind a NUL
                    position += 1
                    if position == size:
                        return
                if data[position] < 14:
                    first = _FIRST_OCTET.search(data, position)
                    if first is None:
                        position = size
                        return
                    position = first.start()
                start = find(block_end, position) + len(block_end)
                block = data[position:start]
                head = known(block)
                receipt = None
                if head is None:
                    if size - position >= acks_from and data.startswith(ACK, position):
                        acks = cut_acks(data, position)
                        if acks is not None:
                            ids, receipts, position = acks
                            runs.append(FrameRun(_ACK_HEAD, [b""] * len(ids), receipts, ids))
                            last = None
                            continue
                    found = self._look_up(data, position, start)
                    if found is None:
                        self._keep_block(data[position:])
                        return
                    head, receipt, start = found
                    block_end = self._block_end
                    block = b""
                length = head.content_length
                end = find(b"\0", start) if length is None else start + length
                if end >= size or end < 0:
                    self._begin_body(head, receipt, data[position:], start - position)
                    return
                if length is None:
                    if end - start > max_body:
                        raise body_too_large(max_body, receipt)
                elif data[end]:
                    raise no_nul_after_body(length, data[end], receipt)
                if head is not last or len(bodies) >= RUN_FRAMES:
                    body = data[start:end]
                    # A block from the dictionary is a SEND without a receipt: nothing to judge.
                    run = FrameRun(head, [body]) if block else self._make_run(head, receipt, body)
                    if is_first:
                        self._check_login_size(end + 1 - position)
                        self._is_holding = True
                        runs.append(run)
                        position = end + 1
                        self._held += data[position:]
                        return
                    runs.append(run)
                    last = head
                    bodies = run.bodies
                else:
                    bodies.append(data[start:end])
                    if receipt is not None or run.receipts is not None:
                        _add_receipt(run, receipt)
                    if len(bodies) >= RUN_FROM and end - start < LARGE:
                        if block:
                            end = self._cut_run(data, block, end, end - start, run)
                        elif receipt is not None:
                            end = self._cut_receipts(data, data[position:start], end, run)
                position = end + 1
        finally:
            self.position = base + position

    def _cut_run(self, data: bytes, block: bytes, end: int, expected: int, run: FrameRun) -> int:
        """Take the frames like the one whose NUL is at `end` into its run; returns where the last NUL is."""
        gap = b"\0\n" if data.startswith(b"\n", end + 1) else b"\0"
        if run.head.content_length is None:
            end = cut_open(data, end, gap + block, expected, self._limits.max_body, run.bodies)
        else:
            end = cut_sized(data, end, gap + block, expected, run.bodies)
        if run.receipts is not None:
            run.receipts += [None] * (len(run.bodies) - len(run.receipts))
        return end

    def _cut_receipts(self, data: bytes, block: bytes, end: int, run: FrameRun) -> int:
        """As `_cut_run`, where each frame has a receipt: this block is that of the frame whose NUL is at `end`."""
        at = block.find(_RECEIPT) + len(_RECEIPT)
        if at < len(_RECEIPT) or run.receipts is None or self._limits.max_header_line < len(_RECEIPT) + RECEIPT_MOST:
            return end
        gap = b"\0\n" if data.startswith(b"\n", end + 1) else b"\0"
        blocks = gap + block[:at], block[block.find(b"\n", at) :]
        length, max_body = run.head.content_length, self._limits.max_body
        return cut_receipts(data, end, blocks, length, max_body, run.bodies, run.receipts)

    # --- blocks -------------------------------------------------------------------------------------------

    def _look_up(self, data: bytes, position: int, start: int) -> tuple[Head, str | None, int] | None:
        """Head, receipt and end of the block at `position`, which is not in the dictionary as it stands.

        `start` is where the body begins if the block ends with the likely kind of empty line. The receipt's line
        is cut out, so that blocks which differ only there share a head. None: the block is not complete.
        """
        if self.version is None:
            _refuse_strangers(data, position)
        if start < position + _SHORTEST_BLOCK or self._rules.cr_ends_line:
            start = self._find_block_end(data, position, start)
            if start < 0:
                if data.find(b"\0", position) >= 0:
                    raise nul_in_block()
                return None
        block = data[position:start]
        at = block.find(_RECEIPT)
        if at < 0:
            return *self._read_head(block, None), start
        line_end = block.find(b"\n", at + 1)
        if line_end - at > self._limits.max_header_line:
            line = block[at + 1 : line_end].removesuffix(b"\r")
            check_line(block.count(b"\n", 0, at) + 2, len(line), self._limits)
        receipt = self._read_receipt(block[at + len(_RECEIPT) : line_end])
        block = block[:at] + block[line_end:]
        head = self._known.get(block)
        if head is not None:
            return head, receipt, start
        return *self._read_head(block, receipt), start

    def _find_block_end(self, data: bytes, position: int, end: int) -> int:
        """Where the body begins after the block at `position`; -1: its empty line is not there yet.

        `end` is what the search for the likely kind of empty line gave. It bounds the search for the other
        kind, which then becomes the likely one: so no search is in vain more than once.
        """
        if end < position + _SHORTEST_BLOCK:
            end = len(data)
        if self._rules.cr_ends_line:
            other = _CRLF_END if self._block_end is _LF_END else _LF_END
            sooner = data.find(other, position, end)
            if sooner >= 0:
                self._block_end = other
                return sooner + len(other)
        return end if data.endswith(self._block_end, position, end) else -1

    def _read_head(self, block: bytes, receipt: str | None) -> tuple[Head, str | None]:
        """Parse a block; a SEND's is remembered, as only that is likely to come again."""
        try:
            command, headers = parse_block(block, self._rules, self._limits)
            if self.version is None and "accept-version" not in headers:
                headers = trim(headers)  # a 1.0 client: only 1.1 and later ones say what they accept
            length = None
            if "content-length" in headers and (command in BODY_COMMANDS or self._rules.length_on_every_frame):
                length = parse_content_length(headers["content-length"], self._limits)
        except ProtocolError as error:
            error.receipt = receipt
            raise
        head = Head(command, headers, length)
        if "receipt" in headers:  # a repeated one, or one with padding around its name
            repeated = headers.pop("receipt")
            return head, repeated if receipt is None else receipt
        if command == "SEND" and len(block) <= _KNOWN_BLOCK:
            self._known.remember(block, head)
        return head, receipt

    def _read_receipt(self, raw: bytes) -> str:
        """Decode the value of a receipt header by the rules for all headers."""
        rules = self._rules
        if 0 in raw:
            raise nul_in_block()
        try:
            text = raw.decode("utf-8", "strict" if rules.utf8_required else "surrogateescape")
        except UnicodeDecodeError:
            raise ProtocolError("headers are not UTF-8", "the value of receipt is not UTF-8") from None
        if rules.cr_ends_line:
            text = text.removesuffix("\r")
        if rules.trims_headers:
            text = text.strip(PADDING)
        return unescape(text, rules) if "\\" in text else text

    # --- what is not complete -----------------------------------------------------------------------------

    def _ends_block(self, data: bytes) -> bool:
        """Whether `data` ends the unfinished block in `_pending`, or shows that it never ends."""
        joint = bytes(self._pending[-2:]) + data
        return _LF_END in joint or 0 in data or (self._rules.cr_ends_line and _CRLF_END in joint)

    def _keep_block(self, rest: bytes) -> None:
        self._pending += rest
        self._searched = self._line_start = self._lines = 0
        self._check_unfinished_block()

    def _check_unfinished_block(self) -> None:
        """Check sizes of the unfinished block in `_pending`, each octet once; memory is bounded by this."""
        pending = self._pending
        limits = self._limits
        end = pending.find(b"\n", self._searched)
        while end >= 0:
            self._check_unfinished_line(end)
            self._lines += 1
            self._line_start = end + 1
            end = pending.find(b"\n", end + 1)
        self._searched = len(pending)
        self._check_unfinished_line(len(pending))
        # The command line is no header, and one line may be the receipt, which is not counted.
        check_line_count(self._lines - 2, limits)
        if self.version is None:
            self._check_login_size(len(pending))

    def _check_unfinished_line(self, end: int) -> None:
        size = end - self._line_start
        if size > self._limits.max_command:
            size -= self._pending.endswith(b"\r", self._line_start, end)
            check_line(self._lines + 1, size, self._limits)

    def _begin_body(self, head: Head, receipt: str | None, frame: bytes, start: int) -> None:
        """Keep a frame whose body, which begins at `start`, is not complete."""
        length = head.content_length
        arrived = len(frame) - start
        if (length or arrived) and head.command in _BODILESS_COMMANDS:
            self._drop_stray_body(head, receipt)
        if length is None and arrived > self._limits.max_body:
            raise body_too_large(self._limits.max_body, receipt)
        if self.version is None:
            self._check_login_size(start + (arrived if length is None else length) + 1)
        if len(frame) <= _SMALL and (length or 0) <= _SMALL:
            self._pending += frame
            return
        if length is None:
            self.body = OpenBody(head, receipt, self._limits.max_body)
        else:
            self.body = SizedBody(head, receipt, length)
        self._body_start = start
        self.body.add(frame[start:])

    def _finish_body(self, body: SizedBody | OpenBody, runs: list[FrameRun]) -> None:
        """Hand out the frame whose body was collected, if that is complete."""
        if self.version is None:
            self._check_login_size(self._body_start + body.size)
        if body.is_complete:
            size = self._body_start + body.size
            runs.append(self._make_run(body.head, body.receipt, body.take()))
            self.body = None
            self.position += size
            self._is_holding = self.version is None

    # --- judgement ----------------------------------------------------------------------------------------

    def _make_run(self, head: Head, receipt: str | None, body: Buffer) -> FrameRun:
        if body and head.command in _BODILESS_COMMANDS:
            body = self._drop_stray_body(head, receipt)
        return FrameRun(head, [body], None if receipt is None else [receipt])

    def _drop_stray_body(self, head: Head, receipt: str | None) -> bytes:
        """The body of a frame that has none: an error, but ignored in 1.0 (F11)."""
        is_old = self.version is None and "accept-version" not in head.headers
        if is_old or self._rules.ignores_stray_bodies:
            return b""
        raise ProtocolError(
            f"{head.command} with a body",
            f"{head.command} has a body; only SEND may carry one",
            receipt=receipt,
        )

    def _check_login_size(self, size: int) -> None:
        limit = self._limits.max_login_frame
        if size > limit:
            raise ProtocolError(
                "first frame too large",
                f"first frame of {size:,} bytes or more exceeds max-login-frame ({limit:,})",
                kind=ErrorKind.LIMIT,
            )


def _weigh(block: bytes, head: Head) -> int:
    """Octets of memory for a block and its head, and what the session derives from it (`memo`), which is not there yet.

    Measured: 0.7 KiB for a destination alone, 1.2 KiB for five headers, 18 KiB for 180 of the shortest.
    """
    return _HEAD + _LINE * len(head.headers) + _OCTET * len(block)


_HEAD, _LINE, _OCTET = 500, 85, 3
_NO_RUN = FrameRun(Head("", {}), [])
_ACK_HEAD = Head("ACK", {})
"""Of ACKs that were read together: each of their ids and receipts is told beside it."""


def _add_receipt(run: FrameRun, receipt: str | None) -> None:
    """Note the receipt of the frame whose body was the last to come into the run."""
    if run.receipts is None:
        run.receipts = [None] * (len(run.bodies) - 1)
    run.receipts.append(receipt)


def _refuse_strangers(data: bytes, position: int) -> None:
    """Recognise who knocks at the wrong port (F28): no STOMP command looks like this."""
    if data.startswith(_TLS_HANDSHAKE, position):
        raise ProtocolError(
            "TLS on a port without TLS",
            "a TLS hello on a port that speaks plain STOMP",
            kind=ErrorKind.TLS_HELLO,
        )
    method = _HTTP.match(data, position)
    if method:
        raise ProtocolError(
            "HTTP on a STOMP port",
            f"an HTTP request ({method[0].decode().strip()}) on a port that speaks plain STOMP",
            kind=ErrorKind.HTTP_REQUEST,
        )
