"""Options of clients in browsers: the page, WebSockets, and the proxies before them."""

from __future__ import annotations

from forkbroker.config.options.option import Chapter, Effect, Option
from forkbroker.config.values import choice, cookie_name, network, origin, url_path

CHAPTER = Chapter(
    "Web",
    (
        Option(
            "web-admin",
            choice("local", "all", "none"),
            "local",
            "WHOM",
            "page at /admin/ of ws:// addresses: local, all (hosts), none",
            effect=Effect.NEW,
        ),
        Option(
            "web-path",
            url_path,
            None,
            "PATH",
            "path of WebSockets; default: /, /ws, /stomp, /ws/websocket; repeatable",
            repeatable=True,
            effect=Effect.NEW,
            example='["/ws"]',
        ),
        Option(
            "web-origin",
            origin,
            None,
            "ORIGIN",
            "pages of ORIGIN may connect as well; * for all; repeatable",
            repeatable=True,
            effect=Effect.NEW,
            example='["https://www.example.org"]',
        ),
        Option(
            "web-proxy",
            network,
            None,
            "NETWORK",
            "proxies whose X-Forwarded-For or Forwarded is believed; repeatable",
            repeatable=True,
            effect=Effect.ALL,
            example='["127.0.0.1", "10.0.0.0/8"]',
        ),
        Option(
            "web-cookie",
            cookie_name,
            None,
            "NAME",
            "cookie of WebSockets that has a token",
            effect=Effect.NEW,
            example='"session"',
        ),
        Option(
            "web-query-token", None, None, "", "take a token from the query, as in /ws?token=TOKEN", effect=Effect.NEW
        ),
    ),
)
