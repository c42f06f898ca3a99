"""The parser: every row of the list that speaks of octets and frames."""

from __future__ import annotations

import tracemalloc

import pytest
from feeding import CONNECT, Frame, connected, feed, feed_every_way, flat

from forkbroker.stomp.errors import ErrorKind, ProtocolError
from forkbroker.stomp.limits import Limits
from forkbroker.stomp.parser import Parser
from forkbroker.stomp.versions import V10, V11, V12, Version

ALL = pytest.mark.parametrize("version", [V10, V11, V12], ids=lambda version: version.name)
LATER = pytest.mark.parametrize("version", [V11, V12], ids=lambda version: version.name)


def parsed(version: Version, stream: bytes, *, strict: bool = False) -> list[Frame]:
    frames, parser = feed_every_way(lambda: connected(version, strict=strict), stream)
    assert parser.error is None, parser.error.detail
    return frames


def fault(version: Version, stream: bytes, *, strict: bool = False, limits: Limits | None = None) -> ProtocolError:
    _, parser = feed_every_way(lambda: connected(version, strict=strict, limits=limits), stream)
    assert parser.error is not None
    return parser.error


def first(stream: bytes, limits: Limits | None = None) -> tuple[list[Frame], Parser]:
    return feed_every_way(lambda: Parser(limits or Limits()), stream)


@ALL
@pytest.mark.row("F01")
def test_frame_is_command_headers_empty_line_body_nul_and_line_ends(version: Version) -> None:
    """The shape of a frame is the same in every version."""
    stream = b"SEND\ndestination:/queue/a\nx:1\n\nhello\0\n\n\nSEND\n\n\0"

    assert parsed(version, stream) == [
        ("SEND", {"destination": "/queue/a", "x": "1"}, b"hello", None),
        ("SEND", {}, b"", None),
    ]


@pytest.mark.row("F02")
def test_line_may_end_in_cr_lf_in_1_2() -> None:
    """Either line end, even mixed, and a CR elsewhere is data."""
    stream = b"SEND\r\na:1\nb:2\r3\r\n\r\nbody\r\n\0\r\nSEND\na:1\n\n\0"

    assert parsed(V12, stream, strict=True) == [
        ("SEND", {"a": "1", "b": "2\r3"}, b"body\r\n", None),
        ("SEND", {"a": "1"}, b"", None),
    ]


@pytest.mark.row("F02")
def test_only_lf_ends_a_line_in_strict_1_1() -> None:
    """A line that holds nothing but CR is not the empty line: it has no colon."""
    assert fault(V11, b"SEND\na:1\r\n\r\n\0\n\n", strict=True).kind is ErrorKind.MALFORMED


@pytest.mark.row("F03")
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_first_frame_may_use_either_line_end(end: bytes) -> None:
    """The version, and with it the line end, is not known yet."""
    frames, parser = first(end.join([b"CONNECT", b"accept-version:1.1", b"login:a", b"", b"\0"]))

    assert frames == [("CONNECT", {"accept-version": "1.1", "login": "a"}, b"", None)]
    assert parser.error is None


@pytest.mark.row("F04")
def test_cr_before_lf_is_dropped_in_lenient_1_1_and_kept_in_strict_1_1() -> None:
    """The grammar of 1.1 makes it data, clients mean a line end."""
    assert parsed(V11, b"SEND\r\na:1\r\n\r\n\0")[0][1] == {"a": "1"}
    assert parsed(V11, b"SEND\na:1\r\n\n\0", strict=True)[0][1] == {"a": "1\r"}
    assert parsed(V10, b"SEND\r\na:1\r\n\r\n\0")[0][1] == {"a": "1"}


@ALL
@pytest.mark.row("F06")
def test_line_ends_and_stray_nuls_between_frames_are_skipped(version: Version) -> None:
    """Heart-beats, and the NULs that RabbitMQ lets pass, are no frames."""
    parser = connected(version)

    assert len(feed(parser, b"\n\r\n\0\0\nSEND\n\n\0\0\n" + b"\n" * 5000 + b"SEND\n\n\0", [])) == 2
    assert parser.receive(b"\n\n") == []
    assert not parser.is_within_frame


@pytest.mark.row("F06")
def test_line_ends_before_the_first_frame_are_skipped() -> None:
    """A client may greet with an end of line."""
    assert first(b"\r\n\nCONNECT\n\n\0")[0] == [("CONNECT", {}, b"", None)]


@ALL
@pytest.mark.row("F07")
def test_first_nul_ends_a_body_without_content_length(version: Version) -> None:
    """What follows is the next frame."""
    assert [frame[2] for frame in parsed(version, b"SEND\n\na\0SEND\n\nb\0")] == [b"a", b"b"]


@ALL
@pytest.mark.row("F08")
def test_content_length_counts_octets_nuls_included(version: Version) -> None:
    """The body may hold anything, also what looks like another frame."""
    stream = b"SEND\ncontent-length:12\n\na\0b\0SEND\n\n\0\n\0SEND\n\n\0"

    assert [frame[2] for frame in parsed(version, stream)] == [b"a\0b\0SEND\n\n\0\n", b""]


@ALL
@pytest.mark.row("F08")
@pytest.mark.parametrize("length", [1, 5000, 100_000])
def test_octet_after_a_sized_body_must_be_nul(version: Version, length: int) -> None:
    """Frames before it count, and the error knows the receipt."""
    body = b"x" * length
    stream = b"SEND\nreceipt:r1\ncontent-length:%d\n\n%bx\0" % (length, body)
    frames, parser = feed_every_way(lambda: connected(version), b"SEND\na:1\n\n\0" + stream)

    assert len(frames) == 1
    assert parser.error is not None
    assert (parser.error.kind, parser.error.receipt) == (ErrorKind.MALFORMED, "r1")
    assert f"byte {len(CONNECT) + 11} of the connection" in parser.error.detail
    assert "content-length" in parser.error.detail


@pytest.mark.row("F09")
def test_content_length_counts_on_every_frame_in_1_2_and_on_send_alone_before() -> None:
    """A subscription with content-length 0 is fine everywhere; other commands' length is no length in 1.1."""
    stream = b"SUBSCRIBE\nid:1\ncontent-length:0\n\n\0"
    runs = connected(V12).receive(stream)

    assert [run.head.content_length for run in runs] == [0]
    assert [run.head.content_length for run in connected(V11).receive(stream)] == [None]
    assert fault(V12, b"SUBSCRIBE\nid:1\ncontent-length:3\n\na\0b\0").message == "SUBSCRIBE with a body"


@ALL
@pytest.mark.row("F10")
@pytest.mark.parametrize("value", [b"-1", b"x", b"", b"1.5", b"+1", "٣".encode(), b"9" * 5000, b"104857601"])
def test_impossible_content_length_is_an_error(version: Version, value: bytes) -> None:
    """At once, before any of the body is there and without room for it."""
    parser = connected(version)
    stream = b"SEND\ndestination:/queue/a\nreceipt:7\ncontent-length:%b\n\n" % value

    assert parser.receive(stream) == []
    assert parser.error is not None
    assert parser.error.receipt == "7"


@LATER
@pytest.mark.row("F11")
@pytest.mark.parametrize("command", [b"SUBSCRIBE", b"DISCONNECT", b"ACK", b"CONNECT"])
@pytest.mark.parametrize("body", [b"x", b"x" * 70_000])
def test_body_on_another_command_is_an_error(version: Version, command: bytes, body: bytes) -> None:
    """Only SEND has one."""
    error = fault(version, command + b"\nid:1\nreceipt:r\n\n" + body + b"\0")

    assert error.message == f"{command.decode()} with a body"
    assert error.receipt == "r"


@pytest.mark.row("F11")
def test_body_on_another_command_is_ignored_in_1_0() -> None:
    """The text of 1.0 says so of SUBSCRIBE; a CONNECT without accept-version is of 1.0 too."""
    assert parsed(V10, b"SUBSCRIBE\ndestination:a\n\nxyz\0")[0][2] == b""
    assert first(b"CONNECT\n\nxyz\0")[0] == [("CONNECT", {}, b"", None)]
    assert first(b"CONNECT\naccept-version:1.2\n\nxyz\0")[1].error is not None


@ALL
@pytest.mark.row("F12")
def test_commands_and_header_names_keep_their_case(version: Version) -> None:
    """The parser passes what it does not know; the session refuses it."""
    assert parsed(version, b"send\nDestination:a\ndestination:b\n\n\0SENDX\n\n\0") == [
        ("send", {"Destination": "a", "destination": "b"}, b"", None),
        ("SENDX", {}, b"", None),
    ]


@LATER
@pytest.mark.row("F13")
@pytest.mark.parametrize("block", [b"SEND\na:\xff\n\n", b"SEND\n\xff:a\n\n", b"SEND\nreceipt:\xff\n\n"])
def test_headers_that_are_not_utf_8_are_an_error(version: Version, block: bytes) -> None:
    """From 1.1 on; good UTF-8 is decoded."""
    assert fault(version, block + b"\0").message == "headers are not UTF-8"
    assert parsed(version, "SEND\nä:€\nreceipt:ü\n\n\0".encode()) == [("SEND", {"ä": "€"}, b"", "ü")]


@pytest.mark.row("F13")
def test_octets_of_1_0_headers_pass_through() -> None:
    """As surrogates, which the encoder turns back; before negotiation they are an error."""
    frame = parsed(V10, b"SEND\na:\xff\nreceipt:\xfe\n\n\0")[0]

    assert frame[1]["a"].encode("utf-8", "surrogateescape") == b"\xff"
    assert frame[3] == "\udcfe"
    assert first(b"CONNECT\nlogin:\xff\n\n\0")[1].error is not None


@ALL
@pytest.mark.row("F14", "F15")
def test_header_line_is_split_at_its_first_colon(version: Version) -> None:
    """A raw colon belongs to the value, and a value may be empty."""
    assert parsed(version, b"SEND\na:b:c\nd:\n\n\0")[0][1] == {"a": "b:c", "d": ""}


@ALL
@pytest.mark.row("F14")
@pytest.mark.parametrize(("line", "message"), [(b"abc", "has no colon"), (b":abc", "has an empty name")])
def test_header_line_without_colon_or_name_is_an_error(version: Version, line: bytes, message: str) -> None:
    """The error names the line."""
    error = fault(version, b"SEND\na:1\n" + line + b"\n\n\0")

    assert error.message == f"header line {message}"
    assert "line 3" in error.detail


@LATER
@pytest.mark.row("F16")
def test_blanks_belong_to_names_and_values(version: Version) -> None:
    """From 1.1 on nothing is trimmed, on CONNECT either."""
    assert parsed(version, b"SEND\n a : b \t\n\n\0")[0][1] == {" a ": " b \t"}
    assert first(b"CONNECT\naccept-version:1.2\npasscode: x \n\n\0")[0][0][1]["passcode"] == " x "


@pytest.mark.row("F17")
def test_blanks_around_names_and_values_are_trimmed_in_1_0() -> None:
    """Old clients pad; a CONNECT without accept-version is an old client's."""
    assert parsed(V10, b"SEND\ndestination : /queue/a\nreceipt: 1 \n\n\0") == [
        ("SEND", {"destination": "/queue/a"}, b"", "1")
    ]
    assert parsed(V10, b"SEND\nreceipt : 1\n\n\0") == [("SEND", {}, b"", "1")]
    assert first(b"CONNECT\nlogin: a \n\n\0")[0][0][1] == {"login": "a"}


@pytest.mark.row("F18")
def test_backslash_is_itself_in_1_0() -> None:
    """There are no escapes."""
    assert parsed(V10, b"SEND\na:\\n\\c\\\nreceipt:\\x\n\n\0") == [("SEND", {"a": "\\n\\c\\"}, b"", "\\x")]


@LATER
@pytest.mark.row("F19", "F20", "F21")
def test_escapes_are_decoded_in_names_and_values(version: Version) -> None:
    """LF, colon and backslash in both versions."""
    stream = b"SEND\na\\cb\\n:c\\cd\\\\n\nreceipt:\\\\n\\n\n\n\0"

    assert parsed(version, stream) == [("SEND", {"a:b\n": "c:d\\n"}, b"", "\\n\n")]


@LATER
@pytest.mark.row("F19", "F20")
@pytest.mark.parametrize("value", [b"\\t", b"x\\", b"\\N", b"\\\\\\"])
@pytest.mark.parametrize("name", [b"a", b"receipt"])
def test_undefined_escape_is_an_error(version: Version, value: bytes, name: bytes) -> None:
    """A lone backslash at the end of the line too."""
    assert fault(version, b"SEND\n%b:%b\n\n\0" % (name, value)).message == "undefined escape sequence in a header"


@pytest.mark.row("F19", "F20")
def test_escaped_cr_exists_in_1_2_only() -> None:
    """In 1.1 it is an undefined sequence."""
    assert parsed(V12, b"SEND\na:\\r\n\n\0")[0][1] == {"a": "\r"}
    assert "line 2" in fault(V11, b"SEND\na:\\r\n\n\0").detail


@ALL
@pytest.mark.row("F22")
@pytest.mark.parametrize("command", ["CONNECT", "STOMP"])
def test_connect_is_never_unescaped(version: Version, command: str) -> None:
    """A passcode with a backslash is literal, in a second CONNECT as well."""
    stream = f"{command}\naccept-version:1.2\npasscode:a\\nb\\x\\\n\n\0".encode()
    headers = {"accept-version": "1.2", "passcode": "a\\nb\\x\\"}

    assert first(stream)[0] == [(command, headers, b"", None)]
    assert parsed(version, stream) == [(command, headers, b"", None)]


@pytest.mark.row("F23")
def test_messages_of_errors_need_no_escaping() -> None:
    """They may be sent before an escaping is agreed."""
    streams = [b"\x16\x03\x01", b"GET / HTTP/1.1\r\n", b"CONNECT\nx\n\n\0", b"C\n:\n\n\0", b"C" * 99, b"C\na:\xff\n\n"]
    for stream in streams:
        error = first(stream)[1].error

        assert error is not None
        assert not set(error.message) & set("\r\n:\\")


@ALL
@pytest.mark.row("F24")
def test_first_of_repeated_headers_counts(version: Version) -> None:
    """Also of repeated receipts, which must not be remembered with the block."""
    stream = b"SEND\na:1\nreceipt:x\na:2\nreceipt:y\n\n\0"
    parser = connected(version)

    assert parsed(version, stream) == [("SEND", {"a": "1"}, b"", "x")]
    assert flat(parser.receive(stream + b"SEND\na:1\na:2\nreceipt:y\n\n\0"))[1][3] == "y"


SMALL = Limits(max_command=10, max_header_line=20, max_headers=3, max_body=50, max_login_frame=60)


@ALL
@pytest.mark.row("F25")
@pytest.mark.parametrize(
    "stream",
    [
        b"SENDSENDSE\naaaaaaaaa:bbbbbbbbbb\nb:\nc:\nreceipt:bbbbbbbbbbbb\n\n" + b"x" * 50 + b"\0",
        b"SENDSENDSE\r\naaaaaaaaa:bbbbbbbbbb\r\nreceipt:bbbbbbbbbbbb\r\nb:\r\nc:\r\n\r\n\0",
        b"SEND\ncontent-length:50\n\n" + b"x" * 50 + b"\0",
    ],
)
def test_sizes_equal_to_their_limits_are_allowed(version: Version, stream: bytes) -> None:
    """Line ends and NUL are not counted; the receipt is no header of the head."""
    frames, parser = feed_every_way(lambda: connected(version, limits=SMALL), stream)

    assert parser.error is None
    assert len(frames) == 1


@ALL
@pytest.mark.row("F25")
@pytest.mark.parametrize(
    ("stream", "named"),
    [
        (b"SENDSENDSEN", "max-command (10)"),
        (b"SENDSENDSEN\n\n\0", "max-command (10)"),
        (b"SEND\naaaaaaaaa:bbbbbbbbbbb", "max-header-line (20)"),
        (b"SEND\naaaaaaaaa:bbbbbbbbbbb\n\n\0", "max-header-line (20)"),
        (b"SEND\nreceipt:bbbbbbbbbbbbb\n\n\0", "max-header-line (20)"),
        (b"SEND\na:\nb:\nc:\nd:\n\n\0", "max-headers (3)"),
        (b"SEND\na:\nb:\nc:\nd:\ne:\nf:\n", "max-headers (3)"),
        (b"SEND\n\n" + b"x" * 51 + b"\0", "max-body (50 bytes)"),
        (b"SEND\n\n" + b"x" * 51, "max-body (50 bytes)"),
        (b"SEND\ncontent-length:51\n\n", "max-body (50 bytes)"),
    ],
)
def test_what_exceeds_a_limit_is_an_error_that_names_it(version: Version, stream: bytes, named: str) -> None:
    """As soon as it is certain, complete or not."""
    error = fault(version, stream, limits=SMALL)

    assert error.kind is ErrorKind.LIMIT
    assert named in error.detail


@ALL
@pytest.mark.row("F25")
def test_limits_hold_for_large_unfinished_frames(version: Version) -> None:
    """Blocks and bodies beyond what is parsed again from the beginning."""
    many = b"SEND\n" + b"".join(b"header-%d:%s\n" % (n, b"x" * 90) for n in range(1002))
    body = b"SEND\n\n" + b"x" * 70_000
    parser = connected(version)
    for at in range(0, len(many), 100):
        parser.receive(many[at : at + 100])

    assert parser.error is not None
    assert parser.error.message == "too many headers"
    assert fault(version, body, limits=Limits(max_body=69_999)).message == "body too large"
    assert fault(version, b"SEND\na:" + b"x" * 10_240, limits=None).message == "header line too long"


@pytest.mark.row("F25")
@pytest.mark.parametrize(
    "stream",
    [
        b"CONNECT\na:1234567890\nb:1234567890\nc:1234567890\nd:1234567890\ne:1",
        b"CONNECT\na:1234567890\nb:1234567890\nc:1234567890\nd:1234567890\n\n\0",
        b"SEND\ncontent-length:40\n\n",
        b"SEND\n\n" + b"x" * 60,
    ],
)
def test_first_frame_has_a_limit_of_its_own(stream: bytes) -> None:
    """Block, body and NUL together."""
    error = first(stream, Limits(max_login_frame=60))[1].error

    assert error is not None
    assert "max-login-frame (60)" in error.detail


@pytest.mark.row("F25")
@pytest.mark.parametrize("stream", [b"CONNECT\na:1234567890\n\n\0", b"SEND\ncontent-length:7\n\n1234567\0"])
def test_a_first_frame_may_be_as_large_as_its_limit(stream: bytes) -> None:
    """One octet more is too large, however it comes."""
    frames, parser = first(stream, Limits(max_login_frame=len(stream)))
    no_frames, strict = first(stream, Limits(max_login_frame=len(stream) - 1))

    assert (len(frames), parser.error) == (1, None)
    assert no_frames == []
    assert strict.error is not None


@pytest.mark.row("F25")
@pytest.mark.parametrize("body", [b"content-length:5000\n\n" + b"x" * 5000, b"\n" + b"x" * 5000])
def test_first_frame_may_come_in_parts(body: bytes) -> None:
    """A large one below its limit, here a SEND that the session will refuse, is collected."""
    frames, parser = first(b"SEND\n" + body + b"\0")

    assert len(frames) == 1
    assert parser.error is None
    assert first(b"SEND\n\n" + b"x" * 5000, Limits(max_login_frame=4999))[1].error is not None


@ALL
@pytest.mark.row("F26")
@pytest.mark.parametrize("size", [0, 1, 4000, 5000, 66_000, 200_000, 1_500_000])
def test_frames_of_any_size_may_be_cut_anywhere(version: Version, size: int) -> None:
    """With and without content-length, a small frame behind each."""
    body = (b"0123456789" * (size // 10 + 1))[:size]
    small = b"\nSEND\nreceipt:2\n\nx\0"
    sized = b"SEND\ncontent-length:%d\nreceipt:1\n\n%b\0" % (size, body)
    expected = [body, b"x", body, b"x"]

    frames = parsed(version, sized + small + b"SEND\nreceipt:1\n\n" + body + b"\0" + small)

    assert [frame[2] for frame in frames] == expected
    assert [frame[3] for frame in frames] == ["1", "2"] * 2


@pytest.mark.row("F26")
def test_memory_is_returned_after_each_frame() -> None:
    """Nothing of a large frame stays in the parser, and a large body is handed over without a copy."""
    parser = connected(V12)
    size = 3_000_000
    parser.receive(b"SEND\ncontent-length:%d\n\n" % size)
    runs = []
    while (place := parser.body_buffer()) is not None:
        place[:] = b"y" * len(place)
        runs += parser.body_received(len(place))
    runs += parser.receive(b"y" * 65_536)[:0]

    assert parser.error is not None  # the stream of y went on where the NUL belongs
    assert not parser.is_within_frame
    assert not runs


def test_body_is_received_into_place() -> None:
    """The buffer that was offered is the body; the NUL may come with it or later."""
    for tail in (0, 10):
        parser = connected(V12)
        size = 200_000
        assert parser.receive(b"SEND\ncontent-length:%d\n\nab" % size) == []
        place = parser.body_buffer()
        assert place is not None
        assert parser.body_buffer() is place
        assert len(place) == size - 2 + 1
        place[: size - 2] = b"c" * (size - 2)
        place[size - 2] = 0
        runs = parser.body_received(size - 2 + 1 - tail)
        if tail:
            assert parser.body_buffer() is None
            assert parser.is_within_frame
            runs = parser.receive(b"c" * (tail - 1) + b"\0")

        assert [type(run.bodies[0]) for run in runs] == [bytearray]
        assert flat(runs)[0][2] == b"ab" + b"c" * (size - 2)
        assert parser.body_buffer() is None
        assert not parser.is_within_frame


def test_octet_after_a_body_in_place_must_be_nul() -> None:
    """The fault is found by body_received as by receive."""
    parser = connected(V12)
    parser.receive(b"SEND\ncontent-length:200000\n\n")
    place = parser.body_buffer()
    assert place is not None
    place[:] = b"x" * len(place)

    assert parser.body_received(len(place)) == []
    assert parser.error is not None
    assert parser.error.message == "no NUL after the body"
    assert parser.body_buffer() is None


def test_body_received_without_a_buffer_is_a_bug() -> None:
    """The caller's mistake is not the client's."""
    with pytest.raises(AssertionError, match="without"):
        connected(V12).body_received(1)


@pytest.mark.row("F27")
@pytest.mark.parametrize("part", [b"S", b"SEND\n", b"SEND\na:1\n\n", b"SEND\n\nx", b"SEND\ncontent-length:90000\n\nx"])
def test_half_sent_frame_is_seen(part: bytes) -> None:
    """For the time limit that the program sets on it."""
    parser = connected(V12)

    assert not parser.is_within_frame
    parser.receive(b"SEND\n\n\0\n" + part)
    assert parser.is_within_frame


@pytest.mark.row("F28")
@pytest.mark.parametrize(
    ("stream", "kind"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", ErrorKind.TLS_HELLO),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", ErrorKind.HTTP_REQUEST),
        (b"CONNECT example.org:443 HTTP/1.1\r\n\r\n", ErrorKind.HTTP_REQUEST),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ErrorKind.HTTP_REQUEST),
    ],
)
def test_stranger_at_the_port_is_recognised(stream: bytes, kind: ErrorKind) -> None:
    """In its first octets, also when they come one by one."""
    error = first(stream)[1].error

    assert error is not None
    assert error.kind is kind


def test_stranger_is_recognised_in_the_first_frame_only() -> None:
    """Later it is a fault like any other."""
    assert connected(V12).receive(b"GET \n\n\0")[0].head.command == "GET "


@pytest.mark.row("C15")
@pytest.mark.parametrize("version", [V10, V12])
def test_frames_behind_connect_wait_for_negotiation(version: Version) -> None:
    """They are kept, whatever their size, and read by the rules of the version."""
    pipelined = b"\nSEND\na: \\n\n\n\0" + b"SEND\nb:1\n\n" + b"x" * 9000 + b"\0SEND\n\nhalf"
    for cut in (0, 5, 30, 6000):
        parser = Parser(Limits())
        stream = b"CONNECT\naccept-version:1.0,1.2\n\n\0" + pipelined

        assert [frame[0] for frame in feed(parser, stream, [cut])] == ["CONNECT"]
        assert not parser.is_within_frame
        parser.negotiated(version)
        frames = flat(parser.receive(b""))
        assert frames[0][1] == {"a": "\\n" if version is V10 else " \n"}
        assert frames[1][2] == b"x" * 9000
        assert parser.is_within_frame


def test_nul_in_a_header_is_an_error() -> None:
    """The usual cause is a missing empty line, and waiting for it would not help anybody."""
    for stream in (b"SEND\na:b\0", b"SEND\na:b\0\n\n\0", b"SEND\nreceipt:\0\n\n\0", b"SEND\0"):
        assert fault(V12, stream).message == "NUL in a header"
    long = b"SEND\n" + b"a:b\n" * 2000

    assert fault(V12, long + b"\0", limits=Limits(max_headers=5000)).message == "NUL in a header"
    assert len(feed(connected(V12, limits=Limits(max_headers=5000)), long + b"\n\0", [5000, 2000])) == 1


def test_nothing_is_parsed_after_an_error() -> None:
    """The frames before it are returned, once."""
    parser = connected(V12)

    assert len(parser.receive(b"SEND\n\n\0SEND\nx\n\n\0SEND\n\n\0")) == 1
    error = parser.error
    assert error is not None
    assert f"byte {len(CONNECT) + 7} of the connection" in error.detail
    assert parser.receive(b"SEND\n\n\0") == []
    assert parser.error is error
    assert not parser.is_within_frame


def test_same_block_is_the_same_head() -> None:
    """Also when a receipt stands within, which differs each time; what the session noted there stays."""
    parser = connected(V12)
    plain = parser.receive(b"SEND\na:1\nb:2\n\n\0")[0]
    plain.head.memo = "noted"
    runs = parser.receive(b"SEND\na:1\nreceipt:1\nb:2\n\nx\0SEND\na:1\nb:2\n\ny\0SEND\na:1\nb:2\nreceipt:2\n\nz\0")

    assert [run.head for run in runs] == [plain.head]
    assert runs[0].bodies == [b"x", b"y", b"z"]
    assert runs[0].receipts == ["1", None, "2"]
    assert runs[0].head.memo == "noted"


def test_heads_of_acks_are_not_kept() -> None:
    """Each ACK has an id of its own; even a repeated one is a frame of its own."""
    runs = connected(V12).receive(b"ACK\nid:1\n\n\0ACK\nid:1\n\n\0")

    assert len(runs) == 2
    assert runs[0].head is not runs[1].head


@pytest.mark.parametrize("line", [b"", b"content-length:3\n"])
def test_run_has_at_most_1024_frames(line: bytes) -> None:
    """However many like frames follow each other; order and number are kept."""
    stream = b"".join(b"SEND\na:1\n%b\n%03d\0\n" % (line, n % 1000) for n in range(5000))
    runs = connected(V12).receive(stream)

    assert [b"%03d" % (n % 1000) for n in range(5000)] == [body for run in runs for body in run.bodies]
    assert max(len(run.bodies) for run in runs) == 1024
    assert len(runs) <= 6


@pytest.mark.parametrize("line", [b"", b"content-length:3\n"])
def test_run_goes_on_after_a_receipt(line: bytes) -> None:
    """Frames without one count as None."""
    plain = b"SEND\na:1\n%b\nabc\0" % line
    asking = b"SEND\na:1\n%breceipt:r\n\nabc\0" % line
    run = connected(V12).receive(plain * 3 + asking + plain * 300)[0]

    assert len(run.bodies) == 304
    assert run.receipts == [None] * 3 + ["r"] + [None] * 300


@pytest.mark.parametrize(
    "lines",
    [
        [b"z:%09d"],
        [b"z:%0900d"],
        [b"%03d:" % number for number in range(180)] + [b"z:%09d"],
    ],
    ids=["short", "long", "many"],
)
def test_what_is_remembered_of_blocks_is_bounded_by_octets(lines: list[bytes]) -> None:
    """Whether they are many, or long, or of many headers: the weights are those of memory, about."""
    parser = connected(V12)
    block = b"SEND\ndestination:/topic/a\n" + b"\n".join(lines) + b"\n\n\0"
    tracemalloc.start()
    try:
        for number in range(1_500 if len(lines) > 1 else 4_000):
            (run,) = parser.receive(block % number)
            assert int(run.head.headers["z"]) == number
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert 0 < parser._known.octets <= 2_097_152
    assert used < 1.25 * parser._known.octets


@pytest.mark.parametrize("length", [b"", b"content-length:9000\n"])
def test_large_like_frames_are_one_run(length: bytes) -> None:
    """Without the copy that cutting many at once would need."""
    runs = connected(V12).receive((b"SEND\n%b\n%b\0" % (length, b"x" * 9000)) * 10)

    assert [len(run.bodies) for run in runs] == [10]


def test_like_frames_keep_their_limit() -> None:
    """A body within a run that exceeds it is found."""
    small = b"SEND\na:1\n\nx\0"
    parser = connected(V12, limits=Limits(max_body=10))
    runs = parser.receive(small * 30 + b"SEND\na:1\n\n12345678901\0" + small * 30)

    assert len(flat(runs)) == 30
    assert parser.error is not None
    assert parser.error.message == "body too large"
