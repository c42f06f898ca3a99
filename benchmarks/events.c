/* An EventSource (HTML, 9.2), as far as a broker on this machine is measured: each message of a topic is an event with an
 * id, and one line of data, as the bodies here have no ends of lines. */
#include "loadgen.h"

#include <stdio.h>
#include <string.h>

static const char ID[] = "id: ", DATA[] = "\ndata: ";

/* Ask for the events of a topic; `subscribed` is set when the answer begins. */
void queue_watch(struct connection *connection, const char *destination)
{
    char text[256];
    int length = snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n",
                          destination);
    connection->events = true;
    connection_queue_raw(connection, text, (size_t)length);
}

/* The end of what is behind two of these ends of lines; NULL: they have not come. */
static const char *find_end(const char *at, const char *end, const char *mark, size_t length)
{
    const char *found = memmem(at, (size_t)(end - at), mark, length);
    return found == NULL ? NULL : found + length;
}

/* The event that ends there, if it is one: a comment and the time to wait are none. */
static void take_event(struct connection *connection, const char *at, const char *end, frame_handler handler,
                       void *context)
{
    struct frame frame = {.command = MESSAGE};
    if (*at == ':' || *at == 'r')
        return;
    const char *line = memchr(at, '\n', (size_t)(end - at));
    if (memcmp(at, ID, sizeof ID - 1) != 0 || memcmp(line, DATA, sizeof DATA - 1) != 0)
        fail("not an event of a message: \"%.*s\"", (int)(end - at < 40 ? end - at : 40), at);
    frame.message_id.at = at + sizeof ID - 1;
    frame.message_id.length = (size_t)(line - frame.message_id.at);
    frame.body = line + sizeof DATA - 1;
    frame.body_length = (size_t)(end - 2 - frame.body);
    handler(context, connection, &frame);
}

/* The head of the answer, then events. Returns where the rest begins. */
const char *parse_events(struct connection *connection, const char *at, const char *end, frame_handler handler,
                         void *context)
{
    static const char granted[] = "HTTP/1.1 200 ";
    const char *next;
    if (!connection->subscribed) {
        next = find_end(at, end, "\r\n\r\n", 4);
        if (next == NULL)
            return at;
        if (memcmp(at, granted, sizeof granted - 1) != 0)
            fail("no events: %.40s", at);
        connection->subscribed = true;
        at = next;
    }
    while (at < end && (next = find_end(at, end, "\n\n", 2)) != NULL) {
        take_event(connection, at, next, handler, context);
        at = next;
    }
    return at;
}
