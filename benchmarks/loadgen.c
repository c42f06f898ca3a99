/* loadgen: a load generator for STOMP brokers.
 *
 *   loadgen flow      --port N [--queue] --producers P --consumers C --count M --size S ...   producers to consumers
 *   loadgen fill      the producers only; ends with the RECEIPT of their DISCONNECT
 *   loadgen drain     the consumers only, of what `fill` with the same figures has left (or of --count messages)
 *   loadgen pingpong  two clients, one message at a time each way
 *   loadgen idle      --count clients that connect and do nothing, until standard input ends
 *
 * Consumers subscribe and have their RECEIPT before a producer begins. Producers and consumers are processes of their
 * own, one of each kind unless told otherwise: that is enough to keep a broker busy, and leaves it the rest of a small
 * machine. With --raw it talks to relay.py: the same MESSAGE frames, without a broker's conversation.
 *
 * One line of JSON on standard output: "ok", figures, and "error" with what is missing or wrong. Times run from the
 * first send to the last message received (fill: to the RECEIPT; drain: from the SUBSCRIBE). Exit status 0 only if all
 * is well. */
#include "loadgen.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_PROCESSES = 64, GRACE_MS = 300, READY_NS = 1000000, RUNNING_NS = 10000000, ALARM_S = 10 };

struct options options = {
    .host = "127.0.0.1", .tag = "0", .version = "1.2", .ack = "auto", .producers = 1, .consumers = 1, .destinations = 1,
    .producer_processes = 1, .consumer_processes = 1, .count = 10000, .size = 100, .content_length = true,
    .receipt_window = 1000, .parallel = 4, .deadline_s = 30,
};
struct shared *shared;

static pid_t children[MAX_PROCESSES];
static int child_count;

static const struct option long_options[] = {
    {"host", required_argument, NULL, 'h'},        {"port", required_argument, NULL, 'p'},
    {"consumer-port", required_argument, NULL, 'P'}, {"raw", no_argument, NULL, 'r'},
    {"queue", no_argument, NULL, 'q'},             {"tag", required_argument, NULL, 't'},
    {"stomp-version", required_argument, NULL, 'V'}, {"ack", required_argument, NULL, 'a'},
    {"prefetch", required_argument, NULL, 'f'},    {"producers", required_argument, NULL, 'm'},
    {"consumers", required_argument, NULL, 'n'},   {"destinations", required_argument, NULL, 'd'},
    {"producer-processes", required_argument, NULL, 'M'}, {"consumer-processes", required_argument, NULL, 'N'},
    {"count", required_argument, NULL, 'c'},       {"size", required_argument, NULL, 's'},
    {"no-content-length", no_argument, NULL, 'l'}, {"receipts", no_argument, NULL, 'e'},
    {"receipt-window", required_argument, NULL, 'E'}, {"window", required_argument, NULL, 'w'},
    {"persistent", no_argument, NULL, 'i'},        {"tenths", no_argument, NULL, 'x'},
    {"login", required_argument, NULL, 'u'},       {"heart-beat", required_argument, NULL, 'b'},
    {"rate", required_argument, NULL, 'R'},        {"timed", no_argument, NULL, 'T'},
    {"websocket", no_argument, NULL, 'W'},         {"events", no_argument, NULL, 'v'},
    {"subscribe", no_argument, NULL, 'S'},         {"parallel", required_argument, NULL, 'k'},
    {"deadline", required_argument, NULL, 'D'},    {NULL, 0, NULL, 0},
};

static void usage(const char *complaint)
{
    fprintf(stderr, "loadgen: %s\nusage: loadgen flow|fill|drain|pingpong|idle --port N [options]\n", complaint);
    for (const struct option *option = long_options; option->name != NULL; option++)
        fprintf(stderr, "  --%s%s\n", option->name, option->has_arg ? " VALUE" : "");
    exit(64);
}

static void take_mode(const char *word)
{
    static const char *const words[] = {"flow", "fill", "drain", "pingpong", "idle"};
    for (int i = 0; i < 5; i++) {
        if (strcmp(word, words[i]) == 0) {
            options.mode = (enum mode)i;
            return;
        }
    }
    usage("unknown mode");
}

/* Long because it is the list of options. */
static void take_options(int count, char **arguments)
{
    int letter;
    while ((letter = getopt_long(count, arguments, "", long_options, NULL)) != -1) {
        switch (letter) {
        case 'h': options.host = optarg; break;
        case 'p': options.port = atoi(optarg); break;
        case 'P': options.consumer_port = atoi(optarg); break;
        case 'r': options.raw = true; break;
        case 'q': options.queue = true; break;
        case 't': options.tag = optarg; break;
        case 'V': options.version = optarg; break;
        case 'a': options.ack = optarg; break;
        case 'f': options.prefetch = atoi(optarg); break;
        case 'm': options.producers = atoi(optarg); break;
        case 'n': options.consumers = atoi(optarg); break;
        case 'd': options.destinations = atoi(optarg); break;
        case 'M': options.producer_processes = atoi(optarg); break;
        case 'N': options.consumer_processes = atoi(optarg); break;
        case 'c': options.count = strtoull(optarg, NULL, 10); break;
        case 's': options.size = strtoull(optarg, NULL, 10); break;
        case 'l': options.content_length = false; break;
        case 'e': options.receipts = true; break;
        case 'E': options.receipt_window = strtoull(optarg, NULL, 10); break;
        case 'w': options.window = strtoull(optarg, NULL, 10); break;
        case 'i': options.persistent = true; break;
        case 'u': options.login = optarg; break;
        case 'b': options.heart_beat = optarg; break;
        case 'x': options.tenths = true; break;
        case 'R': options.rate = atof(optarg); break;
        case 'T': options.timed = true; break;
        case 'W': options.websocket = true; break;
        case 'v': options.events = true; break;
        case 'S': options.subscribe = true; break;
        case 'k': options.parallel = atoi(optarg); break;
        case 'D': options.deadline_s = atof(optarg); break;
        default: usage("unknown option");
        }
    }
}

static void check_options(void)
{
    if (options.consumer_port == 0)
        options.consumer_port = options.port;
    if (options.port <= 0)
        usage("--port is missing");
    if (options.producers < 0 || options.producers > MAX_ROLES || options.consumers < 0 ||
        options.consumers > MAX_ROLES)
        usage("at most 2048 producers and as many consumers");
    if (options.destinations < 1 || options.parallel < 1 || options.count < 1 || options.count > 999999999)
        usage("--destinations, --parallel and --count are at least 1");
    if (options.producer_processes < 1 || options.consumer_processes < 1 ||
        options.producer_processes + options.consumer_processes > MAX_PROCESSES)
        usage("--producer-processes and --consumer-processes are at least 1, together at most 64");
    if (options.size < (options.timed ? STAMP_END : STAMP_AT))
        usage("--size is too small for the numbers in a body (16, timed 33)");
    if (options.mode == PINGPONG && options.size > 65536)
        usage("--size of pingpong is at most 65536");
    if (options.rate > 0 && options.producers != 1)
        usage("--rate goes with one producer");
    if (options.raw && options.websocket)
        usage("--raw knows no WebSocket");
    if (options.events && (options.mode != FLOW || options.queue || !options.websocket))
        usage("--events goes with flow, topics and --websocket for the producers");
    if (options.raw && (options.queue || options.receipts))
        usage("--raw knows no queues and no receipts");
    if (options.persistent && !options.queue)
        usage("--persistent goes with --queue");
    if (options.tenths && (options.mode != FILL || options.producers != 1))
        usage("--tenths goes with fill and one producer");
    if (options.receipt_window < 1)
        usage("--receipt-window is at least 1");
    if (options.mode == FLOW && (options.producers == 0 || options.consumers == 0))
        usage("flow needs producers and consumers");
}

static void *share(size_t octets)
{
    void *memory = mmap(NULL, octets, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        perror("loadgen: mmap");
        exit(71);
    }
    return memory;
}

/* What each consumer is to get: on a topic all that is sent to its destination; a queue counts all together. */
static void set_expectations(void)
{
    shared = share(sizeof *shared);
    for (int i = 0; i < options.producers; i++) {
        atomic_store(&shared->producer[i].expected, options.count);
        for (int j = i % options.destinations; j < options.consumers && !options.queue; j += options.destinations)
            atomic_fetch_add(&shared->consumer[j].expected, options.count);
    }
    if (options.queue && options.mode != FILL)
        shared->seen = share((size_t)(options.count * (uint64_t)(options.producers > 0 ? options.producers : 1)));
    if (options.timed || options.mode == PINGPONG) {
        shared->sample_limit = options.count * (uint64_t)(options.producers * options.consumers);
        shared->samples = share(shared->sample_limit * sizeof *shared->samples);
    }
}

static void begin(void (*role)(int, int), int number, int wanted)
{
    int processes = wanted < number ? wanted : number;
    for (int i = 0; i < processes; i++) {
        pid_t pid = fork();
        if (pid < 0) {
            perror("loadgen: fork");
            exit(71);
        }
        if (pid == 0) {
            alarm((unsigned)options.deadline_s + ALARM_S); /* should the main process be killed */
            role(i, processes);
            _exit(0);
        }
        children[child_count++] = pid;
    }
}

static void ping(int first, int step)
{
    (void)first, (void)step;
    run_ping();
}

static void pong(int first, int step)
{
    (void)first, (void)step;
    run_pong();
}

static int begin_all(void)
{
    if (options.mode == PINGPONG) {
        begin(pong, 1, 1);
        begin(ping, 1, 1);
        return child_count;
    }
    if (options.mode != FILL)
        begin(run_consumers, options.consumers, options.consumer_processes);
    if (options.mode != DRAIN)
        begin(run_producers, options.producers, options.producer_processes);
    return child_count;
}

static int count_running(void)
{
    int running = 0;
    for (int i = 0; i < child_count; i++) {
        int status;
        if (children[i] == 0)
            continue;
        if (waitpid(children[i], &status, WNOHANG) == children[i]) {
            children[i] = 0;
            if ((!WIFEXITED(status) || WEXITSTATUS(status) != 0) && !atomic_exchange(&shared->failed, 1))
                snprintf(shared->error, ERROR_SIZE, "a process of the load generator ended with status %d", status);
        } else {
            running++;
        }
    }
    return running;
}

static void rest(void)
{
    struct timespec pause = {0, atomic_load(&shared->go) ? RUNNING_NS : READY_NS};
    nanosleep(&pause, NULL);
}

/* Tell all to stop; who does not within the grace is killed. */
static void stop_all(void)
{
    uint64_t end = now_ns() + GRACE_MS * 1000000ull;
    atomic_store(&shared->stop, 1);
    while (count_running() > 0 && now_ns() < end)
        rest();
    for (int i = 0; i < child_count; i++) {
        if (children[i] != 0) {
            kill(children[i], SIGKILL);
            waitpid(children[i], NULL, 0);
        }
    }
}

/* Returns whether all ended well before the deadline. */
static bool watch(int processes)
{
    uint64_t end = now_ns() + (uint64_t)(options.deadline_s * 1e9);
    while (count_running() > 0 && now_ns() < end && !atomic_load(&shared->failed)) {
        if (atomic_load(&shared->ready) == processes)
            atomic_store(&shared->go, 1);
        rest();
    }
    bool ended = count_running() == 0 && !atomic_load(&shared->failed);
    if (!ended && !atomic_exchange(&shared->failed, 1))
        snprintf(shared->error, ERROR_SIZE, "not finished after %.0f s", options.deadline_s);
    stop_all();
    return ended;
}

static int by_value(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

static void print_percentiles(void)
{
    uint64_t taken = atomic_load(&shared->samples_taken);
    if (shared->samples == NULL || taken == 0)
        return;
    if (taken > shared->sample_limit)
        taken = shared->sample_limit;
    qsort(shared->samples, taken, sizeof *shared->samples, by_value);
    printf("\"p50_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f, ", (double)shared->samples[taken / 2] / 1e3,
           (double)shared->samples[taken * 99 / 100] / 1e3, (double)shared->samples[taken - 1] / 1e3);
}

struct sums {
    uint64_t done, expected, lost, duplicates, disordered, receipts, first_ns, last_ns, least, most;
    int incomplete;
    int worst;          /* index of a role that is not complete */
};

static struct sums add_up(const struct role *roles, int number)
{
    struct sums sums = {.first_ns = UINT64_MAX, .least = UINT64_MAX};
    for (int i = 0; i < number; i++) {
        const struct role *role = &roles[i];
        uint64_t done = atomic_load(&role->done);
        sums.done += done;
        sums.expected += atomic_load(&role->expected);
        sums.lost += role->lost;
        sums.duplicates += role->duplicates;
        sums.disordered += role->disordered;
        sums.receipts += role->receipts;
        sums.least = done < sums.least ? done : sums.least;
        sums.most = done > sums.most ? done : sums.most;
        if (role->first_ns > 0 && role->first_ns < sums.first_ns)
            sums.first_ns = role->first_ns;
        sums.last_ns = role->last_ns > sums.last_ns ? role->last_ns : sums.last_ns;
        if (done < atomic_load(&role->expected)) {
            sums.incomplete++;
            sums.worst = i;
        }
    }
    return sums;
}

/* JSON takes no quotes, backslashes or control characters as they are; nobody misses them in a message. */
static void print_text(const char *text)
{
    for (; *text != '\0'; text++)
        putchar((unsigned char)*text < ' ' || *text == '"' || *text == '\\' ? '\'' : *text);
}

static void print_error(bool ended, const struct sums *sent, const struct sums *received, uint64_t expected)
{
    char text[ERROR_SIZE * 2];
    size_t used = 0;
    text[0] = '\0';
    if (!ended)
        used = (size_t)snprintf(text, sizeof text, "%s; ", shared->error);
    if (options.mode != DRAIN && sent->done < sent->expected)
        used += (size_t)snprintf(text + used, sizeof text - used, "sent %llu of %llu; ", (unsigned long long)sent->done,
                                 (unsigned long long)sent->expected);
    if (options.mode != FILL && received->done < expected)
        used += (size_t)snprintf(text + used, sizeof text - used, "received %llu of %llu; ",
                                 (unsigned long long)received->done, (unsigned long long)expected);
    if (options.mode != FILL && received->incomplete > 0)
        used += (size_t)snprintf(text + used, sizeof text - used,
                                 "%d of %d consumers incomplete, consumer %d has %llu; ", received->incomplete,
                                 options.consumers, received->worst,
                                 (unsigned long long)atomic_load(&shared->consumer[received->worst].done));
    if (options.receipts && sent->receipts < sent->expected)
        used += (size_t)snprintf(text + used, sizeof text - used, "%llu receipts of %llu; ",
                                 (unsigned long long)sent->receipts, (unsigned long long)sent->expected);
    if (received->lost + received->duplicates + received->disordered > 0)
        snprintf(text + used, sizeof text - used, "lost %llu, repeated %llu, out of order %llu; ",
                 (unsigned long long)received->lost, (unsigned long long)received->duplicates,
                 (unsigned long long)received->disordered);
    print_text(text);
}

/* Rates between the marks of --tenths, the first from the beginning, the last to the end. */
static void print_tenths(const struct sums *sent)
{
    struct mark before = {0, sent->first_ns};
    printf("\"tenths\": [");
    for (int i = 0; i < PARTS; i++) {
        struct mark mark = shared->marks[i];
        if (i == PARTS - 1)
            mark = (struct mark){sent->done, sent->last_ns};
        bool known = mark.ns > before.ns;
        printf("%s%.1f", i > 0 ? ", " : "",
               known ? (double)(mark.messages - before.messages) * 1e9 / (double)(mark.ns - before.ns) : 0.0);
        before = mark;
    }
    printf("], ");
}

static uint64_t last_moment(const struct sums *sent, const struct sums *received)
{
    if (options.mode == FILL || (options.receipts && sent->last_ns > received->last_ns))
        return sent->last_ns;
    return received->last_ns;
}

static int report(bool ended)
{
    struct sums sent = add_up(shared->producer, options.mode == DRAIN ? 0 : options.producers);
    struct sums received = add_up(shared->consumer, options.mode == FILL ? 0 : options.consumers);
    uint64_t expected = options.queue ? options.count * (uint64_t)options.producers : received.expected;
    bool pingpong = options.mode == PINGPONG;
    bool complete = options.mode == FILL || pingpong || received.done >= expected;
    bool ok = ended && complete && received.lost + received.duplicates + received.disordered == 0;
    uint64_t first = options.mode == DRAIN ? received.first_ns : sent.first_ns, last = last_moment(&sent, &received);
    double seconds = last > first ? (double)(last - first) / 1e9 : 0;
    uint64_t moved = options.mode == FILL ? sent.done : received.done;
    double rate = seconds > 0 ? (double)moved / seconds : 0;

    printf("{\"ok\": %s, \"sent\": %llu, \"messages\": %llu, \"seconds\": %.4f, \"rate\": %.1f, \"mb_per_s\": %.1f, ",
           ok ? "true" : "false", (unsigned long long)sent.done, (unsigned long long)moved, seconds, rate,
           rate * (double)options.size / 1e6);
    printf("\"lost\": %llu, \"duplicates\": %llu, \"disordered\": %llu, \"receipts\": %llu, ",
           (unsigned long long)received.lost, (unsigned long long)received.duplicates,
           (unsigned long long)received.disordered, (unsigned long long)sent.receipts);
    if (options.mode != FILL && options.consumers > 0)
        printf("\"least\": %llu, \"most\": %llu, ", (unsigned long long)received.least,
               (unsigned long long)received.most);
    print_percentiles();
    if (options.tenths)
        print_tenths(&sent);
    printf("\"error\": \"");
    if (!ok)
        print_error(ended, &sent, &received, pingpong ? 0 : expected);
    printf("\"}\n");
    return ok ? 0 : 1;
}

int main(int count, char **arguments)
{
    if (count < 2)
        usage("the mode is missing");
    take_mode(arguments[1]);
    take_options(count - 1, arguments + 1);
    check_options();
    signal(SIGPIPE, SIG_IGN);
    set_expectations();
    if (options.mode == IDLE)
        return run_idle();
    fflush(stdout);
    return report(watch(begin_all()));
}
