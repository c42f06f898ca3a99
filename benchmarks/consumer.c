/* Consumers: one process drives many. Every message is checked: headers, length, letters, and its place in the sequence
 * of its producer. On a topic the sequence has no gaps; on a queue it rises, and a map that all processes share shows
 * what came twice. */
#include "loadgen.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { POLL_MS = 10 };

struct consumer {
    struct connection connection;
    struct role *role;
    char destination[DESTINATION_SIZE];
    size_t destination_length;
    uint64_t *next;       /* for each producer: the sequence number after the last one */
    uint64_t received;
};

static bool acknowledges(void)
{
    return !options.raw && strcmp(options.ack, "auto") != 0;
}

/* STOMP 1.2 names the value of `ack`; 1.1 and 1.0 the message-id, 1.1 with the subscription. */
static void acknowledge(struct connection *connection, const struct frame *frame)
{
    char text[512];
    int length;
    if (strcmp(options.version, "1.2") == 0) {
        if (frame->ack.at == NULL || frame->ack.length > 400)
            fail("MESSAGE without a usable ack header");
        memcpy(text, "ACK\nid:", 7);
        memcpy(text + 7, frame->ack.at, frame->ack.length);
        memcpy(text + 7 + frame->ack.length, "\n\n", 3);
        length = (int)frame->ack.length + 9;
    } else {
        length = snprintf(text, sizeof text, "ACK\nmessage-id:%.*s\nsubscription:0\n\n", (int)frame->message_id.length,
                          frame->message_id.at);
    }
    connection_queue(connection, text, (size_t)length + 1);
}

static void check_headers(const struct consumer *consumer, const struct frame *frame)
{
    if (frame->message_id.length == 0)
        fail("MESSAGE without a message-id");
    if (consumer->connection.events)
        return;
    if (frame->destination.length != consumer->destination_length ||
        memcmp(frame->destination.at, consumer->destination, consumer->destination_length) != 0)
        fail("MESSAGE of another destination: %.*s", (int)frame->destination.length,
             frame->destination.at ? frame->destination.at : "");
    if (frame->subscription.length != 1 || *frame->subscription.at != '0')
        fail("MESSAGE without its subscription");
}

static void check_sequence(struct consumer *consumer, uint64_t producer, uint64_t sequence)
{
    struct role *role = consumer->role;
    uint64_t expected = consumer->next[producer];
    if (options.queue) {
        uint64_t place = producer * options.count + sequence;
        if (atomic_exchange_explicit(&shared->seen[place], 1, memory_order_relaxed))
            role->duplicates++;
        else if (sequence < expected)
            role->disordered++;
    } else if (sequence > expected) {
        role->lost += sequence - expected;
    } else if (sequence < expected) {
        role->duplicates++;
    }
    if (sequence >= expected)
        consumer->next[producer] = sequence + 1;
}

static void take_sample(const char *body)
{
    uint64_t sent = read_digits(body + STAMP_AT, STAMP_DIGITS);
    uint64_t place = atomic_fetch_add(&shared->samples_taken, 1);
    if (place < shared->sample_limit)
        shared->samples[place] = now_ns() - sent;
}

static void take_frame(void *context, struct connection *connection, const struct frame *frame)
{
    struct consumer *consumer = context;
    if (frame->command != MESSAGE) {
        if (!take_common(connection, frame))
            fail("a frame that no consumer asked for");
        return;
    }
    check_headers(consumer, frame);
    if (!filler_is_right(frame->body, frame->body_length))
        fail("body of %zu octets is not what was sent", frame->body_length);
    uint64_t producer = read_digits(frame->body, PRODUCER_DIGITS);
    uint64_t sequence = read_digits(frame->body + SEQUENCE_AT, SEQUENCE_DIGITS);
    if (producer >= (uint64_t)options.producers || sequence >= options.count)
        fail("body with an impossible number");
    check_sequence(consumer, producer, sequence);
    if (options.timed)
        take_sample(frame->body);
    if (acknowledges())
        acknowledge(connection, frame);
    consumer->received++;
}

static void publish(struct consumer *consumer)
{
    uint64_t before = atomic_load_explicit(&consumer->role->done, memory_order_relaxed);
    if (consumer->received == before)
        return;
    consumer->role->last_ns = now_ns();
    atomic_store_explicit(&consumer->role->done, consumer->received, memory_order_relaxed);
    atomic_fetch_add(&shared->received, consumer->received - before);
}

static bool is_finished(const struct consumer *consumer)
{
    if (options.queue)
        return atomic_load(&shared->received) >= options.count * (uint64_t)options.producers;
    return consumer->received >= atomic_load(&consumer->role->expected);
}

static void take_turn(struct consumer *consumer, short events)
{
    if ((events & (POLLIN | POLLHUP | POLLERR)) && !connection_receive(&consumer->connection, take_frame, consumer) &&
        !is_finished(consumer))
        fail("closed by the broker after %llu messages", (unsigned long long)consumer->received);
    publish(consumer);
    connection_flush(&consumer->connection);
}

static void consume(struct consumer *consumers, int number)
{
    struct pollfd *ready = calloc((size_t)number, sizeof *ready);
    for (;;) {
        int open = 0;
        for (int i = 0; i < number; i++) {
            bool finished = is_finished(&consumers[i]);
            bool waiting = consumers[i].connection.out_length > 0;
            ready[i].fd = finished && !waiting ? -1 : consumers[i].connection.fd;
            ready[i].events = (short)(POLLIN | (waiting ? POLLOUT : 0));
            open += !finished;
        }
        if (open == 0)
            break;
        if (atomic_load(&shared->stop))
            _exit(1);
        poll(ready, (nfds_t)number, POLL_MS);
        for (int i = 0; i < number; i++)
            if (ready[i].fd >= 0 && ready[i].revents)
                take_turn(&consumers[i], ready[i].revents);
    }
    free(ready);
}

static void start(struct consumer *consumer, int index)
{
    consumer->role = &shared->consumer[index];
    destination_of(index % options.destinations, consumer->destination);
    consumer->destination_length = strlen(consumer->destination);
    consumer->next = calloc((size_t)(options.producers > 0 ? options.producers : 1), sizeof *consumer->next);
    connection_open(&consumer->connection, consumer->role, options.consumer_port);
    if (options.raw)
        return;
    if (options.events) {
        queue_watch(&consumer->connection, consumer->destination);
    } else {
        handshake(&consumer->connection, take_frame, consumer);
        queue_subscribe(&consumer->connection, consumer->destination);
    }
    consumer->role->first_ns = now_ns();
    connection_wait(&consumer->connection, &consumer->connection.subscribed, "answer to the subscription", take_frame,
                    consumer);
    publish(consumer);
}

/* The process of every `step`-th consumer. */
void run_consumers(int first, int step)
{
    int number = (options.consumers - first + step - 1) / step;
    struct consumer *consumers = calloc((size_t)number, sizeof *consumers);
    for (int i = 0; i < number; i++)
        start(&consumers[i], first + i * step);
    wait_for_go();
    consume(consumers, number);
    for (int i = 0; i < number; i++) {
        fence(&consumers[i].connection, take_frame, &consumers[i]);
        publish(&consumers[i]); /* nothing new, unless something came twice */
        connection_close(&consumers[i].connection);
        free(consumers[i].next);
    }
    free(consumers);
}
