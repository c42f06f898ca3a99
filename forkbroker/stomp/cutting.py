"""Frame runs: the bodies of many frames with the same header block, cut at the speed of C.

When a frame's block is the same as that of the frame before, chances are that a thousand more of them follow.
What stands between two bodies, the *separator*, is then one fixed string: the NUL, perhaps a LF, and the block.
Many frames are cut at once; 0.05 us instead of 0.6 us a frame with 100 octets. The result is exactly that of the
parser's loop, by induction over the frames:

- Bodies of one known size: one `struct` unpacks separators and bodies in turn. As long as each separator is
  right, each NUL and each block stands where the loop would have looked for it.
- Bodies up to their NUL: `bytes.split` at the separator. A piece without a NUL is right: then the separator's NUL
  is the first one after the body. (A block has no NUL; `headers.parse_block` sees to it.)

- Frames whose blocks differ in the value of `receipt` alone: block by block, in a loop that does nothing else. What
  stands before the value and behind it is the same, and the value means the same in all versions; so the loop of the
  parser would have cut out the same line, and found the same head.
- ACKs: one regular expression finds those that have nothing but an `id` of the form that this broker gives out, and
  another one such an ACK with a receipt. What they match is, octet for octet, what the loop would have taken; whatever
  else there is, the loop takes.

A body may of course contain the separator, or another block may follow. Then a separator is wrong or a piece has
a NUL; all before it is right, and the loop takes the next frame. Regions begin small, so that short runs between
frames of other kinds cost no more than a small multiple of their own size.
"""

from __future__ import annotations

import re
from functools import lru_cache
from struct import Struct

from forkbroker.stomp.frame import Buffer

RUN_FRAMES = 1024
"""Most frames in a run: it bounds what is in work at once, and is the largest batch of an envelope."""

RUN_FROM = 4
"""Like frames in a row after which it is worth looking for more: shorter runs are cheaper without."""

LARGE = 8192
"""Octets of a body from which a turn of the loop costs less than what is cut in vain now and then."""

ACK = b"ACK\nid:"
SHORTEST_ACK = 13
"""Octets of an ACK with the shortest `id`: in fewer there is none."""
_ACKS = re.compile(rb"(?:ACK\nid:[0-9]{1,10}-[0-9]{1,18}\n\n\0\n?){1,%d}" % RUN_FRAMES)
"""Numbers that fit into 63 bits, as the session reads them. Nothing of a frame is optional: a second header, another
line end or a body is another form."""
_ACK_ID = re.compile(rb"[0-9]+-[0-9]+")

RECEIPT_MOST = 64
_VALUE = rb"[!-\[\]-~]{1,%d}" % RECEIPT_MOST
_RECEIPT_VALUE = re.compile(_VALUE)
"""Octets of a value that is the same in all versions: no blank, no backslash, no control octet."""
_ACK_WITH_RECEIPT = re.compile(rb"ACK\nid:([0-9]{1,10}-[0-9]{1,18})\nreceipt:(%b)\n\n\0" % _VALUE)
LONGEST_LINE = len(b"receipt:") + RECEIPT_MOST
"""Octets of the longest header line of an ACK that is cut."""

_FEW = 8
_MANY = 64
_GROWTH = 4


@lru_cache(maxsize=64)
def _layout(separator: int, body: int, frames: int) -> Struct:
    """Separator and body in turn, of so many octets each; making it costs 1 us for 64 frames."""
    return Struct(f"{separator}s{body}s" * frames)


def cut_sized(data: bytes, end: int, separator: bytes, length: int, bodies: list[Buffer]) -> int:
    """Append the bodies, each of `length` octets, of the frames after the one whose NUL is at `end`.

    Returns where the NUL of the last frame taken stands: `end` if none was.
    """
    stride = len(separator) + length
    frames = _FEW
    while data.startswith(separator, end):
        frames = _step(frames, len(bodies), (len(data) - 1 - end) // stride)
        if not frames:
            break
        pieces = _layout(len(separator), length, frames).unpack_from(data, end)
        separators = pieces[::2]
        if separators.count(separator) != frames or data[end + frames * stride]:
            right = next((i for i, piece in enumerate(separators) if piece != separator), frames)
            # The last body is right if a NUL follows it; those before it are followed by a separator.
            right -= data[end + right * stride] != 0
            bodies += pieces[1 : 2 * right : 2]
            return end + right * stride
        bodies += pieces[1::2]
        end += frames * stride
        frames = _MANY
    return end


def cut_open(data: bytes, end: int, separator: bytes, expected: int, max_body: int, bodies: list[Buffer]) -> int:
    """As `cut_sized` for frames without content-length, whose bodies have about `expected` octets."""
    end = _cut_equal(data, end, separator, expected, bodies)
    if data.startswith(separator, end):
        return _cut_varied(data, end, separator, expected, max_body, bodies)
    return end


def cut_receipts(
    data: bytes,
    end: int,
    blocks: tuple[bytes, bytes],
    length: int | None,
    max_body: int,
    bodies: list[Buffer],
    receipts: list[str | None],
) -> int:
    """Append body and receipt of each frame after the one whose NUL is at `end`, as far as they are like it.

    `blocks`: what stands before the value of `receipt`, from the NUL on, and behind it, from the end of its line on.
    `length`: of each body; None: up to its NUL, and `max_body` at most. Returns where the last NUL is.
    """
    front, back = blocks
    ahead, behind, size, room = len(front), len(back), len(data), RUN_FRAMES - len(bodies)
    starts, find, match = data.startswith, data.find, _RECEIPT_VALUE.match
    while room and starts(front, end):
        value = match(data, end + ahead)
        if value is None or not starts(back, value.end()):
            break
        start = value.end() + behind
        to = find(b"\0", start) if length is None else start + length
        if not start <= to < size or data[to] or to - start > max_body:
            break
        bodies.append(data[start:to])
        receipts.append(value[0].decode())
        end = to
        room -= 1
    return end


def cut_acks(data: bytes, position: int) -> tuple[list[bytes], list[str | None] | None, int] | None:
    """The ids of the ACKs at `position`, their receipts, and where they end; None: there is none of these forms.

    With receipts it is one, without there may be many.
    """
    found = _ACKS.match(data, position)
    if found is not None:
        return _ACK_ID.findall(data, position, found.end()), None, found.end()
    found = _ACK_WITH_RECEIPT.match(data, position)
    return None if found is None else ([found[1]], [found[2].decode()], found.end())


def _step(wanted: int, taken: int, complete: int) -> int:
    """How many frames to cut at once: `wanted`, or `_FEW`, or 0 if so many have no room or are not there."""
    room = min(RUN_FRAMES - taken, complete)
    if room >= wanted:
        return wanted
    return _FEW if room >= _FEW else 0


def _cut_equal(data: bytes, end: int, separator: bytes, length: int, bodies: list[Buffer]) -> int:
    """Frames without content-length whose bodies are all of one size: as many NULs as separators."""
    stride = len(separator) + length
    frames = _FEW
    while data.startswith(separator, end):
        frames = _step(frames, len(bodies), (len(data) - 1 - end) // stride)
        last = end + frames * stride
        if not frames or data[last] or data.count(b"\0", end, last) != frames:
            break
        pieces = _layout(len(separator), length, frames).unpack_from(data, end)
        if pieces[::2].count(separator) != frames:
            break
        bodies += pieces[1::2]
        end = last
        frames = _MANY
    return end


def _cut_varied(data: bytes, end: int, separator: bytes, expected: int, max_body: int, bodies: list[Buffer]) -> int:
    """Frames without content-length: no NUL in a piece."""
    stride = len(separator) + expected
    window = _FEW
    while data.startswith(separator, end):
        start = end + len(separator)
        room = RUN_FRAMES - len(bodies)
        last = _find_end(data, start, start + min(window, room) * stride - len(separator))
        if not room or last < 0:
            break
        region = data[start:last]
        pieces = region.split(separator)
        if len(pieces) > room or len(region) > max_body or region.count(b"\0") != len(pieces) - 1:
            right = _right_pieces(pieces, max_body)[:room]
            bodies += right
            return end + sum(map(len, right)) + len(right) * len(separator)
        bodies += pieces
        end = last
        window = min(window * _GROWTH, RUN_FRAMES)
    return end


def _find_end(data: bytes, start: int, near: int) -> int:
    """A NUL at or behind `near`, or else before it, where a body ends; -1: there is none."""
    end = data.find(b"\0", near)
    return end if end >= 0 else data.rfind(b"\0", start, near)


def _right_pieces(pieces: list[bytes], max_body: int) -> list[bytes]:
    for index, piece in enumerate(pieces):
        if 0 in piece or len(piece) > max_body:
            return pieces[:index]
    return pieces
