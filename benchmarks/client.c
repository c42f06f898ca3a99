/* Connections: non-blocking sockets with what waits on both sides, and the conversations that every client has. */
#include "loadgen.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SCRATCH_SIZE = 256 * 1024, DIRECT_FROM = 64 * 1024, HEADER_ROOM = 4096, POLL_MS = 50 };

/* All connections of a process are read into this one, which stays in the cache; unfinished frames are kept apart. */
static char scratch[SCRATCH_SIZE + DIRECT_FROM + HEADER_ROOM];

uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Note the reason where the main process finds it, unless another process has failed before: what follows from the
 * first failure is of no interest. Ends this process. */
void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    if (!atomic_exchange(&shared->failed, 1))
        vsnprintf(shared->error, ERROR_SIZE, format, arguments);
    va_end(arguments);
    if (options.mode == IDLE) { /* the only mode without a main process that reports */
        printf("{\"ok\": false, \"error\": \"%s\"}\n", shared->error);
        fflush(stdout);
    }
    _exit(1);
}

void wait_for_go(void)
{
    struct timespec pause = {0, 200000};
    atomic_fetch_add(&shared->ready, 1);
    while (!atomic_load(&shared->go)) {
        if (atomic_load(&shared->stop))
            _exit(1);
        nanosleep(&pause, NULL);
    }
}

void destination_of(int index, char *text)
{
    snprintf(text, DESTINATION_SIZE, "/%s/bench.%s.%d", options.queue ? "queue" : "topic", options.tag, index);
}

/* Returns a non-blocking socket; with `wait` it is connected, otherwise on its way. */
int open_socket(int port, bool wait)
{
    static struct addrinfo *found;
    static int found_for = -1;
    char service[16];
    if (found_for != port) {
        struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
        snprintf(service, sizeof service, "%d", port);
        int status = getaddrinfo(options.host, service, &hints, &found);
        if (status != 0)
            fail("%s: %s", options.host, gai_strerror(status));
        found_for = port;
    }
    int fd = socket(found->ai_family, SOCK_STREAM, 0);
    if (fd < 0)
        fail("socket: %s", strerror(errno));
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (!wait)
        fcntl(fd, F_SETFL, O_NONBLOCK);
    if (connect(fd, found->ai_addr, found->ai_addrlen) < 0 && errno != EINPROGRESS)
        fail("connect to port %d: %s", port, strerror(errno));
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

void connection_prepare(struct connection *connection, struct role *role, int fd)
{
    memset(connection, 0, sizeof *connection);
    connection->fd = fd;
    connection->role = role;
    if (options.size >= DIRECT_FROM) {
        connection->direct = true;
        /* No room for more than one frame: what follows it then is a few octets to move, not half a frame. */
        connection->in_size = options.size + HEADER_ROOM;
        connection->in = malloc(connection->in_size);
        if (connection->in == NULL)
            fail("no memory");
    }
}

void connection_open(struct connection *connection, struct role *role, int port)
{
    connection_prepare(connection, role, open_socket(port, true));
}

void connection_close(struct connection *connection)
{
    close(connection->fd);
    free(connection->in);
    free(connection->out);
    connection->fd = -1;
}

void connection_queue(struct connection *connection, const char *octets, size_t length)
{
    if (options.websocket) {
        char head[WEBSOCKET_HEAD];
        connection_queue_raw(connection, head, write_websocket_head(head, length));
    }
    connection_queue_raw(connection, octets, length);
}

void connection_queue_raw(struct connection *connection, const char *octets, size_t length)
{
    size_t needed = connection->out_length + length;
    if (needed > connection->out_size) {
        connection->out_size = needed * 2;
        connection->out = realloc(connection->out, connection->out_size);
        if (connection->out == NULL)
            fail("no memory");
    }
    memcpy(connection->out + connection->out_length, octets, length);
    connection->out_length += length;
}

/* Send what waits, as far as the socket takes it. */
void connection_flush(struct connection *connection)
{
    while (connection->out_at < connection->out_length) {
        ssize_t sent = send(connection->fd, connection->out + connection->out_at,
                            connection->out_length - connection->out_at, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        if (sent < 0)
            fail("send: %s", strerror(errno));
        connection->out_at += (size_t)sent;
    }
    connection->out_at = connection->out_length = 0;
}

/* Messages of WebSocket, each of them a frame, a heart-beat or a ping. Returns where the rest begins. */
static const char *parse_messages(struct connection *connection, const char *at, const char *end,
                                  frame_handler handler, void *context)
{
    struct frame frame;
    size_t head, length;
    while (at < end) {
        enum parsed parsed = parse_websocket_head(at, end, &head, &length);
        if (parsed == PARTIAL)
            break;
        if (parsed == COMPLETE && length > 1)
            parsed = parse_frame(at + head, at + head + length, &frame);
        if (parsed != COMPLETE || (length > 1 && frame.total != length))
            fail("not a message with a frame: \"%.*s\"", (int)(end - at < 40 ? end - at : 40), at);
        if (length > 1)
            handler(context, connection, &frame);
        at += head + length;
    }
    return at;
}

static size_t parse_all(struct connection *connection, const char *buffer, size_t length, frame_handler handler,
                        void *context)
{
    const char *at = buffer, *end = buffer + length;
    struct frame frame;
    if (connection->events)
        return (size_t)(parse_events(connection, at, end, handler, context) - buffer);
    if (options.websocket && !connection->upgraded)
        at += take_upgrade(connection, at, end);
    if (options.websocket)
        return connection->upgraded ? (size_t)(parse_messages(connection, at, end, handler, context) - buffer) : 0;
    while (at < end) {
        if (*at == '\n') { /* optional after the NUL, and a heart-beat */
            at++;
            continue;
        }
        enum parsed parsed = parse_frame(at, end, &frame);
        if (parsed == BROKEN)
            fail("not a frame: \"%.*s\"", (int)(end - at < 40 ? end - at : 40), at);
        if (parsed == PARTIAL)
            break;
        handler(context, connection, &frame);
        at += frame.total;
    }
    return (size_t)(at - buffer);
}

static void keep_rest(struct connection *connection, const char *rest, size_t length)
{
    if (connection->direct) {
        memmove(connection->in, rest, length);
    } else {
        if (length > DIRECT_FROM + HEADER_ROOM)
            fail("a frame of more than %zu octets", length);
        if (length > connection->in_size) {
            connection->in_size = length * 2;
            connection->in = realloc(connection->in, connection->in_size);
            if (connection->in == NULL)
                fail("no memory");
        }
        if (length > 0)
            memcpy(connection->in, rest, length);
    }
    connection->in_length = length;
}

/* One recv, and the handler for every complete frame. Returns false at the end of the stream. */
bool connection_receive(struct connection *connection, frame_handler handler, void *context)
{
    char *buffer = connection->direct ? connection->in : scratch;
    size_t room = connection->direct ? connection->in_size : sizeof scratch;
    size_t have = connection->in_length;
    if (!connection->direct && have > 0)
        memcpy(scratch, connection->in, have);
    if (have == room)
        fail("a frame of more than %zu octets", room);
    ssize_t got = recv(connection->fd, buffer + have, room - have, 0);
    if (got == 0)
        return false;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return true;
    if (got < 0)
        fail("recv: %s", strerror(errno));
    have += (size_t)got;
    size_t used = parse_all(connection, buffer, have, handler, context);
    keep_rest(connection, buffer + used, have - used);
    return true;
}

/* Drive this connection until the condition holds. The main process sees to the deadline through `stop`. */
void connection_wait(struct connection *connection, const bool *condition, const char *what, frame_handler handler,
                     void *context)
{
    while (!*condition) {
        struct pollfd ready = {connection->fd, POLLIN, 0};
        connection_flush(connection);
        if (connection->out_length > 0)
            ready.events |= POLLOUT;
        poll(&ready, 1, POLL_MS);
        if (atomic_load(&shared->stop))
            fail("no %s", what);
        if ((ready.revents & (POLLIN | POLLHUP | POLLERR)) && !connection_receive(connection, handler, context) &&
            !*condition)
            fail("closed by the broker instead of %s", what);
    }
}

/* What every client does with CONNECTED, ERROR and the receipts of SUBSCRIBE and DISCONNECT. Returns whether it was
 * one of them. */
bool take_common(struct connection *connection, const struct frame *frame)
{
    struct slice id = frame->receipt_id;
    switch (frame->command) {
    case CONNECTED:
        return connection->connected = true;
    case ERROR_FRAME:
        fail("ERROR: %.*s", (int)frame->message.length, frame->message.at ? frame->message.at : "");
    case RECEIPT:
        if (id.length == 3 && memcmp(id.at, "sub", 3) == 0)
            return connection->subscribed = true;
        if (id.length == 3 && memcmp(id.at, "bye", 3) == 0)
            return connection->fenced = true;
        return false;
    default:
        return false;
    }
}

void queue_connect(struct connection *connection)
{
    char text[256];
    char login[128] = "", beat[64] = "";
    if (options.login != NULL)
        snprintf(login, sizeof login, "login:%.48s\npasscode:%.48s\n", options.login, options.login);
    if (options.heart_beat != NULL)
        snprintf(beat, sizeof beat, "heart-beat:%.40s\n", options.heart_beat);
    int length = snprintf(text, sizeof text, "CONNECT\naccept-version:%s\nhost:localhost\n%s%s\n", options.version,
                          login, beat);
    connection_queue(connection, text, (size_t)length + 1); /* with the NUL */
}

void handshake(struct connection *connection, frame_handler handler, void *context)
{
    if (options.websocket) {
        queue_upgrade(connection);
        connection_wait(connection, &connection->upgraded, "the WebSocket", handler, context);
    }
    queue_connect(connection);
    connection_wait(connection, &connection->connected, "CONNECTED", handler, context);
}

void queue_subscribe(struct connection *connection, const char *destination)
{
    char text[512];
    int length = snprintf(text, sizeof text, "SUBSCRIBE\nid:0\ndestination:%s\nack:%s\nreceipt:sub\n", destination,
                          options.ack);
    if (options.prefetch > 0)
        length += snprintf(text + length, sizeof text - (size_t)length, "prefetch-count:%d\n", options.prefetch);
    length += snprintf(text + length, sizeof text - (size_t)length, "\n");
    connection_queue(connection, text, (size_t)length + 1);
}

/* DISCONNECT with a receipt: when it comes, all that this client sent is processed; what arrives before it counts. */
void fence(struct connection *connection, frame_handler handler, void *context)
{
    static const char text[] = "DISCONNECT\nreceipt:bye\n\n";
    if (options.raw || connection->events)
        return;
    connection_queue(connection, text, sizeof text);
    connection_wait(connection, &connection->fenced, "RECEIPT of DISCONNECT", handler, context);
}
