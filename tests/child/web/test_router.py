"""Which handler has which request."""

from __future__ import annotations

import re
from http import HTTPStatus

import pytest

from forkbroker.child.web.requests import Request, Response
from forkbroker.child.web.router import Route, Router


def ask(router: Router, method: str, path: str) -> Response:
    answer = router.answer(Request(method, path, "", {}, b""))
    assert isinstance(answer, Response)
    return answer


@pytest.fixture
def router() -> Router:
    def name(_: Request, match: re.Match[str]) -> Response:
        return Response(HTTPStatus.OK, match["name"].encode())

    def other(_: Request, __: re.Match[str]) -> Response:
        return Response(HTTPStatus.CREATED)

    path = re.compile(r".*/queue/(?P<name>[^/]+)")
    return Router([Route("GET", path, name), Route("POST", path, other)], "Look below /queue/.")


def test_method_and_path_choose_the_handler(router: Router) -> None:
    """It gets what the pattern has found; HEAD is a GET."""
    assert ask(router, "GET", "/a/b/queue/c").body == b"c"
    assert ask(router, "HEAD", "/queue/d").body == b"d"
    assert ask(router, "POST", "/queue/c").status == 201


def test_what_is_not_there_is_told(router: Router) -> None:
    """With what is."""
    answer = ask(router, "GET", "/queue/a/b")

    assert answer.status == 404
    assert answer.body == b"There is nothing at this path. Look below /queue/.\n"


def test_another_method_is_told_which_ones_there_are(router: Router) -> None:
    """RFC 9110, 15.5.6."""
    answer = ask(router, "PUT", "/queue/a")

    assert answer.status == 405
    assert ("Allow", "GET, POST") in answer.headers
