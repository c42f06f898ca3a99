"""STOMP within WebSocket messages (RFC 6455), both ways.

To the client, each frame of STOMP is a message of its own: text if the whole frame is UTF-8, else binary. Clients in
pages take a message for a frame, and many of them don't understand a binary one. The LF behind the frame's NUL is left
out, as it would look like a heart-beat; a heart-beat is a message with one LF. From the client comes a stream: its
messages may have any part of a frame, or many of them, in text or binary.

    0  u8   FIN (bit 7), opcode (4 bits)        1  u8   MASK (bit 7), length below 126
            126: u16 length follows             127: u64 length follows
       4 octets of mask, from clients only      payload, from clients each octet XOR its octet of the mask

`websockets` does the handshake, checks control frames, and has the XOR in C. Data frames are taken apart here, many in
one pass: by the library a frame costs 4.5 µs on its way in, by this loop 0.9.

Frames of the broker end with NUL LF, and those with a `content-length` have it once: the session sees to that.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Sequence

from websockets.exceptions import ProtocolError
from websockets.frames import Close, Frame, Opcode

from forkbroker.child.transport import TransportError, take
from forkbroker.wire.envelope import Buffer
from forkbroker.wire.kinds import Cause
from forkbroker.wire.memory_file import MemoryFile

try:
    from websockets.speedups import apply_mask
except ImportError:  # a platform for which there is no wheel
    from websockets.utils import apply_mask

PART = 65_536
"""Octets of the stream that become messages at once. What is taken has to be written to its last octet."""
_MAX_CONTROL = 125
_MAX_REASON = 123
_CODES = {Cause.ASKED: 1000, Cause.FAULT: 1002, Cause.DENIED: 1008, Cause.AWAY: 1001, Cause.FULL: 1013}
_TEXT, _BINARY = 0x81, 0x82
_HEADS = {first: [bytes((first, length)) for length in range(126)] for first in (_TEXT, _BINARY)}
BEAT = b"\x81\x01\n"
"""The message that is a heart-beat."""
_LENGTH = b"\ncontent-length:"
PING = b"\x89\x00"
PONG = 0x8A
"""The first octet of a pong."""


class WebSocket:
    """One WebSocket connection behind its handshake: a `forkbroker.child.web.router.Conversation`."""

    farewell = "client closed the connection"
    is_free = has_more = False
    rest = b""

    def __init__(self, heard: Callable[[], None]) -> None:
        """`heard`: called for a pong, which shows that the client is there."""
        self._heard = heard
        self.outgoing = b""
        self.bearer = ""
        self.is_over = False
        self._rest = b""
        """A frame of which not even the head has come."""
        self._left = 0
        """Octets of a frame's payload that are still to come."""
        self._mask = b""
        self._is_within_message = False
        self._to_pass = 0
        """Octets of a large STOMP frame whose message has begun: they go as they are."""
        self._is_end_due = False
        """The LF behind that frame is next in the stream."""
        self._error = b""
        """The ERROR that was sent, if one was."""

    # From the client

    def receive(self, octets: bytes) -> bytes:
        """Payload of data frames; control frames are answered, or heeded.

        Raises:
            TransportError: what came is not WebSocket.
        """
        data = self._rest + octets if self._rest else octets
        self._rest = b""
        position, end = 0, len(data)
        parts: list[bytes] = []
        append = parts.append
        if self._left:
            position = self._receive_rest(data, append)
        while position + 2 <= end and not self.is_over:
            first, length = data[position], data[position + 1] - 128
            if length < 0:
                raise self._complain("a frame of a client that is not masked")
            begin = position + 2
            if length > 125:
                begin += 2 if length == 126 else 8
                length = int.from_bytes(data[position + 2 : begin])
            stop = begin + 4 + length
            if first in (_TEXT, _BINARY) and not self._is_within_message:
                pass
            elif first & 8:
                if length > _MAX_CONTROL or not first & 128:
                    raise self._complain("a control frame that is too long, or in fragments")
                if stop > end:
                    break
                self._receive_control(first, apply_mask(data[begin + 4 : stop], data[begin : begin + 4]))
                position = stop
                continue
            elif begin + 4 <= end:
                self._check_fragment(first)
            if stop <= end:
                append(apply_mask(data[begin + 4 : stop], data[begin : begin + 4]))
                position = stop
            elif begin + 4 <= end:
                self._mask = data[begin : begin + 4]
                self._left = length
                position = self._receive_rest(data[begin + 4 :], append) + begin + 4
            else:
                break
        self._rest = data[position:]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _receive_rest(self, data: bytes, append: Callable[[bytes], None]) -> int:
        """More of a payload; how many octets of it there were."""
        part = data[: self._left]
        append(apply_mask(part, self._mask) if part else b"")
        turned = len(part) % 4
        self._mask = self._mask[turned:] + self._mask[:turned]
        self._left -= len(part)
        return len(part)

    def _check_fragment(self, first: int) -> None:
        """Any data frame but a whole message: `first` has FIN and opcode."""
        is_first = first & 15 in (1, 2)
        if first & 0x70 or first & 15 > 2 or is_first is self._is_within_message:
            raise self._complain("a frame with an opcode that is not possible there, or an extension")
        self._is_within_message = not first & 128

    def _receive_control(self, first: int, payload: bytes) -> None:
        try:
            if first == 0x89:
                self.outgoing += Frame(Opcode.PONG, payload).serialize(mask=False)
            elif first == 0x8A:
                self._heard()
            elif first == 0x88:
                Close.parse(payload)
                self.outgoing += Frame(Opcode.CLOSE, payload[:2]).serialize(mask=False)
                self.is_over = True
            else:
                raise self._complain("a control frame of an unknown kind")
        except (ProtocolError, UnicodeDecodeError):
            raise self._complain("a closing frame that is none") from None

    def _complain(self, text: str) -> TransportError:
        self.outgoing += Frame(Opcode.CLOSE, Close(1002, text).serialize()).serialize(mask=False)
        self.is_over = True
        return TransportError(0, f"WebSocket: {text}")

    # To the client

    def send(self, buffers: Sequence[Buffer]) -> tuple[Buffer, int]:
        """As `Conversation.send`."""
        part = take(buffers, PART)
        return self._send(part, lambda: iter(buffers))

    def send_file(self, file: MemoryFile, offset: int, octets: int) -> tuple[Buffer, int]:
        """As `Conversation.send_file`."""
        part = file.read(offset, min(octets, PART))
        places = range(offset, offset + octets, PART)
        return self._send(part, lambda: (file.read(place, min(PART, offset + octets - place)) for place in places))

    def _send(self, part: bytes, everything: Callable[[], Iterator[Buffer]]) -> tuple[Buffer, int]:
        """`part`: the first octets of `everything`."""
        if self._to_pass:
            passed = part[: self._to_pass]
            self._to_pass -= len(passed)
            return passed, len(passed)
        skipped = 0
        if self._is_end_due:
            self._is_end_due = False
            part, skipped = part[1:], 1
        messages, used = self._frame(part)
        if used or not part:
            return messages, skipped + used
        return self._begin_large(part, everything, skipped)

    def _frame(self, part: bytes) -> tuple[bytes, int]:
        """Messages for all STOMP frames that are whole in this part, and how many octets of it they were."""
        messages: list[bytes] = []
        append, find, end = messages.append, part.find, len(part)
        is_ascii = part.isascii()
        texts, binaries = _HEADS[_TEXT], _HEADS[_BINARY]
        position = last = 0
        while position < end:
            if part[position] == 10:
                append(BEAT)
                position += 1
                continue
            gap = find(b"\n\n", position)
            if gap < 0:
                break
            at = find(_LENGTH, position, gap)
            stop = gap + 2
            stop = find(b"\0", stop) if at < 0 else stop + int(part[at + 16 : find(b"\n", at + 16)])
            if stop < 0 or stop + 1 >= end:
                break
            message = part[position : stop + 1]
            last, position = position, stop + 2
            length = stop + 1 - last
            is_text = is_ascii or is_utf8(message)
            if length < 126:
                append(texts[length] if is_text else binaries[length])
            else:
                append(_make_head(length, is_text=is_text))
            append(message)
        if position and part[last] == 69:  # the E of ERROR, which is the last of a session
            self._error = part[last:position]
        return b"".join(messages), position

    def _begin_large(self, part: bytes, everything: Callable[[], Iterator[Buffer]], skipped: int) -> tuple[Buffer, int]:
        """The beginning of the message of a frame that is larger than a part; its rest follows as it is."""
        length = _measure(_chunks(everything(), skipped))
        is_text = _are_utf8(_chunks(everything(), skipped, length))
        first = part[:length]
        self._to_pass, self._is_end_due = length - len(first), True
        return _make_head(length, is_text=is_text) + first, skipped + len(first)

    @property
    def is_midway(self) -> bool:
        """As `Conversation.is_midway`."""
        return self._to_pass > 0

    def tick(self) -> None:
        """Send a ping: proxies cut connections on which nothing comes for a minute."""
        self.outgoing += PING

    def close(self, cause: Cause) -> bytes:
        """A closing frame that tells why (RFC 6455, 7.4): the code for the kind of the reason, and ERROR's message."""
        if self.is_over or self._to_pass:
            return b""
        self.is_over = True
        payload = Close(_CODES[cause], _find_message(self._error)).serialize()
        return Frame(Opcode.CLOSE, payload).serialize(mask=False)


def pack_text(frame: bytes) -> bytes:
    """The message for one frame in UTF-8, which ends in NUL LF."""
    return _make_head(len(frame) - 1, is_text=True) + frame[:-1]


def unpack_whole(octets: bytes) -> tuple[int, bytes, int] | None:
    """Of a whole message or pong: its first octet, its payload, and its octets in all; None: it is something else."""
    if len(octets) < 6:
        return None
    first, length, begin = octets[0], octets[1] - 128, 2
    if length == 126:
        length, begin = int.from_bytes(octets[2:4]), 4
    stop = begin + 4 + length
    if first not in (_TEXT, _BINARY, PONG) or not 0 <= length < 65_536 or octets[1] == 255 or stop > len(octets):
        return None
    return first, apply_mask(octets[begin + 4 : stop], octets[begin : begin + 4]), stop


def _make_head(length: int, *, is_text: bool) -> bytes:
    first = _TEXT if is_text else _BINARY
    if length < 126:
        return bytes((first, length))
    return bytes((first, 126)) + length.to_bytes(2) if length < 65_536 else bytes((first, 127)) + length.to_bytes(8)


def is_utf8(octets: bytes) -> bool:
    """Whether all of it is text."""
    try:
        octets.decode()
    except UnicodeDecodeError:
        return False
    return True


def _are_utf8(chunks: Iterator[memoryview]) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for chunk in chunks:
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _measure(chunks: Iterator[memoryview]) -> int:
    """How many octets the first frame has, with its NUL."""
    head, gap = b"", -1
    for chunk in chunks:
        head += chunk
        gap = head.find(b"\n\n")
        if gap >= 0:
            break
    at = head.find(_LENGTH, 0, gap)
    if at > 0:
        return gap + 2 + int(head[at + 16 : head.find(b"\n", at + 16)]) + 1
    stop, before, part = head.find(b"\0", gap), 0, head
    while stop < 0:
        before += len(part)
        part = bytes(next(chunks))
        stop = part.find(b"\0")
    return before + stop + 1


def _chunks(buffers: Iterator[Buffer], skipped: int, most: int | None = None) -> Iterator[memoryview]:
    """These octets behind the first ones, and not more than so many, in parts that are not large."""
    for buffer in buffers:
        view = memoryview(buffer)[skipped:]
        skipped = max(0, skipped - len(buffer))
        if most is not None:
            view = view[:most]
            most -= len(view)
        for begin in range(0, len(view), PART):
            yield view[begin : begin + PART]


def _find_message(error: bytes) -> str:
    """The `message` of an ERROR, as far as a closing frame has room for it."""
    for line in error.partition(b"\n\n")[0].split(b"\n")[1:]:
        name, _, value = line.partition(b":")
        if name == b"message":
            return value[:_MAX_REASON].decode(errors="ignore")
    return ""
