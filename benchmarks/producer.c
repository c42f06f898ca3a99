/* Producers: blocks of frames that are serialised once. Between two rounds only the digits that differ are written: a
 * block holds a power of ten of frames, so the low digits of their sequence numbers never change. */
#include "loadgen.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK_OCTETS = 192 * 1024, HEADERS = 512, POLL_MS = 50, WINDOW_PAUSE_NS = 30000 };

struct producer {
    struct connection connection;
    struct role *role;
    int index;
    char *block;
    size_t stride;      /* octets of a frame */
    size_t body_at, receipt_at;
    uint64_t per_block; /* frames */
    int low_digits;     /* digits that stay the same in every block */
    uint64_t base;      /* sequence number of the block's first frame */
    size_t at;          /* octets of the block that are sent */
    int parts;          /* tenths that are sent, with --tenths */
};

static void patch_block(struct producer *producer)
{
    char digits[SEQUENCE_DIGITS];
    size_t changing = (size_t)(SEQUENCE_DIGITS - producer->low_digits);
    write_digits(digits, SEQUENCE_DIGITS, producer->base);
    for (uint64_t i = 0; i < producer->per_block; i++) {
        char *frame = producer->block + i * producer->stride;
        memcpy(frame + producer->body_at + SEQUENCE_AT, digits, changing);
        if (producer->receipt_at > 0)
            memcpy(frame + producer->receipt_at, digits, changing);
    }
}

/* Make a message of WebSocket of the frame. */
static void wrap(struct producer *producer, char *frame)
{
    char head[WEBSOCKET_HEAD];
    size_t octets = write_websocket_head(head, producer->stride);
    memmove(frame + octets, frame, producer->stride);
    memcpy(frame, head, octets);
    producer->stride += octets;
    producer->body_at += octets;
    if (producer->receipt_at > 0)
        producer->receipt_at += octets;
}

static void make_block(struct producer *producer)
{
    char destination[DESTINATION_SIZE];
    char *frame = malloc(options.size + HEADERS);
    if (frame == NULL)
        fail("no memory");
    destination_of(producer->index % options.destinations, destination);
    producer->stride = serialise(frame, producer->index, destination, &producer->body_at, &producer->receipt_at);
    if (options.websocket)
        wrap(producer, frame);
    producer->per_block = 1;
    while (options.rate == 0 && producer->per_block * 10 * producer->stride <= BLOCK_OCTETS) {
        producer->per_block *= 10;
        producer->low_digits++;
    }
    producer->block = malloc(producer->per_block * producer->stride);
    if (producer->block == NULL)
        fail("no memory");
    for (uint64_t i = 0; i < producer->per_block; i++) {
        write_digits(frame + producer->body_at + SEQUENCE_AT, SEQUENCE_DIGITS, i);
        if (producer->receipt_at > 0)
            write_digits(frame + producer->receipt_at, SEQUENCE_DIGITS, i);
        memcpy(producer->block + i * producer->stride, frame, producer->stride);
    }
    free(frame);
}

/* A tenth is sent: ask for a receipt with a message to a topic of nobody, between two blocks. It comes when the broker
 * has got so far; octets in the buffers on the way would pass for messages taken otherwise. */
static void mark_tenth(struct producer *producer)
{
    char text[512];
    if (producer->at > 0 || producer->parts >= PARTS - 1 ||
        producer->base * PARTS < options.count * (uint64_t)(producer->parts + 1))
        return;
    shared->marks[producer->parts].messages = producer->base;
    int length = snprintf(text, sizeof text, "SEND\ndestination:/topic/bench.%s.mark\nreceipt:m-%0*d\n\n", options.tag,
                          SEQUENCE_DIGITS, producer->parts);
    connection_queue(&producer->connection, text, (size_t)length + 1);
    producer->parts++;
}

static void take_mark(uint64_t part)
{
    if (part >= PARTS || shared->marks[part].ns > 0)
        fail("a receipt of mark %llu", (unsigned long long)part);
    shared->marks[part].ns = now_ns();
}

static void take_frame(void *context, struct connection *connection, const struct frame *frame)
{
    struct producer *producer = context;
    struct role *role = producer->role;
    if (take_common(connection, frame))
        return;
    if (frame->command != RECEIPT || frame->receipt_id.length != 2 + SEQUENCE_DIGITS)
        fail("a frame that no producer asked for");
    uint64_t number = read_digits(frame->receipt_id.at + 2, SEQUENCE_DIGITS);
    if (*frame->receipt_id.at == 'm') {
        take_mark(number);
        return;
    }
    if (number != role->receipts)
        fail("receipt %llu instead of %llu", (unsigned long long)number, (unsigned long long)role->receipts);
    role->receipts++;
    role->last_ns = 0; /* stamped once per read, not once per frame */
}

static void take_input(struct producer *producer)
{
    if (!connection_receive(&producer->connection, take_frame, producer))
        fail("closed by the broker after %llu messages",
             (unsigned long long)atomic_load(&producer->role->done));
    if (producer->role->last_ns == 0)
        producer->role->last_ns = now_ns();
}

/* Frames that have arrived at the slowest of this producer's consumers, with a destination for each producer. */
static uint64_t received_by_all(const struct producer *producer)
{
    uint64_t least = UINT64_MAX;
    for (int i = producer->index % options.destinations; i < options.consumers; i += options.destinations) {
        uint64_t done = atomic_load_explicit(&shared->consumer[i].done, memory_order_relaxed);
        if (done < least)
            least = done;
    }
    return least;
}

/* The sequence number that may not be reached yet. */
static uint64_t limit_of(const struct producer *producer)
{
    uint64_t limit = options.count;
    if (options.receipts && producer->role->receipts + options.receipt_window < limit)
        limit = producer->role->receipts + options.receipt_window;
    if (options.window > 0 && options.consumers > 0) {
        uint64_t received = options.queue ? atomic_load(&shared->received) : received_by_all(producer);
        if (received + options.window < limit)
            limit = received + options.window;
    }
    return limit;
}

static bool is_finished(const struct producer *producer)
{
    return atomic_load(&producer->role->done) == options.count &&
           (!options.receipts || producer->role->receipts == options.count);
}

/* The broker has closed: an ERROR that says why may still wait to be read. */
static void explain_end(struct producer *producer, int error)
{
    while (!options.raw && connection_receive(&producer->connection, take_frame, producer)) {
        struct pollfd ready = {producer->connection.fd, POLLIN, 0};
        if (poll(&ready, 1, POLL_MS) == 0)
            break;
    }
    fail("send: %s", strerror(error));
}

/* Returns false when the socket took nothing, or nothing may be sent now. */
static bool try_send(struct producer *producer)
{
    if (options.tenths) {
        mark_tenth(producer);
        connection_flush(&producer->connection);
        if (producer->connection.out_length > 0)
            return false;
    }
    uint64_t frames = limit_of(producer);
    frames = frames > producer->base ? frames - producer->base : 0;
    if (frames > producer->per_block)
        frames = producer->per_block;
    size_t end = (size_t)frames * producer->stride;
    if (producer->at >= end)
        return false;
    ssize_t sent = send(producer->connection.fd, producer->block + producer->at, end - producer->at, MSG_NOSIGNAL);
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return false;
    if (sent < 0)
        explain_end(producer, errno);
    producer->at += (size_t)sent;
    atomic_store_explicit(&producer->role->done, producer->base + producer->at / producer->stride,
                          memory_order_relaxed);
    if (producer->at == producer->per_block * producer->stride) {
        producer->base += producer->per_block;
        producer->at = 0;
        patch_block(producer);
    }
    return true;
}

static bool wants_to_send(const struct producer *producer)
{
    return producer->connection.out_length > 0 ||
           producer->base + producer->at / producer->stride < limit_of(producer);
}

/* Wait until a socket can be used, or, where only the window holds producers back, for a moment. */
static void wait_for_sockets(struct producer *producers, struct pollfd *ready, int number)
{
    bool held_by_window = options.window > 0;
    for (int i = 0; i < number; i++) {
        bool wants = wants_to_send(&producers[i]);
        bool open = !options.raw && !is_finished(&producers[i]);
        ready[i].fd = wants || open ? producers[i].connection.fd : -1;
        ready[i].events = (short)((wants ? POLLOUT : 0) | (open ? POLLIN : 0));
        if (wants)
            held_by_window = false;
    }
    poll(ready, (nfds_t)number, held_by_window ? 0 : POLL_MS);
    if (held_by_window) {
        struct timespec pause = {0, WINDOW_PAUSE_NS};
        nanosleep(&pause, NULL);
    }
    for (int i = 0; i < number; i++)
        if (ready[i].fd >= 0 && !options.raw && (ready[i].revents & (POLLIN | POLLHUP | POLLERR)))
            take_input(&producers[i]);
}

static void produce(struct producer *producers, int number)
{
    struct pollfd *ready = calloc((size_t)number, sizeof *ready);
    int finished = 0;
    while (finished < number) {
        bool moved = false;
        finished = 0;
        for (int i = 0; i < number; i++) {
            moved = try_send(&producers[i]) || moved;
            finished += is_finished(&producers[i]);
        }
        if (!moved && finished < number)
            wait_for_sockets(producers, ready, number);
        if (atomic_load_explicit(&shared->stop, memory_order_relaxed))
            _exit(1);
    }
    free(ready);
}

/* One message at a time, each at its own moment and with the clock in its body. */
static void produce_paced(struct producer *producer)
{
    uint64_t start = now_ns();
    for (uint64_t i = 0; i < options.count; i++) {
        uint64_t due = start + (uint64_t)((double)i * 1e9 / options.rate);
        struct timespec when = {(time_t)(due / 1000000000u), (long)(due % 1000000000u)};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL);
        if (atomic_load(&shared->stop))
            _exit(1);
        write_digits(producer->block + producer->body_at + STAMP_AT, STAMP_DIGITS, now_ns());
        connection_queue_raw(&producer->connection, producer->block, producer->stride);
        connection_flush(&producer->connection);
        producer->base++;
        atomic_store(&producer->role->done, i + 1);
        patch_block(producer);
    }
}

/* The process of every `step`-th producer. */
void run_producers(int first, int step)
{
    int number = (options.producers - first + step - 1) / step;
    struct producer *producers = calloc((size_t)number, sizeof *producers);
    for (int i = 0; i < number; i++) {
        struct producer *producer = &producers[i];
        producer->index = first + i * step;
        producer->role = &shared->producer[producer->index];
        connection_open(&producer->connection, producer->role, options.port);
        if (!options.raw)
            handshake(&producer->connection, take_frame, producer);
        make_block(producer);
    }
    wait_for_go();
    for (int i = 0; i < number; i++)
        producers[i].role->first_ns = now_ns();
    if (options.rate > 0)
        produce_paced(&producers[0]);
    else
        produce(producers, number);
    for (int i = 0; i < number; i++) {
        fence(&producers[i].connection, take_frame, &producers[i]);
        if (!options.receipts)
            producers[i].role->last_ns = now_ns(); /* of interest where there is no consumer */
        connection_close(&producers[i].connection);
    }
    free(producers);
}
