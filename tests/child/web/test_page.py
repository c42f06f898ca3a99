"""The administrator's page, as files that are served."""

from __future__ import annotations

import json
import re
from configparser import ConfigParser
from http import HTTPStatus
from importlib.resources import files
from pathlib import Path

import pytest

from forkbroker.child.web.page import Page, PagePolicy
from forkbroker.child.web.requests import Request, Response
from forkbroker.child.web.router import Router
from forkbroker.child.web.site import SitePolicy, make_router

STATIC = Path(str(files("forkbroker.child.web") / "static"))
LOCAL, EVERYBODY = PagePolicy(), PagePolicy(for_others=True, login="required")


def ask(path: str, policy: PagePolicy | None = LOCAL, *, is_here: bool = True, **headers: str) -> Response:
    router = make_router(SitePolicy(page=policy), lambda: None, lambda _seconds, _callback: None, is_here=is_here)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = router.answer(Request("GET", path, "", given, b""))
    assert isinstance(answer, Response)
    return answer


@pytest.mark.parametrize("prefix", ["", "/shop", "/a/b"])
def test_the_page_is_below_any_prefix(prefix: str) -> None:
    """It has relative links alone, and all of them lead somewhere."""
    page = ask(f"{prefix}/admin/")
    links = re.findall(r'(?:src|href)="([^"]+)"', page.body.decode())

    assert page.status == HTTPStatus.OK
    assert len(links) >= 4
    for link in links:
        found = ask(f"{prefix}/admin/{link}")
        assert (link[0], found.status) != "/" and found.status == HTTPStatus.OK, link
    moved = ask(f"{prefix}/admin")
    assert (moved.status, dict(moved.headers)["Location"]) == (HTTPStatus.MOVED_PERMANENTLY, "admin/")


def test_every_module_that_is_imported_is_there() -> None:
    """From the first one on."""
    wanted, seen = ["main.js"], set[str]()
    while wanted:
        name = wanted.pop()
        found = ask(f"/admin/{name}")
        assert found.status == HTTPStatus.OK, name
        assert dict(found.headers)["Content-Type"] == "text/javascript; charset=utf-8"
        seen.add(name)
        imported = re.findall(r'^import .* from "\./([^"]+)";$', found.body.decode(), re.MULTILINE)
        wanted += [one for one in imported if one not in seen]

    assert {"main.js", "broker.js", "dom.js"} <= seen


def test_the_browser_is_told_to_run_nothing_else() -> None:
    """No script or style but those files, no frame, no guess at a type, no address of the page for others."""
    headers = dict(ask("/admin/").headers)
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))

    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["require-trusted-types-for"] == "'script'" and policy["trusted-types"] == "'none'"
    assert (headers["X-Content-Type-Options"], headers["Referrer-Policy"]) == ("nosniff", "no-referrer")
    assert "unsafe" not in headers["Content-Security-Policy"]


def test_what_the_browser_has_already_is_not_sent_again() -> None:
    """304, with the length of what it would be (RFC 9110, 8.6 and 13.1.2)."""
    first = ask("/admin/page.css")
    headers = dict(first.headers)
    again = ask("/admin/page.css", if_none_match=f'"other", W/{headers["ETag"]}')

    assert headers["Cache-Control"] == "no-cache"
    assert (again.status, dict(again.headers)["ETag"]) == (HTTPStatus.NOT_MODIFIED, headers["ETag"])
    octets = again.encode(stays=True)
    assert octets.endswith(b"\r\n\r\n") and b"\r\nContent-Length: %d\r\n" % len(first.body) in octets
    assert ask("/admin/page.css", if_none_match='"other"').status == HTTPStatus.OK


@pytest.mark.parametrize("name", ["forwarded", "via", "x_forwarded_for", "x_real_ip"])
def test_without_more_it_is_for_browsers_on_this_machine(name: str) -> None:
    """And not for those that come through a proxy on this machine."""
    assert ask("/admin/", is_here=False).status == HTTPStatus.FORBIDDEN
    assert ask("/admin/", **{name: "10.0.0.1"}).status == HTTPStatus.FORBIDDEN
    assert b"web-admin" in ask("/admin/about.json", is_here=False).body
    assert ask("/admin/", EVERYBODY, is_here=False, **{name: "10.0.0.1"}).status == HTTPStatus.OK


def test_there_may_be_no_page() -> None:
    """Then the path is that of a WebSocket, as all that end with a slash."""
    assert ask("/admin/", None).status == HTTPStatus.UPGRADE_REQUIRED
    assert ask("/admin/main.js", None).status == HTTPStatus.NOT_FOUND


@pytest.mark.parametrize("name", ["none.js", "../page.py", "vendor/../../page.py", "vendor/stompjs/LICENSE", "vendor"])
def test_nothing_else_is_served(name: str) -> None:
    """Names are looked up among the files that there are, and never in a directory."""
    assert ask(f"/admin/{name}").status == HTTPStatus.NOT_FOUND


def test_a_prefix_may_have_the_name_of_the_page() -> None:
    """A WebSocket below it is none of the page's."""
    assert ask("/admin/ws").status == HTTPStatus.UPGRADE_REQUIRED
    assert ask("/admin/admin/main.js").status == HTTPStatus.OK


def test_the_page_is_told_whether_to_log_in() -> None:
    """Before it connects: a login that fails has consequences."""
    assert json.loads(ask("/admin/about.json").body) == {"login": "none"}
    assert json.loads(ask("/admin/about.json", EVERYBODY).body) == {"login": "required"}


@pytest.mark.parametrize(
    ("websocket", "prefix", "link"),
    [
        ("", "", "../ws"),
        ("", "/broker", "../ws"),
        ("/chat", "", "../chat"),
        ("/a/b", "", "../a/b"),
        ("/", "", "../"),
        # the proxy passes on what it gets, or leaves out the prefix
        ("/broker/chat", "/broker", "../chat"),
        ("/chat", "/broker", "../chat"),
        ("/brokers/chat", "/broker", "../brokers/chat"),
        ('/"+alert(1)+"', "", '../\\"+alert(1)+\\"'),
    ],
)
def test_the_page_connects_where_websockets_are(websocket: str, prefix: str, link: str) -> None:
    """By a link, as seen from the page; the script is the same but for it."""
    usual = ask("/admin/broker.js")
    found = ask(f"{prefix}/admin/broker.js", PagePolicy(websocket=websocket))

    assert found.body == usual.body.replace(b'"../ws"', f'"{link}"'.encode())
    assert usual.body.count(b'"../ws"') == 1
    assert (dict(found.headers)["ETag"] == dict(usual.headers)["ETag"]) == (link == "../ws")


def test_other_methods_are_refused() -> None:
    """The page only reads."""
    router = Router([Page(LOCAL).make_route(is_here=True)])
    answer = router.answer(Request("POST", "/admin/", "", {}, b""))

    assert isinstance(answer, Response) and answer.status == HTTPStatus.METHOD_NOT_ALLOWED


def test_a_cookie_that_logs_in_saves_the_question() -> None:
    """If that is how users log in; what it is worth is seen when the page connects."""
    policy = PagePolicy(login="required", cookie="session")

    assert json.loads(ask("/admin/about.json", policy, cookie="session=abc").body) == {"login": "none"}
    assert json.loads(ask("/admin/about.json", policy, cookie="other=abc").body) == {"login": "required"}


def test_the_scripts_of_the_page_are_small() -> None:
    """50 KiB beside the library; and nothing of them takes HTML."""
    texts = [file.read_text() for file in STATIC.glob("*.js")]

    assert sum(len(text.encode()) for text in texts) <= 51_200
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "DOMParser",
        "eval(",
        "new Function",
    ):
        assert not [text for text in texts if word in text], word


def test_every_file_of_the_page_is_in_the_package() -> None:
    """As setup.cfg says it, for the wheel and for all that is made of it."""
    setup = ConfigParser()
    setup.read(Path(__file__).parents[3] / "setup.cfg")
    patterns = setup["options.package_data"]["forkbroker.child.web"].split()
    found = {str(file.relative_to(STATIC.parent)) for file in STATIC.rglob("*") if file.is_file()}

    assert found == {str(file.relative_to(STATIC.parent)) for one in patterns for file in STATIC.parent.glob(one)} - {
        "static/vendor"
    }
