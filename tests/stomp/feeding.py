"""Feeding a parser: whole, one octet at a time, cut at random, with trailing data."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from forkbroker.stomp.frame import FrameRun
from forkbroker.stomp.limits import Limits
from forkbroker.stomp.parser import Parser
from forkbroker.stomp.versions import Version

Frame = tuple[str, dict[str, str], bytes, str | None]

CONNECT = b"CONNECT\naccept-version:1.2\n\n\0"
UNFINISHED = b"\n\nSEND\nlater:1\n\nhalf"


def connected(version: Version, *, limits: Limits | None = None, strict: bool = False) -> Parser:
    """A parser that has seen CONNECT."""
    parser = Parser(limits or Limits(), strict=strict)
    parser.receive(CONNECT)
    parser.negotiated(version)
    return parser


def flat(runs: Iterable[FrameRun]) -> list[Frame]:
    """Command, headers, body and receipt of each frame."""
    frames: list[Frame] = []
    for run in runs:
        assert run.receipts is None or len(run.receipts) == len(run.bodies)
        if run.ids is not None:
            assert run.head.headers == {}, "they are of all"
            assert run.receipts is None or len(run.receipts) == len(run.ids) == 1
            assert run.bodies == [b""] * len(run.ids)
            receipts = run.receipts or [None] * len(run.ids)
            frames += [
                (run.head.command, {"id": one.decode()}, b"", receipt)
                for one, receipt in zip(run.ids, receipts, strict=True)
            ]
            continue
        receipts = run.receipts or [None] * len(run.bodies)
        for body, receipt in zip(run.bodies, receipts, strict=True):
            frames.append((run.head.command, run.head.headers, bytes(body), receipt))
    return frames


def feed(parser: Parser, stream: bytes, sizes: Iterable[int]) -> list[Frame]:
    """Feed pieces of these sizes, then the rest; what offers a place is received into it."""
    frames: list[Frame] = []
    position = 0
    for size in [*sizes, len(stream)]:
        piece = stream[position : position + size]
        place = parser.body_buffer()
        if place is not None and piece:
            piece = piece[: len(place)]
            place[: len(piece)] = piece
            del place
            frames += flat(parser.body_received(len(piece)))
        else:
            frames += flat(parser.receive(piece))
        position += len(piece)
    while position < len(stream):
        frames += feed(parser, stream[position:], [])
        position = len(stream)
    return frames


def feed_every_way(make: Callable[[], Parser], stream: bytes) -> tuple[list[Frame], Parser]:
    """The frames of `stream` and a parser that has seen it; fails unless every way of cutting agrees."""
    whole = make()
    frames = feed(whole, stream, [])
    ways: list[list[int]] = [[1] * len(stream)] if len(stream) < 20_000 else []
    dice = random.Random(len(stream))
    for most in (3, 40, 5000):
        ways.append([dice.randint(1, most) for _ in range(1 + 2 * len(stream) // most)])
    for sizes in ways:
        parser = make()
        assert feed(parser, stream, sizes) == frames
        assert kind_of_error(parser) == kind_of_error(whole)
        assert parser.is_within_frame == whole.is_within_frame
    if whole.error is None and not whole.is_within_frame:
        parser = make()
        assert feed(parser, stream + UNFINISHED, []) == frames
        assert parser.is_within_frame or parser.version is None
    return frames, whole


def kind_of_error(parser: Parser) -> object:
    return parser.error and parser.error.kind
