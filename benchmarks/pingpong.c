/* Ping-pong: two clients, one message at a time each way. What is sampled is the whole round, there and back. */
#include "loadgen.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { POLL_MS = 50, WARM_UP = 100, HEADER_OCTETS = 512, MAX_BALL = 65536 };

struct player {
    struct connection connection;
    struct role *role;
    uint64_t got;    /* messages that have arrived */
};

static void take_frame(void *context, struct connection *connection, const struct frame *frame)
{
    struct player *player = context;
    if (frame->command != MESSAGE) {
        if (!take_common(connection, frame))
            fail("a frame that no player asked for");
        return;
    }
    if (!filler_is_right(frame->body, frame->body_length))
        fail("body of %zu octets is not what was sent", frame->body_length);
    if (read_digits(frame->body + SEQUENCE_AT, SEQUENCE_DIGITS) != player->got)
        fail("message out of sequence");
    player->got++;
    atomic_store(&player->role->done, player->got);
}

static void await_message(struct player *player, uint64_t wanted)
{
    while (player->got < wanted) {
        struct pollfd ready = {player->connection.fd, POLLIN, 0};
        poll(&ready, 1, POLL_MS);
        if (atomic_load(&shared->stop))
            _exit(1);
        if (ready.revents && !connection_receive(&player->connection, take_frame, player))
            fail("closed by the broker");
    }
}

static void play(struct player *player, struct role *role, int port, int sends_to, int listens_to, bool begins)
{
    char frame[HEADER_OCTETS + MAX_BALL], destination[DESTINATION_SIZE];
    size_t body_at, receipt_at;
    player->role = role;
    connection_open(&player->connection, role, port);
    if (!options.raw) {
        handshake(&player->connection, take_frame, player);
        destination_of(listens_to, destination);
        queue_subscribe(&player->connection, destination);
        connection_wait(&player->connection, &player->connection.subscribed, "RECEIPT of SUBSCRIBE", take_frame,
                        player);
    }
    destination_of(sends_to, destination);
    size_t length = serialise(frame, 0, destination, &body_at, &receipt_at);
    wait_for_go();
    role->first_ns = now_ns();
    for (uint64_t i = 0; i < options.count + WARM_UP; i++) {
        uint64_t sent = now_ns();
        if (!begins)
            await_message(player, i + 1);
        write_digits(frame + body_at + SEQUENCE_AT, SEQUENCE_DIGITS, i);
        connection_queue(&player->connection, frame, length);
        connection_flush(&player->connection);
        if (!begins)
            continue;
        await_message(player, i + 1);
        if (i >= WARM_UP)
            shared->samples[i - WARM_UP] = now_ns() - sent;
    }
    role->last_ns = now_ns();
    fence(&player->connection, take_frame, player);
    connection_close(&player->connection);
}

void run_ping(void)
{
    struct player player = {0};
    play(&player, &shared->producer[0], options.port, 0, 1, true);
    atomic_store(&shared->samples_taken, options.count);
}

void run_pong(void)
{
    struct player player = {0};
    play(&player, &shared->consumer[0], options.consumer_port, 1, 0, false);
}
