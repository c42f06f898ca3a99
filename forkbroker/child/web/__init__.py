"""Clients that speak HTTP: web pages over WebSocket, and whatever else a request asks for.

    socket ── plain | TLS | PROXY header ── WebTransport ──┬── head of a request (`requests`) ── `Router`
                                                           └── a `Conversation`: WebSocket (`upgrade`, `frames`),
                                                               or an `Exchange` of requests for messages (`plain`)

A connection begins with the head of a request, which is parsed in the client's own child. The router finds the handler
of its method and path. A handler gives a `Response`, after which the next request may come on the same connection; or
a `Conversation`, which has the connection from then on and translates between the client and the session.

A new handler is a function in a module of this package, and a row in `site.make_router`:

    Route("GET", re.compile(r"(?P<prefix>.*)/healthz"), answer_health)

    def answer_health(request: Request, match: re.Match[str]) -> Response: ...

The session behind a conversation is one of STOMP, as for all clients. A handler that wants something from the broker
returns a conversation that says CONNECT, SEND or SUBSCRIBE for its client, and makes an answer of the frames that come.
"""
