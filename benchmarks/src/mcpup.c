/* mcpup - a small, fast MCP server: the upstream of every target of the benchmark.
 *
 * Speaks Streamable HTTP in both eras of the protocol (2025-11-25 with sessions, 2026-07-28 without).
 * One thread, epoll, no dependencies; listens on loopback only.
 *
 *   mcpup -p PORT [-p PORT ...] [-n TOOLS] [-e both|legacy|modern] [-s]    (-s: answers as SSE instead of JSON)
 *   mcpup -i [-n TOOLS] [-e ...]                                           (-i: over stdin and stdout)
 *
 * Every port is an upstream of its own, with TOOLS tools.
 * Tool `echo`: {"text": string, "repeat": integer = 1, "kind": "prose", "code" or "rows"} -> the text, repeated, and
 * then 4 KB of that kind, if one is named. Other arguments have no effect. The other tools answer "ok".
 * GET /counts answers with what has arrived since the start, so that a run can tell how many requests one call
 * of a gateway causes.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "mcp.h"

#define MAX_REQUEST (16u << 20)
#define LARGE 65536

typedef struct {
    int fd, port, listens, want_out, closing; /* port: the number of the upstream, not the TCP port */
    Buf in, out;
    size_t sent;
} Conn;

static int use_sse, epoll_fd;
static long connections, requests;
static Buf body_buf, chunk_buf;

static int local_origin(Span origin) {
    static const char *allowed[] = {"http://127.0.0.1", "http://localhost", "https://localhost", "http://[::1]"};
    for (int i = 0; i < 4; i++) {
        size_t n = strlen(allowed[i]);
        if (origin.n >= n && !memcmp(origin.p, allowed[i], n) && (origin.n == n || origin.p[n] == ':')) return 1;
    }
    return 0;
}

/* Sends what is to go out and a body after it; only what the socket does not take is copied. */
static void write_both(Conn *c, Buf *body) {
    Buf *o = &c->out;
    size_t before = o->len - c->sent;
    struct iovec parts[] = {{o->p + c->sent, before}, {body->p, body->len}};
    ssize_t n = writev(c->fd, parts, 2);
    size_t gone = n < 0 ? 0 : (size_t)n; /* an error shows again at the next write */
    if (gone < before) {
        c->sent += gone;
        put(o, body->p, body->len);
        return;
    }
    c->sent = o->len = 0;
    put(o, body->p + (gone - before), body->len - (gone - before));
}

static void respond(Conn *c, int status, Buf *body, const char *new_id, int sse) {
    Buf *o = &c->out;
    putf(o, "HTTP/1.1 %d %s\r\n", status, status == 200 ? "OK" : status == 202 ? "Accepted" : "Refused");
    if (status == 405) put_text(o, "Allow: POST, DELETE\r\n");
    if (*new_id) putf(o, "Mcp-Session-Id: %s\r\n", new_id);
    if (c->closing) put_text(o, "Connection: close\r\n");
    if (sse && status == 200 && body->len) {
        static const char before[] = "event: message\ndata: ", after[] = "\n\n";
        put_text(o, "Content-Type: text/event-stream\r\nCache-Control: no-store\r\nTransfer-Encoding: chunked\r\n\r\n");
        putf(o, "%zx\r\n%s", body->len + strlen(before) + strlen(after), before);
        put(o, body->p, body->len);
        putf(o, "%s\r\n0\r\n\r\n", after);
        return;
    }
    if (body->len) put_text(o, "Content-Type: application/json\r\n");
    putf(o, "Content-Length: %zu\r\n\r\n", body->len);
    if (body->len > LARGE) write_both(c, body);
    else put(o, body->p, body->len);
}

static int header_is(Span name, const char *s) { return name.n == strlen(s) && !strncasecmp(name.p, s, name.n); }

/* Puts a chunked body into chunk_buf; returns what follows it, NULL when it is not complete. */
static char *read_chunks(char *p, char *end) {
    chunk_buf.len = 0;
    for (;;) {
        char *line_end = memmem(p, (size_t)(end - p), "\r\n", 2);
        if (!line_end) return NULL;
        long n = strtol(p, NULL, 16);
        p = line_end + 2;
        if (n < 0 || end - p < n + 2) return NULL;
        put(&chunk_buf, p, (size_t)n);
        p += n + 2;
        if (!n) return p;
    }
}

/* Answers the request at the start of [p, end); returns its length, 0 when it is not complete, -1 to close. */
static long one_request(Conn *c, char *p, char *end) {
    char *head_end = memmem(p, (size_t)(end - p), "\r\n\r\n", 4);
    if (!head_end) return end - p > 65536 ? -1 : 0;
    Headers h = {0};
    long length = 0;
    int chunked = 0;
    char *line = memmem(p, (size_t)(head_end + 2 - p), "\r\n", 2);
    for (char *q = line + 2; q < head_end + 2;) {
        char *line_end = memmem(q, (size_t)(head_end + 2 - q), "\r\n", 2);
        char *colon = memchr(q, ':', (size_t)(line_end - q));
        if (!colon) return -1;
        char *from = (char *)skip_space(colon + 1, line_end);
        Span name = {q, (size_t)(colon - q)}, value = {from, (size_t)(line_end - from)};
        while (value.n && value.p[value.n - 1] == ' ') value.n--;
        if (header_is(name, "content-length")) length = strtol(value.p, NULL, 10);
        else if (header_is(name, "transfer-encoding")) chunked = header_is(value, "chunked");
        else if (header_is(name, "connection")) c->closing = header_is(value, "close");
        else if (header_is(name, "mcp-protocol-version")) h.version = value;
        else if (header_is(name, "mcp-method")) h.method = value;
        else if (header_is(name, "mcp-name")) h.name = value;
        else if (header_is(name, "mcp-session-id")) h.session = value;
        else if (header_is(name, "origin")) h.origin = value;
        q = line_end + 2;
    }
    if (length < 0 || length > (long)MAX_REQUEST) return -1;
    char *body = head_end + 4, *next = chunked ? read_chunks(body, end) : body + length;
    if (!next || next > end) return 0;
    Span message = chunked ? (Span){chunk_buf.p, chunk_buf.len} : (Span){body, (size_t)length};
    char new_id[40] = "";
    int status = 405;
    body_buf.len = 0;
    if (!strncmp(p, "GET /counts ", 12)) {
        putf(&body_buf, "{\"connections\":%ld,\"requests\":%ld,\"calls\":%ld}", connections, requests, calls);
        respond(c, 200, &body_buf, new_id, 0);
        return next - p;
    }
    requests++;
    if (h.origin.p && !local_origin(h.origin)) {
        status = 403;
    } else if (!strncmp(p, "DELETE ", 7)) {
        uint64_t *session = h.session.p ? find_session(h.session) : NULL;
        if (session) *session = 0;
        status = session ? 200 : 404;
    } else if (!strncmp(p, "POST ", 5)) {
        status = handle(&body_buf, c->port, message, &h, new_id);
    }
    respond(c, status, &body_buf, new_id, use_sse);
    return next - p;
}

/* ---- the loop; 0 goes on, -1 closes the connection ---- */

static int flush_out(Conn *c) {
    while (c->sent < c->out.len) {
        ssize_t n = write(c->fd, c->out.p + c->sent, c->out.len - c->sent);
        if (n < 0 && errno == EAGAIN) break;
        if (n < 0) return -1;
        c->sent += (size_t)n;
    }
    int pending = c->sent < c->out.len;
    if (!pending) {
        c->sent = c->out.len = 0;
        if (c->closing) return -1;
    }
    if (pending != c->want_out) {
        struct epoll_event event = {.events = EPOLLIN | (pending ? EPOLLOUT : 0), .data.ptr = c};
        epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event);
        c->want_out = pending;
    }
    return 0;
}

static int read_in(Conn *c) {
    for (;;) {
        reserve(&c->in, 16384);
        size_t room = c->in.cap - c->in.len;
        ssize_t n = read(c->fd, c->in.p + c->in.len, room);
        if (n < 0 && errno == EAGAIN) break;
        if (n <= 0) return -1;
        c->in.len += (size_t)n;
        if ((size_t)n < room) break;
    }
    if (c->in.len > MAX_REQUEST) return -1;
    size_t used = 0;
    long n = 0;
    while (used < c->in.len && (n = one_request(c, c->in.p + used, c->in.p + c->in.len)) > 0) used += (size_t)n;
    if (n < 0) return -1;
    if (used) memmove(c->in.p, c->in.p + used, c->in.len - used);
    c->in.len -= used;
    return flush_out(c);
}

static void watch(int fd, int port, int listens) {
    Conn *c = calloc(1, sizeof *c);
    if (!c) abort();
    c->fd = fd;
    c->port = port;
    c->listens = listens;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

static void add_conn(Conn *listener) {
    int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK), one = 1;
    if (fd < 0) return;
    connections++;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    watch(fd, listener->port, 0);
}

static int listen_on(int tcp_port, int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)tcp_port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(fd, (void *)&address, sizeof address) || listen(fd, 1024)) return -1;
    watch(fd, port, 1);
    return 0;
}

/* Whoever started this may have left the pipes non-blocking; returns 0 when the error was another one. */
static int await_fd(int fd, short events) {
    struct pollfd waiting = {.fd = fd, .events = events};
    return (errno == EAGAIN || errno == EINTR) && poll(&waiting, 1, -1) >= 0;
}

/* One message a line. */
static int serve_stdio(void) {
    Buf in = {0}, out = {0};
    char ignored[40], *line_end;
    for (;;) {
        reserve(&in, 65536);
        ssize_t n = read(0, in.p + in.len, in.cap - in.len);
        if (n < 0 && await_fd(0, POLLIN)) continue;
        if (n <= 0) return 0;
        in.len += (size_t)n;
        size_t used = 0;
        while (used < in.len && (line_end = memchr(in.p + used, '\n', in.len - used))) {
            Span message = {in.p + used, (size_t)(line_end - in.p) - used};
            size_t before = out.len;
            used = (size_t)(line_end + 1 - in.p);
            handle(&out, 0, message, NULL, ignored);
            if (out.len > before) put_text(&out, "\n");
        }
        memmove(in.p, in.p + used, in.len - used);
        in.len -= used;
        for (size_t sent = 0; sent < out.len;) {
            if ((n = write(1, out.p + sent, out.len - sent)) >= 0) sent += (size_t)n;
            else if (!await_fd(1, POLLOUT)) return 1;
        }
        out.len = 0;
    }
}

int main(int argc, char **argv) {
    int option, ports[MAX_PORTS], port_count = 0, over_stdio = 0;
    while ((option = getopt(argc, argv, "p:n:e:si")) != -1) switch (option) {
        case 'p':
            if (port_count == MAX_PORTS) return 2;
            ports[port_count++] = atoi(optarg);
            break;
        case 'n': tools = atoi(optarg); break;
        case 'e': eras = *optarg == 'l' ? LEGACY_ERA : *optarg == 'm' ? MODERN_ERA : LEGACY_ERA | MODERN_ERA; break;
        case 's': use_sse = 1; break;
        case 'i': over_stdio = 1; break;
        default: return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    build_bodies();
    for (int i = 0; i < port_count || !i; i++) build_tools(i);
    if (over_stdio) return serve_stdio();
    epoll_fd = epoll_create1(0);
    for (int i = 0; i < port_count; i++)
        if (listen_on(ports[i], i)) {
            perror("mcpup: bind");
            return 1;
        }
    struct epoll_event events[256];
    for (;;) {
        int n = epoll_wait(epoll_fd, events, 256, -1);
        for (int i = 0; i < n; i++) {
            Conn *c = events[i].data.ptr;
            if (c->listens) {
                add_conn(c);
                continue;
            }
            int bad = events[i].events & EPOLLOUT ? flush_out(c) : 0;
            if (!bad && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) bad = read_in(c);
            if (!bad) continue;
            close(c->fd);
            free(c->in.p);
            free(c->out.p);
            free(c);
        }
    }
}
