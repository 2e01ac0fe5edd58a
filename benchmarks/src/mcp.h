/* The MCP server itself: one message in, one JSON answer and an HTTP status out; `handle` is the entry.
 * It is as many upstreams as it has ports; each has tools of its own names. */
#ifndef BENCH_MCP_H
#define BENCH_MCP_H

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "json.h"

#define MODERN "2026-07-28"
#define META "io.modelcontextprotocol/"
#define MAX_REPEAT 100000
#define MAX_PORTS 128
#define BODY_SIZE 4096

enum { LEGACY_ERA = 1, MODERN_ERA = 2 };

typedef struct {
    char *p;
    size_t len, cap;
} Buf;

typedef struct {
    Span version, method, name, session, origin;
} Headers;

static int tools = 50, eras = LEGACY_ERA | MODERN_ERA;
static long calls;
static Buf tools_json[MAX_PORTS];
static Buf bodies[3]; /* what `kind` asks for, as the inside of a JSON string */
static const char *const kinds[3] = {"prose", "code", "rows"};

static void reserve(Buf *b, size_t n) {
    if (b->len + n <= b->cap) return;
    size_t cap = b->cap ? b->cap : 4096;
    while (cap < b->len + n) cap *= 2;
    if (!(b->p = realloc(b->p, cap))) abort();
    b->cap = cap;
}

static void put(Buf *b, const void *s, size_t n) {
    reserve(b, n);
    if (n) memcpy(b->p + b->len, s, n);
    b->len += n;
}

static void put_text(Buf *b, const char *s) { put(b, s, strlen(s)); }

__attribute__((format(printf, 2, 3))) static void putf(Buf *b, const char *format, ...) {
    char text[1024];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    put(b, text, n < (int)sizeof text ? (size_t)n : sizeof text - 1);
}

/* ---- sessions: the id is an index and a random tag ---- */

static uint64_t *sessions, random_state = 88172645463325252ull;
static size_t session_count, session_cap;

static void new_session(char out[40]) {
    if (session_count == session_cap) {
        session_cap = session_cap ? 2 * session_cap : 256;
        if (!(sessions = realloc(sessions, session_cap * sizeof *sessions))) abort();
    }
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    sessions[session_count] = random_state | 1;
    snprintf(out, 40, "%08zx%016llx", session_count, (unsigned long long)sessions[session_count]);
    session_count++;
}

static uint64_t *find_session(Span s) {
    char text[25];
    if (s.n != 24) return NULL;
    memcpy(text, s.p, 24);
    text[24] = 0;
    uint64_t tag = strtoull(text + 8, NULL, 16);
    text[8] = 0;
    size_t i = strtoul(text, NULL, 16);
    return i < session_count && sessions[i] && sessions[i] == tag ? &sessions[i] : NULL;
}

/* ---- texts: 4 KB each, the same in every run ---- */

static void build_bodies(void) {
    for (int i = 0; bodies[0].len < BODY_SIZE; i++)
        putf(&bodies[0], " The committee met for the %dth time and went through what was left, line by line \u2013 it was late, the caf\u00e9"
                         " below had closed, and none of them wanted to be the first to leave.", i + 1);
    put_text(&bodies[1], "\\n");
    for (int i = 0; bodies[1].len < BODY_SIZE; i++)
        putf(&bodies[1], "def step_%d(items: dict[str, list[int]]) -> int:\\n    \\\"\\\"\\\"Adds up what items[\\\"n%d\\\"] has.\\\"\\\"\\\"\\n"
                         "    if not items.get(\\\"n%d\\\"):\\n        return 0  # none \u2013 so be it\\n"
                         "    return sum(value for value in items[\\\"n%d\\\"] if value > %d)\\n\\n\\n", i, i, i, i, i);
    put_text(&bodies[2], " [");
    for (int i = 0; bodies[2].len < BODY_SIZE; i++)
        putf(&bodies[2], "%s{\\\"id\\\": %d, \\\"name\\\": \\\"Zo\u00eb %d\\\", \\\"tags\\\": [\\\"a\\\", \\\"b%d\\\"], \\\"open\\\": true, \\\"sum\\\": %d.5}",
             i ? ", " : "", 1000 + i, i, i, 37 * i);
    put_text(&bodies[2], "]");
}

/* ---- messages ---- */

/* Call it once for each port, before anything else. The first port's tools are `echo`, `tool_001` and so on; those of
 * port 7 are `echo_007`, `tool_001_007`: the same names with the same schemas would be one tool for a gateway. */
static void build_tools(int port) {
    random_state ^= (uint64_t)getpid() << 20;
    Buf *b = &tools_json[port];
    char suffix[16] = "";
    if (port) snprintf(suffix, sizeof suffix, "_%03d", port);
    putf(b, "[{\"name\":\"echo%s\"", suffix);
    put_text(b, ",\"description\":\"Returns the given text, repeated as often as asked.\",\"inputSchema\":"
                "{\"type\":\"object\",\"properties\":{\"text\":{\"type\":\"string\",\"description\":\"what to return\"},"
                "\"repeat\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":100000}},\"required\":[\"text\"]}}");
    for (int i = 1; i < tools; i++)
        putf(b, ",{\"name\":\"tool_%03d%s\",\"title\":\"Tool %d\",\"description\":\"Looks record number %d up in the catalogue and"
                " returns its fields as text; give the identifier and, if wanted, a language.\",\"inputSchema\":{\"type\":"
                "\"object\",\"properties\":{\"id\":{\"type\":\"string\",\"description\":\"identifier of the record\"},\"lang\":"
                "{\"type\":\"string\",\"enum\":[\"en\",\"de\",\"fr\"]}},\"required\":[\"id\"]},\"annotations\":"
                "{\"readOnlyHint\":true}}", i, suffix, i, i);
    put_text(b, "]");
}

static void put_head(Buf *o, Span id, const char *kind) {
    put_text(o, "{\"jsonrpc\":\"2.0\",\"id\":");
    if (id.p) put(o, id.p, id.n);
    else put_text(o, "null");
    putf(o, ",\"%s\":{", kind);
}

static int put_error(Buf *o, Span id, int status, int code, const char *message) {
    put_head(o, id, "error");
    putf(o, "\"code\":%d,\"message\":\"%s\"", code, message);
    if (code == -32022) put_text(o, ",\"data\":{\"supported\":[\"" MODERN "\"],\"requested\":\"other\"}");
    put_text(o, "}}");
    return status;
}

/* By doubling: ten thousand small copies would cost more than what is measured. */
static void put_repeated(Buf *o, const char *s, size_t n, size_t times) {
    size_t start = o->len, whole = n * times;
    reserve(o, whole);
    put(o, s, n);
    while (o->len - start < whole) {
        size_t have = o->len - start, left = whole - have;
        put(o, o->p + start, left < have ? left : have);
    }
}

static int call_tool(Buf *o, Span id, Span params, int modern) {
    Span args, text, repeat, name, kind;
    member(params, "name", &name);
    int echo = name.n >= 6 && !memcmp(name.p, "\"echo", 5);
    if (!echo && (name.n < 7 || memcmp(name.p, "\"tool_", 6))) return put_error(o, id, 200, -32602, "Unknown tool");
    put_head(o, id, "result");
    if (modern) put_text(o, "\"resultType\":\"complete\",");
    put_text(o, "\"content\":[{\"type\":\"text\",\"text\":\"");
    if (!echo) {
        put_text(o, "ok");
    } else if (member(params, "arguments", &args) && member(args, "text", &text) && text.n >= 2 && *text.p == '"') {
        long n = member(args, "repeat", &repeat) ? strtol(repeat.p, NULL, 10) : 1;
        if (n < 1 || n > MAX_REPEAT) n = 1;
        put_repeated(o, text.p + 1, text.n - 2, (size_t)n);
        if (member(args, "kind", &kind))
            for (int i = 0; i < 3; i++)
                if (is_string(kind, kinds[i])) put(o, bodies[i].p, bodies[i].len);
    } else {
        put_text(o, "text is missing\"}],\"isError\":true}}");
        return 200;
    }
    put_text(o, "\"}],\"isError\":false}}");
    return 200;
}

static int handle_modern(Buf *o, int port, Span id, Span method, Span params, Span meta, Span version, Headers *h) {
    Span ignored, target;
    if (!id.p) return 202;
    if (!version.p || !member(meta, META "clientCapabilities", &ignored))
        return put_error(o, id, 400, -32602, "Required _meta fields are missing");
    if (h && !same_text(h->version, version)) return put_error(o, id, 400, -32020, "MCP-Protocol-Version does not match the body");
    if (h && !same_text(h->method, method)) return put_error(o, id, 400, -32020, "Mcp-Method does not match the body");
    if (!is_string(version, MODERN)) return put_error(o, id, 400, -32022, "Unsupported protocol version");
    if (is_string(method, "tools/call")) {
        if (!member(params, "name", &target) || (h && !same_text(h->name, target)))
            return put_error(o, id, 400, -32020, "Mcp-Name does not match the body");
        return call_tool(o, id, params, 1);
    }
    int list = is_string(method, "tools/list");
    if (!list && !is_string(method, "server/discover")) return put_error(o, id, 404, -32601, "Method not found");
    put_head(o, id, "result");
    put_text(o, "\"resultType\":\"complete\",");
    if (list) {
        put_text(o, "\"tools\":");
        put(o, tools_json[port].p, tools_json[port].len);
    } else {
        put_text(o, "\"supportedVersions\":[\"" MODERN "\"],\"capabilities\":{\"tools\":{}}");
    }
    put_text(o, ",\"ttlMs\":300000,\"cacheScope\":\"public\",\"_meta\":{\"" META "serverInfo\":"
                "{\"name\":\"mcpup\",\"version\":\"1\"}}}}");
    return 200;
}

static int handle_legacy(Buf *o, int port, Span id, Span method, Span params, Headers *h, char *new_id) {
    static const char *known[] = {"2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"};
    if (is_string(method, "initialize")) {
        Span asked;
        const char *version = known[0];
        member(params, "protocolVersion", &asked);
        for (int i = 0; i < 4; i++)
            if (is_string(asked, known[i])) version = known[i];
        if (h) new_session(new_id);
        put_head(o, id, "result");
        putf(o, "\"protocolVersion\":\"%s\",\"capabilities\":{\"tools\":{\"listChanged\":false}},\"serverInfo\":"
                "{\"name\":\"mcpup\",\"version\":\"1\"}}}", version);
        return 200;
    }
    if (h && !h->session.p) return put_error(o, id, 400, -32600, "Mcp-Session-Id is missing");
    if (h && !find_session(h->session)) return put_error(o, id, 404, -32001, "Session not found");
    if (!id.p) return 202;
    if (is_string(method, "tools/call")) return call_tool(o, id, params, 0);
    if (is_string(method, "tools/list")) {
        put_head(o, id, "result");
        put_text(o, "\"tools\":");
        put(o, tools_json[port].p, tools_json[port].len);
        put_text(o, "}}");
        return 200;
    }
    if (!is_string(method, "ping")) return put_error(o, id, 200, -32601, "Method not found");
    put_head(o, id, "result");
    put_text(o, "}}");
    return 200;
}

/* Answers one message: the JSON goes to o (none for 202), the HTTP status is returned. h is NULL over stdio. */
static int handle(Buf *o, int port, Span body, Headers *h, char *new_id) {
    Span id, method, params, meta = {NULL, 0}, version = {NULL, 0}, ignored;
    const char *end = body.p + body.n, *start = skip_space(body.p, end), *after = skip_value(body.p, end);
    if (!after || skip_space(after, end) != end || *start != '{')
        return put_error(o, (Span){NULL, 0}, 400, -32700, "Parse error");
    member(body, "id", &id);
    if (!member(body, "method", &method)) {
        if (member(body, "result", &ignored) || member(body, "error", &ignored)) return 202;
        return put_error(o, id, 400, -32600, "Invalid Request");
    }
    calls += is_string(method, "tools/call");
    if (member(body, "params", &params) && member(params, "_meta", &meta)) member(meta, META "protocolVersion", &version);
    int modern = version.p || (h && h->version.n == 10 && !memcmp(h->version.p, MODERN, 10));
    if (modern && (eras & MODERN_ERA) && !is_string(method, "initialize"))
        return handle_modern(o, port, id, method, params, meta, version, h);
    if (eras & LEGACY_ERA) return handle_legacy(o, port, id, method, params, h, new_id);
    if (!id.p) return 202;
    return put_error(o, id, 400, -32602, "Required _meta fields are missing");
}

#endif
