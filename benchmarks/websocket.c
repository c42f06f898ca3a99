/* WebSocket around STOMP (RFC 6455), as far as a broker on this machine is measured: each frame of STOMP is a message
 * of its own in both directions. Masks are there and are zero, so that nothing has to be changed: the broker cannot
 * know that, and does the same work. */
#include "loadgen.h"

#include <stdio.h>
#include <string.h>

enum { FIN = 0x80, OPCODE = 0x0f, TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, MASK = 0x80, MASK_OCTETS = 4 };

static const char REQUEST[] = "GET /ws HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                              "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                              "Sec-WebSocket-Protocol: v12.stomp\r\n\r\n";

/* The head of a message for so many octets, with its mask; returns the octets of the head. */
size_t write_websocket_head(char *at, size_t length)
{
    unsigned char *head = (unsigned char *)at;
    size_t used = 2;
    head[0] = FIN | TEXT;
    if (length < 126) {
        head[1] = (unsigned char)(MASK | length);
    } else {
        size_t octets = length < 65536 ? 2 : 8;
        head[1] = MASK | (length < 65536 ? 126 : 127);
        for (size_t i = 0; i < octets; i++)
            head[used + i] = (unsigned char)(length >> (8 * (octets - 1 - i)));
        used += octets;
    }
    memset(head + used, 0, MASK_OCTETS);
    return used + MASK_OCTETS;
}

/* Ask for a WebSocket; `upgraded` is set when it is granted. */
void queue_upgrade(struct connection *connection)
{
    connection_queue_raw(connection, REQUEST, sizeof REQUEST - 1);
}

/* The answer to that, if it is complete; returns its octets, 0 if it is not. */
size_t take_upgrade(struct connection *connection, const char *at, const char *end)
{
    static const char granted[] = "HTTP/1.1 101 ";
    for (const char *here = at; here + 4 <= end; here++) {
        if (memcmp(here, "\r\n\r\n", 4) != 0)
            continue;
        if (memcmp(at, granted, sizeof granted - 1) != 0)
            fail("no WebSocket: %.40s", at);
        connection->upgraded = true;
        return (size_t)(here + 4 - at);
    }
    return 0;
}

/* The head of a message, if all of the message has come: its octets, and those of the payload. Other frames
 * are passed over, as messages without payload: the broker closes after the last frame, and sends pings. */
enum parsed parse_websocket_head(const char *at, const char *end, size_t *head, size_t *length)
{
    const unsigned char *octets = (const unsigned char *)at;
    size_t more = 0;
    if (end - at < 2)
        return PARTIAL;
    unsigned opcode = octets[0] & OPCODE;
    if (!(octets[0] & FIN) || (octets[1] & MASK) || (opcode != TEXT && opcode != BINARY && opcode != CLOSE && opcode != PING))
        return BROKEN;
    *length = octets[1];
    if (*length > 125)
        more = *length == 126 ? 2 : 8;
    if ((size_t)(end - at) < 2 + more)
        return PARTIAL;
    if (more > 0) {
        *length = 0;
        for (size_t i = 0; i < more; i++)
            *length = *length << 8 | octets[2 + i];
    }
    *head = 2 + more;
    if (opcode == CLOSE || opcode == PING) {
        *head += *length;
        *length = 0;
    }
    return (size_t)(end - at) < *head + *length ? PARTIAL : COMPLETE;
}
