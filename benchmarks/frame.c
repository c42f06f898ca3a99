/* Frames: the parser of what arrives and the serialiser of what is sent. No input or output here.
 *
 * The parser takes header lines in any order and looks at each line once; it is general, not made for one broker, and
 * costs some tens of nanoseconds a frame. Bodies carry their producer, their sequence number and known letters, so that
 * loss, repetition, disorder and damage are seen. */
#include "loadgen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHECKED_WHOLE = 4096, CHECKED_ENDS = 2048 };

static const char *const MESSAGE_ID = "relay-00000000-000000";

static bool is_header(const char *line, size_t length, const char *name, size_t name_length, struct slice *value)
{
    if (length < name_length || memcmp(line, name, name_length) != 0)
        return false;
    if (value->at == NULL) { /* the first occurrence is the value (STOMP 1.2, Repeated Header Entries) */
        value->at = line + name_length;
        value->length = length - name_length;
    }
    return true;
}

#define HEADER(name, value) is_header(line, length, name, sizeof(name) - 1, value)

static void take_header(const char *line, size_t length, struct frame *frame, struct slice *content_length)
{
    switch (line[0]) {
    case 'a':
        (void)HEADER("ack:", &frame->ack);
        break;
    case 'c':
        (void)HEADER("content-length:", content_length);
        break;
    case 'd':
        (void)HEADER("destination:", &frame->destination);
        break;
    case 'm':
        (void)(HEADER("message-id:", &frame->message_id) || HEADER("message:", &frame->message));
        break;
    case 'r':
        (void)HEADER("receipt-id:", &frame->receipt_id);
        break;
    case 's':
        (void)HEADER("subscription:", &frame->subscription);
        break;
    default:
        break;
    }
}

static enum command command_of(const char *at, size_t length)
{
    if (length == 7 && memcmp(at, "MESSAGE", 7) == 0)
        return MESSAGE;
    if (length == 7 && memcmp(at, "RECEIPT", 7) == 0)
        return RECEIPT;
    if (length == 9 && memcmp(at, "CONNECTED", 9) == 0)
        return CONNECTED;
    if (length == 5 && memcmp(at, "ERROR", 5) == 0)
        return ERROR_FRAME;
    return OTHER;
}

static enum parsed take_body(const char *from, const char *at, const char *end, struct slice content_length,
                             struct frame *frame)
{
    frame->body = at;
    if (content_length.at != NULL) {
        size_t length = 0;
        for (size_t i = 0; i < content_length.length; i++) {
            unsigned digit = (unsigned)(content_length.at[i] - '0');
            if (digit > 9 || length > (1u << 30))
                return BROKEN;
            length = length * 10 + digit;
        }
        if ((size_t)(end - at) <= length)
            return PARTIAL;
        if (at[length] != '\0')
            return BROKEN;
        frame->body_length = length;
    } else {
        const char *nul = memchr(at, '\0', (size_t)(end - at));
        if (nul == NULL)
            return PARTIAL;
        frame->body_length = (size_t)(nul - at);
    }
    frame->total = (size_t)(at - from) + frame->body_length + 1;
    return COMPLETE;
}

/* Parse one frame that starts at `from` (no LF before it). `frame` points into the octets and lives as long as they. */
enum parsed parse_frame(const char *from, const char *end, struct frame *frame)
{
    struct slice content_length = {NULL, 0};
    const char *at = from;
    const char *eol = memchr(at, '\n', (size_t)(end - at));
    if (eol == NULL)
        return PARTIAL;
    memset(frame, 0, sizeof *frame);
    frame->command = command_of(at, (size_t)(eol - at));
    if (frame->command == OTHER)
        return BROKEN;
    for (;;) {
        at = eol + 1;
        if (at == end)
            return PARTIAL;
        if (*at == '\n')
            return take_body(from, at + 1, end, content_length, frame);
        eol = memchr(at, '\n', (size_t)(end - at));
        if (eol == NULL)
            return PARTIAL;
        take_header(at, (size_t)(eol - at), frame, &content_length);
    }
}

/* Returns UINT64_MAX where something other than a digit stands. */
uint64_t read_digits(const char *at, int digits)
{
    uint64_t value = 0;
    for (int i = 0; i < digits; i++) {
        unsigned digit = (unsigned)(at[i] - '0');
        if (digit > 9)
            return UINT64_MAX;
        value = value * 10 + digit;
    }
    return value;
}

void write_digits(char *at, int digits, uint64_t value)
{
    for (int i = digits - 1; i >= 0; i--) {
        at[i] = (char)('0' + value % 10);
        value /= 10;
    }
}

/* The letters of bodies: a period of 251, prime, so that a shift by any power of two is seen. */
static const char *letters(void)
{
    static char *text;
    if (text == NULL) {
        text = malloc(options.size + 1);
        if (text == NULL)
            abort();
        for (size_t i = 0; i < options.size; i++)
            text[i] = (char)('a' + i % 251 % 26);
    }
    return text;
}

void fill_body(char *body, int producer)
{
    memcpy(body, letters(), options.size);
    write_digits(body, PRODUCER_DIGITS, (uint64_t)producer);
    body[SEQUENCE_AT - 1] = '-';
    write_digits(body + SEQUENCE_AT, SEQUENCE_DIGITS, 0);
    body[SEQUENCE_AT + SEQUENCE_DIGITS] = '-';
    if (options.timed) {
        write_digits(body + STAMP_AT, STAMP_DIGITS, 0);
        body[STAMP_END - 1] = '-';
    }
}

/* Bodies up to 4 KiB are compared whole, larger ones at both ends: reading 1 MiB twice would be measured as well. */
bool filler_is_right(const char *body, size_t length)
{
    size_t from = options.timed ? STAMP_END : STAMP_AT;
    if (length != options.size)
        return false;
    if (length <= CHECKED_WHOLE)
        return memcmp(body + from, letters() + from, length - from) == 0;
    return memcmp(body + from, letters() + from, CHECKED_ENDS) == 0 &&
           memcmp(body + length - CHECKED_ENDS, letters() + length - CHECKED_ENDS, CHECKED_ENDS) == 0;
}

/* Write one frame as a producer sends it: a SEND, or with a relay the MESSAGE that a consumer would get. Returns its
 * length; `body_at` and `receipt_at` are where the digits to be patched begin. */
size_t serialise(char *at, int producer, const char *destination, size_t *body_at, size_t *receipt_at)
{
    int length;
    *receipt_at = 0;
    if (options.raw) {
        length = sprintf(at, "MESSAGE\nsubscription:0\nmessage-id:%s\ndestination:%s\ncontent-length:%zu\n\n",
                         MESSAGE_ID, destination, options.size);
    } else {
        length = sprintf(at, "SEND\ndestination:%s\n", destination);
        if (options.receipts) {
            length += sprintf(at + length, "receipt:r-");
            *receipt_at = (size_t)length;
            length += sprintf(at + length, "%0*d\n", SEQUENCE_DIGITS, 0);
        }
        if (options.persistent)
            length += sprintf(at + length, "persistent:true\n");
        if (options.content_length)
            length += sprintf(at + length, "content-length:%zu\n", options.size);
        length += sprintf(at + length, "\n");
    }
    *body_at = (size_t)length;
    fill_body(at + length, producer);
    at[(size_t)length + options.size] = '\0';
    return (size_t)length + options.size + 1;
}
