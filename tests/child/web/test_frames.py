"""STOMP within WebSocket messages, without a connection."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from forkbroker.child.transport import TransportError
from forkbroker.child.web.frames import PART, WebSocket
from forkbroker.stomp.encoder import encode_frame
from forkbroker.stomp.versions import V12
from forkbroker.wire.envelope import Buffer
from forkbroker.wire.kinds import Cause
from forkbroker.wire.memory_file import MemoryFile


def make() -> WebSocket:
    return WebSocket(lambda: None)


def masked(payload: bytes, opcode: Opcode = Opcode.TEXT, *, fin: bool = True) -> bytes:
    return Frame(opcode, payload, fin).serialize(mask=True)


def read(octets: bytes) -> list[tuple[int, bytes]]:
    """What a client makes of it: opcodes, and payloads; `websockets` judges each frame."""
    client = ClientProtocol(parse_uri("ws://x/"), state=OPEN, max_size=None)
    client.receive_data(octets)
    assert client.parser_exc is None
    return [(event.opcode.value, bytes(event.data)) for event in client.events_received() if isinstance(event, Frame)]


def send_all(talk: WebSocket, stream: Sequence[Buffer]) -> bytes:
    """All of the stream, as a transport gives it: what is used comes no more."""
    sent, rest = b"", b"".join(stream)
    while rest:
        octets, used = talk.send([rest[:100], rest[100:]])
        assert used > 0
        sent += octets
        rest = rest[used:]
    return sent


def message(body: bytes, *, has_length: bool = True) -> bytes:
    length = f"content-length:{len(body)}\n".encode() if has_length else b""
    return b"MESSAGE\nsubscription:0\nmessage-id:1\ndestination:/topic/a\n" + length + b"\n" + body + b"\0\n"


# -- to the client


def test_each_frame_is_a_message_of_its_own() -> None:
    """Without the LF behind it; a heart-beat is a message as well."""
    frames = [
        encode_frame(V12, "CONNECTED", [("version", "1.2")]),
        b"\n",
        message(b"a\0b"),
        message(b"", has_length=False),
    ]

    assert read(send_all(make(), frames)) == [
        (Opcode.TEXT, frames[0][:-1]),
        (Opcode.TEXT, b"\n"),
        (Opcode.TEXT, frames[2][:-1]),
        (Opcode.TEXT, frames[3][:-1]),
    ]


@pytest.mark.parametrize("size", [1, 60, 70, 200, 65_400, 65_536, 70_000, 200_000, 3 * PART])
@pytest.mark.parametrize("fill", ["ü".encode(), b"x", b"\xff"])
@pytest.mark.parametrize("has_length", [True, False])
def test_frames_of_all_sizes_are_messages(size: int, fill: bytes, has_length: bool) -> None:
    """Text where all of it is UTF-8, else binary: each for itself."""
    first, second, third = message(fill * size, has_length=has_length), message(b"y"), message(fill * size)
    opcode = Opcode.BINARY if fill == b"\xff" else Opcode.TEXT

    assert read(send_all(make(), [first, second, third])) == [
        (opcode, first[:-1]),
        (Opcode.TEXT, second[:-1]),
        (opcode, third[:-1]),
    ]


def test_a_large_body_that_ends_in_half_a_character_is_binary() -> None:
    """Found before its message begins."""
    frame = message(b"x" * 2 * PART + "ü".encode()[:1])

    assert read(send_all(make(), [frame])) == [(Opcode.BINARY, frame[:-1])]


def test_frames_in_a_file_are_messages() -> None:
    """Read in parts, from where the last one has ended."""
    talk, frames = make(), [message(b"x" * size) for size in (10, 3 * PART, 20, 400)]
    file = MemoryFile.make(frames)
    if file is None:
        pytest.skip("no files in memory on this system")
    sent, done = b"", 0
    while done < file.size:
        octets, used = talk.send_file(file, done, file.size - done)
        sent, done = sent + octets, done + used

    assert [payload for _, payload in read(sent)] == [frame[:-1] for frame in frames]


def test_nothing_may_come_between_the_parts_of_a_large_message() -> None:
    """A pong within its payload would be payload."""
    talk, frame = make(), message(b"x" * 2 * PART)
    _, used = talk.send([frame])

    assert talk.is_midway
    assert talk.close(Cause.AWAY) == b""
    while used < len(frame):
        used += talk.send([frame[used:]])[1]
    assert not talk.is_midway


@given(st.lists(st.tuples(st.binary(max_size=300), st.booleans()), max_size=12), st.integers(1, 50))
def test_any_bodies_and_any_parts_are_the_same_messages(bodies: list[tuple[bytes, bool]], step: int) -> None:
    """A body may look like the end of its frame."""
    frames = [message(body, has_length=sized or b"\0" in body) for body, sized in bodies]
    talk, stream = make(), b"".join(frames)
    sent, rest = b"", stream
    while rest:
        octets, used = talk.send([rest[i : i + step] for i in range(0, len(rest), step)])
        sent, rest = sent + octets, rest[used:]

    assert [payload for _, payload in read(sent)] == [frame[:-1] for frame in frames]


@pytest.mark.parametrize(
    ("cause", "code"),
    [(Cause.ASKED, 1000), (Cause.FAULT, 1002), (Cause.DENIED, 1008), (Cause.AWAY, 1001), (Cause.FULL, 1013)],
)
def test_the_close_says_why(cause: Cause, code: int) -> None:
    """With the message of the ERROR, as far as there is room: not within a character."""
    talk = make()
    send_all(talk, [message(b"a"), encode_frame(V12, "ERROR", [("message", "ü" * 100)], b"detail")])
    [(opcode, payload)] = read(talk.close(cause))

    assert opcode == Opcode.CLOSE
    assert Close.parse(payload) == Close(code, "ü" * 61)
    assert talk.close(cause) == b""


def test_an_end_without_an_error_has_no_reason() -> None:
    """DISCONNECT, for one."""
    talk = make()
    send_all(talk, [encode_frame(V12, "RECEIPT", [("receipt-id", "1")])])

    assert read(talk.close(Cause.ASKED)) == [(Opcode.CLOSE, b"\x03\xe8")]


# -- from the client


@given(
    st.lists(st.tuples(st.binary(max_size=200), st.sampled_from(["text", "binary", "split", "ping"])), max_size=10),
    st.lists(st.integers(1, 300), min_size=1, max_size=20),
)
def test_any_split_and_any_packing_is_one_stream(messages: list[tuple[bytes, str]], steps: list[int]) -> None:
    """Fragments, control frames between them, reads that end anywhere."""
    wire = stream = b""
    for payload, way in messages:
        if way == "ping":
            wire += masked(payload[:100], Opcode.PING)
            continue
        stream += payload
        if way == "split":
            wire += masked(payload[:3], Opcode.BINARY, fin=False) + masked(b"", Opcode.PONG)
            wire += masked(payload[3:9], Opcode.CONT, fin=False) + masked(payload[9:], Opcode.CONT)
        else:
            wire += masked(payload, Opcode[way.upper()])
    talk, got, position = make(), b"", 0
    while position < len(wire):
        step = steps[position % len(steps)]
        got += talk.receive(wire[position : position + step])
        position += step

    assert got == stream
    assert [payload for _, payload in read(talk.outgoing)] == [m[:100] for m, way in messages if way == "ping"]


def test_a_large_message_comes_in_parts() -> None:
    """Nothing is kept of it: the session has limits for frames."""
    wire, talk = masked(bytes(range(256)) * 1000), make()

    parts = [talk.receive(wire[i : i + 1001]) for i in range(0, len(wire), 1001)]

    assert all(parts)
    assert b"".join(parts) == bytes(range(256)) * 1000


def test_a_pong_shows_that_the_client_is_there() -> None:
    """And is nothing of the stream."""
    heard: list[None] = []
    talk = WebSocket(lambda: heard.append(None))

    assert talk.receive(masked(b"", Opcode.PONG)) == b""
    assert heard == [None]


def test_a_tick_is_a_ping() -> None:
    """Without a payload."""
    talk = make()
    talk.tick()

    assert talk.outgoing == Frame(Opcode.PING, b"").serialize(mask=False)


def test_a_close_is_answered_with_its_code_and_nothing_follows() -> None:
    """RFC 6455, 5.5.1."""
    talk = make()

    assert talk.receive(masked(b"a") + masked(Close(1001, "gone").serialize(), Opcode.CLOSE) + masked(b"b")) == b"a"
    assert talk.is_over
    assert read(talk.outgoing) == [(Opcode.CLOSE, b"\x03\xe9")]
    assert talk.close(Cause.AWAY) == b""


_WRONG = {
    "not masked": b"\x81\x01a",
    "nothing to continue": masked(b"a", Opcode.CONT),
    "not continued": masked(b"a", fin=False) + masked(b"b"),
    "extension": b"\xc1\x81\0\0\0\0a",
    "opcode": b"\x83\x81\0\0\0\0a",
    "control opcode": b"\x8b\x80\0\0\0\0",
    "long ping": b"\x89\xfe\0\x80\0\0\0\0" + bytes(128),
    "fragment of a ping": b"\x09\x80\0\0\0\0",
    "half a code": masked(b"\x03", Opcode.CLOSE),
    "code that is never sent": masked(b"\x03\xed", Opcode.CLOSE),
}


@pytest.mark.parametrize("octets", _WRONG.values(), ids=_WRONG)
def test_what_is_not_websocket_ends_with_1002(octets: bytes) -> None:
    """RFC 6455, 7.1.7."""
    talk = make()
    with pytest.raises(TransportError, match="WebSocket: "):
        talk.receive(octets)
    [(opcode, payload)] = read(talk.outgoing)

    assert opcode == Opcode.CLOSE
    assert Close.parse(payload).code == 1002


def test_the_fallback_for_masks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the library has no C."""
    from websockets import utils

    from forkbroker.child.web import frames

    mask: Callable[[bytes, bytes], bytes] = utils.apply_mask
    monkeypatch.setattr(frames, "apply_mask", mask)

    assert make().receive(masked(b"hello") + masked(b"") + masked(b"x" * 300)) == b"hello" + b"x" * 300
