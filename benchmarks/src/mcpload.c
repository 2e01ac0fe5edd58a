/* mcpload - a closed-loop HTTP/1.1 load generator that replays prepared MCP requests and checks every answer.
 *
 *   mcpload PORT CONNECTIONS WARM_SECONDS RUN_SECONDS FILE TURNS
 *
 * FILE holds records of [u32 length][u32 least][u32 count][u32 place x count][bytes]. Each TURNS of them are a set:
 * connection i has set i modulo their number and sends its records in turn, the first of them record i * TURNS / 16, so
 * that connections do not send the same at the same time. At each place stand ten digits, all of them replaced by a
 * number that is unique in the run; the first place is the JSON-RPC id, the second the start of the text to be echoed,
 * further ones are whatever differs between requests. A good answer has status 200, at least `least` bytes, a
 * "result", no error, and carries that number both as its id and at the start of its text: a gateway that mixes
 * two calls up is caught here. A request that nothing echoes (a list) has one place.
 *
 * All of that stands at the beginning or the end of an answer, so that only these are kept and searched: searching a
 * megabyte would make the load slower than what it measures.
 *
 * Prints "B" when the measured time is about to begin, and begins when a line or the end of stdin is read: what is
 * counted elsewhere is read in between, while no request is sent. Prints "E" when it ends, then one line of JSON.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HEAD_KEPT 2048 /* bytes of a body's beginning and of its end that are kept for the checks */
#define TAIL_KEPT 1024
#define BUFFER (1 << 18)
#define PATIENCE 10000000000ull /* ns after which an answer counts as lost */
#define DRAIN 5000000000ull     /* ns that the last answers get: a request that is cut off works on behind the target */
#define DIGITS 10

enum { HEAD, BODY, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER, UNTIL_CLOSE };

typedef struct {
    char *p;
    uint32_t n, least, count;
    uint32_t *places;
} Record;

typedef struct {
    int fd, state, status, want_out, close_after, line_n, kept;
    uint32_t index, seq, sent;
    Record *request;
    char *data;
    char number[DIGITS + 1], line[8192], keep[HEAD_KEPT + TAIL_KEPT];
    long left, body_n;
    uint64_t started;
} Conn;

static Record *records;
static uint32_t largest;
static int record_count, turns, port, epoll_fd, measuring, draining, open_requests;
static long errors, timeouts, reconnects, answers;
static uint64_t begin_at, end_at;
static uint32_t *latencies; /* in 0.1 us */
static size_t latency_count, latency_cap;
static char first_error[600];

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void complain(const char *what, Conn *c) {
    errors++;
    if (first_error[0]) return;
    int n = snprintf(first_error, sizeof first_error, "%s: status %d, %ld bytes: ", what, c->status, c->body_n);
    for (int i = 0; i < c->kept && n < 560; i++) {
        char ch = c->keep[i];
        first_error[n++] = ch == '"' || ch == '\\' ? '\'' : ch < 32 || ch > 126 ? ' ' : ch;
    }
    first_error[n] = 0;
}

static int dial(Conn *c) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(c->fd, (void *)&address, sizeof address)) {
        complain("connect", c);
        close(c->fd);
        c->fd = -1;
        return -1;
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event);
    c->want_out = 0;
    return 0;
}

static void push(Conn *c) {
    while (c->sent < c->request->n) {
        ssize_t n = send(c->fd, c->data + c->sent, c->request->n - c->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0) break;
        c->sent += (uint32_t)n;
    }
    int want = c->sent < c->request->n;
    if (want == c->want_out) return;
    struct epoll_event event = {.events = EPOLLIN | (want ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event);
    c->want_out = want;
}

static void start(Conn *c) {
    uint32_t set = c->index % (uint32_t)(record_count / turns), n = (uint32_t)turns;
    snprintf(c->number, sizeof c->number, "%010u", 1000000000u + c->index * 1000000u + c->seq % 1000000u);
    c->request = &records[set * n + (c->index * n / 16 + c->seq++) % n];
    memcpy(c->data, c->request->p, c->request->n);
    for (uint32_t i = 0; i < c->request->count; i++) memcpy(c->data + c->request->places[i], c->number, DIGITS);
    c->sent = 0;
    c->state = HEAD;
    c->status = c->line_n = c->kept = c->close_after = 0;
    c->left = -1;
    c->body_n = 0;
    c->started = now();
    push(c);
}

static void restart(Conn *c) {
    close(c->fd);
    if (draining) {
        c->fd = -1;
        open_requests--;
        return;
    }
    reconnects++;
    if (!dial(c)) start(c);
}

static int contains(Conn *c, const char *text) { return memmem(c->keep, (size_t)c->kept, text, strlen(text)) != NULL; }

static int has_number(Conn *c, const char *before) {
    char text[32];
    snprintf(text, sizeof text, "%s%s", before, c->number);
    return contains(c, text);
}

static int good(Conn *c) {
    size_t head = c->kept > 200 ? 200 : (size_t)c->kept;
    return c->status == 200 && c->body_n >= (long)c->request->least && contains(c, "\"result\"") &&
           !memmem(c->keep, head, "\"error\":", 8) && !contains(c, "\"isError\":true") &&
           !contains(c, "\"isError\": true") && (has_number(c, "\"id\":") || has_number(c, "\"id\": ")) &&
           (c->request->count < 2 || has_number(c, "\""));
}

static void done(Conn *c) {
    uint64_t t = now();
    answers++;
    if (!good(c)) complain("bad answer", c);
    if (measuring && t <= end_at) {
        if (latency_count == latency_cap) {
            latency_cap = latency_cap ? latency_cap * 2 : 1 << 20;
            if (!(latencies = realloc(latencies, latency_cap * sizeof *latencies))) abort();
        }
        latencies[latency_count++] = (uint32_t)((t - c->started) / 100);
    }
    if (c->close_after || draining) restart(c);
    else start(c);
}

static void keep(Conn *c, const char *p, long n) {
    char *tail = c->keep + HEAD_KEPT;
    long room = HEAD_KEPT + TAIL_KEPT - c->kept, k = room < n ? room : n;
    c->body_n += n;
    memcpy(c->keep + c->kept, p, (size_t)k);
    c->kept += (int)k;
    p += k;
    n -= k;
    if (n >= TAIL_KEPT) {
        memcpy(tail, p + n - TAIL_KEPT, TAIL_KEPT);
    } else if (n) {
        memmove(tail, tail + n, (size_t)(TAIL_KEPT - n));
        memcpy(tail + TAIL_KEPT - n, p, (size_t)n);
    }
}

/* Takes one complete line of the head or of the chunking; returns 1 when it ends the answer. */
static int line(Conn *c) {
    char *l = c->line;
    int n = c->line_n;
    while (n && (l[n - 1] == '\n' || l[n - 1] == '\r')) n--;
    l[n] = 0;
    c->line_n = 0;
    if (c->state == CHUNK_END) {
        c->state = CHUNK_SIZE;
    } else if (c->state == TRAILER) {
        return !n;
    } else if (c->state == CHUNK_SIZE) {
        c->left = strtol(l, NULL, 16);
        c->state = c->left ? CHUNK_DATA : TRAILER;
    } else if (!c->status) {
        c->status = n >= 12 ? atoi(l + 9) : -1;
    } else if (!n) {
        if (c->left == -2) c->state = CHUNK_SIZE;
        else if (c->left > 0) c->state = BODY;
        else if (!c->left || c->status == 202 || c->status == 204) return 1;
        else c->state = UNTIL_CLOSE;
    } else if (!strncasecmp(l, "content-length:", 15)) {
        c->left = atol(l + 15);
    } else if (!strncasecmp(l, "transfer-encoding:", 18)) {
        c->left = -2;
    } else if (!strncasecmp(l, "connection:", 11) && strcasestr(l, "close")) {
        c->close_after = 1;
    }
    return 0;
}

/* Feeds received bytes; returns 1 when the answer is complete. */
static int feed(Conn *c, const char *p, long n) {
    const char *end = p + n;
    while (p < end) {
        if (c->state == UNTIL_CLOSE) {
            keep(c, p, end - p);
            return 0;
        }
        if (c->state == BODY || c->state == CHUNK_DATA) {
            long k = end - p < c->left ? end - p : c->left;
            keep(c, p, k);
            p += k;
            c->left -= k;
            if (c->left) return 0;
            if (c->state == BODY) return 1;
            c->state = CHUNK_END;
            continue;
        }
        const char *line_end = memchr(p, '\n', (size_t)(end - p));
        long k = (line_end ? line_end + 1 : end) - p;
        if (c->line_n + k >= (long)sizeof c->line) {
            c->close_after = 1;
            return 1;
        }
        memcpy(c->line + c->line_n, p, (size_t)k);
        c->line_n += (int)k;
        p += k;
        if (line_end && line(c)) return 1;
    }
    return 0;
}

static void readable(Conn *c, char *buf, size_t size) {
    ssize_t n = recv(c->fd, buf, size, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return;
    if (n > 0) {
        if (feed(c, buf, n)) done(c);
        return;
    }
    if (c->state == UNTIL_CLOSE) {
        c->close_after = 1;
        done(c);
        return;
    }
    complain("cut off", c);
    restart(c);
}

static int read_records(const char *path) {
    FILE *f = fopen(path, "rb");
    uint32_t head[3];
    if (!f) return -1;
    while (fread(head, 4, 3, f) == 3) {
        records = realloc(records, (size_t)(record_count + 1) * sizeof *records);
        Record *r = &records[record_count++];
        *r = (Record){malloc(head[0]), head[0], head[1], head[2], calloc(head[2], sizeof(uint32_t))};
        if (fread(r->places, sizeof(uint32_t), r->count, f) != r->count || fread(r->p, 1, r->n, f) != r->n) return -1;
        if (r->n > largest) largest = r->n;
    }
    fclose(f);
    return record_count && turns > 0 && record_count % turns == 0 ? 0 : -1;
}

static void turn(char *buf) {
    struct epoll_event events[256];
    int n = epoll_wait(epoll_fd, events, 256, 20);
    for (int i = 0; i < n; i++) {
        Conn *c = events[i].data.ptr;
        if (events[i].events & EPOLLOUT) push(c);
        if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(c, buf, BUFFER);
    }
}

static int ascending(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double quantile(double q) {
    return latency_count ? latencies[(size_t)(q * (double)(latency_count - 1))] / 10.0 : 0;
}

int main(int argc, char **argv) {
    if (argc != 7) return 2;
    port = atoi(argv[1]);
    int count = atoi(argv[2]);
    double warm = atof(argv[3]), run = atof(argv[4]);
    turns = atoi(argv[6]);
    if (read_records(argv[5])) {
        fprintf(stderr, "mcpload: no records in %s\n", argv[5]);
        return 2;
    }
    epoll_fd = epoll_create1(0);
    Conn *conns = calloc((size_t)count, sizeof *conns);
    char *buf = malloc(BUFFER);
    for (int i = 0; i < count; i++) {
        Conn *c = &conns[i];
        c->index = (uint32_t)i;
        c->data = malloc(largest);
        if (dial(c)) {
            fprintf(stderr, "mcpload: nothing listens on port %d\n", port);
            return 1;
        }
    }
    for (int i = 0; i < count; i++) start(&conns[i]);
    uint64_t t = now(), looked = t;
    begin_at = t + (uint64_t)(warm * 1e9);
    end_at = begin_at + (uint64_t)(run * 1e9);
    while ((t = now()) < end_at) {
        if (!measuring && t >= begin_at) {
            puts("B");
            fflush(stdout);
            while (read(STDIN_FILENO, buf, 1) == 1 && *buf != '\n') continue;
            measuring = 1;
            begin_at = now();
            end_at = begin_at + (uint64_t)(run * 1e9);
            for (int i = 0; i < count; i++) conns[i].started += begin_at - t;
            t = begin_at;
        }
        if (t - looked > 1000000000ull) {
            looked = t;
            for (int i = 0; i < count; i++) {
                if (conns[i].fd < 0 || t - conns[i].started < PATIENCE) continue;
                complain("no answer", &conns[i]);
                timeouts++;
                restart(&conns[i]);
            }
        }
        turn(buf);
    }
    puts("E");
    fflush(stdout);
    draining = 1;
    for (int i = 0; i < count; i++) open_requests += conns[i].fd >= 0;
    while (open_requests && now() < end_at + DRAIN) turn(buf);
    double seconds = (double)(end_at - begin_at) / 1e9;
    qsort(latencies, latency_count, sizeof *latencies, ascending);
    printf("{\"calls\":%zu,\"seconds\":%.3f,\"rps\":%.1f,\"p50_us\":%.1f,\"p95_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f,"
           "\"errors\":%ld,\"timeouts\":%ld,\"reconnects\":%ld,\"answers\":%ld,\"first_error\":\"%s\"}\n",
           latency_count, seconds, (double)latency_count / seconds, quantile(.5), quantile(.95), quantile(.99), quantile(1),
           errors, timeouts, reconnects, answers, first_error);
    return 0;
}
