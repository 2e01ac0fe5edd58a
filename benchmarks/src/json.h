/* Just enough JSON to look members up and keep their text: no numbers, no escapes, no tree. */
#ifndef BENCH_JSON_H
#define BENCH_JSON_H

#include <stddef.h>
#include <string.h>

typedef struct {
    const char *p;
    size_t n;
} Span;

static const char *skip_space(const char *p, const char *end) {
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t')) p++;
    return p;
}

/* p stands on the opening quote; returns what follows the closing one, or NULL. */
static const char *skip_string(const char *p, const char *end) {
    for (p++; p < end; p++) {
        if (*p == '\\') p++;
        else if (*p == '"') return p + 1;
    }
    return NULL;
}

/* Returns what follows the value at p, or NULL when it is not complete. */
static const char *skip_value(const char *p, const char *end) {
    int depth = 0;
    for (;;) {
        p = skip_space(p, end);
        if (p >= end) return NULL;
        if (*p == '"') {
            if (!(p = skip_string(p, end))) return NULL;
        } else if (*p == '{' || *p == '[') {
            depth++;
            p++;
            continue;
        } else if (*p == '}' || *p == ']') {
            p++;
            if (--depth < 0) return NULL;
        } else if (*p == ',' || *p == ':') {
            if (!depth) return NULL;
            p++;
            continue;
        } else {
            while (p < end && !strchr(" \r\n\t,:{}[]\"", *p)) p++;
        }
        if (!depth) return p;
    }
}

/* Finds a member of an object; out is its text, empty when there is none. */
static int member(Span object, const char *key, Span *out) {
    const char *end = object.p + object.n, *p = skip_space(object.p, end);
    size_t key_length = strlen(key);
    *out = (Span){NULL, 0};
    if (p >= end || *p != '{') return 0;
    p = skip_space(p + 1, end);
    while (p < end && *p == '"') {
        const char *name = p + 1, *after = skip_string(p, end);
        if (!after) return 0;
        size_t n = (size_t)(after - 1 - name);
        p = skip_space(after, end);
        if (p >= end || *p != ':') return 0;
        p = skip_space(p + 1, end);
        if (!(after = skip_value(p, end))) return 0;
        if (n == key_length && !memcmp(name, key, n)) {
            *out = (Span){p, (size_t)(after - p)};
            return 1;
        }
        p = skip_space(after, end);
        if (p < end && *p == ',') p = skip_space(p + 1, end);
    }
    return 0;
}

static int is_string(Span value, const char *s) {
    size_t n = strlen(s);
    return value.n == n + 2 && value.p[0] == '"' && !memcmp(value.p + 1, s, n);
}

/* A header's text against a JSON string's text. */
static int same_text(Span header, Span value) {
    return value.n == header.n + 2 && !memcmp(header.p, value.p + 1, header.n);
}

#endif
