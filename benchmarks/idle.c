/* Idle clients: how fast they come in, and then nothing. They stay until standard input ends, so that the caller can
 * look at the broker meanwhile. */
#include "loadgen.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { POLL_MS = 50 };

enum phase { CONNECTING, UPGRADING, GREETING, SUBSCRIBING, IDLING };

struct idler {
    struct connection connection;
    enum phase phase;
};

static void take_frame(void *context, struct connection *connection, const struct frame *frame)
{
    (void)context;
    if (!take_common(connection, frame))
        fail("a frame that no idle client asked for");
}

static void advance(struct idler *idler, int index)
{
    struct connection *connection = &idler->connection;
    char destination[DESTINATION_SIZE];
    if (idler->phase == CONNECTING) {
        int error = 0;
        socklen_t length = sizeof error;
        getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &length);
        if (error != 0)
            fail("client %d: connect: %s", index, strerror(error));
        if (options.websocket)
            queue_upgrade(connection);
        else
            queue_connect(connection);
        connection_flush(connection);
        idler->phase = options.websocket ? UPGRADING : GREETING;
        return;
    }
    if (!connection_receive(connection, take_frame, NULL))
        fail("client %d was closed by the broker", index);
    if (idler->phase == UPGRADING && connection->upgraded) {
        queue_connect(connection);
        connection_flush(connection);
        idler->phase = GREETING;
    } else if (idler->phase == GREETING && connection->connected) {
        idler->phase = options.subscribe ? SUBSCRIBING : IDLING;
        if (options.subscribe) {
            destination_of(index, destination);
            queue_subscribe(connection, destination);
            connection_flush(connection);
        }
    } else if (idler->phase == SUBSCRIBING && connection->subscribed) {
        idler->phase = IDLING;
    }
}

/* Bring the clients in, `parallel` at a time. Returns how many are in at the deadline. */
static uint64_t bring_in(struct idler *idlers, struct pollfd *ready, struct role *role)
{
    uint64_t begun = 0, done = 0, end = now_ns() + (uint64_t)(options.deadline_s * 1e9);
    int *busy = calloc((size_t)options.parallel, sizeof *busy), busy_count = 0;
    while (done < options.count && now_ns() < end) {
        while (busy_count < options.parallel && begun < options.count) {
            connection_prepare(&idlers[begun].connection, role, open_socket(options.port, false));
            busy[busy_count++] = (int)begun++;
        }
        for (int i = 0; i < busy_count; i++) {
            struct idler *idler = &idlers[busy[i]];
            ready[i] = (struct pollfd){idler->connection.fd, idler->phase == CONNECTING ? POLLOUT : POLLIN, 0};
        }
        poll(ready, (nfds_t)busy_count, POLL_MS);
        for (int i = busy_count - 1; i >= 0; i--) {
            if (!ready[i].revents)
                continue;
            advance(&idlers[busy[i]], busy[i]);
            if (idlers[busy[i]].phase == IDLING) {
                busy[i] = busy[--busy_count];
                done++;
            }
        }
    }
    free(busy);
    return done;
}

/* Clients that are still connected and have been sent nothing. */
static uint64_t count_quiet(const struct idler *idlers, struct pollfd *ready, uint64_t number)
{
    uint64_t quiet = 0;
    for (uint64_t i = 0; i < number; i++)
        ready[i] = (struct pollfd){idlers[i].connection.fd, POLLIN, 0};
    poll(ready, (nfds_t)number, 0);
    for (uint64_t i = 0; i < number; i++)
        quiet += ready[i].revents == 0;
    return quiet;
}

/* Runs in the main process. Two lines of JSON: when all are in, and at the end of standard input. */
int run_idle(void)
{
    struct role *role = &shared->consumer[0];
    struct idler *idlers = calloc(options.count, sizeof *idlers);
    struct pollfd *ready = calloc(options.count + (uint64_t)options.parallel, sizeof *ready);
    char rest[256];
    if (idlers == NULL || ready == NULL)
        return 1;
    uint64_t start = now_ns();
    uint64_t done = bring_in(idlers, ready, role);
    double seconds = (double)(now_ns() - start) / 1e9;
    printf("{\"ok\": %s, \"clients\": %llu, \"seconds\": %.4f, \"rate\": %.1f, \"error\": \"",
           done == options.count ? "true" : "false", (unsigned long long)done, seconds, (double)done / seconds);
    if (done < options.count)
        printf("not finished after %.0f s: %llu of %llu clients are connected", options.deadline_s,
               (unsigned long long)done, (unsigned long long)options.count);
    printf("\"}\n");
    fflush(stdout);
    if (done < options.count)
        return 1;
    while (read(STDIN_FILENO, rest, sizeof rest) > 0)
        continue;
    uint64_t quiet = count_quiet(idlers, ready, done);
    printf("{\"ok\": %s, \"quiet\": %llu}\n", quiet == done ? "true" : "false", (unsigned long long)quiet);
    for (uint64_t i = 0; i < done; i++)
        connection_close(&idlers[i].connection);
    free(idlers);
    free(ready);
    return quiet == done ? 0 : 1;
}
