/* What the parts of the load generator share: options, the table of roles in shared memory, connections, frames. */
#ifndef LOADGEN_H
#define LOADGEN_H

#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE
#define _GNU_SOURCE /* memmem */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MAX_ROLES = 2048, ERROR_SIZE = 300, DESTINATION_SIZE = 128, PARTS = 10 };

/* A body is "pppp-ssssssssss-" (producer, sequence), in timed runs "nnnnnnnnnnnnnnnn-" (clock, ns), then letters. */
enum { PRODUCER_DIGITS = 4, SEQUENCE_AT = 5, SEQUENCE_DIGITS = 10, STAMP_AT = 16, STAMP_DIGITS = 16, STAMP_END = 33 };

enum { WEBSOCKET_HEAD = 14 };

enum mode { FLOW, FILL, DRAIN, PINGPONG, IDLE };

struct options {
    enum mode mode;
    const char *host;
    int port;
    int consumer_port;        /* differs from port only with a relay */
    bool raw;                 /* a relay: MESSAGE frames as they are, no CONNECT, no SUBSCRIBE */
    bool queue;
    const char *tag;          /* part of every destination, so that runs do not meet */
    const char *version;
    const char *login;        /* the passcode is the same; NULL: none */
    const char *heart_beat;   /* what CONNECT asks for; NULL: nothing. No client sends a beat. */
    const char *ack;
    int prefetch;             /* 0: the header is not sent */
    int producers;
    int consumers;
    int destinations;         /* producer i and consumer i use destination i modulo this */
    int producer_processes;
    int consumer_processes;
    uint64_t count;           /* messages of each producer, or connections in idle mode */
    size_t size;              /* octets of a body */
    bool content_length;
    bool receipts;            /* a unique receipt on every SEND */
    uint64_t receipt_window;  /* receipts outstanding at most */
    bool persistent;          /* persistent:true on every SEND */
    bool tenths;              /* fill: the rate of each tenth of the messages */
    uint64_t window;          /* messages sent and not yet received at most, 0: no bound but TCP's */
    double rate;              /* messages a second of each producer, 0: as fast as it goes */
    bool timed;
    bool websocket;           /* STOMP within WebSocket messages */
    bool events;              /* consumers are EventSources over plain HTTP */
    bool subscribe;           /* idle mode: each client subscribes to a topic of its own */
    int parallel;             /* idle mode: handshakes under way at once */
    double deadline_s;
};

/* One producer or consumer: written by its own process, read by the main one. */
struct role {
    _Atomic uint64_t done;    /* sent or received */
    _Atomic uint64_t expected;
    uint64_t receipts;
    uint64_t lost;            /* sequence numbers skipped */
    uint64_t duplicates;
    uint64_t disordered;
    uint64_t first_ns;
    uint64_t last_ns;
};

/* How far the broker had come when, in a fill with --tenths. */
struct mark {
    uint64_t messages;
    uint64_t ns;              /* 0: it has not come there */
};

struct shared {
    _Atomic int ready;        /* processes that have connected and subscribed */
    _Atomic int go;
    _Atomic int stop;
    _Atomic int failed;
    _Atomic uint64_t received;
    _Atomic uint64_t samples_taken;
    char error[ERROR_SIZE];   /* of the role that failed first */
    struct role producer[MAX_ROLES];
    struct role consumer[MAX_ROLES];
    _Atomic uint8_t *seen;    /* queues: one octet a message, all producers */
    uint64_t *samples;        /* ns */
    uint64_t sample_limit;
    struct mark marks[PARTS];
};

struct slice {
    const char *at;
    size_t length;
};

enum command { MESSAGE, RECEIPT, CONNECTED, ERROR_FRAME, OTHER };

struct frame {
    enum command command;
    struct slice ack, message_id, receipt_id, destination, subscription, message;
    const char *body;
    size_t body_length;
    size_t total;             /* octets from the command to the NUL, included */
};

struct connection {
    int fd;
    struct role *role;
    char *in;                 /* what is left of a frame that is not complete */
    size_t in_length, in_size;
    bool direct;              /* large frames are received into `in` itself */
    char *out;                /* what waits to be sent */
    size_t out_at, out_length, out_size;
    bool upgraded, connected, subscribed, fenced;
    bool events;              /* an EventSource */
};

typedef void (*frame_handler)(void *context, struct connection *connection, const struct frame *frame);

extern struct options options;
extern struct shared *shared;

/* client.c */
uint64_t now_ns(void);
void fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
void connection_open(struct connection *connection, struct role *role, int port);
void connection_prepare(struct connection *connection, struct role *role, int fd);
void connection_close(struct connection *connection);
void connection_queue(struct connection *connection, const char *octets, size_t length);
void connection_queue_raw(struct connection *connection, const char *octets, size_t length);
void connection_flush(struct connection *connection);
bool connection_receive(struct connection *connection, frame_handler handler, void *context);
void connection_wait(struct connection *connection, const bool *condition, const char *what, frame_handler handler,
                     void *context);
bool take_common(struct connection *connection, const struct frame *frame);
void handshake(struct connection *connection, frame_handler handler, void *context);
void queue_connect(struct connection *connection);
void queue_subscribe(struct connection *connection, const char *destination);
void fence(struct connection *connection, frame_handler handler, void *context);
void destination_of(int index, char *text);
int open_socket(int port, bool wait);
void wait_for_go(void);

/* frame.c */
enum parsed { PARTIAL, COMPLETE, BROKEN };
enum parsed parse_frame(const char *from, const char *end, struct frame *frame);
uint64_t read_digits(const char *at, int digits);
void write_digits(char *at, int digits, uint64_t value);
void fill_body(char *body, int producer);
bool filler_is_right(const char *body, size_t length);
size_t serialise(char *at, int producer, const char *destination, size_t *body_at, size_t *receipt_at);

/* producer.c, consumer.c, pingpong.c, idle.c: bodies of processes */
void run_producers(int first, int step);
void run_consumers(int first, int step);
void run_ping(void);
void run_pong(void);
int run_idle(void);

/* websocket.c */
size_t write_websocket_head(char *at, size_t length);
void queue_upgrade(struct connection *connection);
size_t take_upgrade(struct connection *connection, const char *at, const char *end);
enum parsed parse_websocket_head(const char *at, const char *end, size_t *head, size_t *length);

/* events.c */
void queue_watch(struct connection *connection, const char *destination);
const char *parse_events(struct connection *connection, const char *at, const char *end, frame_handler handler,
                         void *context);

#endif
